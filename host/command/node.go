package command

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"time"

	"github.com/hashicorp/go-hclog"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"

	"github.com/rivergate/rivergate/host/config"
	"github.com/rivergate/rivergate/host/pluginhost"
	"github.com/rivergate/rivergate/host/pluginstore"
	"github.com/rivergate/rivergate/host/server"
	"github.com/rivergate/rivergate/host/telemetry"
	"github.com/rivergate/rivergate/sdk/settings"
	"github.com/rivergate/rivergate/services/gateway"
	"github.com/rivergate/rivergate/services/gateway/delivery"
	"github.com/rivergate/rivergate/services/gateway/intake"
	"github.com/rivergate/rivergate/services/gateway/journal"
	"github.com/rivergate/rivergate/services/gateway/trigger"
	"github.com/rivergate/rivergate/services/platform/database"
)

// node is a host that serves: its parts in the order in which they start. They end in the opposite order.
//
//	traces → database → journal → triggers → plugins (in parallel) → delivery → gateway → listener
type node struct {
	cfg   *config.Config
	load  func(context.Context) (*config.Config, []settings.Problem) // reads the configuration again
	log   hclog.Logger
	build build

	registry *prometheus.Registry
	traces   *telemetry.Traces // nil: none
	db       *database.DB
	journal  *journal.Files
	triggers *trigger.Tower // nil: no control tower
	plugins  *pluginhost.Host
	delivery *delivery.Delivery
	reloader *reloader
	gateway  *gateway.Service
	server   *server.Server

	endDelivery context.CancelFunc
	delivered   chan error // gets the end of delivery

	stopOnce sync.Once
	stopping atomic.Bool
	deadline time.Time // of stopping in good order, set by beginStop
	cut      bool      // something had to be cut short
}

// open makes every part, without serving. After an error close still is to be called.
func (n *node) open(ctx context.Context) (err error) {
	n.registry = prometheus.NewRegistry()
	n.registry.MustRegister(collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}), n.buildInfo())

	n.traces, err = telemetry.Open(ctx, telemetry.Options{
		Endpoint: n.cfg.TracesEndpoint, Sample: n.cfg.TracesSample, Version: n.build.Version, Log: n.log.Named("traces"),
	})
	if err != nil {
		return err
	}
	if n.db, err = database.Open(ctx, filepath.Join(n.cfg.DataDir, "rivergate.db")); err != nil {
		return err
	}
	highest, err := delivery.HighestPosition(ctx, n.db)
	if err != nil {
		return err
	}
	n.journal, err = journal.Open(journal.Options{
		NotBelow: highest, // should the journal's folder be lost, new rows must not hide behind old cursors
		Dir:      filepath.Join(n.cfg.DataDir, "journal"), MaxBytes: int64(n.cfg.JournalMaxBytes), SegmentBytes: int64(n.cfg.SegmentBytes),
		KeyTTL: n.cfg.IdempotencyTTL, Log: n.log.Named("journal"), Registry: n.registry,
	})
	if err != nil {
		return err
	}
	if err := n.openTriggers(); err != nil {
		return err
	}
	verify, err := pluginstore.Verifier(ctx, n.cfg.PluginDir, n.cfg.LockFile(), n.cfg.Policy(), n.cfg.PluginKeys, n.log.Named("plugin"))
	if err != nil {
		return err
	}
	n.plugins, err = pluginhost.New(pluginhost.Options{
		Dir: n.cfg.PluginDir, RunDir: filepath.Join(n.cfg.DataDir, "run"), MTLS: n.cfg.PluginMTLS, HostVersion: n.build.Version,
		Triggers: n.triggers != nil, Verify: verify, Attach: n.cfg.Attached(), Wrap: n.cfg.Traced().Wrap(),
		StopTimeout: n.cfg.ShutdownTimeout, Log: n.log.Named("plugin"), Registry: n.registry,
	})
	if err != nil {
		return err
	}
	n.reloader = newReloader(n.cfg)
	n.reloader.log, n.reloader.load, n.reloader.plugins = n.log.Named("reload"), n.load, n.plugins
	options := delivery.Options{
		Journal: n.journal, DB: n.db, Pushers: n.reloader.pushers(n.cfg.Instances), DeadLettersMaxBytes: int64(n.cfg.DeadLettersMax),
		OrgMaxBacklog: n.cfg.OrgMaxBacklog, Log: n.log.Named("delivery"), Registry: n.registry, Tracer: n.traces.Tracer(),
	}
	if n.triggers != nil {
		options.Triggers = n.triggers
	}
	n.delivery, err = delivery.Open(ctx, options)
	if err != nil {
		return err
	}
	n.reloader.delivery = n.delivery
	n.gateway, err = gateway.New(gateway.Options{
		Journal: n.journal, Delivery: n.delivery, Plugins: pluginList{n.plugins, n.reloader}, Hold: n.cfg.GatewayHold, Tracer: n.traces.Tracer(),
		Keys: keyRules[n.cfg.GatewayKeys], MaxRows: n.cfg.GatewayMaxRows, MaxBody: int64(n.cfg.GatewayMaxBody),
		Log: n.log.Named("gateway"), Registry: n.registry,
	})
	if err != nil {
		return err
	}
	n.server, err = server.New(server.Options{
		Listen: n.cfg.Listen, Trusted: n.cfg.Networks(), InternalToken: n.cfg.InternalToken.Reveal(),
		Routes: n.gateway.Routes(), Version: n.build.Version, Targets: n.cfg.Targets,
		IdempotencyTTL: n.cfg.IdempotencyTTL, ShutdownTimeout: n.cfg.ShutdownTimeout / 2,
		Ready: n.notReady, Status: n.status, Hurry: n.gateway.Hurry,
		Log: n.log.Named("http"), Gatherer: n.registry,
	})
	return err
}

