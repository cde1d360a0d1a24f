package cache

import "errors"

// ErrUnavailable: the server that holds the cache does not answer, or does not want to. Nothing is known about the entry.
var ErrUnavailable = errors.New("the cache cannot be reached now")

// errClosed: there is no cache any more.
var errClosed = errors.New("the cache is closed")

// BoundError is an entry that cannot be kept.
type BoundError struct {
	Field    string
	Reason   string
	TooLarge bool
}

func (e *BoundError) Error() string { return e.Field + " " + e.Reason }
