package pluginhost

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"

	"golang.org/x/sync/errgroup"

	"github.com/rivergate/rivergate/sdk/settings"
)

// Changes is what Apply did, by instance.
type Changes struct {
	Started, Stopped, Replaced, Unchanged []string
	// Failed says why an instance could not be changed; it goes on as it was. A new one that does not run yet is tried
	// again and again, and is in Started too.
	Failed map[string]string
}

// Apply makes the running set of instances equal to list: new ones start, missing ones stop in good order, changed ones (in
// any field) are exchanged as Reload does, the others are not touched. All variables are checked first; problems are
// returned in the order of list, and then nothing was changed. It takes turns with Reload, and must come after Start.
func (h *Host) Apply(ctx context.Context, list []Instance) (Changes, []settings.Problem) {
	ctx, leave, err := h.enter(ctx)
	if err != nil {
		return Changes{}, problem(err)
	}
	defer leave()
	select {
	case <-h.started:
	default:
		return Changes{}, []settings.Problem{{Reason: "the plugin host was not started"}}
	}
	if err := h.changes.Acquire(ctx, allChanges); err != nil {
		return Changes{}, problem(context.Cause(ctx))
	}
	defer h.changes.Release(allChanges)
	awake, asleep := h.split(list)
	p := h.plan(awake)
	defer p.abandon()
	p.rest(ctx, asleep)
	p.prepare(ctx)
	if ctx.Err() != nil {
		return Changes{}, problem(fmt.Errorf("changing the plugins was cut short: %w", context.Cause(ctx)))
	}
	if problems := p.found(list); len(problems) > 0 {
		return Changes{}, problems
	}
	p.commit(ctx)
	return p.changes, nil
}

func problem(err error) []settings.Problem { return []settings.Problem{{Reason: err.Error()}} }

// plan is the way from the instances that are to those that are wanted.
type plan struct {
	h        *Host
	wanted   []string // names in order
	problems [][]settings.Problem
	changes  Changes
	mu       sync.Mutex // over changes.Failed

	gone  []*member
	fresh []*supervisor // processes for new instances alone, started and not yet released
	next  []*trial      // processes for changed instances, perhaps together with new ones
	join  []seating     // instances that get a seat in a process that runs
	same  []seating     // instances that are changed in the process that they sit in, or attached ones
	added map[string]*member

	asleep    []Instance // that no process is started for
	release   chan struct{}
	committed bool
}

// trial is a process that was started to check variables, and is put to use when all are in order.
type trial struct {
	s       *supervisor
	process *running // nil: it did not start
	err     error    // then
}

// seating is an instance and the supervisor that is to serve it.
type seating struct {
	m  *member
	in Instance
	at *supervisor
}

func (h *Host) plan(list []Instance) *plan {
	p := &plan{h: h, release: make(chan struct{}), added: map[string]*member{}, changes: Changes{Failed: map[string]string{}}}
	have := h.byName()
	var groups []string
	grouped := map[string][]*tenant{}
	for _, in := range list {
		in = in.withDefaults()
		m := have[in.Name]
		p.wanted = append(p.wanted, in.Name)
		if m != nil && m.instance().equal(in) {
			p.changes.Unchanged = append(p.changes.Unchanged, in.Name)
			continue
		}
		if problems := h.check(in); len(problems) > 0 {
			p.problems = append(p.problems, problems)
			continue
		}
		if m == nil && p.added[in.Name] != nil {
			continue // named twice: a problem
		}
		fresh := m == nil
		if fresh {
			m = newMember(h, in)
			p.added[in.Name] = m
		}
		key := h.processKey(in)
		at := h.sharedProcess(have, key)
		switch {
		case !fresh && (m.supervisor() == at || m.supervisor().address() != ""):
			p.same = append(p.same, seating{m, in, m.supervisor()})
		case at != nil:
			p.join = append(p.join, seating{m, in, at})
		default:
			if grouped[key] == nil {
				groups = append(groups, key)
			}
			grouped[key] = append(grouped[key], newTenant(m, in))
		}
	}
	for name, m := range have {
		if !slices.Contains(p.wanted, name) {
			p.gone = append(p.gone, m)
		}
	}
	slices.SortFunc(p.gone, func(a, b *member) int { return strings.Compare(a.name, b.name) })
	for _, key := range groups {
		p.group(grouped[key])
	}
	return p
}

