package main

import (
	"fmt"
	"os"
	"sync/atomic"
	"unsafe"

	"golang.org/x/sys/unix"
)

// page is a file of one page, shared with whoever measures: the plugin counts in it, the measurer reads the counts and
// writes the mode. Words are 64 bits in native order and only ever used atomically. The file outlives the process, so
// counts go on after a kill.
type page struct {
	Rows    atomic.Uint64 // delivered; a row that came twice counts twice
	Bytes   atomic.Uint64 // of the rows' JSON
	Batches atomic.Uint64
	Through atomic.Uint64 // highest position delivered, plus one
	PID     atomic.Uint64 // of the process that delivered last
	Mode    atomic.Uint64 // what to do with the next batch; see the modes
	Delay   atomic.Uint64 // nanoseconds, for modeSlow
}

// The modes, written by the measurer while the plugin runs.
const (
	modeAccept = iota
	modeRefuse // every row fails with Retry, as if the destination were down
	modeSlow   // Delay before each batch is accepted
	modeCrash  // the process exits
	modeWedge  // the call never returns
)

const pageBytes = 4096

// openPage maps the file at path, making it when it is not there.
func openPage(path string) (p *page, unmap func() error, err error) {
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, nil, fmt.Errorf("open count file: %w", err)
	}
	defer f.Close()
	if err := f.Truncate(pageBytes); err != nil {
		return nil, nil, fmt.Errorf("size count file: %w", err)
	}
	mapped, err := unix.Mmap(int(f.Fd()), 0, pageBytes, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
	if err != nil {
		return nil, nil, fmt.Errorf("map count file: %w", err)
	}
	return (*page)(unsafe.Pointer(&mapped[0])), func() error { return unix.Munmap(mapped) }, nil
}
