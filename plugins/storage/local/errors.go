package main

import (
	"errors"
	"fmt"
	"io/fs"
	"syscall"

	"github.com/rivergate/rivergate/sdk"
)

// failure gives an error of the file system the class that the host decides by.
func (t *tier) failure(doing string, err error) error {
	switch {
	case err == nil:
		return nil
	case errors.Is(err, syscall.ENOSPC), errors.Is(err, syscall.EDQUOT):
		return fmt.Errorf("%s: %w: the disk of %s (tier %s)", doing, sdk.ErrFull, t.path, t.tier)
	case errors.Is(err, syscall.EFBIG):
		return fmt.Errorf("%s: %w: the file system of %s takes no file of that size", doing, sdk.ErrFull, t.path)
	case errors.Is(err, syscall.ENAMETOOLONG):
		return fmt.Errorf("%s: %w: its file would have too long a name in %s", doing, sdk.ErrKey, t.path)
	case errors.Is(err, fs.ErrPermission), errors.Is(err, syscall.EROFS):
		return fmt.Errorf("%s: the folder %s (tier %s) cannot be used, check its owner and mode: %w", doing, t.path, t.tier, err)
	}
	return fmt.Errorf("%s: %w", doing, err)
}