// group makes one process for these instances. Changed ones move to it when it is healthy; when all are new, it is kept and
// tried again however it starts.
func (p *plan) group(tenants []*tenant) {
	s := p.h.newSupervisor(tenants...)
	if slices.ContainsFunc(tenants, func(t *tenant) bool { return p.added[t.m.name] == nil }) {
		p.next = append(p.next, &trial{s: s})
		return
	}
	for _, t := range tenants {
		t.m.change(func() { t.m.home = s })
	}
	p.fresh = append(p.fresh, s)
}

// processKey is the same for instances that may share a process.
func (h *Host) processKey(in Instance) string {
	if !in.Shared || h.opts.Attach[in.Name] != "" {
		return "own " + in.Name
	}
	return fmt.Sprintf("shared %s %s %s %q %+v %v", in.Kind, in.Plugin, in.SHA256, in.RunAs, in.Limits, in.PassEnv)
}

// sharedProcess is the supervisor of a process that further instances with this key may join; nil: there is none.
func (h *Host) sharedProcess(have map[string]*member, key string) *supervisor {
	if !strings.HasPrefix(key, "shared ") {
		return nil
	}
	for _, name := range slices.Sorted(maps.Keys(have)) {
		m := have[name]
		if s := m.supervisor(); h.processKey(m.instance()) == key && s.canShare() {
			return s
		}
	}
	return nil
}

// canShare tells whether the plugin that was started last can serve several instances.
func (s *supervisor) canShare() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.shares
}

// prepare starts what is to be new and checks every variable, without touching what runs. A process that takes long is
// not waited for.
func (p *plan) prepare(ctx context.Context) {
	for _, s := range p.fresh {
		go s.run(p.release)
	}
	for _, c := range slices.Concat(p.join, p.same) {
		p.problems = append(p.problems, c.problems())
	}
	p.tryOut(ctx, p.next)
	p.firstWords(ctx)
}

// problems checks the variables against the schema of the process that runs.
func (c seating) problems() []settings.Problem {
	c.at.mu.Lock()
	desc := c.at.desc
	c.at.mu.Unlock()
	if desc == nil {
		return nil // it has never run; what is wrong shows when it does
	}
	return c.in.variableProblems(desc.ConfigSchema)
}

// tryOut starts the processes that changed instances would move to, for their variables to be checked. What else goes wrong
// leaves the instances as they are.
func (p *plan) tryOut(ctx context.Context, trials []*trial) {
	var all errgroup.Group
	for _, t := range trials {
		all.Go(func() error {
			t.process, t.err = t.s.describe(ctx)
			return nil
		})
	}
	_ = all.Wait()
	var more []*trial
	for _, t := range trials {
		if errors.Is(t.err, errNotShared) {
			t.err = nil
			for _, other := range t.s.keepOne() {
				more = append(more, &trial{s: p.h.newSupervisor(other)})
			}
		}
		p.problems = append(p.problems, t.s.problems(t.process, t.err))
	}
	if len(more) > 0 {
		p.next = append(p.next, more...)
		p.tryOut(ctx, more)
	}
}

// found is all that is wrong, in the order of list.
func (p *plan) found(list []Instance) []settings.Problem {
	all := flatten(append(p.problems, checkDoubles(list)))
	place := func(problem settings.Problem) int {
		best, length := len(list), 0
		for i, in := range list {
			if prefix := in.withDefaults().Prefix; len(prefix) > length && strings.HasPrefix(problem.Variable, prefix) {
				best, length = i, len(prefix)
			}
		}
		return best
	}
	slices.SortStableFunc(all, func(a, b settings.Problem) int { return place(a) - place(b) })
	return all
}

