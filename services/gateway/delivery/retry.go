package delivery

import (
	"math/rand/v2"
	"time"

	"github.com/rivergate/rivergate/sdk/protocol"
)

// maxRetryAfter bounds how long a plugin may put a row off.
const maxRetryAfter = 24 * time.Hour

// holdKind says why the whole pusher waits.
type holdKind uint8

const (
	holdNone      holdKind = iota
	holdDown               // everything fails
	holdThrottled          // the destination is busy
	holdAuth               // the credentials are refused
	holdBroken             // the plugin does not keep to the protocol
)

// hold slows the whole pusher down: nothing goes out before until, then one batch, alone, finds out how things are.
type hold struct {
	kind   holdKind
	tries  int
	until  time.Time
	reason string
}

// backoff is the pause after the nth failure in a row: it doubles from RETRY_MIN to RETRY_MAX; the jitter takes up to
// half of it away.
func (c *chain) backoff(n int) time.Duration {
	d := c.RetryMin
	for ; n > 1 && d < c.RetryMax; n-- {
		d *= 2
	}
	return max(c.RetryMin, jitter(min(d, c.RetryMax)))
}

// jitter is between half of d and d.
func jitter(d time.Duration) time.Duration { return d/2 + rand.N(d/2+1) }

// pause is what a plugin asked for, within reason.
func (c *chain) pause(after time.Duration) time.Duration {
	return min(max(after, c.RetryMin), maxRetryAfter)
}

// enterHold starts a hold, or prolongs it: by the next backoff only when the failure is that of a probe, since the other
// batches that were in flight say nothing new. after: the plugin's own wish, 0 for none.
func (c *chain) enterHold(kind holdKind, reason string, after time.Duration, probe bool, now time.Time) {
	h := &c.hold
	fresh := h.kind == holdNone
	if fresh || probe {
		h.tries++
	}
	delay := c.backoff(h.tries)
	switch {
	case after > 0:
		delay = c.pause(after)
	case kind == holdAuth:
		delay = jitter(c.RetryMax)
	}
	if until := now.Add(delay); fresh || probe || after > 0 && until.After(h.until) {
		h.until = until
	}
	if fresh || h.kind != kind {
		c.log.Warn("the pusher waits", "reason", reason, "until", h.until.UTC().Format(time.RFC3339))
	}
	h.kind, h.reason = kind, reason
}

func (c *chain) leaveHold() {
	if c.hold.kind != holdNone {
		c.log.Info("the pusher goes on", "after", c.hold.reason)
		c.hold = hold{}
	}
}

// tally is what one acknowledgement says about the destination as a whole.
type tally struct {
	rows, retry, throttled, unauthenticated int
	after                                   time.Duration // the longest retry_after
	reason                                  string
	probe                                   bool // one of the batches was sent to find out
	stalled                                 bool // nothing was settled since the batches were sent
	fresh                                   bool // one of the rows was sent for the first time
}

func (t *tally) settled() int { return t.rows - t.retry - t.throttled - t.unauthenticated }

func (t *tally) count(o *protocol.Outcome) {
	switch o.Class {
	case protocol.Retry:
		t.retry++
	case protocol.Throttled:
		t.throttled++
	case protocol.Unauthenticated:
		t.unauthenticated++
	default:
		return
	}
	t.after = max(t.after, o.RetryAfter)
	if t.reason == "" || o.Class == protocol.Unauthenticated {
		t.reason = reasonOf(o)
	}
}

// judge decides from a tally whether the whole pusher waits, and whether a wait is over.
func (c *chain) judge(t *tally, now time.Time) {
	switch {
	case t.unauthenticated > 0:
		c.enterHold(holdAuth, "credentials refused: "+t.reason, t.after, t.probe, now)
	case t.throttled > 0:
		if t.settled() > 0 {
			c.hold.tries = 0
		}
		c.enterHold(holdThrottled, "throttled: "+t.reason, t.after, t.probe, now)
	case t.settled() > 0:
		c.leaveHold()
	case t.retry > 0 && t.stalled && (t.fresh || c.hold.kind != holdNone):
		// A batch of rows that all failed before says nothing new: each of them has its own pause, and holds up no other.
		c.enterHold(holdDown, "destination fails: "+t.reason, t.after, t.probe, now)
	}
}

// failed keeps rows [from, to) of a piece for another attempt, or gives them up.
func (c *chain) failed(b *batch, p *piece, from, to int, o *protocol.Outcome, now time.Time) {
	q := p.slice(from, to)
	c.metrics.retries.Add(float64(q.Len()))
	last := attempts{epoch: b.epoch, first: c.d.now().UTC()}
	if q.tried != nil {
		last = *q.tried
	}
	tried := &attempts{tries: last.tries + 1, counted: last.counted, epoch: c.epoch, first: last.first, reason: reasonOf(o)}
	// While the destination settles nothing at all, no attempt counts: an outage gives up no row. Nor does one of a row that
	// had to wait for an earlier row of its key: it was not tried.
	if o.Class == protocol.Retry && c.epoch > last.epoch && !b.lane.behind(&q) {
		tried.counted++
	}
	q.tried = tried
	if c.RetryAttempts > 0 && tried.counted >= c.RetryAttempts {
		c.bury(&q, verdict{class: protocol.Retry.String(), code: o.Code, message: o.Message}, now)
		return
	}
	due := now.Add(c.backoff(max(tried.counted, 1)))
	if o.RetryAfter > 0 { // the destination knows better
		due = now.Add(c.pause(o.RetryAfter))
	}
	if c.hold.kind != holdNone {
		due = c.hold.until // the hold's own pause is enough
		if own := now.Add(c.pause(o.RetryAfter)); o.RetryAfter > 0 && own.After(due) {
			due = own
		}
	}
	q.own()
	b.lane.hold(q, due)
}

func reasonOf(o *protocol.Outcome) string {
	switch {
	case o.Code == "":
		return o.Message
	case o.Message == "":
		return o.Code
	}
	return o.Code + ": " + o.Message
}
