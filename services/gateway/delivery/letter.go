package delivery

import (
	"bytes"
	"sync/atomic"
	"time"

	"github.com/rivergate/rivergate/sdk/protocol"
)

// letterOverhead is what a dead letter counts against the cap beside its bytes.
const letterOverhead = 256

// letter is a dead letter on its way to the store.
type letter struct {
	position, origin uint64
	org, user        uint64
	uuid             string
	index            int32 // protocol.NoIndex: none
	receivedAt       time.Time
	requestID        string
	data             []byte
	verdict
	attempts        int
	first, failedAt time.Time
}

// verdict is why a row is given up.
type verdict struct {
	class, code, message string
	tries                int // attempts beside those that the piece knows of
}

func (l *letter) size() int64 {
	return int64(len(l.data)+len(l.uuid)+len(l.requestID)+len(l.message)) + letterOverhead
}

// stock counts the dead letters kept for one pusher.
type stock struct{ rows, bytes atomic.Int64 }

func (s *stock) add(rows, bytes int64) {
	s.rows.Add(rows)
	s.bytes.Add(bytes)
}

// changes is what happened since the last flush.
type changes struct {
	dirty    bool
	letters  []letter
	notes    []note
	given    int        // of notes, in the snapshot that was taken last
	revived  []int64    // dead letters that were delivered by a replay
	returned []returned // those that were not
}

// returned is a dead letter that failed again.
type returned struct {
	id int64
	verdict
	attempts int
	failedAt time.Time
}

// totals counts since the pusher was first seen.
type totals struct{ delivered, skipped, dead uint64 }

// bury gives the rows of a piece up. They are settled when there is room for them in the dead letters; until then the
// pusher waits.
func (c *chain) bury(p *piece, v verdict, now time.Time) {
	v.code, v.message = clean(v.code, maxCode), clean(v.message, maxMessage)
	c.gaveUp.rows += p.Len()
	c.gaveUp.reason = v.message
	at := c.d.now().UTC()
	if p.replay != nil {
		c.pending.returned = append(c.pending.returned, returned{p.replay.id, v, p.tries() + v.tries, at})
		c.ahead.add(-1, -len(p.Data))
		c.changed()
		return
	}
	first := at
	if p.tried != nil {
		first = p.tried.first
	}
	for i := range p.Len() {
		l := letter{position: p.Position + uint64(i), origin: p.origin, org: p.OrgID, user: p.UserID, uuid: p.UUID, index: protocol.NoIndex,
			receivedAt: p.ReceivedAt, requestID: p.RequestID, data: bytes.Clone(p.Row(i)), verdict: v, attempts: p.tries() + v.tries, first: first, failedAt: at}
		if p.Index != nil {
			l.index = p.Index[i]
		}
		if len(c.full) > 0 || !c.keep(&l) {
			if len(c.full) == 0 {
				c.log.Error("the dead letters are full; the pusher waits until some are replayed or deleted", "max_bytes", c.d.maxLetterBytes)
			}
			c.full = append(c.full, l)
		}
	}
	if unsaid, ok := c.noise.allow(at); ok {
		c.log.Warn("rows go to the dead letters", "rows", p.Len(), "class", v.class, "code", v.code, "message", v.message,
			"request_id", p.RequestID, "delivery_id", DeliveryID(p.origin), "position", p.Position, "unsaid", unsaid)
	}
	c.lastErr = v.message
	c.settleWaiters()
}

// buryFull tries again for the rows that found no room.
func (c *chain) buryFull() {
	n := 0
	for n < len(c.full) && c.keep(&c.full[n]) {
		n++
	}
	if n == 0 {
		return
	}
	if c.full = c.full[n:]; len(c.full) == 0 {
		c.full = nil
		c.log.Info("the dead letters have room again; the pusher goes on")
	}
	c.settleWaiters()
}

// keep settles a row as dead; false: there is no room. The letter and the cursor that passes it are written together.
func (c *chain) keep(l *letter) bool {
	size := l.size()
	if limit := c.d.maxLetterBytes; limit > 0 && c.stock.rows.Load() > 0 && c.stock.bytes.Load()+size > limit {
		return false
	}
	c.stock.add(1, size)
	c.totals.dead++
	c.metrics.dead.WithLabelValues(c.Name, l.class).Inc()
	c.pending.letters = append(c.pending.letters, *l)
	c.pending.jot(note{l.position, l.position + 1, noteDead, l.attempts})
	c.settled.add(l.position, l.position+1)
	c.backlogLeave(l.org, 1)
	if c.d.tails.listening() {
		c.d.tails.emit(Event{Type: EventDead, At: l.failedAt, Pusher: c.Name, Org: l.org, DeliveryID: DeliveryID(l.origin), UUID: l.uuid, Position: l.position,
			Rows: 1, RequestID: l.requestID, Class: l.class, Code: l.code, Message: l.message})
	}
	c.changed()
	return true
}
