package main

import (
	"context"
	"fmt"
	"os"
	"sync/atomic"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/rivergate/rivergate/host/e2e/rig"
)

// counter is the page that the null pusher counts in; its layout is plugins/testdata/null/page.go.
type counter struct {
	Rows    atomic.Uint64
	Bytes   atomic.Uint64
	Batches atomic.Uint64
	Through atomic.Uint64
	PID     atomic.Uint64
	Mode    atomic.Uint64
	Delay   atomic.Uint64
}

// The modes of the null pusher.
const (
	accepting = iota
	refusing
	slow
	crashing
)

// openCounter makes and maps the page, before the plugin does.
func openCounter(path string) (c *counter, unmap func() error, err error) {
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, nil, fmt.Errorf("open the counter: %w", err)
	}
	defer f.Close()
	const size = 4096
	if err := f.Truncate(size); err != nil {
		return nil, nil, fmt.Errorf("size the counter: %w", err)
	}
	mapped, err := unix.Mmap(int(f.Fd()), 0, size, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
	if err != nil {
		return nil, nil, fmt.Errorf("map the counter: %w", err)
	}
	return (*counter)(unsafe.Pointer(&mapped[0])), func() error { return unix.Munmap(mapped) }, nil
}

// reaches waits until the plugin has counted n rows.
func (c *counter) reaches(ctx context.Context, n uint64, within time.Duration) error {
	ctx, cancel := context.WithTimeout(ctx, within)
	defer cancel()
	for c.Rows.Load() < n {
		if err := rig.Pause(ctx, time.Millisecond); err != nil {
			return fmt.Errorf("the plugin counted %d of %d rows: %w", c.Rows.Load(), n, err)
		}
	}
	return nil
}
