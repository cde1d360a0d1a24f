package delivery

import (
	"context"
	"math/rand/v2"
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

// The types of events.
const (
	EventAccepted  = "accepted"
	EventDelivered = "delivered"
	EventDead      = "dead"
)

// Event is something that happened to consecutive rows of one request.
type Event struct {
	Type       string    `json:"type"` // accepted, delivered, dead
	At         time.Time `json:"at"`
	Pusher     string    `json:"pusher,omitempty"` // none when accepted
	DeliveryID string    `json:"delivery_id"`
	UUID       string    `json:"uuid"`
	Position   uint64    `json:"position"` // of the first of the rows
	Rows       int       `json:"rows"`
	RequestID  string    `json:"request_id,omitempty"`
	Class      string    `json:"class,omitempty"` // dead only, as the next two
	Code       string    `json:"code,omitempty"`
	Message    string    `json:"message,omitempty"`
	Lost       uint64    `json:"lost,omitempty"` // events before this one that the listener was too slow for

	Org uint64 `json:"-"`
}

// TailOptions chooses events.
type TailOptions struct {
	Org    uint64  // 0: all
	Pusher string  // empty: all; otherwise accepted events of all, delivered and dead ones of this pusher
	Sample float64 // part of the events, chosen at random; 0 or 1: all
}

// tailBuffer is how many events may wait for a listener.
const tailBuffer = 256

// tails is the listeners. An event costs one atomic load when nobody listens.
type tails struct {
	all atomic.Pointer[[]*tail]
	mu  sync.Mutex // held to change all
}

type tail struct {
	TailOptions
	mu     sync.Mutex
	events chan Event
	lost   uint64
	closed bool
}

// Tail returns events as they happen, until ctx ends; then the channel is closed. A slow listener loses events and slows
// nothing down.
func (d *Delivery) Tail(ctx context.Context, o TailOptions) <-chan Event {
	t := &tail{TailOptions: o, events: make(chan Event, tailBuffer)}
	d.tails.change(func(all []*tail) []*tail { return append(all, t) })
	context.AfterFunc(ctx, func() {
		d.tails.change(func(all []*tail) []*tail {
			return slices.DeleteFunc(all, func(other *tail) bool { return other == t })
		})
		t.mu.Lock()
		defer t.mu.Unlock()
		t.closed = true
		close(t.events)
	})
	return t.events
}

func (ts *tails) change(fn func([]*tail) []*tail) {
	ts.mu.Lock()
	defer ts.mu.Unlock()
	var all []*tail
	if old := ts.all.Load(); old != nil {
		all = slices.Clone(*old)
	}
	if all = fn(all); len(all) == 0 {
		ts.all.Store(nil)
		return
	}
	ts.all.Store(&all)
}

func (ts *tails) listening() bool { return ts.all.Load() != nil }

func (ts *tails) emit(e Event) {
	all := ts.all.Load()
	if all == nil {
		return
	}
	for _, t := range *all {
		t.offer(e)
	}
}

func (t *tail) offer(e Event) {
	if t.Org != 0 && t.Org != e.Org || t.Pusher != "" && e.Pusher != "" && t.Pusher != e.Pusher {
		return
	}
	if t.Sample > 0 && t.Sample < 1 && rand.Float64() >= t.Sample {
		return
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.closed {
		return
	}
	e.Lost = t.lost
	select {
	case t.events <- e:
		t.lost = 0
	default:
		t.lost++
	}
}

// eventOf describes rows [from, to) of a piece.
func (c *chain) eventOf(kind string, p *piece, from, to int) Event {
	return Event{Type: kind, At: c.d.now().UTC(), Pusher: c.Name, Org: p.OrgID, DeliveryID: DeliveryID(p.origin), UUID: p.UUID,
		Position: p.Position + uint64(from), Rows: to - from, RequestID: p.RequestID}
}
