package delivery

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/rivergate/rivergate/sdk/protocol"
)

// Bounds of what a plugin may say about a row.
const (
	maxCode    = 100
	maxMessage = 2000
)

// answer is an outcome with the place that it is about.
type answer struct {
	batch, piece int
	protocol.Outcome
}

// acknowledge takes the outcomes of all batches up to ack.ThroughSeq. An error means that the plugin broke the protocol;
// nothing of the acknowledgement is taken then.
func (c *chain) acknowledge(ack protocol.Ack, now time.Time) error {
	s := c.session
	switch {
	case ack.Working && len(ack.Outcomes) > 0:
		return fmt.Errorf("said that it is at work on a batch, with outcomes")
	case ack.ThroughSeq > s.sent.Load():
		return fmt.Errorf("acknowledged batch %d, but only %d were sent", ack.ThroughSeq, s.sent.Load())
	case ack.Working: // acknowledges nothing, and may have met an acknowledgement on its way
		s.progress = now
		return nil
	case ack.ThroughSeq < s.through:
		return fmt.Errorf("acknowledged batch %d after batch %d", ack.ThroughSeq, s.through)
	case ack.Window < 0:
		return fmt.Errorf("asked for a window of %d", ack.Window)
	}
	n := 0
	for n < len(c.inflight) && c.inflight[n].seq <= ack.ThroughSeq {
		n++
	}
	acked := c.inflight[:n]
	answers, err := match(acked, ack.Outcomes)
	if err != nil {
		return err
	}
	s.through = ack.ThroughSeq
	if ack.Window > 0 {
		s.window = ack.Window // the chain's own stays the upper bound
	}
	if n == 0 {
		return nil
	}
	s.progress, s.advanced, s.acked = now, now, true
	c.stuck = ""
	c.keepPace(acked, now)
	t := tally{stalled: true}
	for _, b := range acked {
		t.rows += b.rows
		t.probe = t.probe || b.probe
		t.stalled = t.stalled && b.epoch == c.epoch
		t.fresh = t.fresh || slices.ContainsFunc(b.pieces, func(p piece) bool { return p.tried == nil })
		b.lane.out--
		c.metrics.batchSeconds.Observe(now.Sub(b.sent).Seconds())
	}
	for i := range answers {
		t.count(&answers[i].Outcome)
	}
	c.epoch += uint64(t.settled())
	c.judge(&t, now)
	for i, b := range acked {
		for j := range b.pieces {
			mine := 0
			for mine < len(answers) && answers[mine].batch == i && answers[mine].piece == j {
				mine++
			}
			c.gaveUp = gaveUp{}
			c.settlePiece(b, &b.pieces[j], answers[:mine], now)
			if len(b.flights) > 0 {
				c.arrive(b, j, answers[:mine])
			}
			answers = answers[mine:]
		}
	}
	c.inflight = slices.Delete(c.inflight, 0, n)
	c.settleWaiters()
	c.changed()
	return nil
}

// match finds the row of each outcome and checks them: known class, a row of these batches, each row once. The answers
// are in the order of the batches.
func match(acked []*batch, outcomes []protocol.Outcome) ([]answer, error) {
	if len(outcomes) == 0 {
		return nil, nil
	}
	type place struct {
		position     uint64
		batch, piece int
	}
	var places []place
	for i, b := range acked {
		for j := range b.pieces {
			places = append(places, place{b.pieces[j].Position, i, j})
		}
	}
	slices.SortFunc(places, func(a, b place) int { return cmp.Compare(a.position, b.position) })
	answers := make([]answer, len(outcomes))
	for i, o := range outcomes {
		switch o.Class {
		case protocol.Retry, protocol.Throttled, protocol.Rejected, protocol.Unauthenticated, protocol.Duplicate, protocol.Skipped:
		default:
			return nil, fmt.Errorf("gave a row the outcome %s", o.Class)
		}
		at, ok := slices.BinarySearchFunc(places, o.Position, func(p place, position uint64) int { return cmp.Compare(p.position, position) })
		if !ok || o.Row < 0 || o.Row >= acked[places[at].batch].pieces[places[at].piece].Len() {
			return nil, fmt.Errorf("gave an outcome for row %d of frame %d, which is not in the acknowledged batches", o.Row, o.Position)
		}
		o.Code, o.Message = clean(o.Code, maxCode), clean(o.Message, maxMessage)
		answers[i] = answer{places[at].batch, places[at].piece, o}
	}
	order := func(a, b answer) int {
		return cmp.Or(cmp.Compare(a.batch, b.batch), cmp.Compare(a.piece, b.piece), cmp.Compare(a.Row, b.Row))
	}
	slices.SortFunc(answers, order)
	for i := 1; i < len(answers); i++ {
		if order(answers[i-1], answers[i]) == 0 {
			return nil, fmt.Errorf("gave two outcomes for row %d of frame %d", answers[i].Row, answers[i].Position)
		}
	}
	return answers, nil
}