// firstWords waits for what the new processes say of their variables.
func (p *plan) firstWords(ctx context.Context) {
	wait, cancel := context.WithTimeout(ctx, p.h.pace.firstWord)
	defer cancel()
	for _, s := range p.fresh {
		select {
		case problems := <-s.first:
			p.problems = append(p.problems, problems)
		case <-wait.Done():
			select {
			case problems := <-s.first:
				p.problems = append(p.problems, problems)
			default:
				s.log.Warn("plugin takes long to start; the others go on without it")
			}
		}
	}
}

// abandon ends what was prepared, unless it was put to use.
func (p *plan) abandon() {
	if p.committed {
		return
	}
	homes := map[*supervisor]bool{}
	for _, s := range p.fresh {
		s.cancel()
		homes[s] = true
	}
	for _, s := range p.fresh {
		<-s.done // no further one is split off
	}
	for _, m := range p.added {
		if s := m.supervisor(); s != nil {
			homes[s] = true
		}
	}
	for s := range homes {
		if r := s.release(); r != nil {
			r.expectEnd()
			r.destroy("it is not wanted")
		}
	}
	for _, t := range p.next {
		t.s.cancel()
		if t.process != nil {
			t.process.expectEnd()
			t.process.destroy("it is not wanted")
		}
	}
}

// commit does it. From here on, what fails concerns one instance only.
func (p *plan) commit(ctx context.Context) {
	p.committed = true
	p.h.arrange(p.wanted, p.added)
	p.h.lay(p.asleep)
	joined := map[*supervisor]bool{}
	for _, c := range p.join {
		joined[c.at] = true
	}
	p.removeGone(joined)
	close(p.release)

	// First all who join a process that runs: it may be one that everybody else is about to leave, for another one that is
	// joined as well.
	var seats, moves errgroup.Group
	changed := slices.Concat(p.same, p.join)
	leave := make([]func(), len(changed))
	for i, c := range changed {
		seats.Go(func() error {
			leave[i] = p.reseat(ctx, c)
			return nil
		})
	}
	_ = seats.Wait()
	for _, move := range leave {
		if move != nil {
			moves.Go(func() error {
				move()
				return nil
			})
		}
	}
	for _, t := range p.next {
		moves.Go(func() error {
			p.exchange(ctx, t)
			return nil
		})
	}
	_ = moves.Wait()
	for s := range joined {
		if len(s.list()) == 0 { // who was to join it could not
			p.h.end(s)
		}
	}
	p.tellFresh(ctx)
	for _, names := range []*[]string{&p.changes.Started, &p.changes.Stopped, &p.changes.Replaced, &p.changes.Unchanged} {
		slices.Sort(*names)
	}
}

// removeGone stops the instances that are not wanted any more, all at once.
func (p *plan) removeGone(joined map[*supervisor]bool) {
	leaving := map[*supervisor][]*member{}
	for _, m := range p.gone {
		leaving[m.supervisor()] = append(leaving[m.supervisor()], m)
		p.changes.Stopped = append(p.changes.Stopped, m.name)
	}
	var all errgroup.Group
	for s, members := range leaving {
		all.Go(func() error {
			if len(members) == len(s.list()) && !joined[s] {
				p.h.end(s)
			} else {
				p.h.remove(s, members)
			}
			for _, m := range members {
				m.leave(unknown(m.name))
				m.log.Info("plugin instance stopped: it is not configured any more")
			}
			return nil
		})
	}
	_ = all.Wait()
}

// end stops a supervisor and its process.
func (h *Host) end(s *supervisor) {
	ctx, cancel := context.WithTimeout(h.cut, h.opts.StopTimeout)
	defer cancel()
	if err := s.finish(ctx); err != nil {
		s.log.Warn("plugin did not stop in good order", "error", err)
	}
}

