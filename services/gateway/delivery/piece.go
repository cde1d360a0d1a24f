package delivery

import (
	"bytes"
	"slices"
	"time"

	"github.com/rivergate/rivergate/sdk/protocol"
)

// piece is consecutive rows of one accepted request that travel together and have the same history.
type piece struct {
	protocol.Frame
	origin uint64      // position of the request's first row
	at     time.Time   // when it was queued
	cut    bool        // Frame shares the memory of a larger one
	grows  int         // bytes by which the transform may make each row larger
	tried  *attempts   // nil: never failed
	replay *replayItem // nil: from the journal; otherwise one row, from the dead letters
}

// attempts is the history of rows that failed. It is replaced, never changed: pieces share it.
type attempts struct {
	tries   int    // failed so far; what people see
	counted int    // of these, against RETRY_ATTEMPTS
	epoch   uint64 // rows that the destination had settled at the last failure
	first   time.Time
	reason  string // the last failure
}

func (p *piece) end() uint64 { return p.Position + uint64(p.Len()) }

// slice is rows [from, to) of the piece.
func (p *piece) slice(from, to int) piece {
	s := *p
	s.Frame = p.Frame.Slice(from, to)
	s.cut = p.cut || to-from < p.Len()
	return s
}

// own gives the piece memory of its own, so that a few rows that wait do not keep a large request in memory.
func (p *piece) own() {
	if !p.cut {
		return
	}
	p.Data, p.Ends, p.Index, p.cut = bytes.Clone(p.Data), slices.Clone(p.Ends), slices.Clone(p.Index), false
}

// tries is how often the rows failed.
func (p *piece) tries() int {
	if p.tried == nil {
		return 0
	}
	return p.tried.tries
}

// Bytes that a frame and a row take in a message beside the row's own, at most.
const (
	frameOverhead = 112
	rowOverhead   = 16
)

// rowsWithin is how many rows of the piece, from the first, fit into room bytes of a message.
func (p *piece) rowsWithin(room int64) int {
	room -= p.head()
	lo, hi := 0, p.Len()
	for lo < hi {
		mid := (lo + hi + 1) / 2
		if int64(p.Ends[mid-1])+int64(mid)*p.perRow() <= room {
			lo = mid
		} else {
			hi = mid - 1
		}
	}
	return lo
}

func (p *piece) head() int64 {
	return frameOverhead + int64(len(p.UUID)+len(p.RequestID)+len(p.Trigger)+len(p.TraceParent))
}

// weight is the bytes that the piece takes in a message, at most.
func (p *piece) weight() int64 { return p.head() + int64(len(p.Data)) + int64(p.Len())*p.perRow() }

func (p *piece) perRow() int64 { return rowOverhead + int64(p.grows) }

// queue is pieces in order, taken from the front and given back there.
type queue struct {
	items []piece
	head  int
	rows  int
	bytes int64
}

func (q *queue) empty() bool   { return q.head == len(q.items) }
func (q *queue) front() *piece { return &q.items[q.head] }

func (q *queue) push(p piece) {
	if q.head > 1024 && q.head > len(q.items)/2 {
		n := copy(q.items, q.items[q.head:])
		clear(q.items[n:])
		q.items, q.head = q.items[:n], 0
	}
	q.rows += p.Len()
	q.bytes += int64(len(p.Data))
	q.items = append(q.items, p)
}

// unshift puts pieces back in front of all others.
func (q *queue) unshift(pieces []piece) {
	for i := range pieces {
		q.rows += pieces[i].Len()
		q.bytes += int64(len(pieces[i].Data))
	}
	if len(pieces) <= q.head {
		q.head -= len(pieces)
		copy(q.items[q.head:], pieces)
		return
	}
	q.items = slices.Replace(q.items, 0, q.head, pieces...)
	q.head = 0
}

// shift takes the first n rows of the front piece.
func (q *queue) shift(n int) piece {
	p := q.front()
	taken := *p
	if n < p.Len() {
		taken = p.slice(0, n)
		*p = p.slice(n, p.Len())
	} else {
		*p = piece{}
		if q.head++; q.head == len(q.items) {
			q.items, q.head = q.items[:0], 0
		}
	}
	q.rows -= taken.Len()
	q.bytes -= int64(len(taken.Data))
	return taken
}
