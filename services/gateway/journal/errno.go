package journal

import (
	"errors"
	"syscall"
)

// isNoSpace tells a full disk or quota from a file system that cannot preallocate.
func isNoSpace(err error) bool {
	return errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EDQUOT)
}
