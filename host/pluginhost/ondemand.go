package pluginhost

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"golang.org/x/sync/errgroup"
)

// An instance on demand is asleep until somebody needs it: known, its variables checked, and without a process. From then on it
// is an instance like any other.

// split tells the instances that are to have a process from those that sleep on.
func (h *Host) split(list []Instance) (awake, asleep []Instance) {
	have := h.byName()
	for _, in := range list {
		if in.OnDemand && have[in.Name] == nil {
			asleep = append(asleep, in.withDefaults())
		} else {
			awake = append(awake, in)
		}
	}
	return awake, asleep
}

// rest checks the instances that are to sleep, each by a process that runs for a moment, and notes what changes for them.
func (p *plan) rest(ctx context.Context, asleep []Instance) {
	p.h.mu.Lock()
	before := p.h.asleep
	p.h.mu.Unlock()
	named := func(in Instance) func(Instance) bool {
		return func(other Instance) bool { return other.Name == in.Name }
	}
	var all errgroup.Group
	for _, in := range asleep {
		switch i := slices.IndexFunc(before, named(in)); {
		case i >= 0 && before[i].equal(in):
			p.changes.Unchanged = append(p.changes.Unchanged, in.Name)
			continue
		case i >= 0:
			p.changes.Replaced = append(p.changes.Replaced, in.Name)
		default:
			p.changes.Started = append(p.changes.Started, in.Name)
		}
		all.Go(func() error {
			found := p.h.checkConfigured(ctx, in)
			p.mu.Lock()
			defer p.mu.Unlock()
			p.problems = append(p.problems, found)
			return nil
		})
	}
	_ = all.Wait()
	for _, in := range before {
		if !slices.ContainsFunc(asleep, named(in)) && !slices.Contains(p.wanted, in.Name) {
			p.changes.Stopped = append(p.changes.Stopped, in.Name)
		}
	}
	p.asleep = asleep
}

// lay notes which instances sleep.
func (h *Host) lay(asleep []Instance) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.asleep = asleep
}

// sleeps tells whether there is an instance of this name that sleeps.
func (h *Host) sleeps(name string) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	return slices.ContainsFunc(h.asleep, func(in Instance) bool { return in.Name == name })
}

// wake finds an instance and starts its process when it sleeps. Of many who need it at once, one starts it; ctx bounds the waiting
// only.
func (h *Host) wake(ctx context.Context, name string) (*member, error) {
	m, err := h.lookup(ctx, name)
	if !errors.Is(err, ErrUnknown) || !h.sleeps(name) {
		return m, err
	}
	woken := h.wakes.DoChan(name, func() (any, error) { return h.rouse(context.WithoutCancel(ctx), name) })
	select {
	case result := <-woken:
		if result.Err != nil {
			return nil, result.Err
		}
		return result.Val.(*member), nil
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
}

func (h *Host) rouse(ctx context.Context, name string) (*member, error) {
	ctx, leave, err := h.enter(ctx)
	if err != nil {
		return nil, err
	}
	defer leave()
	if err := h.changes.Acquire(ctx, allChanges); err != nil {
		return nil, context.Cause(ctx)
	}
	defer h.changes.Release(allChanges)
	if m := h.byName()[name]; m != nil {
		return m, nil
	}
	h.mu.Lock()
	asleep := slices.Clone(h.asleep)
	var list []Instance
	for _, m := range h.members {
		list = append(list, m.instance())
	}
	h.mu.Unlock()
	i := slices.IndexFunc(asleep, func(in Instance) bool { return in.Name == name })
	if i < 0 {
		return nil, unknown(name)
	}
	list = append(list, asleep[i])
	p := h.plan(list)
	defer p.abandon()
	p.asleep = slices.Delete(asleep, i, i+1)
	p.prepare(ctx)
	if ctx.Err() != nil {
		return nil, context.Cause(ctx)
	}
	if problems := p.found(list); len(problems) > 0 {
		return nil, fmt.Errorf("plugin %s cannot be started: %s %s", name, problems[0].Variable, problems[0].Reason)
	}
	p.commit(ctx)
	if m := h.byName()[name]; m != nil {
		return m, nil
	}
	return nil, unknown(name)
}
