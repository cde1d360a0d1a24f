package pluginhost

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/hashicorp/go-hclog"

	"github.com/rivergate/rivergate/sdk/protocol"
	"github.com/rivergate/rivergate/sdk/settings"
)

// supervisor keeps one instance running. Its goroutine alone starts, replaces and stops the process; others see it
// through the fields under mu.
type supervisor struct {
	h       *Host
	in      Instance
	log     hclog.Logger
	first   chan []settings.Problem // result of the first start, as far as it concerns the configuration
	swap    chan swapRequest
	stopCtx chan context.Context // what is left of the time to stop
	done    chan struct{}
	stopErr error          // set before done
	ending  sync.WaitGroup // old processes on their way out, and a health check that is under way

	mu       sync.Mutex
	current  *running // that answers; nil: none
	changed  chan struct{}
	state    State
	reason   string
	lastErr  string
	restarts int
	desc     *Status // what the last process said about itself
}

type swapRequest struct {
	next *running
	done chan struct{}
}

func newSupervisor(h *Host, in Instance) *supervisor {
	return &supervisor{
		h: h, in: in, log: h.log.Named(in.Name), state: StateStarting,
		first: make(chan []settings.Problem, 1), swap: make(chan swapRequest), stopCtx: make(chan context.Context, 1),
		done: make(chan struct{}), changed: make(chan struct{}),
	}
}

// run starts the instance and keeps it running until ctx ends. Nothing is configured before release is closed: when
// another instance has a configuration problem, this one must not have touched its destination.
func (s *supervisor) run(ctx context.Context, release <-chan struct{}) {
	defer close(s.done)
	r, err := s.begin(ctx, release)
	if configured(err) {
		select { // Start has the problems, and stops the host, unless it has gone on without this instance
		case <-ctx.Done():
		case <-release:
		}
	}
	retry := newRetry(s.h.pace)
	for {
		var delay time.Duration
		switch {
		case ctx.Err() != nil:
		case err != nil:
			delay = retry.afterFailure()
			s.showFailure(err, delay)
		default:
			s.showRunning(r)
			if r = s.watch(ctx, r); ctx.Err() == nil {
				var state State
				delay, state = retry.afterCrash(r)
				s.showCrash(r, state, delay)
				s.discard(r)
				r = nil
			}
		}
		if ctx.Err() == nil {
			r = s.pause(ctx, delay)
		}
		if ctx.Err() != nil {
			s.finish(r)
			return
		}
		if err = nil; r == nil {
			s.show(func() { s.state, s.reason = StateStarting, "" })
			r, err = s.launch(ctx)
		}
	}
}

// begin is the first start; it reports configuration problems, and waits for the release before it configures.
func (s *supervisor) begin(ctx context.Context, release <-chan struct{}) (*running, error) {
	r, config, err := s.describe(ctx)
	if configured(err) {
		s.first <- s.in.startProblems(err)
	} else {
		s.first <- nil
	}
	if err != nil {
		return nil, err
	}
	select {
	case <-release:
	case <-ctx.Done():
		return r, nil
	}
	if err := s.settle(s.configure(ctx, r, config), r); err != nil {
		return nil, err
	}
	return r, nil
}

// launch starts a process up to the point where it delivers.
func (s *supervisor) launch(ctx context.Context) (*running, error) {
	r, config, err := s.describe(ctx)
	if err != nil {
		return nil, err
	}
	if err := s.settle(s.configure(ctx, r, config), r); err != nil {
		return nil, err
	}
	return r, nil
}

// settle ends a process that could not be configured.
func (s *supervisor) settle(err error, r *running) error {
	if err != nil {
		r.expectEnd()
		r.destroy("it could not be configured")
	}
	return err
}

// describe starts a process, and turns the variables into its configuration.
func (s *supervisor) describe(ctx context.Context) (*running, []byte, error) {
	ctx, cancel := context.WithTimeout(ctx, s.h.opts.StartTimeout)
	defer cancel()
	r, err := s.h.connect(ctx, s.in, newPluginLog(s.log))
	if err != nil {
		return nil, nil, err
	}
	config, err := s.in.config(r.desc.ConfigSchema)
	if err != nil {
		return nil, nil, s.settle(err, r)
	}
	return r, config, nil
}

// configure makes the instance, and asks it for its health.
func (s *supervisor) configure(ctx context.Context, r *running, config []byte) error {
	call, cancel := context.WithTimeout(ctx, s.h.opts.StartTimeout)
	defer cancel()
	problems, err := r.rpc.Configure(call, s.in.Name, config)
	if err != nil {
		return r.failedCall("configuration", err)
	}
	if len(problems) > 0 {
		return &problemsError{prefix: s.in.Prefix, problems: problems}
	}
	call, cancel = context.WithTimeout(ctx, s.h.pace.healthTimeout)
	defer cancel()
	err = r.rpc.Health(call, s.in.Name)
	var unhealthy *protocol.Unhealthy
	if err != nil && !errors.As(err, &unhealthy) {
		return r.failedCall("first health check", err)
	}
	r.health = err
	return nil
}