// openTriggers makes the look-up of triggers, when there is a control tower.
func (n *node) openTriggers() (err error) {
	if n.cfg.ControlTower == "" {
		return nil
	}
	n.triggers, err = trigger.New(trigger.Options{
		URL: n.cfg.ControlTower, Token: n.cfg.TowerToken, Timeout: n.cfg.TowerTimeout, MissingFor: n.cfg.TowerMissingFor,
		CacheBytes: int64(n.cfg.TowerCache), Software: "rivergate/" + n.build.Version, Registry: n.registry,
	})
	return err
}

// keyRules are the words of RIVERGATE_GATEWAY_KEYS.
var keyRules = map[string]intake.Keys{"warn": intake.KeysWarn, "strict": intake.KeysStrict, "off": intake.KeysOff}

// reloadTime bounds a reload that a signal asked for: starting plugins, and draining their predecessors.
const reloadTime = 2 * time.Minute

// run serves until ctx ends. listening is called once the address is known; each signal of hangups makes it read the
// configuration again.
func (n *node) run(ctx context.Context, hangups <-chan os.Signal, listening func(net.Addr)) error {
	// Bound before the plugins start: an address that is taken is told at once, and clients wait in line for the start.
	listener, err := n.server.Listen(ctx)
	if err != nil {
		return &exitError{code: exitFailed, err: err, hint: "Is another host running? RIVERGATE_LISTEN names another address."}
	}
	if problems := n.plugins.Start(ctx, instances(n.cfg)); len(problems) > 0 {
		err := listener.Close()
		if ctx.Err() != nil {
			return err // told to stop meanwhile
		}
		return errors.Join(&problemsError{problems}, err)
	}
	n.startDelivery(ctx)
	n.log.Info("listening", "address", listener.Addr().String(), "pushers", len(n.cfg.Instances), "data", n.cfg.DataDir, "version", n.build.Version)
	listening(listener.Addr())
	stop := context.AfterFunc(ctx, func() {
		n.log.Info("stopping", "timeout", n.cfg.ShutdownTimeout.String())
		n.beginStop()
	})
	defer stop()
	defer n.reloadOn(ctx, hangups)()
	return n.server.Serve(ctx, listener)
}

// reloadOn reads the configuration again at each signal, until ctx ends. wait returns when the last one is done.
func (n *node) reloadOn(ctx context.Context, hangups <-chan os.Signal) (wait func()) {
	var reloads sync.WaitGroup
	reloads.Go(func() {
		for {
			select {
			case <-ctx.Done():
				return
			case <-hangups:
			}
			within, cancel := context.WithTimeout(ctx, reloadTime)
			if _, err := n.reloader.reload(within); err != nil && ctx.Err() == nil {
				n.log.Error("configuration not read again", "error", err)
			}
			cancel()
		}
	})
	return reloads.Wait
}

// startDelivery lets delivery run until close ends it.
func (n *node) startDelivery(ctx context.Context) {
	ctx, n.endDelivery = context.WithCancel(context.WithoutCancel(ctx))
	n.delivered = make(chan error, 1)
	go func() { n.delivered <- n.delivery.Run(ctx) }()
}

// beginStop makes the host not ready and starts the clock of stopping in good order.
func (n *node) beginStop() {
	n.stopOnce.Do(func() {
		n.deadline = time.Now().Add(n.cfg.ShutdownTimeout)
		n.stopping.Store(true)
	})
}

