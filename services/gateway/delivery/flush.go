package delivery

import (
	"context"
	"maps"
	"slices"
	"time"
)

const (
	flushEvery    = 100 * time.Millisecond // one transaction for all pushers, at most so often
	flushRetryMax = 5 * time.Second
	pruneEvery    = time.Minute
	lastFlush     = 5 * time.Second // at a stop
)

// change is one pusher's part of a flush.
type change struct {
	chain  *chain
	cursor uint64
	totals totals
	changes
}

// touch tells the store's goroutine that there is something to write.
func (d *Delivery) touch() {
	select {
	case d.dirty <- struct{}{}:
	default:
	}
}

// keepStore writes what the chains changed until ctx ends. It is the only one that moves cursors in the store.
func (d *Delivery) keepStore(ctx context.Context) {
	retry := flushEvery
	for {
		select {
		case <-d.dirty:
		case <-ctx.Done():
			return
		}
		pause := flushEvery
		if err := d.flush(ctx); err != nil && ctx.Err() == nil {
			d.troubled(err)
			pause = retry
			retry = min(2*retry, flushRetryMax)
			d.touch()
		} else {
			retry = flushEvery
		}
		if !sleep(ctx, pause) {
			return
		}
	}
}

// troubled stops all sending until the store takes a flush again: what is settled must not run away from what is durable.
func (d *Delivery) troubled(err error) {
	if d.trouble.Load() == nil {
		d.log.Error("the store cannot write; all pushers wait", "error", err)
	}
	reason := "the store cannot write: " + err.Error()
	d.trouble.Store(&reason)
}

// flush writes all changes in one transaction. After an error nothing is written, and the changes are still there.
func (d *Delivery) flush(ctx context.Context) error {
	d.flushing.Lock()
	defer d.flushing.Unlock()
	var all []change
	for _, c := range slices.AppendSeq(slices.Clone(d.chains()), maps.Values(d.leaving)) {
		if ch, ok := c.snapshot(); ok {
			all = append(all, ch)
		}
	}
	if len(all) > 0 {
		freed, err := d.store.save(ctx, all)
		if err != nil {
			for i := range all {
				all[i].chain.unsaved()
			}
			return err
		}
		for i := range all {
			all[i].chain.saved(&all[i])
		}
		d.freed(freed)
	}
	if d.trouble.Swap(nil) != nil {
		d.log.Info("the store writes again")
		d.kickAll()
	}
	d.release(all)
	clear(d.leaving) // what they had to say is written
	d.prune(ctx)
	return nil
}

// flushNow writes at once what Apply changed; when that fails, the store's goroutine goes on trying.
func (d *Delivery) flushNow(ctx context.Context) {
	if err := d.flush(context.WithoutCancel(ctx)); err != nil {
		d.troubled(err)
		d.touch()
	}
}

// snapshot is what the chain has to write; ok is false when nothing changed.
func (c *chain) snapshot() (change, bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.pending.dirty {
		return change{}, false
	}
	c.pending.dirty, c.pending.given = false, len(c.pending.notes)
	return change{chain: c, cursor: c.settled.cursor, totals: c.totals, changes: c.pending}, true
}

// unsaved: the snapshot was not written; the next one will contain it.
func (c *chain) unsaved() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.pending.dirty = true
}

// saved forgets what is in the store now.
func (c *chain) saved(ch *change) {
	c.mu.Lock()
	defer c.mu.Unlock()
	p := &c.pending
	p.letters = rest(p.letters, len(ch.letters))
	p.notes, p.given = rest(p.notes, len(ch.notes)), 0
	p.revived = rest(p.revived, len(ch.revived))
	p.returned = rest(p.returned, len(ch.returned))
	for i := range ch.letters {
		c.ahead.add(-1, -len(ch.letters[i].data))
	}
	if n := len(ch.revived) + len(ch.returned); n > 0 {
		if c.replaying -= n; c.replaying == 0 {
			select {
			case c.replayed <- struct{}{}:
			default:
			}
		}
	}
}

// rest is the items after the first n, without the memory of those.
func rest[T any](items []T, n int) []T {
	if n == len(items) {
		return nil
	}
	return append([]T(nil), items[n:]...)
}

// freed returns the room of dead letters that left the store.
func (d *Delivery) freed(by map[string]room) {
	for name, r := range by {
		d.stockOf(name).add(-r.rows, -r.bytes)
	}
	if len(by) > 0 {
		d.kickAll()
	}
}

// release lets the journal go of what every known pusher has durably passed, enabled or not.
func (d *Delivery) release(written []change) {
	d.releasing.Lock()
	defer d.releasing.Unlock()
	d.mu.Lock()
	for i := range written {
		if k := d.known[written[i].chain.Name]; k != nil { // nil: forgotten
			k.cursor, k.totals = written[i].cursor, written[i].totals
		}
	}
	lowest, ok := uint64(0), false
	for _, k := range d.known {
		if !ok || k.cursor < lowest {
			lowest, ok = k.cursor, true
		}
	}
	move := ok && lowest > d.released
	if move {
		d.released = lowest
	}
	d.mu.Unlock()
	if !move {
		return
	}
	if err := d.journal.Release(lowest); err != nil {
		d.log.Warn("the journal could not let go of old rows; trying again later", "error", err)
		d.mu.Lock()
		d.released = 0
		d.mu.Unlock()
	}
}

// prune deletes notes about rows that the journal has let go.
func (d *Delivery) prune(ctx context.Context) {
	if time.Since(d.pruned) < pruneEvery {
		return
	}
	d.pruned = time.Now()
	oldest, _ := d.journal.Bounds()
	if err := d.store.prune(ctx, oldest); err != nil && ctx.Err() == nil {
		d.log.Warn("cannot delete notes about old rows; trying again later", "error", err)
	}
}
