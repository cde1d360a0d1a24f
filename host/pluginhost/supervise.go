package pluginhost

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/hashicorp/go-hclog"
	"golang.org/x/sync/errgroup"

	"github.com/rivergate/rivergate/sdk/protocol"
	"github.com/rivergate/rivergate/sdk/settings"
)

// supervisor keeps one process running, for one instance or for several that share it. Its goroutine alone starts the
// process; release ends the goroutine and hands the process on.
type supervisor struct {
	h      *Host
	spec   Instance // what the process is started from: of the tenants, who are alike in it
	log    hclog.Logger
	ctx    context.Context
	cancel context.CancelFunc

	first  chan []settings.Problem // result of the first start, as far as it concerns the configuration
	done   chan struct{}
	left   *running       // the process when the goroutine ended; set before done
	asides sync.WaitGroup // health checks under way, tenants that are tried again
	turn   chan struct{}  // held by who replaces the process

	exit sync.Mutex // held while instances move away
	work sync.Mutex // held while tenants are configured, added or removed

	mu      sync.Mutex
	tenants []*tenant
	process *running // that the tenants sit in; nil: none
	desc    *protocol.Description
	shares  bool // the process that was seen last can serve several instances
}

// tenant is an instance at a supervisor.
type tenant struct {
	m    *member
	seat *seat         // guarded by supervisor.work; nil: it does not sit
	left chan struct{} // closed when it is no tenant any more

	conf atomic.Pointer[Instance]
}

func newTenant(m *member, in Instance) *tenant {
	t := &tenant{m: m, left: make(chan struct{})}
	t.conf.Store(&in)
	return t
}

// in is the instance as this supervisor serves it: during an upgrade two have it, with different configurations.
func (t *tenant) in() Instance { return *t.conf.Load() }

func (h *Host) newSupervisor(tenants ...*tenant) *supervisor {
	spec := tenants[0].in()
	s := &supervisor{
		h: h, spec: spec, log: h.log.Named(spec.Name), tenants: tenants,
		first: make(chan []settings.Problem, 1), done: make(chan struct{}), turn: make(chan struct{}, 1),
	}
	if len(tenants) > 1 {
		s.log = h.log.Named(spec.Plugin)
	}
	s.ctx, s.cancel = context.WithCancel(h.ctx)
	return s
}

// list is the tenants of now.
func (s *supervisor) list() []*tenant {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.tenants)
}

func (s *supervisor) names() []string {
	var names []string
	for _, t := range s.list() {
		names = append(names, t.m.name)
	}
	return names
}

func (s *supervisor) address() string { return s.h.opts.Attach[s.spec.Name] }

// run starts the process and keeps it running until release. Nothing is configured before released is closed: when
// another instance has a configuration problem, this one must not have touched its destination.
func (s *supervisor) run(released <-chan struct{}) {
	defer close(s.done)
	r, err := s.begin(released)
	s.keep(r, err)
}

// carryOn is run for a process whose tenants are configured.
func (s *supervisor) carryOn(r *running) {
	defer close(s.done)
	s.keep(r, nil)
}

func (s *supervisor) keep(r *running, err error) {
	retry := newRetry(s.h.pace)
	for {
		var delay time.Duration
		switch {
		case s.ctx.Err() != nil:
		case err != nil:
			delay = s.pauseAfter(retry.afterFailure())
			s.showFailure(err, delay)
		default:
			if s.watch(r); s.ctx.Err() == nil {
				var state State
				delay, state = retry.afterCrash(r)
				delay = s.pauseAfter(delay)
				s.vacate()
				s.showCrash(r, state, delay)
				dead := r
				s.h.ending.Go(func() { dead.destroy("") })
				r = nil
			}
		}
		s.pause(delay)
		if s.ctx.Err() != nil {
			s.left = r
			return
		}
		if err = nil; r == nil {
			s.show(func(m *member) { m.state, m.reason = StateStarting, "" })
			r, err = s.launch(s.ctx, false)
		}
	}
}

