package delivery

import (
	"container/heap"
	"fmt"
	"slices"
	"time"

	"github.com/rivergate/rivergate/sdk/protocol"
)

// batch is what goes to the plugin at once.
type batch struct {
	seq     uint64
	lane    *lane
	pieces  []piece
	rows    int
	bytes   int64
	epoch   uint64 // rows that the destination had settled when it was sent
	sent    time.Time
	probe   bool     // sent to find out whether a hold is over
	flights []flight // spans of traced pieces, in their order
	suspect *suspect // sent alone, in search of a row that ends the plugin
}

func (b *batch) add(p piece) {
	b.rows += p.Len()
	b.bytes += p.weight()
	b.pieces = append(b.pieces, p)
}

// limits bounds a batch: rows and bytes as configured and as the plugin takes them; hard is what no message may exceed.
type limits struct {
	rows        int
	bytes, hard int64
}

// headroom is what a message needs beside its frames.
const headroom = 64 << 10

func (c *chain) limits() limits {
	l := limits{rows: c.BatchRows, bytes: int64(c.BatchBytes), hard: protocol.MaxMessage - headroom}
	agreed := c.session.limits
	if agreed.MaxBatchRows > 0 {
		l.rows = min(l.rows, int(agreed.MaxBatchRows))
	}
	if agreed.MaxBatchBytes > 0 && agreed.MaxBatchBytes < uint64(l.hard) {
		l.hard = int64(agreed.MaxBatchBytes)
	}
	l.bytes = min(l.bytes, l.hard)
	return l
}

// fit is how many rows of p still go into b; tooLarge: its first row goes into no batch at all.
func (l limits) fit(b *batch, p *piece) (rows int, tooLarge bool) {
	rows = min(p.rowsWithin(l.bytes-b.bytes), l.rows-b.rows)
	if rows > 0 || b.rows > 0 {
		return rows, false
	}
	return 1, p.rowsWithin(l.hard) == 0 // a row over the limit of a batch goes alone
}

// ready tells whether the lane has something to send now.
func (c *chain) ready(l *lane, now time.Time) bool {
	if l.kind != laneFree && l.out > 0 {
		return false
	}
	if len(l.due) > 0 && !l.due[0].due.After(now) {
		return true
	}
	if l.empty() {
		return false
	}
	return l.rows >= c.BatchRows || l.bytes >= int64(c.BatchBytes) || now.Sub(l.front().at) >= c.BatchWait ||
		c.ahead.full() || c.hold.kind != holdNone || l.kind == laneReplay
}

// nextBatch builds the next batch, lane by lane in turn; nil: there is none to send now.
func (c *chain) nextBatch(now time.Time) *batch {
	for {
		var ready *lane
		for l := range c.allLanes() {
			if c.ready(l, now) {
				ready = l
				break
			}
		}
		if ready == nil {
			return nil
		}
		c.turn = (c.turn + 1) % len(c.lanes)
		if b := c.build(ready, now); b.rows > 0 {
			return b
		}
		if len(c.full) > 0 {
			return nil
		}
	}
}

// build takes rows from the lane: first those that were held and are due, then new ones. Rows that failed go out again
// before the later rows of their key do, not with them.
func (c *chain) build(l *lane, now time.Time) *batch {
	b, lim := &batch{lane: l}, c.limits()
	var later []*heldKey
	var retried []key
	defer func() {
		for _, h := range later {
			heap.Push(&l.due, h)
		}
	}()
	for len(l.due) > 0 && !l.due[0].due.After(now) {
		h, again := l.due[0], false
		for len(h.pieces) > 0 {
			if again && h.pieces[0].tried == nil {
				break
			}
			if !c.equip(&h.pieces[0]) {
				c.ask(l, h, h.pieces[0].UUID)
				break
			}
			h.awaits = false
			p := h.pieces[0]
			n, tooLarge := lim.fit(b, &p)
			if n == 0 {
				return b
			}
			if n < p.Len() {
				h.pieces[0] = p.slice(n, p.Len())
				p = p.slice(0, n)
			} else {
				h.pieces = h.pieces[1:]
			}
			again = again || p.tried != nil
			c.load(b, p, tooLarge, lim, now)
		}
		if again {
			retried = append(retried, h.key)
		}
		if len(h.pieces) == 0 {
			l.drop(h)
		} else {
			later = append(later, heap.Pop(&l.due).(*heldKey))
		}
	}
	if n := len(l.items) - l.head; n > 1 { // as many pieces as will probably fit
		b.pieces = slices.Grow(b.pieces, min(n, n*lim.rows/max(l.rows, 1)+1))
	}
	for !l.empty() {
		p := l.front()
		if k := l.keyOf(p); l.held != nil && l.held[k] != nil || slices.Contains(retried, k) {
			l.hold(l.shift(p.Len()), time.Time{})
			continue
		}
		if !c.equip(p) {
			c.await(l, l.shift(p.Len()))
			continue
		}
		n, tooLarge := lim.fit(b, p)
		if n == 0 {
			return b
		}
		c.load(b, l.shift(n), tooLarge, lim, now)
	}
	return b
}

// load adds a piece to a batch, or gives up a row that no message can carry.
func (c *chain) load(b *batch, p piece, tooLarge bool, lim limits, now time.Time) {
	if !tooLarge {
		b.add(p)
		return
	}
	c.gaveUp = gaveUp{}
	c.bury(&p, verdict{class: protocol.Rejected.String(), code: "row_too_large",
		message: fmt.Sprintf("the row takes %d bytes in a message, the plugin takes at most %d", p.weight(), lim.hard)}, now)
	c.refuse(b, &p)
}
