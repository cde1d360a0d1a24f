package protocol

import "errors"

// What a caller of Base or Pusher decides by. Everything else is a plain error.
var (
	// ErrUnknownInstance: the instance was never configured in this process, or has been drained.
	ErrUnknownInstance = errors.New("instance is not configured")
	// ErrMalformed: the other side sent something that the protocol does not allow.
	ErrMalformed = errors.New("protocol violation")
)

// Unhealthy is the error of Health when the plugin answered, and the answer was no.
type Unhealthy struct{ Reason string }

func (u *Unhealthy) Error() string { return u.Reason }