// pauseAfter is the pause before the next start. Whoever restarts an attached process by hand does not want to wait.
func (s *supervisor) pauseAfter(d time.Duration) time.Duration {
	if s.address() != "" {
		return s.h.pace.attachEvery
	}
	return d
}

func (s *supervisor) pause(d time.Duration) {
	if d <= 0 {
		return
	}
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
	case <-s.ctx.Done():
	}
}

// release ends the supervision and returns the process that was running, which is now the caller's; nil: there is none, or
// it was handed on before.
func (s *supervisor) release() *running {
	s.cancel()
	<-s.done
	s.asides.Wait()
	s.mu.Lock()
	defer s.mu.Unlock()
	r := s.left
	s.left = nil
	return r
}

// begin is the first start; it reports configuration problems, and waits for the release before it configures.
func (s *supervisor) begin(released <-chan struct{}) (*running, error) {
	r, err := s.describe(s.ctx)
	if errors.Is(err, errNotShared) {
		return s.split(r, released)
	}
	s.first <- s.problems(r, err)
	if err != nil {
		if configured(err) { // who waits for the first word ends this, unless he has gone on without it
			select {
			case <-released:
			case <-s.ctx.Done():
			}
		}
		return nil, err
	}
	return s.configure(r, released)
}

func (s *supervisor) configure(r *running, released <-chan struct{}) (*running, error) {
	select {
	case <-released:
	case <-s.ctx.Done():
		return r, nil
	}
	if err := s.dismantle(s.sitAll(s.ctx, r, false), r); err != nil {
		return nil, err
	}
	return r, nil
}

// split gives each tenant but the first a process of its own: the plugin serves one instance only.
func (s *supervisor) split(r *running, released <-chan struct{}) (*running, error) {
	leaving := s.keepOne()
	var others []*supervisor
	s.h.mu.Lock()
	stopping := s.h.stopping
	if !stopping {
		for _, t := range leaving {
			other := s.h.newSupervisor(t)
			t.m.change(func() { t.m.home = other })
			others = append(others, other)
		}
	}
	s.h.mu.Unlock()
	if stopping {
		s.first <- nil
		return r, nil
	}
	found := s.problems(r, nil)
	for _, other := range others {
		go other.run(released)
	}
	for _, other := range others {
		select {
		case problems := <-other.first:
			found = append(found, problems...)
		case <-s.ctx.Done(): // who ends this one ends the others too
			other.cancel()
		}
	}
	s.first <- found
	return s.configure(r, released)
}

// keepOne leaves only the first tenant and returns the others: the plugin serves one instance only.
func (s *supervisor) keepOne() []*tenant {
	all := s.list()
	s.mu.Lock()
	s.tenants = all[:1:1]
	s.mu.Unlock()
	for _, t := range all {
		t.m.log.Warn("plugin cannot serve several instances: each gets a process of its own, and "+t.in().Prefix+"PROCESS=shared has no effect", "plugin", s.spec.Plugin)
	}
	return all[1:]
}

// problems is what the operator has to mend, of a process that has described itself or of the error instead.
func (s *supervisor) problems(r *running, err error) []settings.Problem {
	var found []settings.Problem
	for _, t := range s.list() {
		if err == nil {
			found = append(found, t.in().variableProblems(r.desc.ConfigSchema)...)
		} else if configured(err) {
			found = append(found, t.in().startProblems(err)...)
		}
	}
	return found
}

// launch starts a process up to the point where its tenants deliver. strict: each of them has to be configured and
// healthy, otherwise the process is ended again.
func (s *supervisor) launch(ctx context.Context, strict bool) (*running, error) {
	r, err := s.describe(ctx)
	if errors.Is(err, errNotShared) {
		names := s.names()
		err = fmt.Errorf("%s share one process, and this plugin cannot serve several instances: set PLUGIN_<NAME>_PROCESS=own for them", strings.Join(names, ", "))
		return nil, s.dismantle(err, r)
	}
	if err != nil {
		return nil, err
	}
	if err := s.dismantle(s.sitAll(ctx, r, strict), r); err != nil {
		return nil, err
	}
	return r, nil
}

