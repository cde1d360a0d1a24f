package journal

import (
	"errors"
	"syscall"
)

// isNoSpace tells a full disk or quota from a file system that cannot preallocate.
func isNoSpace(err error) bool {
	return errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EDQUOT)
}

// shown is what the disk said, without the paths: whoever asks whether the host is ready sees it. The log has all of it.
func shown(err error) string {
	var errno syscall.Errno
	if errors.As(err, &errno) {
		return errno.Error()
	}
	return "the disk refuses; the log says why"
}
