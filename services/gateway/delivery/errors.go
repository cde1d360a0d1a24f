package delivery

import (
	"errors"
	"fmt"
	"time"
)

var (
	// ErrUnknownPusher: no pusher of this name is enabled or has a cursor.
	ErrUnknownPusher = errors.New("no such pusher")
	// ErrEnded: Run has ended, or is about to.
	ErrEnded = errors.New("delivery has ended")
	// ErrStillEnabled: only a pusher that is not enabled can be forgotten.
	ErrStillEnabled = errors.New("the pusher is still enabled")
	// ErrNoDeadLetter: no dead letter of this org has this id.
	ErrNoDeadLetter = errors.New("no such dead letter")
	// ErrBadID: the text is no delivery id.
	ErrBadID = errors.New("not a delivery id")
	// ErrBadCursor: the text is no cursor of a list of dead letters.
	ErrBadCursor = errors.New("not a cursor of this list")
)

// BacklogError: so many rows wait for a pusher that no more are taken. The answer is 429.
type BacklogError struct {
	Pusher     string
	Org        uint64        // 0: the limit is that of the pusher; otherwise that of this org
	Rows       int64         // waiting now
	Limit      int64         //
	RetryAfter time.Duration // when there is room, at the rate at which the pusher drains; 1 s to 5 min
}

func (e *BacklogError) Error() string {
	if e.Org != 0 {
		return fmt.Sprintf("%d rows of organisation %d wait for pusher %s, the limit is %d", e.Rows, e.Org, e.Pusher, e.Limit)
	}
	return fmt.Sprintf("%d rows wait for pusher %s, the limit is %d", e.Rows, e.Pusher, e.Limit)
}
