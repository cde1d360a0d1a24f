package delivery

import (
	"container/heap"
	"hash/maphash"
	"slices"
	"time"
)

// laneKind says what may be in flight in a lane at once.
type laneKind uint8

const (
	laneKeyed  laneKind = iota // ORDER=key: one batch; a key with a failed row waits for it, the other keys go on
	laneFree                   // ORDER=none: any number of batches; a failed row waits alone
	laneReplay                 // dead letters: one batch, never mixed with rows of the journal
)

// lane is a queue of rows on their way to the destination. All rows of a key are in one lane.
type lane struct {
	kind laneKind
	queue
	out int // batches in flight, and suspects

	held map[key]*heldKey // keys with a failed row; nil in the usual case
	due  heldHeap         // the same, the first due on top
}

// key is what ORDER=key keeps in order. A failed row of a lane without order has a key of its own: its position.
type key struct {
	org  uint64
	uuid string
}

// heldKey is the rows of a key that wait for a failed one: it is the first of them.
type heldKey struct {
	key    key
	pieces []piece // sorted by position
	due    time.Time
	awaits bool // the first piece without a trigger waits for it: see lookups
	index  int  // in the heap; -1: taken out while a batch is built
}

var keySeed = maphash.MakeSeed()

// laneOf tells the lane of a key.
func laneOf(org uint64, uuid string, lanes int) int {
	if lanes == 1 {
		return 0
	}
	return int((maphash.String(keySeed, uuid) ^ org*0x9e3779b97f4a7c15) % uint64(lanes))
}

func (l *lane) keyOf(p *piece) key {
	if l.kind == laneKeyed {
		return key{p.OrgID, p.UUID}
	}
	return key{org: p.Position}
}

// hold keeps a piece, and with it all later ones of its key, until due.
func (l *lane) hold(p piece, due time.Time) {
	k := l.keyOf(&p)
	h := l.held[k]
	if h == nil {
		if l.held == nil {
			l.held = make(map[key]*heldKey)
		}
		h = &heldKey{key: k, due: due}
		l.held[k] = h
		h.pieces = append(h.pieces, p)
		heap.Push(&l.due, h)
		return
	}
	at, _ := slices.BinarySearchFunc(h.pieces, p.Position, func(a piece, position uint64) int {
		if a.Position < position {
			return -1
		}
		return 1
	})
	h.pieces = slices.Insert(h.pieces, at, p)
	if due.After(h.due) {
		h.due = due
	}
	if h.index >= 0 {
		heap.Fix(&l.due, h.index)
	}
}

// behind tells whether an earlier row of the piece's key is held.
func (l *lane) behind(p *piece) bool {
	if len(l.held) == 0 || l.kind != laneKeyed {
		return false
	}
	h := l.held[l.keyOf(p)]
	return h != nil && h.pieces[0].Position < p.Position
}

// drop forgets a key whose pieces were all taken.
func (l *lane) drop(h *heldKey) {
	heap.Remove(&l.due, h.index)
	delete(l.held, h.key)
	if len(l.held) == 0 {
		l.held = nil
	}
}

// hurry makes every held key due at once.
func (l *lane) hurry(now time.Time) {
	for _, h := range l.held {
		if h.due.After(now) {
			h.due = now
		}
	}
	heap.Init(&l.due)
}

// giveBack puts rows that were sent, and about which nothing is known, where they came from.
func (l *lane) giveBack(pieces []piece) {
	for _, p := range pieces {
		if p.tried != nil {
			l.hold(p, time.Time{})
		}
	}
	var fresh []piece
	for _, p := range pieces {
		switch {
		case p.tried != nil:
		case l.held != nil && l.held[l.keyOf(&p)] != nil:
			l.hold(p, time.Time{})
		default:
			fresh = append(fresh, p)
		}
	}
	l.unshift(fresh)
}

// heldHeap orders keys by when they are due, then by position.
type heldHeap []*heldKey

func (h heldHeap) Len() int { return len(h) }
func (h heldHeap) Less(i, j int) bool {
	if !h[i].due.Equal(h[j].due) {
		return h[i].due.Before(h[j].due)
	}
	return h[i].pieces[0].Position < h[j].pieces[0].Position
}
func (h heldHeap) Swap(i, j int) {
	h[i], h[j] = h[j], h[i]
	h[i].index, h[j].index = i, j
}
func (h *heldHeap) Push(x any) {
	k := x.(*heldKey)
	k.index = len(*h)
	*h = append(*h, k)
}
func (h *heldHeap) Pop() any {
	last := len(*h) - 1
	k := (*h)[last]
	(*h)[last] = nil
	*h = (*h)[:last]
	k.index = -1
	return k
}
