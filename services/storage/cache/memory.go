package cache

import (
	"container/heap"
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/maypok86/otter/v2"
)

// orgOverhead is what the cache of an org takes beside its entries, measured: it counts towards the total.
const orgOverhead = 24 << 10

// memory is the store in the process: an otter cache for each org.
//
// Room is made before a value is set, by taking out what otter would let go of next: otter itself may refuse a new value that
// it thinks less of than of the old ones, and a value that was set is to be there.
type memory struct {
	perOrg, most int64
	clock        clock
	bytes        atomic.Int64 // of all orgs, with their overhead

	writing sync.Mutex // who changes something; reads do not wait for it
	closed  bool
	shelves sync.Map // of uint64, the org, to *shelf
}

// shelf holds the entries of one org.
type shelf struct {
	cache *otter.Cache[string, *Entry]
	bytes *atomic.Int64 // of the memory

	mu      sync.Mutex // taken last: otter calls removed from wherever it is
	entries map[*Entry]struct{}
	tags    map[string]map[*Entry]struct{}
	weight  int64
	ends    ends // entries by expiry, and some that are gone
}

// clock gives otter our time, and no ticks: we sweep, in one goroutine for all orgs.
type clock func() time.Time

func (c clock) NowNano() int64                      { return c().UnixNano() }
func (c clock) Tick(time.Duration) <-chan time.Time { return nil }

func newMemory(perOrg, most int64, now func() time.Time) *memory {
	return &memory{perOrg: perOrg, most: most, clock: now}
}

// shelf returns that of an org; nil when there is none.
func (m *memory) shelf(org uint64) *shelf {
	found, _ := m.shelves.Load(org)
	s, _ := found.(*shelf)
	return s
}

// open makes the shelf of an org where there is none.
func (m *memory) open(org uint64) (*shelf, error) {
	if m.closed {
		return nil, errClosed
	}
	if s := m.shelf(org); s != nil {
		return s, nil
	}
	s := &shelf{bytes: &m.bytes, entries: map[*Entry]struct{}{}, tags: map[string]map[*Entry]struct{}{}}
	var err error
	s.cache, err = otter.New(&otter.Options[string, *Entry]{
		MaximumWeight: uint64(max(m.perOrg, 1)), InitialCapacity: 1,
		Weigher: func(_ string, e *Entry) uint32 { return uint32(e.weight()) }, // far below 4 GiB: see MaxValue
		ExpiryCalculator: otter.ExpiryWritingFunc(func(e otter.Entry[string, *Entry]) time.Duration {
			return e.Value.Expires.Sub(m.clock())
		}),
		OnDeletion: func(e otter.DeletionEvent[string, *Entry]) { s.removed(e.Value) },
		Executor:   func(task func()) { task() }, // no goroutine that nobody owns
		Clock:      m.clock,
	})
	if err != nil {
		return nil, fmt.Errorf("make the cache of an org: %w", err)
	}
	m.bytes.Add(orgOverhead)
	m.shelves.Store(org, s)
	return s, nil
}

func (m *memory) get(_ context.Context, org uint64, key string, now time.Time) (*Entry, error) {
	s := m.shelf(org)
	if s == nil {
		return nil, nil
	}
	e, ok := s.cache.GetIfPresent(key)
	if !ok || !now.Before(e.Expires) {
		return nil, nil
	}
	return e, nil
}

// peek is get that does not count as a use.
func (s *shelf) peek(key string, now time.Time) *Entry {
	found, ok := s.cache.GetEntryQuietly(key)
	if !ok || !now.Before(found.Value.Expires) {
		return nil
	}
	return found.Value
}

func (m *memory) set(_ context.Context, org uint64, e *Entry, absent bool, now time.Time) (evicted int, err error) {
	weight := e.weight()
	if most := min(m.perOrg, m.most-orgOverhead); weight > most {
		return 0, &BoundError{Field: "value", Reason: fmt.Sprintf("takes %d bytes with its key and tags, and an org has %d", weight, most), TooLarge: true}
	}
	m.writing.Lock()
	defer m.writing.Unlock()
	s, err := m.open(org)
	if err != nil {
		return 0, err
	}
	old := s.peek(e.Key, now)
	if absent && old != nil {
		return 0, nil
	}
	if old != nil {
		weight -= old.weight()
	}
	evicted = s.free(s.size().Bytes+weight-m.perOrg, e.Key, now)
	for before := m.bytes.Load(); before+weight > m.most; {
		largest, but := m.largest(s, weight), ""
		if largest == s {
			but = e.Key
		}
		evicted += largest.free(before+weight-m.most, but, now)
		after := m.bytes.Load()
		if after == before {
			break // what is left are overheads
		}
		before = after
	}
	s.added(e)
	s.cache.Set(e.Key, e)
	return evicted, nil
}

// largest is the shelf that takes the most once more is added to s.
func (m *memory) largest(s *shelf, more int64) *shelf {
	found, most := s, s.size().Bytes+more
	m.shelves.Range(func(_, v any) bool {
		if other := v.(*shelf); other != s && other.size().Bytes > most {
			found, most = other, other.size().Bytes
		}
		return true
	})
	return found
}

