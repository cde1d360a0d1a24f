package pluginhost

import (
	"context"
	"errors"
	"fmt"
	"sync"

	"github.com/hashicorp/go-hclog"
)

// member is one configured instance as others see it. It stays while processes come and go: its home is the supervisor of
// the process that serves it, and changes with an upgrade. What any other supervisor says of it is not listened to.
type member struct {
	h    *Host
	name string
	log  hclog.Logger
	gone chan struct{} // closed when the instance was removed or the host has stopped
	why  error         // set before gone

	mu        sync.Mutex
	in        Instance
	home      *supervisor
	current   *seat // that answers; nil: none
	changed   chan struct{}
	state     State
	reason    string
	condition string
	phase     string
	lastErr   string
	restarts  int
	upgraded  int     // upgrades that came to an end
	refused   int     // upgrades that left the former process in place
	desc      *Status // what the last process said about itself
}

func newMember(h *Host, in Instance) *member {
	return &member{
		h: h, name: in.Name, log: h.log.Named(in.Name), in: in, state: StateStarting,
		gone: make(chan struct{}), changed: make(chan struct{}),
	}
}

func (m *member) instance() Instance {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.in
}

// upgrades counts those that came to an end, and those that left the former process in place.
func (m *member) upgrades() (done, failed int) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.upgraded, m.refused
}

func (m *member) supervisor() *supervisor {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.home
}

func (m *member) seat() *seat {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.current
}

// change changes what others see and wakes those who wait for a change.
func (m *member) change(how func()) {
	m.mu.Lock()
	defer m.mu.Unlock()
	how()
	close(m.changed)
	m.changed = make(chan struct{})
}

// show is change for a supervisor; it tells whether the supervisor is the member's home, and does nothing otherwise.
func (m *member) show(s *supervisor, how func()) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.home != s {
		return false
	}
	how()
	close(m.changed)
	m.changed = make(chan struct{})
	return true
}

// settle moves the member into its place at a supervisor.
func (m *member) settle(s *supervisor, t *tenant) {
	m.change(func() {
		m.home, m.in, m.current = s, t.in(), nil
		if t.seat != nil {
			m.take(t.seat)
			return
		}
		m.state, m.reason, m.condition = StateStarting, "", ""
	})
}

// take is called with the lock held.
func (m *member) take(s *seat) {
	m.current, m.state = s, StateRunning
	m.reason, m.condition = healthReason(s.health), ""
	if s.health != nil {
		m.condition = ConditionUnhealthy
	}
	m.desc = s.describe()
}

// leave ends the waiting for the instance: it will not be back. It is called once.
func (m *member) leave(why error) {
	m.why = why
	m.change(func() { m.current, m.state, m.reason, m.condition, m.phase = nil, StateStopped, "", "", "" })
	close(m.gone)
}

// ready returns the seat that delivers, waiting for one.
func (m *member) ready(ctx context.Context) (*seat, error) {
	for {
		m.mu.Lock()
		s, changed := m.current, m.changed
		m.mu.Unlock()
		if s != nil {
			return s, nil
		}
		if err := m.waitChange(ctx, changed); err != nil {
			return nil, err
		}
	}
}

// waitPast waits until another seat than old is in charge, or none.
func (m *member) waitPast(ctx context.Context, old *seat) error {
	for {
		m.mu.Lock()
		s, changed := m.current, m.changed
		m.mu.Unlock()
		if s != old {
			return nil
		}
		if err := m.waitChange(ctx, changed); err != nil {
			return err
		}
	}
}

// awaitWord waits until the instance runs or has failed, and returns why it failed.
func (m *member) awaitWord(ctx context.Context) error {
	for {
		m.mu.Lock()
		state, reason, changed := m.state, m.reason, m.changed
		m.mu.Unlock()
		if state == StateRunning {
			return nil
		}
		if state != StateStarting {
			return errors.New(reason)
		}
		if err := m.waitChange(ctx, changed); err != nil {
			return fmt.Errorf("it is still starting: %w", err)
		}
	}
}

func (m *member) waitChange(ctx context.Context, changed <-chan struct{}) error {
	select {
	case <-changed:
		return nil
	case <-m.gone:
		return m.why
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// status is what is known about the instance.
func (m *member) status() Status {
	m.mu.Lock()
	defer m.mu.Unlock()
	st := Status{}
	if m.desc != nil {
		st = *m.desc
	}
	st.Name, st.Kind, st.Plugin, st.Binary = m.name, m.in.Kind, m.in.Plugin, m.h.binaryPath(m.in)
	st.State, st.Reason, st.Restarts, st.LastError = m.state, m.reason, m.restarts, m.lastErr
	st.Condition, st.Phase = m.condition, m.phase
	if m.home != nil {
		st.SharedWith = m.home.others(m.name)
	}
	if at := m.h.opts.Attach[m.name]; at != "" {
		st.Attached, st.Binary = at, ""
	}
	if s := m.current; s != nil {
		st.StartedAt = s.since
		if s.pid != 0 {
			st.PID, st.RSSBytes = s.pid, rss(s.pid)
		}
	}
	return st
}

func unknown(name string) error { return fmt.Errorf("plugin %q: %w", name, ErrUnknown) }
