package sdk

import (
	"iter"
	"time"

	"github.com/rivergate/rivergate/sdk/protocol"
)

// Row is one row. It is a view: valid until Deliver returns; copy what you keep.
type Row struct {
	batch *Batch
	f, n  int // frame in the batch, row in the frame
}

func (r Row) frame() *Frame { return &r.batch.Frames[r.f] }

// JSON is the client's own bytes of the row: an object, valid JSON, members in the client's order. Read, do not write.
func (r Row) JSON() []byte { return r.frame().Row(r.n) }

// UUID is the opaque id under which the client sent the row.
func (r Row) UUID() string { return r.frame().UUID }

// Index is the client's index of the row; ok is false when it gave none.
func (r Row) Index() (index int, ok bool) {
	f := r.frame()
	if f.Index == nil || f.Index[r.n] == protocol.NoIndex {
		return 0, false
	}
	return int(f.Index[r.n]), true
}

// Position is stable over retries and restarts, and unique: a destination may drop a row whose position it has.
func (r Row) Position() uint64 { return r.frame().Position + uint64(r.n) }

// OrgID is the organisation that the row belongs to.
func (r Row) OrgID() uint64 { return r.frame().OrgID }

// UserID is the user who sent the row; 0 for none.
func (r Row) UserID() uint64 { return r.frame().UserID }

// ReceivedAt is when the host accepted the row, in UTC.
func (r Row) ReceivedAt() time.Time { return r.frame().ReceivedAt }

// RequestID is the X-Request-ID of the POST that brought the row, for logs.
func (r Row) RequestID() string { return r.frame().RequestID }

// TraceParent is the W3C trace context of the POST that brought the row, for a traceparent header; empty: not traced.
func (r Row) TraceParent() string { return r.frame().TraceParent }

// Trigger is the JSON context of the row's uuid, for a plugin that asked for it; otherwise nil.
func (r Row) Trigger() []byte { return r.frame().Trigger }

// Frame is the frame that holds the row, and the row's place in it.
func (r Row) Frame() (*Frame, int) { return r.frame(), r.n }

// Fields yields the members of the row's object as the client sent them: in its order, duplicate names included. Each
// value is decoded only when asked. One pass over the bytes; use it rather than many calls of Field.
func (r Row) Fields() iter.Seq2[string, Value] { return fields(r.JSON()) }

// Field is the member of that name; of several the last, as JSON readers have it. Each call scans the row.
func (r Row) Field(name string) (Value, bool) { return lookup(r.JSON(), name) }