// free takes entries out until that many bytes are free: what has expired, then what would go next; never that of the key, which is
// about to be replaced. It tells how many that were still good.
func (s *shelf) free(bytes int64, but string, now time.Time) (evicted int) {
	if bytes <= 0 {
		return 0
	}
	had := s.size().Bytes
	for _, key := range s.expired(now) { // otter lets them go up to a second late, and does not show them meanwhile
		s.dropExpired(key)
	}
	s.cache.CleanUp()
	if bytes -= had - s.size().Bytes; bytes <= 0 {
		return 0
	}
	var victims []string
	gain := int64(0)
	for e := range s.cache.Coldest() {
		if gain >= bytes {
			break
		}
		if e.Key != but {
			victims = append(victims, e.Key)
			gain += e.Value.weight()
		}
	}
	for _, key := range victims {
		if _, ok := s.cache.Invalidate(key); ok {
			evicted++
		}
	}
	s.cache.CleanUp()
	return evicted
}

// dropExpired takes the entry of a key out, if it has expired.
func (s *shelf) dropExpired(key string) {
	s.cache.Compute(key, func(now *Entry, _ bool) (*Entry, otter.ComputeOp) { return now, otter.CancelOp }) // which is what that does
}

func (m *memory) remove(_ context.Context, org uint64, key string, now time.Time) (bool, error) {
	m.writing.Lock()
	defer m.writing.Unlock()
	s := m.shelf(org)
	if s == nil {
		return false, nil
	}
	there := s.peek(key, now) != nil
	s.cache.Invalidate(key)
	return there, nil
}

func (m *memory) removeTag(_ context.Context, org uint64, tag string, now time.Time) (n int, err error) {
	m.writing.Lock()
	defer m.writing.Unlock()
	s := m.shelf(org)
	if s == nil {
		return 0, nil
	}
	for _, e := range s.tagged(tag) {
		s.cache.ComputeIfPresent(e.Key, func(there *Entry) (*Entry, otter.ComputeOp) {
			if there != e { // it was replaced, perhaps by one without the tag
				return there, otter.CancelOp
			}
			if now.Before(e.Expires) {
				n++
			}
			return there, otter.InvalidateOp
		})
	}
	return n, nil
}

func (m *memory) total(context.Context) (all size, err error) {
	m.shelves.Range(func(_, v any) bool {
		one := v.(*shelf).size()
		all.Entries += one.Entries
		all.Bytes += one.Bytes
		return true
	})
	return all, nil
}

func (m *memory) sweep(ctx context.Context, now time.Time) error {
	m.shelves.Range(func(org, v any) bool {
		s := v.(*shelf)
		m.writing.Lock()
		defer m.writing.Unlock()
		for _, key := range s.expired(now) {
			s.dropExpired(key)
		}
		s.cache.CleanUp()
		if s.size().Entries == 0 {
			s.cache.StopAllGoroutines()
			m.shelves.Delete(org)
			m.bytes.Add(-orgOverhead)
		}
		return ctx.Err() == nil
	})
	return ctx.Err()
}

func (m *memory) close() error {
	m.writing.Lock()
	defer m.writing.Unlock()
	m.closed = true
	m.shelves.Range(func(org, v any) bool {
		v.(*shelf).cache.StopAllGoroutines()
		m.shelves.Delete(org)
		return true
	})
	return nil
}

// added and removed keep the account. Each entry is added before otter has it, and removed once otter has let go of it.
func (s *shelf) added(e *Entry) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.entries[e] = struct{}{}
	for _, tag := range e.Tags {
		if s.tags[tag] == nil {
			s.tags[tag] = map[*Entry]struct{}{}
		}
		s.tags[tag][e] = struct{}{}
	}
	s.weight += e.weight()
	s.bytes.Add(e.weight())
	if len(s.ends) > 2*len(s.entries)+64 { // more than half are gone
		s.ends = s.ends[:0:0]
		for there := range s.entries {
			s.ends = append(s.ends, end{there.Expires, there.Key})
		}
		heap.Init(&s.ends)
	} else {
		heap.Push(&s.ends, end{e.Expires, e.Key})
	}
}

func (s *shelf) removed(e *Entry) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if _, ok := s.entries[e]; !ok {
		return
	}
	delete(s.entries, e)
	for _, tag := range e.Tags {
		if delete(s.tags[tag], e); len(s.tags[tag]) == 0 {
			delete(s.tags, tag)
		}
	}
	s.weight -= e.weight()
	s.bytes.Add(-e.weight())
}

func (s *shelf) size() size {
	s.mu.Lock()
	defer s.mu.Unlock()
	return size{int64(len(s.entries)), s.weight}
}

func (s *shelf) tagged(tag string) (list []*Entry) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for e := range s.tags[tag] {
		list = append(list, e)
	}
	return list
}

// expired returns keys of which an entry has expired, each once for each such entry. The entry may be gone or replaced by now.
func (s *shelf) expired(now time.Time) (keys []string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for len(s.ends) > 0 && !now.Before(s.ends[0].at) {
		keys = append(keys, heap.Pop(&s.ends).(end).key)
	}
	return keys
}

// end is when an entry expires. It does not hold the entry, whose memory is free once it is gone.
type end struct {
	at  time.Time
	key string
}

// ends is a heap: what expires first comes first.
type ends []end

func (h ends) Len() int           { return len(h) }
func (h ends) Less(i, j int) bool { return h[i].at.Before(h[j].at) }
func (h ends) Swap(i, j int)      { h[i], h[j] = h[j], h[i] }
func (h *ends) Push(e any)        { *h = append(*h, e.(end)) }

func (h *ends) Pop() any {
	last := len(*h) - 1
	e := (*h)[last]
	(*h)[last] = end{}
	*h = (*h)[:last]
	return e
}
