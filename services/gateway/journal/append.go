package journal

import (
	"context"
	"fmt"
	"hash/crc32"
	"sync"
	"sync/atomic"
)

// request is one Append on its way to the writer.
type request struct {
	head  []byte // room for the header, then the payload without the rows' bytes
	data  []byte // the rows' bytes: the caller's own memory, who waits
	crc   uint32
	rows  uint32
	org   uint64
	keyed bool
	key   keyEntry

	state atomic.Int32
	done  chan struct{} // capacity 1, used again
	// the answer
	position uint64
	at       int64
	err      error
}

// A request waits, and then is taken by the writer or given up by its caller, never both.
const (
	waiting int32 = iota
	taken
	givenUp
)

func (r *request) size() int64    { return int64(len(r.head)) + int64(len(r.data)) }
func (r *request) length() uint32 { return uint32(r.size() - recordHeaderSize) }

var requests = sync.Pool{New: func() any { return &request{done: make(chan struct{}, 1)} }}

const maxPooledHead = 64 << 10

func putRequest(r *request) {
	if cap(r.head) > maxPooledHead {
		r.head = nil
	}
	r.data, r.err = nil, nil
	requests.Put(r)
}

// encode does all the work that needs neither position nor time, checksum included.
func (r *request) encode(rec *Record) error {
	if err := rec.validate(); err != nil {
		return err
	}
	if cap(r.head) < recordHeaderSize {
		r.head = make([]byte, 0, 512)
	}
	head, err := appendMeta(r.head[:recordHeaderSize], rec)
	if err != nil {
		return err
	}
	if n := int64(len(head)) + int64(len(rec.Data)); n > maxRecordBytes {
		return fmt.Errorf("record of %d bytes; at most %d", n, maxRecordBytes)
	}
	r.head, r.data = head, rec.Data
	r.crc = crc32.Update(crc32.Checksum(head[recordHeaderSize:], castagnoli), castagnoli, rec.Data)
	r.rows, r.org = uint32(len(rec.Ends)), rec.OrgID
	r.keyed = rec.IdempotencyKey != [16]byte{}
	r.key = keyEntry{key: rec.IdempotencyKey, digest: rec.BodyDigest, rows: r.rows}
	r.state.Store(waiting)
	return nil
}

// Append implements Journal. Frame.Trigger is not stored: it is looked up for each pusher anew.
func (f *Files) Append(ctx context.Context, rec *Record) (uint64, error) {
	if err := ctx.Err(); err != nil {
		return 0, err
	}
	r := requests.Get().(*request)
	if err := r.encode(rec); err != nil {
		putRequest(r)
		return 0, fmt.Errorf("append: %w", err)
	}
	if !f.queue.put(r) {
		putRequest(r)
		return 0, ErrClosed
	}
	if ended := ctx.Done(); ended == nil {
		<-r.done // the writer answers whatever happens; a wait for one channel is cheaper
	} else {
		select {
		case <-r.done:
		case <-ended:
			if r.state.CompareAndSwap(waiting, givenUp) {
				return 0, ctx.Err() // the writer puts r back into the pool
			}
			<-r.done
		}
	}
	position, at, err := r.position, r.at, r.err
	putRequest(r)
	if err != nil {
		return 0, err
	}
	rec.Position, rec.ReceivedAt = position, utc(at)
	return position, nil
}

// queue is the line in front of the writer.
type queue struct {
	mu      sync.Mutex
	waiting []*request
	closed  bool
	wake    chan struct{} // capacity 1
}

func (q *queue) put(r *request) bool {
	q.mu.Lock()
	if q.closed {
		q.mu.Unlock()
		return false
	}
	q.waiting = append(q.waiting, r)
	first := len(q.waiting) == 1
	q.mu.Unlock()
	if first {
		q.ring()
	}
	return true
}

func (q *queue) ring() {
	select {
	case q.wake <- struct{}{}:
	default:
	}
}

// take swaps the line for an empty one that uses the memory of spare.
func (q *queue) take(spare []*request) (line []*request, closed bool) {
	clear(spare)
	q.mu.Lock()
	defer q.mu.Unlock()
	line, q.waiting = q.waiting, spare[:0]
	return line, q.closed
}

func (q *queue) close() {
	q.mu.Lock()
	q.closed = true
	q.mu.Unlock()
	q.ring()
}
