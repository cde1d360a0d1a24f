package delivery

import (
	"context"
	"fmt"
	"slices"

	"github.com/rivergate/rivergate/sdk/protocol"
)

// States of a request at a pusher.
const (
	StatePending    = "pending"     // some rows are not settled
	StateDelivered  = "delivered"   // all rows are delivered or skipped
	StatePartlyDead = "partly_dead" // some rows are in the dead letters
	StateDead       = "dead"        // all are
)

// waiter waits until [from, to) is settled at one pusher.
type waiter struct {
	span
	settled chan struct{}
}

// settleWaiters wakes those whose rows are settled.
func (c *chain) settleWaiters() {
	if len(c.waiters) == 0 {
		return
	}
	c.waiters = slices.DeleteFunc(c.waiters, func(w *waiter) bool {
		done := c.settled.count(w.from, w.to) == int(w.to-w.from)
		if done {
			close(w.settled)
		}
		return done
	})
}

// concerns tells whether the rows of a frame were ever meant for this pusher.
func (c *chain) concerns(f *protocol.Frame) bool { return c.takes(f.OrgID) && f.Position >= c.start }

// Wait returns the progress of an accepted frame when all pushers have settled it, or when ctx or Run ended: as it is then.
func (d *Delivery) Wait(ctx context.Context, f *protocol.Frame) []Progress {
	var chains []*chain
	for settled := true; settled; {
		chains = d.chains()
		for _, c := range chains {
			if c.concerns(f) {
				settled = c.wait(ctx, f) && settled
			}
		}
		// Pushers may have come and gone meanwhile: the frame is done when it is at those that are there.
		if slices.Equal(chains, d.chains()) {
			break
		}
	}
	all := make([]Progress, 0, len(chains))
	for _, c := range chains {
		if c.concerns(f) {
			p, err := c.progress(context.WithoutCancel(ctx), f)
			if err != nil {
				d.log.Warn("cannot read the progress of a delivery", "delivery_id", DeliveryID(f.Position), "error", err)
			}
			all = append(all, p)
		}
	}
	return all
}

// wait waits until the chain has settled the frame or is there no more; false: ctx or Run ended first.
func (c *chain) wait(ctx context.Context, f *protocol.Frame) (settled bool) {
	w := &waiter{span{f.Position, f.Position + uint64(f.Len())}, make(chan struct{})}
	c.mu.Lock()
	c.waiters = append(c.waiters, w)
	c.settleWaiters()
	c.mu.Unlock()
	select {
	case <-w.settled:
		settled = true
	case <-c.gone:
		settled = true
	case <-c.d.over:
	case <-ctx.Done():
	}
	c.mu.Lock()
	c.waiters = slices.DeleteFunc(c.waiters, func(other *waiter) bool { return other == w })
	c.mu.Unlock()
	return settled
}

// Progress tells what became of a frame at each enabled pusher that it was meant for. The frame must be whole.
func (d *Delivery) Progress(ctx context.Context, f *protocol.Frame) ([]Progress, error) {
	chains := d.chains()
	all := make([]Progress, 0, len(chains))
	for _, c := range chains {
		if !c.concerns(f) {
			continue
		}
		p, err := c.progress(ctx, f)
		if err != nil {
			return nil, fmt.Errorf("progress at pusher %s: %w", c.Name, err)
		}
		all = append(all, p)
	}
	return all, nil
}

// progress puts together what memory and store know. Memory first: what it forgets, the store has.
func (c *chain) progress(ctx context.Context, f *protocol.Frame) (Progress, error) {
	from, to := f.Position, f.Position+uint64(f.Len())
	p := Progress{Name: c.Name, State: StatePending}

	c.mu.Lock()
	settled := c.settled.count(from, to)
	var fresh []note
	for _, n := range c.pending.notes {
		if n.from < to && n.to > from {
			fresh = append(fresh, n)
		}
	}
	dead := ""
	for i := range c.pending.letters {
		if l := &c.pending.letters[i]; l.position >= from && l.position < to {
			dead = reasonOf(&protocol.Outcome{Code: l.code, Message: l.message})
		}
	}
	for tried := range c.waiting(from, to) {
		if tried.tries >= p.Attempts {
			p.Attempts, p.LastError = tried.tries, tried.reason
		}
	}
	if p.LastError == "" && settled < f.Len() {
		p.LastError = c.waitReason(f.UUID)
	}
	c.mu.Unlock()

	stored, err := c.d.store.notes(ctx, c.Name, from, to)
	rows := make([]noteKind, f.Len())
	for _, n := range append(stored, fresh...) {
		for at := max(n.from, from); at < min(n.to, to); at++ {
			rows[at-from] = n.kind
		}
		p.Attempts = max(p.Attempts, n.attempts)
	}
	for _, kind := range rows {
		switch kind {
		case noteSkipped:
			p.Skipped++
		case noteDead:
			p.Dead++
		}
	}
	p.Delivered = max(settled-p.Skipped-p.Dead, 0)
	if settled > 0 {
		p.Attempts = max(p.Attempts, 1)
	}
	if p.Dead > 0 && p.LastError == "" {
		if p.LastError = dead; dead == "" && err == nil {
			p.LastError, err = c.d.store.lastDead(ctx, c.Name, from, to)
		}
	}
	switch {
	case settled < f.Len():
	case p.Dead == 0:
		p.State = StateDelivered
	case p.Dead == f.Len():
		p.State = StateDead
	default:
		p.State = StatePartlyDead
	}
	return p, err
}

// waiting yields the histories of rows in [from, to) that failed and are not settled.
func (c *chain) waiting(from, to uint64) func(yield func(*attempts) bool) {
	return func(yield func(*attempts) bool) {
		visit := func(pieces []piece) bool {
			for i := range pieces {
				if p := &pieces[i]; p.tried != nil && p.replay == nil && p.Position < to && p.end() > from && !yield(p.tried) {
					return false
				}
			}
			return true
		}
		for _, l := range c.lanes {
			for _, h := range l.due {
				if !visit(h.pieces) {
					return
				}
			}
		}
		for _, b := range c.inflight {
			if !visit(b.pieces) {
				return
			}
		}
		for _, s := range c.suspects {
			if !visit(s.pieces) {
				return
			}
		}
	}
}
