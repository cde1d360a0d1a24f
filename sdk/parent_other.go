//go:build !linux

package sdk

import "errors"

// ended is Linux's alone.
func ended([]int) (<-chan struct{}, func(), error) { return nil, nil, errors.ErrUnsupported }
