// Package pluginhost runs plugin binaries as child processes: it finds, verifies, starts, watches, restarts, replaces and
// stops them. A plugin that crashes, hangs, leaks or lies harms nothing but itself.
//
//	file in the plugin folder → hash, pin → private copy → fork (own group, clean environment) → go-plugin's handshake
//	  → Handshake, Describe → variables against the schema → Configure → Health → delivery streams
//	                                                                              ↓ crash, wedge
//	                                                    backing off ← group killed, reaped, folder removed
//
// One supervisor goroutine owns each process; see supervise.go. An instance (member.go) sits in a process (seat.go), alone
// or with others, and moves to another one at an upgrade (upgrade.go) or a change of the configuration (apply.go). What the kernel is asked for is in process.go, spawn.go
// and rundir.go.
package pluginhost

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"github.com/hashicorp/go-hclog"
	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/sync/errgroup"
	"golang.org/x/sync/semaphore"
	"golang.org/x/sync/singleflight"

	"github.com/rivergate/rivergate/sdk/protocol"
	"github.com/rivergate/rivergate/sdk/settings"
)

// The choices of Options.MTLS.
const (
	MTLSAuto = "auto" // none on unix sockets, demanded on TCP
	MTLSOn   = "on"   // always
	MTLSOff  = "off"  // never
)

// Options says where and how a Host runs plugins.
type Options struct {
	Dir         string // the plugin folder
	RunDir      string // DATA_DIR/run: private copies and sockets; made 0700
	MTLS        string // MTLSAuto when empty
	HostVersion string // told to plugins
	Log         hclog.Logger
	Registry    prometheus.Registerer // nil: no metrics

	// Triggers: the triggers of rows can be looked up. Without, a plugin that needs them does not run.
	Triggers bool

	// Verify decides whether a binary may run. It gets the private copy that will be executed, at each start; its error is
	// what the operator reads. nil: every one may.
	Verify func(ctx context.Context, b Binary) (Trust, error)

	// Attach maps an instance to the address ("127.0.0.1:7000", "unix:/path") of a process that somebody else runs. The
	// host starts none for it and never ends that one.
	Attach map[string]string
	// Wrap, when not nil, gets the connection of every process of an instance once the plugin has described itself, and
	// returns what is used instead: a log of all messages.
	Wrap func(instance string, log hclog.Logger, schema json.RawMessage, c protocol.Client) protocol.Client

	StartTimeout time.Duration // for a start up to the description, and again for Configure; 0: 10 s
	StopTimeout  time.Duration // for draining and ending one process; 0: 10 s
}

// Instance is one configured plugin.
type Instance struct {
	Name    string // InstanceName(Kind, …): acme for a pusher, storage-s3 for a storage
	Plugin  string // the binary's plugin name; empty: that of Name
	Kind    protocol.Kind
	SHA256  string            // pin, hex; empty: none
	PassEnv []string          // names of the host's variables that the process inherits
	Prefix  string            // of its variables: PLUGIN_ACME_; empty: that of kind and name
	Vars    map[string]string // variable → text; only those that are the plugin's own
	// HostVars are the full names of the instance's variables that the host itself reads: a misspelt variable may have
	// meant one of them.
	HostVars []string
	Limits   Limits // of its process
	RunAs    string // "user" or "user:group" that its process runs as; empty: the host's own
	Shared   bool   // it may run in one process with others of the same binary, limits and environment, when the plugin can
	OnDemand bool   // its process starts when the instance is first needed
}

func (in Instance) withDefaults() Instance {
	in.Kind = cmp.Or(in.Kind, protocol.KindPusher)
	in.Plugin = cmp.Or(in.Plugin, in.bareName())
	in.Prefix = cmp.Or(in.Prefix, VariablePrefix(in.Kind, in.bareName()))
	return in
}

// bareName is the name without the kind.
func (in Instance) bareName() string {
	if in.Kind == protocol.KindPusher {
		return in.Name
	}
	return strings.TrimPrefix(in.Name, string(in.Kind)+"-")
}

// enabling is the variable that has the host run the instance.
func (in Instance) enabling() string {
	if in.Kind == protocol.KindStorage {
		return "RIVERGATE_STORAGE"
	}
	return in.Prefix + "ENABLED"
}

