package delivery

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/rivergate/rivergate/sdk/protocol"
)

// replayItem is a dead letter on its way to a destination again.
type replayItem struct {
	id       int64
	pusher   string // whose dead letter it is
	frame    protocol.Frame
	origin   uint64
	attempts int
	first    time.Time
}

// replayRetry is the pause after a round that could not start.
const replayRetry = time.Second

// Replay marks dead letters to be sent again, to their own pusher or to another, at perSecond rows a second (0: as fast as
// it goes), and returns how many. The marks are durable. A row that succeeds leaves the list; one that fails comes back with
// its attempts added up. Rows of an org that the pusher does not take are not marked, nor those whose own pusher is not
// enabled. Errors: ErrUnknownPusher.
func (d *Delivery) Replay(ctx context.Context, f Filter, to string, perSecond float64) (int, error) {
	targets := d.chains()
	if to != "" {
		c := d.chain(to)
		if c == nil {
			return 0, fmt.Errorf("%w: %s", ErrUnknownPusher, to)
		}
		targets = []*chain{c}
	}
	total := 0
	for _, c := range targets {
		var orgs []uint64
		if c.orgs != nil {
			orgs = slices.Collect(maps.Keys(c.orgs))
		}
		n, err := d.store.markReplay(ctx, f, c.Name, to == "", orgs, max(perSecond, 0))
		total += n
		// The one that is there now: it may have looked for marks before these were made.
		if c = d.chain(c.Name); c != nil && n > 0 {
			select {
			case c.replays <- struct{}{}:
			default:
			}
		}
		if err != nil {
			return total, fmt.Errorf("mark dead letters for replay: %w", err)
		}
	}
	return total, nil
}

// replayRounds sends marked dead letters, a batch at a time: the next when the outcomes of the last are durable, so that
// memory stays bounded and a crash of the host repeats one batch at most.
func (c *chain) replayRounds(ctx context.Context) {
	c.mu.Lock()
	inherited := c.replaying > 0
	c.mu.Unlock()
	if inherited { // outcomes of the former chain's last round
		select {
		case <-c.replayed:
		case <-ctx.Done():
		}
	}
	for ctx.Err() == nil {
		items, rate, err := c.d.store.replays(ctx, c.Name, min(c.BatchRows, 1000), int64(c.BatchBytes))
		switch {
		case ctx.Err() != nil:
			return
		case err != nil:
			c.log.Error("cannot read the dead letters to be replayed; trying again", "error", err)
			sleep(ctx, replayRetry)
			continue
		case len(items) == 0:
			select {
			case <-c.replays:
			case <-ctx.Done():
			}
			continue
		}
		if rate > 0 { // about five rounds a second
			items = items[:max(1, min(len(items), int(rate/5)))]
		}
		started := time.Now()
		n := c.startReplay(items, c.siftReplays(ctx, items))
		if n == 0 {
			sleep(ctx, replayRetry)
			continue
		}
		select {
		case <-c.replayed:
		case <-ctx.Done():
			return
		}
		if rate > 0 {
			sleep(ctx, time.Until(started.Add(time.Duration(float64(n)/rate*float64(time.Second)))))
		}
	}
}

// startReplay queues a round and returns its rows. Outcomes name a row by its position: a row that this pusher still has to
// deliver itself waits, and of two dead letters with one position the second comes in another round.
// The transform rules some out, with the reason why, by their place in items.
func (c *chain) startReplay(items []replayItem, ruledOut map[int]string) int {
	c.mu.Lock()
	defer c.mu.Unlock()
	select {
	case <-c.replayed: // the end of an inherited round that was written before this chain ran
	default:
	}
	seen := make(map[uint64]bool, len(items))
	now := time.Now()
	for i := range items {
		it := &items[i]
		at := it.frame.Position
		if seen[at] || c.settled.count(at, at+1) == 0 {
			continue
		}
		seen[at] = true
		c.ahead.add(1, len(it.frame.Data))
		p := piece{Frame: it.frame, origin: it.origin, at: now, replay: it, grows: c.shape.Growth(),
			tried: &attempts{tries: it.attempts, epoch: c.epoch, first: it.first}}
		if failure, out := ruledOut[i]; out {
			c.ruleOut(&p, failure, now)
			continue
		}
		c.replay.push(p)
	}
	c.replaying = len(seen)
	if len(seen) > 0 {
		c.kick()
	}
	return len(seen)
}

// replayDone notes that a replayed row needs nothing more.
func (c *chain) replayDone(p *piece) {
	c.pending.revived = append(c.pending.revived, p.replay.id)
	if p.replay.pusher == c.Name {
		c.note(p, 0, 1, noteRevived, p.tries()+1)
	}
	c.changed()
}
