package journal

import (
	"errors"
	"os"
	"syscall"
)

func (f osFile) Allocate(size int64) error {
	for {
		err := syscall.Fallocate(int(f.Fd()), 0, 0, size)
		if !errors.Is(err, syscall.EINTR) {
			return os.NewSyscallError("fallocate", err)
		}
	}
}

func (f osFile) Sync() error {
	if done, err := f.sync.fdatasync(int(f.Fd())); done {
		return os.NewSyscallError("fdatasync", err)
	}
	for {
		err := syscall.Fdatasync(int(f.Fd()))
		if !errors.Is(err, syscall.EINTR) {
			return os.NewSyscallError("fdatasync", err)
		}
	}
}
