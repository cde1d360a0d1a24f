package trigger

import "time"

// Codes of a NotFound, for dead letters.
const (
	CodeMissing = "trigger_missing" // the tower does not know the uuid
	CodeInvalid = "trigger_invalid" // what it has is no trigger of this uuid
)

// NotFound: the tower answered, and has no trigger for the uuid.
type NotFound struct {
	Code   string
	Reason string    // a sentence
	Until  time.Time // when it is final; an attempt from then on decides
	Final  bool      // it is: rows of the uuid are to wait no longer
}

func (e *NotFound) Error() string { return e.Reason }

// Trouble: the tower could not be asked, or did not do what a tower does. It says nothing about the uuid.
type Trouble struct {
	After time.Duration // that it asked for; 0: nothing
	err   error
}

func (e *Trouble) Error() string { return e.err.Error() }
func (e *Trouble) Unwrap() error { return e.err }

// unfitError is one answer that is no trigger of the uuid.
type unfitError struct {
	result string // of the metrics
	what   string
}

func (e *unfitError) Error() string { return e.what }
