package ledger

import (
	"errors"
	"fmt"
)

// What callers decide by.
var (
	ErrNotFound = errors.New("there is no such file")
	ErrExists   = errors.New("there is a file of that name already")
	ErrHoldLost = errors.New("the reservation has ended: it was released, or not renewed in time")
	ErrChanged  = errors.New("the file was changed in the meantime")
	ErrDeep     = fmt.Errorf("pages in the order of name or size end at offset %d", MaxSortedOffset)
)

// QuotaError: the org has no room for that. Equality with the limit is room.
type QuotaError struct {
	Limit, Used, Reserved, Requested int64
}

func (e *QuotaError) Error() string {
	return fmt.Sprintf("the quota of %d bytes is exceeded: %d are used, %d reserved, %d more were asked for", e.Limit, e.Used, e.Reserved, e.Requested)
}
