package pluginhost

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/rivergate/rivergate/sdk/protocol"
)

// An upgrade puts a new process in the place of a running one:
//
//	new: start → verify → describe → configure → health ─────────────── serves
//	old: serves ──────────────────────────────── streams end → drain → SIGTERM → gone
//
// Whatever goes wrong before the streams of the old one are asked to end leaves it as it was. Batches in flight are
// acknowledged by the old process before the first one reaches the new: a stream opens there only after the old streams
// have ended. No step waits for a fixed time.

// Reload replaces the process of an instance, and of those that share it, by one of the binary that is on disk now. What
// goes wrong is returned and kept in Status.LastError, and the old process goes on. Reloads of one process take turns.
// An attached instance is connected and configured again.
func (h *Host) Reload(ctx context.Context, name string) error {
	m, err := h.lookup(ctx, name)
	if err != nil {
		if h.sleeps(name) {
			return nil // it starts from what is on disk when it is needed
		}
		return err
	}
	ctx, leave, err := h.enter(ctx)
	if err != nil {
		return err
	}
	defer leave()
	if err := h.reload(ctx, m); err != nil {
		return fmt.Errorf("reload plugin %s: %w", name, err)
	}
	return nil
}

func (h *Host) reload(ctx context.Context, m *member) error {
	if err := h.changes.Acquire(ctx, 1); err != nil {
		return context.Cause(ctx)
	}
	defer h.changes.Release(1)
	old, err := m.takeTurn(ctx)
	if err != nil {
		return err
	}
	defer func() { <-old.turn }()
	if old.address() != "" {
		return h.reattach(ctx, old, m.instance())
	}
	var tenants []*tenant
	for _, t := range old.list() {
		tenants = append(tenants, newTenant(t.m, t.m.instance()))
	}
	return h.upgrade(ctx, &trial{s: h.newSupervisor(tenants...)})
}

// takeTurn waits until nobody else replaces the process of the member, and returns its supervisor with the turn held.
func (m *member) takeTurn(ctx context.Context) (*supervisor, error) {
	for {
		s := m.supervisor()
		select {
		case s.turn <- struct{}{}:
		case <-m.gone:
			return nil, m.why
		case <-ctx.Done():
			return nil, context.Cause(ctx)
		}
		select {
		case <-m.gone: // its last process may have a free turn all the same
			<-s.turn
			return nil, m.why
		default:
		}
		if m.supervisor() == s {
			return s, nil
		}
		<-s.turn // it was replaced while this waited
	}
}

// upgrade starts the process of a trial, unless it was, and moves its tenants there, from wherever they are served now.
// After an error they are where they were.
func (h *Host) upgrade(ctx context.Context, on *trial) error {
	next, tenants := on.s, on.s.list()
	for _, t := range tenants {
		t.m.change(func() { t.m.phase = PhaseUpgrading })
	}
	r, err := on.process, on.err
	switch {
	case err != nil:
	case r == nil:
		r, err = next.launch(ctx, true)
	default:
		err = next.dismantle(next.sitAll(ctx, r, true), r)
	}
	if err == nil && r.isDead() {
		err = next.dismantle(fmt.Errorf("it ended right after its start: %s", r.end()), r)
	}
	if err != nil {
		next.cancel()
		for _, t := range tenants {
			t.m.refuse(err)
		}
		return err
	}
	h.move(tenants, next)
	go next.carryOn(r)
	return nil
}

// refuse notes an upgrade or a change that came to nothing.
func (m *member) refuse(err error) {
	m.log.Error("plugin upgrade failed: it goes on as it was", "error", err)
	m.change(func() {
		m.phase, m.lastErr = "", err.Error()
		m.refused++
	})
}

// move ends the streams of the tenants where they are served now, and lets them open at next. It finishes even if who
// asked for it has gone.
func (h *Host) move(tenants []*tenant, next *supervisor) {
	ctx, cancel := context.WithTimeout(h.cut, h.opts.StopTimeout)
	defer cancel()
	from := map[*supervisor][]*tenant{}
	for _, t := range tenants {
		if home := t.m.supervisor(); home != nil {
			from[home] = append(from[home], t)
			continue
		}
		next.work.Lock()
		t.m.settle(next, t)
		t.m.change(func() { t.m.phase = "" })
		next.work.Unlock()
	}
	var all errgroup.Group
	for old, movers := range from {
		all.Go(func() error {
			h.moveFrom(ctx, old, movers, next)
			return nil
		})
	}
	_ = all.Wait()
}

func (h *Host) moveFrom(ctx context.Context, old *supervisor, movers []*tenant, next *supervisor) {
	old.exit.Lock() // the last one out ends the process
	defer old.exit.Unlock()
	whole := len(movers) == len(old.list())
	var left *running
	if whole {
		if left = old.release(); left != nil {
			left.expectEnd()
		}
	} else {
		for _, t := range movers {
			old.dismiss(t.m)
		}
	}
	var streams errgroup.Group
	seats := make([]*seat, len(movers))
	overlaps := old.spec.Kind == protocol.KindStorage // both may be at work at once
	for i, t := range movers {
		switch seats[i] = t.m.seat(); {
		case seats[i] == nil:
		case overlaps:
			seats[i].shut()
		default:
			streams.Go(func() error { return seats[i].retire(ctx) })
		}
	}
	if err := streams.Wait(); err != nil {
		old.log.Warn("delivery streams of the old plugin process are cut", "error", err)
		if left != nil { // nothing of it may be at work when the new one gets the same rows
			left.kill("its delivery streams did not end in time for its replacement")
			<-left.dead
		}
	}
	next.work.Lock()
	for i, t := range movers {
		before := t.m.described()
		t.m.settle(next, t)
		t.m.change(func() {
			t.m.phase = ""
			t.m.upgraded++
		})
		now := t.m.described()
		t.m.log.Info("plugin upgraded", "from_version", before.Version, "version", now.Version, "from_sha256", before.SHA256,
			"sha256", now.SHA256, "from_pid", seats[i].processID(), "pid", t.seat.processID())
	}
	next.work.Unlock()
	seats = slices.DeleteFunc(seats, func(s *seat) bool { return s == nil })
	if left == nil {
		// Not in the background: the instance may come back to this process, and must not be drained then.
		ctx, cancel := context.WithTimeout(h.cut, h.opts.StopTimeout)
		defer cancel()
		drainAll(ctx, old.log, seats)
		return
	}
	h.ending.Go(func() {
		if overlaps {
			h.letFinish(old, seats)
		}
		ctx, cancel := context.WithTimeout(h.cut, h.opts.StopTimeout)
		defer cancel()
		left.stop(ctx, seats)
	})
}