// dismantle ends a process that could not be configured.
func (s *supervisor) dismantle(err error, r *running) error {
	if err != nil {
		s.vacate()
		r.expectEnd()
		r.destroy("it could not be configured")
	}
	return err
}

var errNotShared = errors.New("the plugin cannot serve several instances")

// describe starts a process that has introduced itself. With errNotShared, the process is there all the same.
func (s *supervisor) describe(ctx context.Context) (*running, error) {
	ctx, cancel := context.WithTimeout(ctx, s.h.opts.StartTimeout)
	defer cancel()
	var r *running
	var err error
	if at := s.address(); at != "" {
		r, err = s.h.attach(ctx, s.spec, at, s.log)
	} else {
		r, err = s.h.connect(ctx, s.spec, newPluginLog(s.log))
	}
	if err != nil {
		return nil, err
	}
	shares := slices.Contains(r.hello.Capabilities, protocol.CapInstances)
	s.mu.Lock()
	s.desc, s.shares = &r.desc, shares
	many := len(s.tenants) > 1
	s.mu.Unlock()
	if many && !shares {
		return r, errNotShared
	}
	return r, nil
}

// sitAll configures every tenant. One that fails among several does not keep the others from serving, unless strict: it
// is tried again while the process lives.
func (s *supervisor) sitAll(ctx context.Context, r *running, strict bool) error {
	s.work.Lock()
	defer s.work.Unlock()
	tenants := s.list()
	errs := make([]error, len(tenants))
	var all errgroup.Group
	for i, t := range tenants {
		all.Go(func() error {
			errs[i] = s.sit(ctx, r, t, t.in(), strict)
			return nil
		})
	}
	_ = all.Wait()
	alone := len(tenants) == 1
	for i, err := range errs {
		switch {
		case err == nil:
		case strict && !alone:
			return fmt.Errorf("instance %s: %w", tenants[i].m.name, err)
		case strict, alone, ctx.Err() != nil:
			return err
		}
	}
	select {
	case <-r.dead:
		return fmt.Errorf("it ended during its configuration: %s", r.end())
	default:
	}
	s.mu.Lock()
	s.process = r
	s.mu.Unlock()
	for i, t := range tenants {
		if errs[i] != nil {
			s.tryAgain(r, t, errs[i])
			continue
		}
		s.showSeat(t)
	}
	return nil
}

// sit configures one tenant. It is called with work held.
func (s *supervisor) sit(ctx context.Context, r *running, t *tenant, in Instance, strict bool) error {
	plugin := r.rpc
	if s.h.opts.Wrap != nil {
		plugin = s.h.opts.Wrap(in.Name, t.m.log, r.desc.ConfigSchema, r.rpc)
	}
	seat, err := s.h.sit(ctx, r, in, plugin)
	if err != nil {
		return err
	}
	if strict && seat.health != nil {
		return fmt.Errorf("it is not healthy: %w", seat.health)
	}
	t.seat = seat
	t.conf.Store(&in)
	return nil
}

// vacate forgets a process.
func (s *supervisor) vacate() {
	s.work.Lock()
	defer s.work.Unlock()
	s.mu.Lock()
	s.process = nil
	s.mu.Unlock()
	for _, t := range s.list() {
		t.seat = nil
	}
}

// tryAgain configures a tenant that failed while others sit, until it succeeds or the process ends.
func (s *supervisor) tryAgain(r *running, t *tenant, err error) {
	retry := newRetry(s.h.pace)
	delay := retry.afterFailure()
	s.showTenantFailure(t, err, delay)
	s.asides.Go(func() {
		for {
			timer := time.NewTimer(delay)
			select {
			case <-timer.C:
			case <-r.dead:
			case <-t.left:
			case <-s.ctx.Done():
			}
			timer.Stop()
			var over bool
			if delay, over = s.attempt(r, t, retry); over {
				return
			}
		}
	})
}

