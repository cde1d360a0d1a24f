package vectors

import (
	"errors"
	"fmt"
)

// ErrNoCollection: the org has no collection of that name.
var ErrNoCollection = errors.New("there is no such collection")

// RefusedError: the request was understood and cannot be done. Nothing of it was stored.
type RefusedError struct {
	Field  string
	Reason string
}

func (e *RefusedError) Error() string { return e.Field + " " + e.Reason }

// MalformedError: the request is not what the route takes.
type MalformedError struct {
	Field  string
	Reason string
	Offset int // byte of the body, where Field is empty
}

func (e *MalformedError) Error() string {
	if e.Field == "" {
		return fmt.Sprintf("%s at byte %d", e.Reason, e.Offset)
	}
	return e.Field + " " + e.Reason
}

func refused(field, format string, args ...any) error {
	return &RefusedError{field, fmt.Sprintf(format, args...)}
}

func malformed(field, format string, args ...any) error {
	return &MalformedError{Field: field, Reason: fmt.Sprintf(format, args...)}
}