// Host runs plugins. Make one with New, Start it once, Stop it.
type Host struct {
	opts   Options
	log    hclog.Logger
	run    *runDir
	copies *copies
	spawn  *spawner
	limits *limiter
	pace   pace

	ctx    context.Context // of the supervisors; ends with Stop
	cancel context.CancelFunc

	cut    context.Context // of what ends in good order; ends when there is no time left for that
	cutNow context.CancelFunc

	changes *semaphore.Weighted // Apply takes all of it, each Reload one
	wakes   singleflight.Group  // by instance

	mu       sync.Mutex
	members  []*member  // in the order of the last list
	asleep   []Instance // on demand, and not needed so far
	starting bool
	stopping bool
	busy     sync.WaitGroup // calls that start processes: Check, Reload, Apply
	ending   sync.WaitGroup // old processes on their way out
	started  chan struct{}  // closed when the members of Start are there
	stopOnce sync.Once
	stopped  chan struct{} // closed when nothing is left
}

// allChanges is more than there are ever Reloads at a time.
const allChanges = 1 << 30

// New makes a host: its private folder, and the thread that forks. Folders and processes that a killed host left behind
// are cleared away. Stop must be called.
func New(o Options) (*Host, error) {
	o.MTLS = cmp.Or(o.MTLS, MTLSAuto)
	if o.MTLS != MTLSAuto && o.MTLS != MTLSOn && o.MTLS != MTLSOff {
		return nil, fmt.Errorf("plugin mTLS is %q; it can be %s, %s or %s", o.MTLS, MTLSAuto, MTLSOn, MTLSOff)
	}
	o.StartTimeout = cmp.Or(o.StartTimeout, 10*time.Second)
	o.StopTimeout = cmp.Or(o.StopTimeout, 10*time.Second)
	if o.Log == nil {
		o.Log = hclog.NewNullLogger()
	}
	run, err := newRunDir(o.RunDir)
	if err != nil {
		return nil, err
	}
	h := &Host{
		opts: o, log: o.Log, run: run, copies: newCopies(run.bin()), spawn: newSpawner(), limits: newLimiter(kernelFS{}), pace: defaultPace(),
		changes: semaphore.NewWeighted(allChanges), started: make(chan struct{}), stopped: make(chan struct{}),
	}
	h.cut, h.cutNow = context.WithCancel(context.Background())
	h.ctx, h.cancel = context.WithCancel(context.Background())
	if o.Registry != nil {
		if err := o.Registry.Register(collector{h}); err != nil {
			_ = h.Stop(context.Background())
			return nil, fmt.Errorf("register plugin metrics: %w", err)
		}
	}
	return h, nil
}

func (h *Host) binaryPath(in Instance) string {
	return filepath.Join(h.opts.Dir, BinaryName(in.Kind, in.Plugin))
}

// Check does all that Start does before anything is configured, and stops every process again. What keeps an instance
// from running is a problem here, whether Start would wait for better times or not. Problems are in the order of list.
func (h *Host) Check(ctx context.Context, list []Instance) []settings.Problem {
	ctx, leave, err := h.enter(ctx)
	if err != nil {
		return []settings.Problem{{Reason: err.Error()}}
	}
	defer leave()
	found := make([][]settings.Problem, len(list))
	var all errgroup.Group
	for i, in := range list {
		all.Go(func() error {
			found[i] = h.checkOne(ctx, in.withDefaults())
			return nil
		})
	}
	_ = all.Wait()
	return flatten(append(found, checkDoubles(list)))
}

func (h *Host) checkOne(ctx context.Context, in Instance) []settings.Problem {
	if problems := h.check(in); len(problems) > 0 {
		return problems
	}
	if err := h.tryOut(ctx, in); err != nil {
		return in.startProblems(err)
	}
	return nil
}

// checkConfigured is checkOne with only those problems that are the operator's to mend.
func (h *Host) checkConfigured(ctx context.Context, in Instance) []settings.Problem {
	if problems := h.check(in); len(problems) > 0 {
		return problems
	}
	if err := h.tryOut(ctx, in); err != nil && configured(err) {
		return in.startProblems(err)
	}
	return nil
}

// tryOut starts the plugin for a moment, to check the variables against its schema.
func (h *Host) tryOut(ctx context.Context, in Instance) error {
	ctx, cancel := context.WithTimeout(ctx, h.opts.StartTimeout)
	defer cancel()
	var r *running
	var err error
	if at := h.opts.Attach[in.Name]; at != "" {
		r, err = h.attach(ctx, in, at, h.log.Named(in.Name))
	} else {
		r, err = h.connect(ctx, in, newPluginLog(h.log.Named(in.Name)))
	}
	if err != nil {
		return err
	}
	defer r.destroy("the check is over")
	r.expectEnd()
	_, err = in.config(r.desc.ConfigSchema)
	return err
}