// clean makes text safe to store and to show: valid UTF-8 of at most n bytes.
func clean(text string, n int) string {
	if len(text) > n {
		text = text[:n]
	}
	return strings.ToValidUTF8(text, "")
}

// settlePiece applies the answers to one piece, run by run: rows without an answer were delivered, and neighbours with the
// same answer go on together.
func (c *chain) settlePiece(b *batch, p *piece, answers []answer, now time.Time) {
	row := 0
	for len(answers) > 0 {
		o := &answers[0].Outcome
		if o.Row > row {
			c.delivered(p, row, o.Row, now)
		}
		run := 1
		for run < len(answers) && answers[run].Row == o.Row+run && alike(o, &answers[run].Outcome) {
			run++
		}
		from, to := o.Row, o.Row+run
		row, answers = to, answers[run:]
		switch o.Class {
		case protocol.Duplicate:
			c.delivered(p, from, to, now)
		case protocol.Skipped:
			c.skipped(p, from, to)
		case protocol.Rejected:
			c.report("a row is rejected", p, from, o)
			q := p.slice(from, to)
			c.bury(&q, verdict{class: o.Class.String(), code: o.Code, message: o.Message, tries: 1}, now)
		default:
			c.report("a row is not delivered yet", p, from, o)
			c.failed(b, p, from, to, o, now)
		}
	}
	if row < p.Len() {
		c.delivered(p, row, p.Len(), now)
	}
}

func alike(a, b *protocol.Outcome) bool {
	return a.Class == b.Class && a.Code == b.Code && a.Message == b.Message && a.RetryAfter == b.RetryAfter
}

// report logs a failure with what finds the row again; not each one when there are many.
func (c *chain) report(what string, p *piece, row int, o *protocol.Outcome) {
	c.lastErr = reasonOf(o)
	if unsaid, ok := c.noise.allow(c.d.now()); ok {
		c.log.Warn(what, "class", o.Class.String(), "code", o.Code, "message", o.Message, "request_id", p.RequestID,
			"delivery_id", DeliveryID(p.origin), "position", p.Position+uint64(row), "unsaid", unsaid)
	}
}

// delivered settles rows [from, to) of a piece.
func (c *chain) delivered(p *piece, from, to int, now time.Time) {
	n := to - from
	c.totals.delivered += uint64(n)
	c.rate.add(now, n)
	c.metrics.delivered.Add(float64(n))
	if c.d.tails.listening() {
		c.d.tails.emit(c.eventOf(EventDelivered, p, from, to))
	}
	if tries := p.tries(); p.replay == nil && tries > 0 {
		c.note(p, from, to, noteRetried, tries+1)
	}
	c.done(p, from, to)
}

// skipped settles rows that the destination did not want.
func (c *chain) skipped(p *piece, from, to int) {
	c.totals.skipped += uint64(to - from)
	c.metrics.skipped.Add(float64(to - from))
	if p.replay == nil {
		c.note(p, from, to, noteSkipped, p.tries()+1)
	}
	c.done(p, from, to)
}

// done takes rows that need nothing more out of the chain.
func (c *chain) done(p *piece, from, to int) {
	start := uint32(0)
	if from > 0 {
		start = p.Ends[from-1]
	}
	c.ahead.add(from-to, int(start)-int(p.Ends[to-1]))
	if p.replay != nil {
		c.replayDone(p)
		return
	}
	c.settled.add(p.Position+uint64(from), p.Position+uint64(to))
	c.backlogLeave(p.OrgID, to-from)
}

func (c *chain) note(p *piece, from, to int, kind noteKind, attempts int) {
	c.pending.jot(note{p.Position + uint64(from), p.Position + uint64(to), kind, attempts})
}
