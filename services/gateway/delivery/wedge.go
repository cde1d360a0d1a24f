package delivery

import (
	"fmt"
	"time"
)

// A plugin that does not keep up shows in one of three ways. Two are told apart here, by its acknowledgements:
//
//	stuck    nothing is acknowledged for TIMEOUT with batches in flight, counted from the last acknowledgement, or from the
//	         last time that the plugin said it is at work; that alone helps for workingMax times TIMEOUT. It is killed
//	slow     acknowledgements come, but a batch takes longer than TIMEOUT from send to acknowledgement: too much is in flight
//	         for what the plugin gets done. Its window is halved, and grows again by one when a windowful comes back quickly
//
// The third is silent: it answers no health check, which the plugin host finds out, who kills it. It also adds to the reason of
// a stuck one whether it still answered.
const (
	conditionStuck = "stuck"
	conditionSlow  = "slow"

	workingMax = 10
	// quickPart of TIMEOUT is what a batch may take for the window to grow. Between that and TIMEOUT it stays.
	quickPart = 2
)

// watched tells whether acknowledgements are due: not of a process that is killed or has a deadline already.
func (c *chain) watched(s *session) bool { return len(c.inflight) > 0 && s.deadline.IsZero() }

// expires is when the session's process counts as stuck. Something is in flight.
func (c *chain) expires(s *session) time.Time {
	at, last := s.progress.Add(c.Timeout), s.advanced.Add(workingMax*c.Timeout)
	if last.Before(at) {
		return last
	}
	return at
}

// overdue tells whether the process counts as stuck. What it said at the last moment is heard first; one that never stops
// talking gets one TIMEOUT more.
func (c *chain) overdue(s *session, now time.Time) bool {
	late := now.Sub(c.expires(s))
	return late >= c.Timeout || late >= 0 && len(c.events) == 0
}

// wedged ends a process that acknowledges nothing.
func (c *chain) wedged(now time.Time) {
	s := c.session
	rows := 0
	for _, b := range c.inflight {
		rows += b.rows
	}
	flight := fmt.Sprintf("%s, %s in flight", counted(len(c.inflight), "batch", "batches"), counted(rows, "row", "rows"))
	switch silent, said := brief(now.Sub(s.advanced)), s.progress.After(s.advanced); {
	case !said:
		s.wedged = fmt.Sprintf("wedged on a batch: it has acknowledged nothing for %s (%s)", silent, flight)
	case now.Sub(s.progress) >= c.Timeout:
		s.wedged = fmt.Sprintf("wedged on a batch: it has acknowledged nothing for %s, and last said that it is at work %s ago (%s)",
			silent, brief(now.Sub(s.progress)), flight)
	default:
		s.wedged = fmt.Sprintf("wedged on a batch: it says that it is at work, but has acknowledged nothing for %s, %d times its TIMEOUT (%s)",
			silent, workingMax, flight)
	}
	c.log.Error("the plugin is wedged and is killed", "reason", s.wedged, "in_flight", len(c.inflight))
	c.lastErr, c.stuck = s.wedged, s.wedged
	c.metrics.wedged.WithLabelValues(c.Name, conditionStuck).Inc()
	c.close(s, now.Add(endGrace))
	s.deadline = now.Add(endGrace)
	c.kill(s, s.wedged)
}

// pace is how a plugin that is too slow for its window is slowed down to.
type pace struct {
	allowed int           // batches in flight; 0: as many as the window
	took    time.Duration // what a batch took that made it so
	changed time.Time     // batches sent before say nothing of it
	quick   int           // batches since then that came back quickly
}

// keepPace learns from how long acknowledged batches took.
func (c *chain) keepPace(acked []*batch, now time.Time) {
	p := &c.pace
	for _, b := range acked {
		took := now.Sub(b.sent)
		switch {
		case b.sent.Before(p.changed):
		case took > c.Timeout:
			c.slower(took, now)
			return
		case took <= c.Timeout/quickPart:
			p.quick++
		default:
			p.quick = 0
		}
	}
	if p.allowed == 0 || p.quick < p.allowed {
		return
	}
	full := c.fullWindow()
	p.allowed, p.quick, p.changed = p.allowed+1, 0, now
	if p.allowed >= full {
		c.log.Info("the plugin keeps up with its window again", "window", full)
		c.pace = pace{}
	}
}

// slower halves the window.
func (c *chain) slower(took time.Duration, now time.Time) {
	full := c.fullWindow()
	before := full
	if c.pace.allowed > 0 {
		before = min(full, c.pace.allowed)
	}
	if c.pace.allowed != 1 {
		c.metrics.wedged.WithLabelValues(c.Name, conditionSlow).Inc()
	}
	c.pace = pace{allowed: max(1, before/2), took: took, changed: now}
	if unsaid, ok := c.noise.allow(now); ok {
		c.log.Warn("the plugin is too slow for its window", "reason", c.slowness(), "unsaid", unsaid)
	}
}

func (c *chain) slowness() string {
	full := c.fullWindow()
	return fmt.Sprintf("a batch takes %s from send to acknowledgement (TIMEOUT is %s): %d of %s in flight allowed",
		brief(c.pace.took), brief(c.Timeout), min(full, c.pace.allowed), counted(full, "batch", "batches"))
}

// condition is how the plugin keeps up; empty when it does. The caller holds mu.
func (c *chain) condition() (word, reason string) {
	switch {
	case c.stuck != "":
		return conditionStuck, c.stuck
	case c.pace.allowed > 0:
		return conditionSlow, c.slowness()
	}
	return "", ""
}

// brief is a duration for a sentence: 250ms, 1.2s, 41s, 5m0s.
func brief(d time.Duration) string {
	switch {
	case d >= 10*time.Second:
		d = d.Round(time.Second)
	case d >= time.Second:
		d = d.Round(100 * time.Millisecond)
	default:
		d = d.Round(time.Millisecond)
	}
	return d.String()
}

func counted(n int, one, many string) string {
	if n == 1 {
		return "1 " + one
	}
	return fmt.Sprintf("%d %s", n, many)
}
