// Package journal keeps accepted requests until every pusher has passed them. It is the ground of "202 means safe": Append
// returns only when the frame would survive kill -9 and a power cut.
//
// A journal is a sequence of segment files. Each holds records; each record is one accepted request.
//
//	DATA_DIR/journal/
//	  00000123456789012.seg     sealed segment: header, records, footer
//	  00000123456799999.seg     active segment, preallocated
//	  00000123456700000.keys    idempotency keys of segments that are gone
//	  quarantine/               bytes that were damaged, kept for a person
//
// One writer takes everything that waits, writes it in one go and makes it durable with one fdatasync: a group. Readers
// see durable records only, so a position that a pusher has seen is never given to another row.
//
// What a disk can do, and what then becomes of rows:
//
//	full                      *UnavailableError; resumes by itself. Some MiB are left for the store, which must note
//	                          deliveries so that rows can be let go
//	fails to sync             the file is cut, never written again, and the journal goes on in another
//	torn tail after a crash   cut; rows in it were never acknowledged
//	damaged record            set aside, logged with its positions, passed over; so is a missing segment
//	damaged header or footer  made again from the records
//	cannot be read            *UnavailableError from the reader until it can: nothing is passed over
package journal

import (
	"context"
	"time"

	"github.com/rivergate/rivergate/sdk/protocol"
)

// Record is one accepted request: a frame, and what lets a client repeat the request safely.
type Record struct {
	protocol.Frame // Position and ReceivedAt are set by Append

	// IdempotencyKey identifies the request among all requests (a digest of org, route and the client's key);
	// BodyDigest tells whether a repetition is the same request. Key zero: the client gave none, and no digest is
	// kept.
	IdempotencyKey [16]byte
	BodyDigest     [16]byte
}

// Journal is what the gateway needs of a log. The embedded form is Files; a Kafka form has the same contract.
type Journal interface {
	// Append makes the record durable and returns the position of its first row. It sets Position and ReceivedAt.
	// After an error nothing of the record will ever be read. Errors: *FullError (size cap: answer 429), *UnavailableError
	// (disk full or failing: answer 503; the journal resumes by itself), ErrClosed, or that of ctx while waiting in line
	// (once the writer has taken the record, Append waits for the result whatever ctx says).
	Append(ctx context.Context, r *Record) (position uint64, err error)

	// Read returns a reader that starts with the row at position, or the first kept row after it.
	Read(position uint64) Reader

	// Lookup returns the record that contains the row at position. ErrNotFound: no such row was ever durable.
	// ErrGone: the journal has let it go.
	Lookup(ctx context.Context, position uint64) (*Record, error)

	// Repeated tells whether a request with this key was accepted, within the time that keys are kept, and returns its
	// position, number of rows and body digest. The number of keys kept is bounded; the oldest are forgotten first.
	Repeated(key [16]byte) (Accepted, bool)

	// Bounds returns the position of the first kept row and that after the last one (durable ones only). The next row gets
	// that position, or a higher one when damage makes it uncertain which positions were given out.
	Bounds() (oldest, next uint64)

	// Release lets go of everything before position, in whole segments. After an error, what could not be let go is kept
	// and tried at the next call.
	Release(position uint64) error

	// Span returns bytes on disk and the receive time of the oldest row from position to the end. Cheap; bytes may be
	// off by one index step.
	Span(position uint64) (bytes int64, oldest time.Time)

	// OrgRows returns how many rows of each org are kept in [from, to); to may lie beyond the end. Exact; may read one
	// segment, and the one in which to lies.
	OrgRows(ctx context.Context, from, to uint64) (map[uint64]uint64, error)

	Stats() Stats
	Close() error
}

// Accepted is what the journal remembers of a request with an idempotency key.
type Accepted struct {
	Position   uint64
	Rows       int
	BodyDigest [16]byte
	At         time.Time
}

// Reader reads durable records in order. It is used by one goroutine.
type Reader interface {
	// Next returns the next frame, waiting for one to be appended. The frame's memory is the caller's. A gap in positions
	// means rows that were damaged on disk and reported, or positions left out. Errors: that of ctx, ErrClosed, and
	// *UnavailableError when the disk cannot be read: call again, nothing is passed over.
	Next(ctx context.Context) (protocol.Frame, error)
	// TryNext is Next without the wait: ok is false when there is no durable record now.
	TryNext() (f protocol.Frame, ok bool, err error)
	Close()
}

// Stats is for metrics and /status.
type Stats struct {
	Bytes       int64     // on disk, preallocation not counted
	MaxBytes    int64     // the cap
	Segments    int       //
	Rows        uint64    // kept
	Oldest      time.Time // receive time of the oldest kept row; zero when empty
	Quarantined int64     // bytes set aside since the journal was created
	Writable    bool      // false while the disk refuses
	Reason      string    // why not
}
