package protocol

import (
	"fmt"
	"time"
)

// Class says what the host does with a row that was not simply delivered. It travels as data; messages are for people.
type Class uint8

const (
	// Delivered is the class of silence: a row without an outcome.
	Delivered Class = iota
	// Retry: the host sends the row again after its backoff, or after RetryAfter when that is given.
	Retry
	// Throttled: as Retry, and the host does not count the attempt: the destination is well but busy.
	Throttled
	// Rejected: the row can never be delivered. It goes to the dead letters, with code and message.
	Rejected
	// Unauthenticated: the credentials are wrong. The host holds the whole destination, counts no attempt and tries one
	// batch now and then until it is accepted.
	Unauthenticated
	// Duplicate: the destination has the row already. Counts as delivered.
	Duplicate
	// Skipped: the row is not meant for this destination. Done, and counted apart.
	Skipped
	// Poison is given by the host alone: the plugin crashed or hung on this row, alone, several times.
	Poison
)

var classNames = [...]string{"delivered", "retry", "throttled", "rejected", "unauthenticated", "duplicate", "skipped", "poison"}

func (c Class) String() string {
	if int(c) < len(classNames) {
		return classNames[c]
	}
	return fmt.Sprintf("class(%d)", uint8(c))
}

// Outcome says what became of one row. Position and Row are those of the frame as it stood in the batch.
type Outcome struct {
	Position   uint64
	Row        int
	Class      Class
	Code       string        // short and stable, for grouping: "http_422"
	Message    string        // for a person; no secrets
	RetryAfter time.Duration // Retry, Throttled, Unauthenticated: not before that; 0: the host decides
}

// Ack acknowledges every batch of a stream up to ThroughSeq.
type Ack struct {
	ThroughSeq uint64
	Outcomes   []Outcome
	Window     int // batches the plugin wants in flight at most; 0: no change
	// Working (protocol version 2) acknowledges nothing: the plugin is at work on the batch after ThroughSeq and gets on
	// with it. The host starts the clock of the wedge detection again.
	Working bool
}