// close ends every part that was made, the last first. What is not done by the deadline is cut short; nothing that was
// accepted is lost by that.
func (n *node) close(ctx context.Context) error {
	n.beginStop()
	ctx = context.WithoutCancel(ctx)
	var errs []error
	if n.gateway != nil {
		errs = append(errs, n.gateway.Close())
	}
	deliveryEnds := n.delivered
	if n.endDelivery != nil {
		n.endDelivery()
		// A quarter of the time is left for the plugins. Those that are stopped end the streams that still wait.
		timer := time.NewTimer(time.Until(n.deadline) - n.cfg.ShutdownTimeout/4)
		select {
		case err := <-deliveryEnds:
			errs, deliveryEnds = append(errs, err), nil
		case <-timer.C:
			n.cut = true
			n.log.Warn("delivery does not end in time; what is in flight is sent again after the next start")
		}
		timer.Stop()
	}
	if n.plugins != nil {
		within, cancel := context.WithDeadline(ctx, n.deadline)
		if err := n.plugins.Stop(within); err != nil {
			n.cut = true
			n.log.Warn("plugins did not all end in good order", "error", err)
		}
		cancel()
	}
	if deliveryEnds != nil {
		errs = append(errs, <-deliveryEnds)
	}
	if n.triggers != nil {
		n.triggers.Close()
	}
	if n.journal != nil {
		errs = append(errs, n.journal.Close())
	}
	if n.db != nil {
		errs = append(errs, n.db.Close())
	}
	// The last, since all others make spans. The rows do not wait for it, only the end of the process does, and not long.
	last, cancel := context.WithTimeout(ctx, tracesEndTime)
	defer cancel()
	errs = append(errs, n.traces.Close(last))
	return errors.Join(errs...)
}

// tracesEndTime is for sending the traces that wait when the host ends.
const tracesEndTime = 2 * time.Second

// notReady is what keeps the host from taking rows now.
func (n *node) notReady() []server.NotReady {
	if n.stopping.Load() {
		return []server.NotReady{{Part: "host", Reason: "stopping"}}
	}
	if s := n.journal.Stats(); !s.Writable {
		return []server.NotReady{{Part: "journal", Reason: s.Reason}}
	}
	return nil
}

func (n *node) status() server.Parts {
	stats := n.journal.Stats()
	parts := server.Parts{Plugins: map[string]server.PluginState{}, Journal: server.Journal{Bytes: stats.Bytes, Segments: stats.Segments}}
	if !stats.Oldest.IsZero() {
		parts.Journal.OldestAgeMS = time.Since(stats.Oldest).Milliseconds()
	}
	for _, p := range n.plugins.Status() {
		parts.Plugins[p.Name] = server.PluginState{Kind: string(p.Kind), State: string(p.State)}
	}
	return parts
}

func (n *node) buildInfo() prometheus.Collector {
	return prometheus.NewGaugeFunc(prometheus.GaugeOpts{
		Name: "rivergate_build_info", Help: "1; its labels say what runs.",
		ConstLabels: prometheus.Labels{"version": n.build.Version, "commit": n.build.Commit, "go": n.build.Go},
	}, func() float64 { return 1 })
}

// pluginList is the plugin host as the gateway's routes want it.
type pluginList struct {
	host     *pluginhost.Host
	reloader *reloader
}

// Status lists the instances.
func (l pluginList) Status() []gateway.Plugin {
	var list []gateway.Plugin
	for _, s := range l.host.Status() {
		binary := ""
		if s.Attached == "" { // else nobody knows what runs there
			binary = filepath.Base(s.Binary)
		}
		list = append(list, gateway.Plugin{
			Name: s.Name, Kind: string(s.Kind), Binary: binary, Version: s.Version, Protocol: s.Protocol, SHA256: s.SHA256,
			State: string(s.State), Reason: s.Reason, Capabilities: s.Capabilities, ConfigSchema: s.ConfigSchema,
			Restarts: s.Restarts, PID: s.PID, RSSBytes: s.RSSBytes, LastError: s.LastError,
			Condition: s.Condition, Phase: s.Phase, Trust: string(s.Trust), Limits: (*gateway.PluginLimits)(s.Limits),
			SharedWith: s.SharedWith, Attached: s.Attached,
		})
	}
	return list
}

// Reload replaces the process of one instance.
func (l pluginList) Reload(ctx context.Context, name string) error {
	err := l.host.Reload(ctx, name)
	if errors.Is(err, pluginhost.ErrUnknown) {
		return fmt.Errorf("%w: %s", gateway.ErrUnknownPlugin, name)
	}
	return err
}

// ReloadAll reads the configuration again.
func (l pluginList) ReloadAll(ctx context.Context) (gateway.Reloading, error) {
	return l.reloader.reload(ctx)
}