// Start starts every instance, in parallel, and returns once each is running so far that its variables could be checked,
// or has failed. Configuration problems are returned, all of them, in the order of list; then nothing was configured
// and the host has stopped. An instance that fails in another way is tried again and again; Status says why.
func (h *Host) Start(ctx context.Context, list []Instance) []settings.Problem {
	h.mu.Lock()
	if h.starting {
		h.mu.Unlock()
		return []settings.Problem{{Reason: "the plugin host was started before"}}
	}
	h.starting = true
	h.mu.Unlock()
	problems := h.begin(ctx, list)
	if len(problems) > 0 {
		_ = h.Stop(ctx)
	}
	return problems
}

func (h *Host) begin(ctx context.Context, list []Instance) []settings.Problem {
	ctx, leave, err := h.enter(ctx)
	if err != nil {
		return problem(err)
	}
	defer leave()
	awake, asleep := h.split(list)
	p := h.plan(awake)
	defer p.abandon()
	h.arrange(p.wanted, p.added)
	p.rest(ctx, asleep)
	p.prepare(ctx)
	switch err := context.Cause(ctx); {
	case errors.Is(err, errStopped):
		return problem(err)
	case err != nil:
		return problem(fmt.Errorf("starting the plugins was cut short: %w", err))
	}
	if problems := p.found(list); len(problems) > 0 {
		return problems
	}
	p.committed = true
	h.lay(p.asleep)
	close(p.release)
	close(h.started)
	return nil
}

func (h *Host) byName() map[string]*member {
	h.mu.Lock()
	defer h.mu.Unlock()
	names := make(map[string]*member, len(h.members))
	for _, m := range h.members {
		names[m.name] = m
	}
	return names
}

// lookup finds an instance, waiting for Start.
func (h *Host) lookup(ctx context.Context, name string) (*member, error) {
	select {
	case <-h.started:
	case <-h.stopped:
		return nil, errStopped
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
	if m := h.byName()[name]; m != nil {
		return m, nil
	}
	return nil, unknown(name)
}

// ErrUnknown: no instance has this name.
var ErrUnknown = errors.New("no such plugin instance")

// enter begins a call that starts processes: Stop ends its context and waits until it has left.
func (h *Host) enter(ctx context.Context) (_ context.Context, leave func(), err error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.stopping {
		return nil, nil, errStopped
	}
	h.busy.Add(1)
	ctx, cancel := context.WithCancelCause(ctx)
	stop := context.AfterFunc(h.ctx, func() { cancel(errStopped) })
	return ctx, func() {
		stop()
		cancel(nil)
		h.busy.Done()
	}, nil
}

// Stop retires all delivery streams, drains and ends all plugins, and clears away what belongs to this run. When ctx ends,
// what still runs is killed. It returns when nothing is left; the error says that something had to be cut short.
func (h *Host) Stop(ctx context.Context) error {
	var err error
	h.stopOnce.Do(func() { err = h.stop(ctx) })
	<-h.stopped
	return err
}

func (h *Host) stop(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, h.opts.StopTimeout)
	defer cancel()
	h.mu.Lock()
	h.starting, h.stopping = true, true // from now on, nothing starts
	h.mu.Unlock()
	defer context.AfterFunc(ctx, h.cutNow)()
	h.cancel()
	h.busy.Wait() // what is being exchanged gets there, or back

	homes := map[*supervisor]bool{}
	for _, m := range h.byName() {
		if s := m.supervisor(); s != nil {
			homes[s] = true
		}
	}
	var all errgroup.Group
	for s := range homes {
		all.Go(func() error { return s.finish(ctx) })
	}
	err := all.Wait()
	for _, m := range h.byName() {
		m.leave(errStopped)
	}
	h.ending.Wait()
	h.cutNow()
	h.spawn.stop()
	h.limits.stop()
	h.run.remove()
	if h.opts.Registry != nil {
		h.opts.Registry.Unregister(collector{h})
	}
	close(h.stopped)
	return err
}

func flatten(found [][]settings.Problem) []settings.Problem {
	var all []settings.Problem
	for _, problems := range found {
		all = append(all, problems...)
	}
	return all
}
