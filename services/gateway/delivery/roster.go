package delivery

import (
	"context"
	"fmt"
	"slices"
	"strings"
)

// chains is the pushers that are enabled, sorted by name. The slice is replaced, never changed.
func (d *Delivery) chains() []*chain { return *d.roster.Load() }

// chain returns the enabled pusher of this name, or nil.
func (d *Delivery) chain(name string) *chain {
	for _, c := range d.chains() {
		if c.Name == name {
			return c
		}
	}
	return nil
}

// exchange makes c the chain of its name; with c nil, the name has none.
//
// Each row is counted once: those that were durable at this moment by enter, the later ones by Accepted, which waits here.
func (d *Delivery) exchange(name string, c *chain) {
	d.intake.Lock()
	defer d.intake.Unlock()
	others := slices.DeleteFunc(slices.Clone(d.chains()), func(o *chain) bool { return o.Name == name })
	if c != nil {
		_, c.counted = d.journal.Bounds()
		others = append(others, c)
		slices.SortFunc(others, func(a, b *chain) int { return strings.Compare(a.Name, b.Name) })
	}
	d.roster.Store(&others)
}

// enter puts a chain among the enabled ones, in the place of former (nil: of none) that has ended. After an error it is not.
func (d *Delivery) enter(ctx context.Context, c, former *chain) error {
	c.metrics = d.metrics.of(c.Name)
	if err := d.seat(ctx, c, former); err != nil {
		return err
	}
	d.mu.Lock()
	k := d.known[c.Name]
	paused := k.paused
	d.mu.Unlock()
	c.mu.Lock()
	c.paused = paused
	c.mu.Unlock()
	if err := d.count(ctx, c); err != nil {
		d.dismiss(c)
		return fmt.Errorf("count the rows that wait: %w", err)
	}
	return nil
}

// seat gives the chain what the former one of its name knew, or what the store knows, and enables it.
func (d *Delivery) seat(ctx context.Context, c, former *chain) error {
	d.flushing.Lock()
	defer d.flushing.Unlock()
	if former == nil {
		former = d.leaving[c.Name]
	}
	if former != nil {
		c.inherit(former)
		delete(d.leaving, c.Name)
	} else if err := d.load(ctx, c); err != nil {
		return err
	}
	d.exchange(c.Name, c)
	return nil
}

// dismiss takes a chain that does not run out of the enabled ones. Its last changes are still written.
func (d *Delivery) dismiss(c *chain) {
	d.flushing.Lock()
	defer d.flushing.Unlock()
	d.leaving[c.Name] = c
	d.exchange(c.Name, nil)
	d.metrics.forget(c.Name)
	d.touch()
}

// inherit takes over what an ended chain knew: what is settled, also beyond the cursor, and what is not written yet. Rows
// that it had not settled are read again; their attempts are counted anew. The caller holds d.flushing.
func (c *chain) inherit(former *chain) {
	former.mu.Lock()
	defer former.mu.Unlock()
	c.start, c.settled, c.totals, c.pending = former.start, former.settled, former.totals, former.pending
	c.rate, c.lastErr, c.paused = former.rate, former.lastErr, former.paused
	former.pending = changes{}
	c.next = c.settled.cursor
	if n := len(c.settled.spans); n > 0 {
		c.redo = c.settled.spans[n-1].to
	}
	for i := range c.pending.letters {
		c.ahead.add(1, len(c.pending.letters[i].data))
	}
	c.replaying = len(c.pending.revived) + len(c.pending.returned)
	c.changed()
}

// count adds the rows that waited when the chain was enabled.
func (d *Delivery) count(ctx context.Context, c *chain) error {
	waiting, err := d.journal.OrgRows(ctx, c.settled.cursor, c.counted)
	if err != nil {
		return err
	}
	for org, rows := range waiting {
		if !c.takes(org) {
			continue
		}
		c.backlog.Add(int64(rows))
		if n := c.orgCount(org, true); n != nil {
			n.Add(int64(rows))
		}
	}
	return nil
}