// remove takes instances out of a process that serves others too.
func (h *Host) remove(s *supervisor, members []*member) {
	ctx, cancel := context.WithTimeout(h.cut, h.opts.StopTimeout)
	defer cancel()
	var all errgroup.Group
	for _, m := range members {
		all.Go(func() error {
			s.dismiss(m)
			its := m.seat()
			if its == nil {
				return nil
			}
			half, cancel := halfOf(ctx)
			defer cancel()
			if err := its.retire(half); err != nil {
				m.log.Warn("delivery streams are cut", "error", err)
			}
			drainAll(ctx, m.log, []*seat{its})
			return nil
		})
	}
	_ = all.Wait()
}

// exchange moves changed instances to a process of their own or a common one. New ones that were to sit there too get it
// in any case.
func (p *plan) exchange(ctx context.Context, trial *trial) {
	s := trial.s
	err := p.h.upgrade(ctx, trial)
	var strays []*tenant
	for _, t := range s.list() {
		fresh := p.added[t.m.name] != nil
		switch {
		case err == nil && fresh:
			p.started(t.m, nil)
		case err == nil:
			p.replaced(t.m, nil)
		case fresh:
			strays = append(strays, newTenant(t.m, t.in()))
			p.started(t.m, err)
		default:
			p.replaced(t.m, err)
		}
	}
	if len(strays) == 0 {
		return
	}
	own := p.h.newSupervisor(strays...)
	for _, t := range strays {
		t.m.change(func() { t.m.home = own })
	}
	go own.run(p.release)
}

// reseat changes an instance in the process that it sits in, or lets it join one. move, when not nil, lets it leave its
// former one for that.
func (p *plan) reseat(ctx context.Context, c seating) (move func()) {
	if p.added[c.m.name] != nil {
		c.m.change(func() { c.m.home = c.at })
		p.started(c.m, c.at.admit(ctx, newTenant(c.m, c.in), false))
		return nil
	}
	switch {
	case c.at.address() != "":
		p.replaced(c.m, p.h.reattach(ctx, c.at, c.in))
	case c.m.supervisor() == c.at:
		p.replaced(c.m, c.at.rearrange(ctx, c.m, c.in))
	default:
		t := newTenant(c.m, c.in)
		if err := c.at.admit(ctx, t, true); err != nil {
			c.m.refuse(err)
			p.replaced(c.m, err)
			return nil
		}
		return func() {
			p.h.move([]*tenant{t}, c.at)
			p.replaced(c.m, nil)
		}
	}
	return nil
}

func (p *plan) started(m *member, err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.changes.Started = append(p.changes.Started, m.name)
	if err != nil {
		p.changes.Failed[m.name] = err.Error()
	}
}

func (p *plan) replaced(m *member, err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if err != nil {
		p.changes.Failed[m.name] = err.Error()
		return
	}
	p.changes.Replaced = append(p.changes.Replaced, m.name)
}

// tellFresh waits a little for the new instances, to tell whether they run.
func (p *plan) tellFresh(ctx context.Context) {
	wait, cancel := context.WithTimeout(ctx, p.h.pace.firstWord)
	defer cancel()
	for _, name := range slices.Sorted(maps.Keys(p.added)) {
		if !slices.Contains(p.changes.Started, name) {
			p.started(p.added[name], p.added[name].awaitWord(wait))
		}
	}
}

// arrange makes the list of instances: those that were and stay, and the new ones.
func (h *Host) arrange(wanted []string, added map[string]*member) {
	have := h.byName()
	list := make([]*member, 0, len(wanted))
	for _, name := range wanted {
		if m := added[name]; m != nil {
			list = append(list, m)
		} else if m := have[name]; m != nil {
			list = append(list, m)
		}
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	h.members = list
}
