package command

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/hashicorp/go-hclog"

	"github.com/rivergate/rivergate/host/config"
	"github.com/rivergate/rivergate/host/pluginhost"
	"github.com/rivergate/rivergate/sdk/settings"
	"github.com/rivergate/rivergate/services/gateway"
	"github.com/rivergate/rivergate/services/gateway/delivery"
)

// reloader reads the configuration again and brings a serving host to it: on SIGHUP, and on POST /api/v1/plugins/reload.
//
// Delivery never has a pusher without a plugin: new plugins start before their pushers, and those that go end after them.
type reloader struct {
	log     hclog.Logger
	load    func(context.Context) (*config.Config, []settings.Problem)
	plugins interface {
		Apply(ctx context.Context, list []pluginhost.Instance) (pluginhost.Changes, []settings.Problem)
		Destination(name string) delivery.Destination
	}
	delivery interface { // nil on a host without the gateway, which has no pushers
		Apply(ctx context.Context, pushers []delivery.Pusher) (delivery.Changes, error)
	}

	started *config.Config    // as the host was started: its variables that count until it is started again
	current []config.Instance // as they run
	turn    chan struct{}     // capacity 1: one reload at a time
}

// newReloader makes a reloader of a host that runs cfg.
func newReloader(cfg *config.Config) *reloader {
	return &reloader{started: cfg, current: cfg.Instances, turn: make(chan struct{}, 1)}
}

// errReloadCut: the configuration was read, but not all of it could be brought about in time.
var errReloadCut = errors.New("the reload was cut short; what it had changed stays, another one does the rest")

// reload does it. With problems nothing was changed. Errors: that of ctx while another reload runs, and errReloadCut.
func (r *reloader) reload(ctx context.Context) (gateway.Reloading, error) {
	select {
	case r.turn <- struct{}{}:
		defer func() { <-r.turn }()
	case <-ctx.Done():
		return gateway.Reloading{}, fmt.Errorf("wait for the reload before: %w", ctx.Err())
	}
	cfg, problems := r.load(ctx)
	out := gateway.Reloading{Warnings: configProblems(cfg.Warnings)}
	if len(problems) > 0 {
		out.Problems = configProblems(problems)
		r.report(&out)
		return out, nil
	}
	out.NeedsRestart = config.Diff(r.started, cfg).Restart

	going := slices.DeleteFunc(slices.Clone(r.current), func(in config.Instance) bool { return cfg.Instance(in.Name) != nil })
	replaced, problems := r.plugins.Apply(ctx, append(pluginInstances(slices.Concat(cfg.Instances, going)), backendInstance(cfg)...))
	if len(problems) > 0 {
		if ctx.Err() != nil {
			return gateway.Reloading{}, fmt.Errorf("%w: %w", errReloadCut, ctx.Err())
		}
		out.Problems = configProblems(problems)
		r.report(&out)
		return out, nil
	}
	next := r.settle(cfg, replaced.Failed)
	r.current = slices.Concat(next, going) // should the rest be cut short, another reload finds what is left to do
	var moved delivery.Changes
	var err error
	if r.delivery != nil {
		moved, err = r.delivery.Apply(ctx, r.pushers(next))
	}
	out.Failed = replaced.Failed
	if err != nil {
		left := notIn(names(next), moved.Started, moved.Changed, moved.Unchanged)
		if len(left) == len(next) && len(next) > 0 || ctx.Err() != nil {
			return gateway.Reloading{}, fmt.Errorf("%w: %w", errReloadCut, err)
		}
		r.blame(&out, left, err)
	}
	var ended pluginhost.Changes
	if len(going) > 0 {
		if ended, problems = r.plugins.Apply(ctx, append(pluginInstances(next), backendInstance(cfg)...)); len(problems) > 0 {
			return gateway.Reloading{}, fmt.Errorf("%w: %s", errReloadCut, problems[0].Reason)
		}
	}
	r.current = next

	out.Started = merged(replaced.Started, moved.Started)
	out.Stopped = merged(moved.Stopped, ended.Stopped)
	out.Replaced = merged(replaced.Replaced)
	out.Changed = notIn(moved.Changed, out.Replaced, out.Started)
	failed := make([]string, 0, len(out.Failed))
	for name := range out.Failed {
		failed = append(failed, name)
	}
	out.Unchanged = notIn(names(next), out.Started, out.Replaced, out.Changed, failed)
	r.report(&out)
	return out, nil
}

// settle is what runs now: the new configuration, but for instances that could not be changed, which go on as they were.
func (r *reloader) settle(cfg *config.Config, failed map[string]string) []config.Instance {
	next := slices.Clone(cfg.Instances)
	for i := range next {
		if _, bad := failed[next[i].Name]; !bad {
			continue
		}
		if was := slices.IndexFunc(r.current, func(in config.Instance) bool { return in.Name == next[i].Name }); was >= 0 {
			next[i] = r.current[was]
		}
	}
	return next
}

func (r *reloader) pushers(list []config.Instance) []delivery.Pusher {
	pushers := make([]delivery.Pusher, len(list))
	for i := range list {
		pushers[i] = list[i].Pusher
		pushers[i].Destination = r.plugins.Destination(list[i].Name)
	}
	return pushers
}

func (r *reloader) blame(out *gateway.Reloading, names []string, err error) {
	if out.Failed == nil {
		out.Failed = map[string]string{}
	}
	for _, name := range names {
		if _, told := out.Failed[name]; !told {
			out.Failed[name] = err.Error()
		}
	}
}

// report puts what came of it into the log.
func (r *reloader) report(out *gateway.Reloading) {
	for _, w := range out.Warnings {
		r.log.Warn("configuration", "variable", w.Variable, "reason", w.Reason, "nearest", w.Nearest)
	}
	for _, p := range out.Problems {
		r.log.Error("configuration is wrong; nothing was changed", "variable", p.Variable, "reason", p.Reason, "nearest", p.Nearest)
	}
	if len(out.Problems) > 0 {
		return
	}
	for name, why := range out.Failed {
		r.log.Error("instance could not be changed", "name", name, "reason", why)
	}
	if len(out.NeedsRestart) > 0 {
		r.log.Warn("these variables changed and count after a restart", "variables", strings.Join(out.NeedsRestart, ", "))
	}
	list := func(names []string) string { return strings.Join(names, ", ") }
	r.log.Info("configuration read again", "started", list(out.Started), "stopped", list(out.Stopped), "replaced", list(out.Replaced),
		"changed", list(out.Changed), "unchanged", list(out.Unchanged))
}

func configProblems(list []settings.Problem) []gateway.ConfigProblem {
	out := make([]gateway.ConfigProblem, len(list))
	for i, p := range list {
		out[i] = gateway.ConfigProblem{Variable: p.Variable, Reason: p.Reason, Nearest: p.Nearest}
	}
	return out
}

func names(list []config.Instance) []string {
	out := make([]string, len(list))
	for i := range list {
		out[i] = list[i].Name
	}
	return out
}

// merged is every name of the lists once, sorted.
func merged(lists ...[]string) []string {
	all := slices.Concat(lists...)
	slices.Sort(all)
	return slices.Compact(all)
}

// notIn is what of list is in none of the others, sorted.
func notIn(list []string, others ...[]string) []string {
	taken := slices.Concat(others...)
	return merged(slices.DeleteFunc(slices.Clone(list), func(name string) bool { return slices.Contains(taken, name) }))
}
