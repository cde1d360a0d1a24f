package command

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"slices"
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
	"github.com/rivergate/rivergate/services/gateway/journal"
	"github.com/rivergate/rivergate/services/gateway/trigger"
	"github.com/rivergate/rivergate/services/platform/database"
	"github.com/rivergate/rivergate/services/storage"
)

// node is a host that serves: its parts in the order in which they start. They end in the opposite order.
//
//	traces → database → plugins (in parallel) → journal → triggers → delivery → gateway → storage (while it serves) → listener
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
	storage  *storage.Late // nil: this host runs no storage
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
	verify, err := pluginstore.Verifier(ctx, n.cfg.PluginDir, n.cfg.LockFile(), n.cfg.Policy(), n.cfg.PluginKeys, n.log.Named("plugin"))
	if err != nil {
		return err
	}
	n.plugins, err = pluginhost.New(pluginhost.Options{
		Dir: n.cfg.PluginDir, RunDir: filepath.Join(n.cfg.DataDir, "run"), MTLS: n.cfg.PluginMTLS, HostVersion: n.build.Version,
		Triggers: n.cfg.ControlTower != "", Verify: verify, Attach: n.cfg.Attached(), Wrap: n.cfg.Traced().Wrap(),
		StopTimeout: n.cfg.ShutdownTimeout, Log: n.log.Named("plugin"), Registry: n.registry,
	})
	if err != nil {
		return err
	}
	n.reloader = newReloader(n.cfg)
	n.reloader.log, n.reloader.load, n.reloader.plugins = n.log.Named("reload"), n.load, n.plugins
	if n.cfg.Runs(config.TargetGateway) {
		if err := n.openGateway(ctx); err != nil {
			return err
		}
	}
	if n.cfg.Runs(config.TargetStorage) {
		n.storage = storage.NewLate(n.openStorage, n.log.Named("storage"))
	}
	options := server.Options{
		Listen: n.cfg.Listen, Trusted: n.cfg.Networks(), InternalToken: n.cfg.InternalToken.Reveal(),
		CORSOrigins: n.cfg.CORSOrigins,
		Version:     n.build.Version, Targets: n.cfg.Targets,
		IdempotencyTTL: n.cfg.IdempotencyTTL, ShutdownTimeout: n.cfg.ShutdownTimeout / 2,
		Ready: n.notReady, Status: n.status,
		Log: n.log.Named("http"), Gatherer: n.registry,
	}
	if n.gateway != nil {
		options.Routes, options.Hurry = n.gateway.Routes(), n.gateway.Hurry
	}
	if n.storage != nil {
		options.Routes = slices.Concat(options.Routes, n.storage.Routes())
		options.Gatherer = prometheus.Gatherers{n.registry, n.storage}
	}
	n.server, err = server.New(options)
	return err
}

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
	if n.delivery != nil {
		n.startDelivery(ctx)
	}
	if n.storage != nil {
		n.storage.Start(ctx)
	}
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
	wait, err := n.endGateway()
	errs := []error{err}
	if n.storage != nil { // before the plugins, which keep its objects
		errs = append(errs, n.storage.Close())
	}
	if n.plugins != nil {
		within, cancel := context.WithDeadline(ctx, n.deadline)
		if err := n.plugins.Stop(within); err != nil {
			n.cut = true
			n.log.Warn("plugins did not all end in good order", "error", err)
		}
		cancel()
	}
	errs = append(errs, wait())
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
	var failing []server.NotReady
	if n.journal != nil {
		if s := n.journal.Stats(); !s.Writable {
			failing = append(failing, server.NotReady{Part: "journal", Reason: s.Reason})
		}
	}
	if n.storage != nil {
		if why := n.storage.NotReady(); why != nil {
			failing = append(failing, server.NotReady{Part: "storage", Reason: why.Error()})
		}
	}
	return failing
}

func (n *node) status() server.Parts {
	parts := server.Parts{Plugins: map[string]server.PluginState{}}
	if n.journal != nil {
		stats := n.journal.Stats()
		parts.Journal = server.Journal{Bytes: stats.Bytes, Segments: stats.Segments}
		if !stats.Oldest.IsZero() {
			parts.Journal.OldestAgeMS = time.Since(stats.Oldest).Milliseconds()
		}
	}
	for _, p := range n.plugins.Status() {
		parts.Plugins[p.Name] = server.PluginState{Kind: string(p.Kind), State: string(p.State)}
	}
	if n.storage != nil {
		if service := n.storage.Service(); service != nil {
			cache := service.Cache.Stats()
			parts.Cache = server.Cache{Entries: cache.Entries, Hits: cache.Hits, Misses: cache.Misses}
		}
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
