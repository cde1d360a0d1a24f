package sdk

import (
	"iter"
	"time"

	"github.com/rivergate/rivergate/sdk/protocol"
)

// Batch is the rows of one Deliver call, and the place where their outcomes are noted.
type Batch struct {
	protocol.Batch

	outcomes []Outcome
}

// Len is the number of rows in the batch.
func (b *Batch) Len() int {
	n := 0
	for i := range b.Frames {
		n += b.Frames[i].Len()
	}
	return n
}

// Rows yields every row of the batch, in order.
func (b *Batch) Rows() iter.Seq[Row] {
	return func(yield func(Row) bool) {
		for f := range b.Frames {
			for i := range b.Frames[f].Ends {
				if !yield(Row{frame: &b.Frames[f], n: i}) {
					return
				}
			}
		}
	}
}

// Row is one row. It is a view: valid until Deliver returns; copy what you keep.
type Row struct {
	frame *Frame
	n     int
}

// JSON is the client's own bytes of the row: an object, valid JSON, members in the client's order. Read, do not write.
func (r Row) JSON() []byte { return r.frame.Row(r.n) }

// UUID is the opaque id under which the client sent the row.
func (r Row) UUID() string { return r.frame.UUID }

// Index is the client's index of the row; ok is false when it gave none.
func (r Row) Index() (index int, ok bool) {
	if r.frame.Index == nil || r.frame.Index[r.n] == NoIndex {
		return 0, false
	}
	return int(r.frame.Index[r.n]), true
}

// Position is stable over retries and restarts, and unique: a destination may drop a row whose position it has.
func (r Row) Position() uint64 { return r.frame.Position + uint64(r.n) }

// OrgID is the organisation that the row belongs to.
func (r Row) OrgID() uint64 { return r.frame.OrgID }

// UserID is the user who sent the row; 0 for none.
func (r Row) UserID() uint64 { return r.frame.UserID }

// ReceivedAt is when the host accepted the row, in UTC.
func (r Row) ReceivedAt() time.Time { return r.frame.ReceivedAt }

// RequestID is the X-Request-ID of the POST that brought the row, for logs.
func (r Row) RequestID() string { return r.frame.RequestID }

// Trigger is the JSON context of the row's uuid, for a plugin that asked for it; otherwise nil.
func (r Row) Trigger() []byte { return r.frame.Trigger }

// Frame is the frame that holds the row, and the row's place in it.
func (r Row) Frame() (*Frame, int) { return r.frame, r.n }