// attempt is one more try to configure a tenant; over: there is nothing left to try. A failure is shown with work held: after
// that the tenant may sit in the next process, and this one has no say any more.
func (s *supervisor) attempt(r *running, t *tenant, retry *retry) (again time.Duration, over bool) {
	s.work.Lock()
	defer s.work.Unlock()
	select {
	case <-r.dead:
		return 0, true
	case <-t.left:
		return 0, true
	case <-s.ctx.Done():
		return 0, true
	default:
	}
	if t.seat != nil {
		return 0, true // changed meanwhile, with success
	}
	if err := s.sit(s.ctx, r, t, t.in(), false); err != nil {
		again = retry.afterFailure()
		s.showTenantFailure(t, err, again)
		return again, false
	}
	s.showSeat(t)
	return 0, true
}

type answer struct {
	seat *seat
	err  error
}

// watch asks for the health of every tenant until the process dies or the supervision ends.
func (s *supervisor) watch(r *running) {
	over := make(chan struct{})
	defer close(over)
	answers := make(chan answer)
	// Spread out: fifty plugins that were started together are not all asked at once.
	tick := time.NewTimer(rand.N(s.h.pace.healthEvery) + 1) // #nosec G404 -- jitter is no secret
	defer tick.Stop()
	for {
		select {
		case <-s.ctx.Done():
			return
		case <-r.dead:
			return
		case <-tick.C:
			tick.Reset(s.h.pace.healthEvery)
			for _, seat := range s.seats(r) {
				if !seat.asking {
					seat.asking = true
					s.asides.Go(func() { s.ask(seat, answers, over) })
				}
			}
		case a := <-answers:
			a.seat.asking = false
			if s.heard(r, a.seat, a.err); a.err != nil {
				tick.Reset(s.h.pace.doubtEvery)
			}
		}
	}
}

// seats are those of the process that instances sit in now.
func (s *supervisor) seats(r *running) []*seat {
	var seats []*seat
	for _, t := range s.list() {
		if seat := t.m.seat(); seat != nil && seat.running == r {
			seats = append(seats, seat)
		}
	}
	return seats
}

// ask is one health check; it ends with its deadline.
func (s *supervisor) ask(seat *seat, answers chan<- answer, over <-chan struct{}) {
	call, cancel := context.WithTimeout(s.ctx, s.h.pace.healthTimeout)
	defer cancel()
	err := seat.plugin.Health(call, seat.instance)
	select {
	case answers <- answer{seat, err}:
	case <-over:
	}
}

// heard takes the result of a health check, and kills the process after too many that were not answered. A process that
// somebody else started is left alone: it may stand at a breakpoint.
func (s *supervisor) heard(r *running, seat *seat, err error) {
	var unhealthy *protocol.Unhealthy
	switch {
	case err == nil, errors.As(err, &unhealthy):
		seat.unanswered = 0
		s.showHealth(seat, err)
		return
	case errors.Is(err, protocol.ErrUnknownInstance):
		if s.sitsIn(seat) {
			r.kill("it has forgotten its instance")
		}
		return
	case errors.Is(err, protocol.ErrMalformed): // it answers, and what it says can never be taken
		r.kill("it broke the protocol: " + err.Error())
		return
	}
	seat.unanswered++
	s.showSilence(seat)
	if seat.unanswered >= s.h.pace.healthMisses && r.attached == "" {
		r.kill(fmt.Sprintf("wedged: %d health checks in a row were not answered within %s", seat.unanswered, s.h.pace.healthTimeout))
	}
}

// sitsIn tells whether an instance still has this seat, and is not just being changed.
func (s *supervisor) sitsIn(seat *seat) bool {
	s.work.Lock()
	defer s.work.Unlock()
	return slices.ContainsFunc(s.list(), func(t *tenant) bool { return t.seat == seat })
}

// finish ends the process in good order, within the time that ctx gives.
func (s *supervisor) finish(ctx context.Context) error {
	r := s.release()
	if r == nil {
		return nil
	}
	r.expectEnd()
	half, cancel := halfOf(ctx)
	defer cancel()
	var streams errgroup.Group
	seats := s.seats(r)
	for _, seat := range seats {
		streams.Go(func() error {
			if err := seat.retire(half); err != nil {
				return fmt.Errorf("stop plugin %s: %w", seat.instance, err)
			}
			return nil
		})
	}
	err := streams.Wait()
	r.stop(ctx, seats)
	return err
}
