package sdk

import (
	"context"
	"errors"
	"time"

	"github.com/rivergate/rivergate/sdk/protocol"
)

// The words of the protocol that an author meets.
type (
	// Frame is rows of one accepted request.
	Frame = protocol.Frame
	// Class says what the host does with a row that was not simply delivered.
	Class = protocol.Class
	// Outcome says what became of one row.
	Outcome = protocol.Outcome
)

// The classes that a plugin may give; see protocol.Class for what each makes the host do.
const (
	Retry           = protocol.Retry
	Throttled       = protocol.Throttled
	Rejected        = protocol.Rejected
	Unauthenticated = protocol.Unauthenticated
	Duplicate       = protocol.Duplicate
	Skipped         = protocol.Skipped
)

// Error gives a Go error a class. Deliver may return one for the whole batch, or hand one to Batch.Fail for a row.
type Error struct {
	Class      Class
	Code       string
	RetryAfter time.Duration
	Err        error
}

func (e *Error) Error() string {
	if e.Err == nil {
		return e.Class.String()
	}
	return e.Err.Error()
}

func (e *Error) Unwrap() error { return e.Err }

// Permanent marks err as one that no retry can mend: the rows go to the dead letters under this code.
func Permanent(code string, err error) error { return &Error{Class: Rejected, Code: code, Err: err} }

// Throttle marks err as "busy": try again, not before after (0: the host decides), no attempt counted.
func Throttle(after time.Duration, err error) error {
	return &Error{Class: Throttled, Code: "throttled", RetryAfter: after, Err: err}
}

// RetryIn marks err as passing: try again, not before after (0: the host's backoff).
func RetryIn(after time.Duration, code string, err error) error {
	return &Error{Class: Retry, Code: code, RetryAfter: after, Err: err}
}

// BadCredentials marks err as a matter of credentials: the host holds the destination until it accepts again.
func BadCredentials(code string, err error) error {
	return &Error{Class: Unauthenticated, Code: code, Err: err}
}

// classify gives any error its class: that of the *Error inside it, otherwise Retry. A class that is not a plugin's to give
// counts as Retry.
func classify(err error) *Error {
	out := &Error{Class: Retry, Code: "error", Err: err}
	if errors.Is(err, context.DeadlineExceeded) {
		out.Code = "timeout"
	}
	var typed *Error
	if !errors.As(err, &typed) {
		return out
	}
	switch typed.Class {
	case Retry, Throttled, Rejected, Unauthenticated, Duplicate, Skipped:
		out.Class = typed.Class
	}
	if typed.Code != "" {
		out.Code = typed.Code
	}
	out.RetryAfter = typed.RetryAfter
	return out
}