// watch asks for the health of the process until it dies or ctx ends, and returns the process then in charge.
func (s *supervisor) watch(ctx context.Context, r *running) *running {
	tick := time.NewTicker(s.h.pace.healthEvery)
	defer tick.Stop()
	unanswered := 0
	answers := make(chan error, 1)
	asking := false
	for {
		select {
		case <-ctx.Done():
			return r
		case <-r.dead:
			return r
		case req := <-s.swap:
			old := r
			r, unanswered = req.next, 0
			if asking {
				err := <-answers
				asking = false
				s.log.Debug("last health check of the old process", "error", err)
			}
			s.exchange(ctx, old, r)
			close(req.done)
		case <-tick.C:
			if !asking {
				asking = true
				asked := r
				s.ending.Go(func() { s.ask(ctx, asked, answers) })
			}
		case err := <-answers:
			asking = false
			unanswered = s.heard(r, err, unanswered)
		}
	}
}

// ask is one health check; it ends with its deadline.
func (s *supervisor) ask(ctx context.Context, r *running, answers chan<- error) {
	call, cancel := context.WithTimeout(ctx, s.h.pace.healthTimeout)
	defer cancel()
	answers <- r.rpc.Health(call, s.in.Name)
}

// heard takes the result of a health check, and kills the process after too many that were not answered.
func (s *supervisor) heard(r *running, err error, unanswered int) int {
	var unhealthy *protocol.Unhealthy
	switch {
	case err == nil, errors.As(err, &unhealthy):
		s.showHealth(err)
		return 0
	case errors.Is(err, protocol.ErrUnknownInstance):
		r.kill("it has forgotten its instance")
		return 0
	}
	unanswered++
	s.show(func() {
		s.reason = fmt.Sprintf("does not answer health checks (%d of %d)", unanswered, s.h.pace.healthMisses)
	})
	if unanswered >= s.h.pace.healthMisses {
		r.kill(fmt.Sprintf("wedged: %d health checks in a row were not answered within %s", unanswered, s.h.pace.healthTimeout))
	}
	return unanswered
}

// reload starts a new process beside the old one and hands it to the supervisor.
func (s *supervisor) reload(ctx context.Context) error {
	next, err := s.launch(ctx)
	if err == nil && next.health != nil {
		err = s.settle(fmt.Errorf("it is not healthy: %w", next.health), next)
	}
	if err != nil {
		return fmt.Errorf("reload plugin %s: %w", s.in.Name, err)
	}
	req := swapRequest{next: next, done: make(chan struct{})}
	select {
	case s.swap <- req:
		<-req.done
		return nil
	case <-ctx.Done():
		return fmt.Errorf("reload plugin %s: %w", s.in.Name, s.settle(context.Cause(ctx), next))
	case <-s.done:
		return fmt.Errorf("reload plugin %s: %w", s.in.Name, s.settle(errStopped, next))
	}
}

// exchange puts next in the place of old: first the streams of old end in good order, then new ones open at next.
func (s *supervisor) exchange(ctx context.Context, old, next *running) {
	old.expectEnd()
	call, cancel := context.WithTimeout(ctx, s.h.opts.StopTimeout)
	if err := old.retireSessions(call); err != nil && ctx.Err() == nil {
		s.log.Warn("delivery streams of the old plugin process are cut", "error", err)
	}
	cancel()
	s.showRunning(next)
	s.log.Info("plugin reloaded", "old_pid", old.pid, "pid", next.pid, "version", next.desc.Version, "sha256", next.sha256)
	s.ending.Go(func() {
		call, cancel := context.WithTimeout(ctx, s.h.opts.StopTimeout)
		defer cancel()
		old.stop(call, s.in.Name)
	})
}

// discard clears a dead process away while the next one starts.
func (s *supervisor) discard(r *running) {
	s.ending.Go(func() { r.destroy("") })
}

// pause waits before the next start. A reload ends it: its process is returned.
func (s *supervisor) pause(ctx context.Context, d time.Duration) *running {
	if d <= 0 {
		return nil
	}
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return nil
	case req := <-s.swap:
		close(req.done)
		return req.next
	}
}

// finish ends the process in good order, within the time that Stop gives.
func (s *supervisor) finish(r *running) {
	ctx := <-s.stopCtx
	if r != nil {
		r.expectEnd()
		if err := r.retireSessions(ctx); err != nil {
			s.stopErr = fmt.Errorf("stop plugin %s: %w", s.in.Name, err)
		}
		r.stop(ctx, s.in.Name)
	}
	s.ending.Wait()
	s.show(func() { s.current, s.state, s.reason = nil, StateStopped, "" })
}

func (s *supervisor) wait() error {
	<-s.done
	return s.stopErr
}

// ready returns the process that delivers, waiting for one.
func (s *supervisor) ready(ctx context.Context) (*running, error) {
	for {
		s.mu.Lock()
		r, changed := s.current, s.changed
		s.mu.Unlock()
		if r != nil {
			return r, nil
		}
		if err := s.waitChange(ctx, changed); err != nil {
			return nil, err
		}
	}
}

// waitPast waits until another process than old is in charge, or none.
func (s *supervisor) waitPast(ctx context.Context, old *running) error {
	for {
		s.mu.Lock()
		r, changed := s.current, s.changed
		s.mu.Unlock()
		if r != old {
			return nil
		}
		if err := s.waitChange(ctx, changed); err != nil {
			return err
		}
	}
}

func (s *supervisor) waitChange(ctx context.Context, changed <-chan struct{}) error {
	select {
	case <-changed:
		return nil
	case <-s.done:
		return errStopped
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}
