package main

import (
	"errors"
	"os"

	"golang.org/x/sys/unix"
)

// reserve takes the room that a file will need, so that a full disk shows before the bytes are sent. Where that cannot be had,
// it shows later.
func reserve(file *os.File, size int64) error {
	if size <= copyBytes {
		return nil
	}
	err := unix.Fallocate(int(file.Fd()), unix.FALLOC_FL_KEEP_SIZE, 0, size)
	if errors.Is(err, unix.ENOSPC) || errors.Is(err, unix.EDQUOT) || errors.Is(err, unix.EFBIG) {
		return err
	}
	return nil
}

// beginFlush has the kernel begin to write; the sync at the end waits for it, and tells of its errors.
func beginFlush(file *os.File, from, n int64) {
	_ = unix.SyncFileRange(int(file.Fd()), from, n, unix.SYNC_FILE_RANGE_WRITE)
}
