package journal

import (
	"errors"
	"fmt"
	"time"
)

var (
	// ErrClosed: the journal was closed.
	ErrClosed = errors.New("journal is closed")
	// ErrNotFound: no row has this position.
	ErrNotFound = errors.New("no such position in the journal")
	// ErrGone: the row was there and every pusher has passed it.
	ErrGone = errors.New("the journal has let this position go")
)

// FullError: the journal holds as many bytes as it may. It takes rows again when pushers have caught up.
type FullError struct {
	Bytes, MaxBytes int64
}

func (e *FullError) Error() string {
	return fmt.Sprintf("journal holds %d of %d bytes", e.Bytes, e.MaxBytes)
}

// UnavailableError: the disk refused to write (Append) or to read (Reader, Lookup). The journal tries again by itself, or when
// it is asked again; nothing that was accepted is lost or passed over.
type UnavailableError struct {
	RetryAfter time.Duration
	Err        error
}

func (e *UnavailableError) Error() string { return "journal unavailable: " + e.Err.Error() }
func (e *UnavailableError) Unwrap() error { return e.Err }
