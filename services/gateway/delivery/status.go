package delivery

import (
	"slices"
	"strings"
	"time"
)

// Status tells how each pusher stands, enabled or known by its cursor only, sorted by name.
func (d *Delivery) Status() []Status {
	chains := d.chains()
	all := make([]Status, 0, len(chains))
	for _, c := range chains {
		all = append(all, c.status())
	}
	d.mu.Lock()
	var disabled []known
	for _, k := range d.known {
		if d.chain(k.name) == nil {
			disabled = append(disabled, *k)
		}
	}
	d.mu.Unlock()
	for _, k := range disabled {
		s := Status{Name: k.name, Paused: k.paused, Disabled: true, Cursor: k.cursor,
			DeliveredTotal: k.totals.delivered, SkippedTotal: k.totals.skipped, DeadTotal: k.totals.dead}
		d.lag(&s)
		all = append(all, s)
	}
	slices.SortFunc(all, func(a, b Status) int { return strings.Compare(a.Name, b.Name) })
	return all
}

func (c *chain) status() Status {
	c.mu.Lock()
	s := Status{Name: c.Name, Paused: c.paused, Blocked: c.blocked(), Cursor: c.settled.cursor, DeliveredTotal: c.totals.delivered,
		SkippedTotal: c.totals.skipped, DeadTotal: c.totals.dead, RowsPerSecond: c.rate.perSecond(time.Now()), LastError: c.lastErr}
	s.Condition, s.ConditionReason = c.condition()
	s.Window, s.WaitsTriggers = c.window(), len(c.look.open)
	c.mu.Unlock()
	c.d.lag(&s)
	return s
}

// lag fills in how far the cursor is behind.
func (d *Delivery) lag(s *Status) {
	_, next := d.journal.Bounds()
	if s.Cursor >= next {
		return
	}
	s.LagRows = next - s.Cursor
	var oldest time.Time
	if s.LagBytes, oldest = d.journal.Span(s.Cursor); !oldest.IsZero() {
		s.OldestAge = max(0, d.now().Sub(oldest))
	}
}

// blocked is why nothing moves; empty when it may. The caller holds mu.
func (c *chain) blocked() string {
	trouble := c.d.trouble.Load()
	switch {
	case trouble != nil:
		return *trouble
	case len(c.full) > 0:
		return "the dead letters are full: replay or delete some, or raise RIVERGATE_DEAD_LETTERS_MAX_BYTES"
	case c.hold.kind != holdNone:
		return c.hold.reason
	case c.session == nil:
		return "waiting for the plugin"
	case len(c.suspects) > 0:
		return "searching for the row that ends the plugin"
	case c.look.trouble != "" && len(c.look.open) > 0 && len(c.inflight) == 0:
		return "rows wait for their trigger: " + c.look.trouble
	}
	return ""
}

// state is one word for the metrics.
func (s *Status) state() string {
	switch {
	case s.Disabled:
		return "disabled"
	case s.Paused:
		return "paused"
	case s.Blocked != "":
		return "blocked"
	}
	return "running"
}
