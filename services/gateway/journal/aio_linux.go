package journal

import (
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"sync"
	"unsafe"

	"golang.org/x/sys/unix"
)

// aio lets the kernel sync files in threads of its own (Linux AIO, io_submit(2)) and hears of the end by an eventfd. A
// fdatasync that blocks a Go thread costs the scheduler a hand-over each time and keeps its watchdog awake: with a thousand
// syncs a second that is a sixth of the intake's processor time. Where the kernel offers no AIO, the plain call serves.
type aio struct {
	mu      sync.Mutex // one sync at a time
	context uint64     // of io_setup
	event   *os.File
	eventFD int // of event, whose own Fd would make it block
}

// The parts of linux/aio_abi.h that are used.
const (
	aioFdsync    = 3 // IOCB_CMD_FDSYNC
	aioUsesEvent = 1 // IOCB_FLAG_RESFD
)

// aioControl is struct iocb.
type aioControl struct {
	_       uint64 // data
	_, _    uint32 // key, rw_flags
	opcode  uint16
	_       int16 // reqprio
	fd      uint32
	_       [4]uint64 // buf, nbytes, offset, reserved2
	flags   uint32
	eventFD uint32
}

// aioEvent is struct io_event.
type aioEvent struct {
	_, _   uint64 // data, obj
	result int64
	_      int64 // res2
}

// newAIO returns nil where there is none.
func newAIO() *aio {
	a := &aio{}
	if _, _, errno := unix.Syscall(unix.SYS_IO_SETUP, 1, uintptr(unsafe.Pointer(&a.context)), 0); errno != 0 {
		return nil
	}
	fd, err := unix.Eventfd(0, unix.EFD_CLOEXEC|unix.EFD_NONBLOCK)
	if err != nil {
		_, _, _ = unix.Syscall(unix.SYS_IO_DESTROY, uintptr(a.context), 0, 0)
		return nil
	}
	a.event, a.eventFD = os.NewFile(uintptr(fd), "eventfd"), fd
	return a
}

func (a *aio) close() error {
	if a == nil {
		return nil
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	_, _, errno := unix.Syscall(unix.SYS_IO_DESTROY, uintptr(a.context), 0, 0)
	err := a.event.Close()
	if errno != 0 {
		err = errors.Join(err, os.NewSyscallError("io_destroy", errno))
	}
	return err
}

// fdatasync syncs fd. done is false when the kernel did not take it on: then nothing has happened. Once it has, the answer
// is waited for, however long the disk takes, as with the plain call.
func (a *aio) fdatasync(fd int) (done bool, err error) {
	if a == nil {
		return false, nil
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	control := &aioControl{opcode: aioFdsync, fd: uint32(fd), flags: aioUsesEvent, eventFD: uint32(a.eventFD)} //nolint:gosec // descriptors are small
	if n, _, errno := unix.Syscall(unix.SYS_IO_SUBMIT, uintptr(a.context), 1, uintptr(unsafe.Pointer(&control))); errno != 0 || n != 1 {
		return false, nil
	}
	var count [8]byte
	if _, err := a.event.Read(count[:]); err != nil {
		return true, fmt.Errorf("wait for the kernel: %w", err)
	}
	if n := binary.NativeEndian.Uint64(count[:]); n != 1 {
		return true, fmt.Errorf("the kernel ended %d syncs, one was asked for", n)
	}
	var event aioEvent
	for {
		n, _, errno := unix.Syscall6(unix.SYS_IO_GETEVENTS, uintptr(a.context), 1, 1, uintptr(unsafe.Pointer(&event)), 0, 0)
		switch {
		case errno == unix.EINTR:
			continue
		case errno != 0:
			return true, os.NewSyscallError("io_getevents", errno)
		case n != 1:
			return true, errors.New("the kernel has no answer for a sync that it ended")
		case event.result != 0:
			return true, unix.Errno(-event.result)
		}
		return true, nil
	}
}
