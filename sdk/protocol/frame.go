package protocol

import "time"

// Frame is rows of one accepted request: one org, one uuid, one instant. It is the unit that the journal stores, the host
// forwards and the plugin receives; nothing on the way encodes a row again.
type Frame struct {
	OrgID  uint64
	UserID uint64 // 0: no user
	UUID   string
	// Position is the journal's number of row 0; row i has Position+i. Positions rise, are stable over retries and
	// restarts, and stay below 2^53, so that a float64 carries one exactly.
	Position   uint64
	ReceivedAt time.Time // UTC
	Data       []byte    // the rows' own JSON bytes, one after another
	Ends       []uint32  // row i is Data[Ends[i-1]:Ends[i]], with Ends[-1] = 0
	Index      []int32   // the client's index of each row, NoIndex where it gave none; nil: no row has one
	Trigger    []byte    // JSON, for a pusher that asked for it; otherwise nil
	RequestID  string    // X-Request-ID of the POST
	// TraceParent is the W3C trace context of the span in which the rows were accepted; empty: the request is not traced.
	TraceParent string
}

// NoIndex in Frame.Index stands for an index that was absent or null.
const NoIndex int32 = -1

// Len is the number of rows.
func (f *Frame) Len() int { return len(f.Ends) }

// Row returns the JSON bytes of row i. They are shared with the frame: read, do not write.
func (f *Frame) Row(i int) []byte {
	start := uint32(0)
	if i > 0 {
		start = f.Ends[i-1]
	}
	return f.Data[start:f.Ends[i]:f.Ends[i]]
}

// Slice returns rows [from, to) as a frame of its own with the right position. The data is shared.
func (f *Frame) Slice(from, to int) Frame {
	if from == 0 && to == f.Len() {
		return *f
	}
	s := *f
	start := uint32(0)
	if from > 0 {
		start = f.Ends[from-1]
	}
	s.Position += uint64(from)
	s.Ends = make([]uint32, to-from)
	for i := range s.Ends {
		s.Ends[i] = f.Ends[from+i] - start
	}
	s.Data = f.Data[start:f.Ends[to-1]]
	if f.Index != nil {
		s.Index = f.Index[from:to]
	}
	return s
}
