package delivery

import (
	"context"
	"slices"
	"sync"
	"time"

	"github.com/rivergate/rivergate/sdk/protocol"
	"github.com/rivergate/rivergate/services/gateway/journal"
)

// memory is a journal in memory. It outlives a Delivery, as the real one outlives the host.
type memory struct {
	mu       sync.Mutex
	records  []*journal.Record
	next     uint64
	oldest   uint64
	more     chan struct{} // closed and replaced by Append
	released []uint64
	counting func() // called by OrgRows; nil: nothing
}

var _ journal.Journal = (*memory)(nil)

const firstPosition = 1000

func newMemory() *memory {
	return &memory{next: firstPosition, oldest: firstPosition, more: make(chan struct{})}
}

func (m *memory) Append(_ context.Context, r *journal.Record) (uint64, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	r.Position, r.ReceivedAt = m.next, time.Now().UTC()
	m.next += uint64(r.Len())
	m.records = append(m.records, r)
	close(m.more)
	m.more = make(chan struct{})
	return r.Position, nil
}

// damage makes the next n positions rows that nobody can read.
func (m *memory) damage(n uint64) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.next += n
}

func (m *memory) Bounds() (oldest, next uint64) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.oldest, m.next
}

func (m *memory) find(position uint64) int {
	i, _ := slices.BinarySearchFunc(m.records, position, func(r *journal.Record, p uint64) int {
		if r.Position+uint64(r.Len()) <= p {
			return -1
		}
		return 1
	})
	return i
}

func (m *memory) Lookup(_ context.Context, position uint64) (*journal.Record, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	i := m.find(position)
	if i == len(m.records) || m.records[i].Position > position {
		return nil, journal.ErrNotFound
	}
	return m.records[i], nil
}

func (m *memory) Release(position uint64) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.released = append(m.released, position)
	return nil // as the real one: a whole segment stays
}

// letGo drops everything before position.
func (m *memory) letGo(position uint64) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.records, m.oldest = m.records[m.find(position):], position
}

func (m *memory) lastReleased() uint64 {
	m.mu.Lock()
	defer m.mu.Unlock()
	if len(m.released) == 0 {
		return 0
	}
	return m.released[len(m.released)-1]
}

func (m *memory) Span(position uint64) (bytes int64, oldest time.Time) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for i := m.find(position); i < len(m.records); i++ {
		if oldest.IsZero() {
			oldest = m.records[i].ReceivedAt
		}
		bytes += int64(len(m.records[i].Data))
	}
	return bytes, oldest
}

func (m *memory) OrgRows(_ context.Context, from, to uint64) (map[uint64]uint64, error) {
	if m.counting != nil {
		m.counting()
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	rows := make(map[uint64]uint64)
	for i := m.find(from); i < len(m.records) && m.records[i].Position < to; i++ {
		r := m.records[i]
		rows[r.OrgID] += min(r.Position+uint64(r.Len()), to) - max(r.Position, from)
	}
	return rows, nil
}

func (m *memory) Repeated([16]byte) (journal.Accepted, bool) { return journal.Accepted{}, false }
func (m *memory) Stats() journal.Stats                       { return journal.Stats{Writable: true} }
func (m *memory) Close() error                               { return nil }

func (m *memory) Read(position uint64) journal.Reader { return &memoryReader{m, position} }

type memoryReader struct {
	m  *memory
	at uint64
}

func (r *memoryReader) Next(ctx context.Context) (protocol.Frame, error) {
	for {
		r.m.mu.Lock()
		more := r.m.more
		r.m.mu.Unlock()
		if f, ok, _ := r.TryNext(); ok {
			return f, nil
		}
		select {
		case <-more:
		case <-ctx.Done():
			return protocol.Frame{}, ctx.Err()
		}
	}
}

func (r *memoryReader) TryNext() (protocol.Frame, bool, error) {
	r.m.mu.Lock()
	defer r.m.mu.Unlock()
	i := r.m.find(r.at)
	if i == len(r.m.records) {
		return protocol.Frame{}, false, nil
	}
	f := r.m.records[i].Frame
	if f.Position < r.at {
		f = f.Slice(int(r.at-f.Position), f.Len())
	}
	r.at = f.Position + uint64(f.Len())
	return f, true, nil
}

func (r *memoryReader) Close() {}
