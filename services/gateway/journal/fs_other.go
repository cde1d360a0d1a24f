//go:build !linux

package journal

import "errors"

func (f osFile) Allocate(int64) error { return errors.ErrUnsupported }
func (f osFile) Sync() error          { return f.File.Sync() }

// aio is Linux's alone.
type aio struct{}

func newAIO() *aio        { return nil }
func (*aio) close() error { return nil }