// transferTime is what the transfers of a storage process get to end once another process has its place.
const transferTime = 15 * time.Minute

func (h *Host) letFinish(old *supervisor, seats []*seat) {
	ctx, cancel := context.WithTimeout(h.ctx, transferTime)
	defer cancel()
	for _, s := range seats {
		if err := s.retire(ctx); err != nil {
			old.log.Warn("transfers of the old plugin process are cut", "error", err)
		}
	}
}

// described is what the last process said about itself.
func (m *member) described() Status {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.desc == nil {
		return Status{}
	}
	return *m.desc
}

// dismiss ends a tenancy; the seat is the caller's to empty.
func (s *supervisor) dismiss(m *member) {
	s.work.Lock()
	defer s.work.Unlock()
	s.mu.Lock()
	defer s.mu.Unlock()
	s.tenants = slices.DeleteFunc(s.tenants, func(t *tenant) bool {
		if t.m == m {
			close(t.left)
		}
		return t.m == m
	})
}

// rearrange gives an instance another configuration in the process that it sits in. When it does not like that, it gets
// the former one back.
func (s *supervisor) rearrange(ctx context.Context, m *member, in Instance) error {
	s.work.Lock()
	defer s.work.Unlock()
	i := slices.IndexFunc(s.list(), func(t *tenant) bool { return t.m == m })
	if i < 0 {
		return ErrUnknown
	}
	t := s.list()[i]
	s.mu.Lock()
	r := s.process
	s.mu.Unlock()
	if r == nil || t.seat == nil && r.isDead() { // it is configured when there is a process again
		t.conf.Store(&in)
		m.change(func() { m.in = in })
		return nil
	}
	former := t.in()
	if t.seat != nil {
		quiet, cancel := context.WithTimeout(s.h.cut, s.h.opts.StopTimeout)
		if err := t.seat.retire(quiet); err != nil {
			m.log.Warn("delivery streams are cut", "error", err)
		}
		cancel()
	}
	t.seat = nil
	err := s.sit(ctx, r, t, in, true)
	if err == nil {
		t.m.settle(s, t)
		m.change(func() { m.upgraded++ })
		m.log.Info("plugin instance has another configuration", "pid", r.pid)
		return nil
	}
	m.refuse(err)
	if again := s.sit(s.ctx, r, t, former, false); again != nil {
		s.tryAgain(r, t, again)
		return fmt.Errorf("%w; and the former configuration does not work any more: %w", err, again)
	}
	t.m.settle(s, t)
	return err
}

// admit adds an instance to the process. strict: when it cannot be configured, it is not added.
func (s *supervisor) admit(ctx context.Context, t *tenant, strict bool) error {
	s.work.Lock()
	defer s.work.Unlock()
	s.mu.Lock()
	s.tenants = append(s.tenants, t)
	r := s.process
	s.mu.Unlock()
	if r == nil || r.isDead() {
		if !strict {
			return nil // it is configured with the others
		}
		s.drop(t)
		return fmt.Errorf("the process of plugin %s that it is to share does not run", s.spec.Plugin)
	}
	err := s.sit(ctx, r, t, t.in(), strict)
	switch {
	case err == nil:
		s.showSeat(t)
	case strict:
		s.drop(t)
	default:
		s.tryAgain(r, t, err)
	}
	return err
}

func (s *supervisor) drop(t *tenant) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.tenants = slices.DeleteFunc(s.tenants, func(other *tenant) bool { return other == t })
	close(t.left)
}

// reattach ends the connection in good order, so that the next one configures the instance in.
func (h *Host) reattach(ctx context.Context, s *supervisor, in Instance) error {
	t := s.list()[0]
	before := t.m.seat()
	t.conf.Store(&in)
	t.m.change(func() { t.m.in = in })
	if before == nil {
		return nil // it is tried every second
	}
	quiet, cancel := context.WithTimeout(h.cut, h.opts.StopTimeout)
	defer cancel()
	if err := before.retire(quiet); err != nil {
		t.m.log.Warn("delivery streams are cut", "error", err)
	}
	before.kill("it is connected again")
	if err := t.m.waitPast(ctx, before); err != nil {
		return err
	}
	if _, err := t.m.ready(ctx); err != nil {
		return fmt.Errorf("the process at %s is not back yet (%s): %w", s.address(), cmp.Or(t.m.status().Reason, "no reason known"), err)
	}
	return nil
}

// others tells with whom an instance shares its process.
func (s *supervisor) others(name string) []string {
	names := slices.DeleteFunc(s.names(), func(n string) bool { return n == name })
	slices.SortFunc(names, strings.Compare)
	return names
}
