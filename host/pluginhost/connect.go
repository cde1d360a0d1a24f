package pluginhost

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"slices"
	"strconv"
	"sync/atomic"
	"time"

	"github.com/hashicorp/go-hclog"
	"github.com/hashicorp/go-plugin"
	"github.com/hashicorp/go-plugin/runner"
	"golang.org/x/sync/errgroup"
	"google.golang.org/grpc"
	"google.golang.org/grpc/backoff"

	"github.com/rivergate/rivergate/sdk/protocol"
	"github.com/rivergate/rivergate/sdk/wire"
)

// connectTimeout bounds one attempt to connect to a plugin that has announced itself.
const connectTimeout = 5 * time.Second

// life is what a plugin runs in: a process of the host's, or one that somebody else started.
type life interface {
	kill(reason string)
	terminate() // asks it to end
	expectEnd() // it ends because the host wants it to: that is no crash
	wasTold() bool
	endedItself() bool
	end() string // how it ended; valid once it is dead
	release()    // waits until nothing of it is left, and of the connection
}

// running is a plugin that has introduced itself, and the host's end of the connection to it.
type running struct {
	life
	dead <-chan struct{} // closed when the process or the connection has ended
	rpc  protocol.Client
	log  hclog.Logger

	hello    protocol.Hello
	desc     protocol.Description
	pid      int    // 0: attached
	attached string // address of a process that somebody else started
	path     string // in the plugin folder
	sha256   string
	trust    Trust
	limits   *LimitStatus
	since    time.Time

	rowsInFlight atomic.Int64 // sent and not acknowledged; what was in flight when the process died stays counted
	progressed   atomic.Bool  // it has acknowledged a batch
}

func (r *running) isDead() bool {
	select {
	case <-r.dead:
		return true
	default:
		return false
	}
}

// version is that of the protocol that both sides agreed on.
func (r *running) version() int {
	if len(r.hello.Versions) == 0 {
		return 0
	}
	return int(r.hello.Versions[0])
}

// child is the life of a process that the host has started.
type child struct {
	*process
	client *plugin.Client
}

func (c child) end() string { return c.how }

// release is called once.
func (c child) release() {
	<-c.gone
	close(c.clientMayKnow)
	c.client.Kill() // the process is gone: this closes the connection and waits for go-plugin's goroutines
}

// connect starts the instance's binary as it is on disk now, and asks it who it is. ctx bounds all of it. After an error
// nothing of the process is left.
func (h *Host) connect(ctx context.Context, in Instance, log *pluginLog) (*running, error) {
	path := h.binaryPath(in)
	file, err := openBinary(path)
	if err != nil {
		return nil, err
	}
	copied, sum, err := h.copies.take(file, in.SHA256)
	_ = file.Close()
	if err != nil {
		return nil, err
	}

	trust, err := h.trust(ctx, in, path, copied, sum)
	if err != nil {
		return nil, err
	}

	how := transport{tls: h.opts.MTLS == MTLSOn, plainTCP: h.opts.MTLS == MTLSOff}
	r, err := h.start(ctx, in, copied, how, log)
	if errors.Is(err, errWantsTLS) && h.opts.MTLS == MTLSAuto {
		how.tls = true
		r, err = h.start(ctx, in, copied, how, log)
	}
	if err != nil {
		return nil, err
	}
	r.path, r.sha256, r.trust = path, sum, trust
	if err := r.introduce(ctx, &h.opts, in); err != nil {
		r.destroy("its introduction failed")
		return nil, err
	}
	return r, nil
}

// start forks the process and connects to it.
func (h *Host) start(ctx context.Context, in Instance, path string, how transport, log *pluginLog) (*running, error) {
	confine, err := h.confine(in)
	if err != nil {
		return nil, err
	}
	dir, err := h.run.process(confine.user)
	if err != nil {
		return nil, err
	}
	began := time.Now()
	config, certificate, err := how.clientTLS()
	if err != nil {
		return nil, errors.Join(err, os.RemoveAll(dir))
	}
	dial := append(wire.DialOptions(), grpc.WithConnectParams(grpc.ConnectParams{
		Backoff: backoff.DefaultConfig, MinConnectTimeout: connectTimeout,
	}))
	if config == nil {
		dial = append(dial, grpc.WithTransportCredentials(wire.Local()))
	}
	plugins := wire.VersionedPlugins(nil)
	shakes := newHandshake(dir, slices.Sorted(maps.Keys(plugins)), how)
	p := newProcess(h.spawn, path, dir, log, shakes, confine)
	client := plugin.NewClient(&plugin.ClientConfig{
		HandshakeConfig:  wire.Handshake(),
		VersionedPlugins: plugins,
		AllowedProtocols: []plugin.Protocol{plugin.ProtocolGRPC},
		SkipHostEnv:      true,
		TLSConfig:        config,
		UnixSocketConfig: &plugin.UnixSocketConfig{TempDir: dir},
		Logger:           hclog.NewNullLogger(), // what it would say, the errors and the process's end say better
		StartTimeout:     24 * time.Hour,        // ctx bounds the start
		SyncStdout:       &lineWriter{to: log, stream: "stdout"},
		SyncStderr:       &lineWriter{to: log},
		GRPCDialOptions:  dial,
		RunnerFunc: func(_ hclog.Logger, cmd *exec.Cmd, _ string) (runner.Runner, error) {
			p.env = append(append(environ(in.PassEnv, dir), cmd.Env...), certificate...)
			p.env = append(p.env, wire.EnvHostPID+"="+strconv.Itoa(os.Getpid()), wire.EnvLogLevel+"="+levelName(log.log))
			return p, nil
		},
	})

	// Whatever hangs in there ends when the process does.
	var timedOut bool
	expired := make(chan struct{})
	release := context.AfterFunc(ctx, func() {
		defer close(expired)
		timedOut = errors.Is(ctx.Err(), context.DeadlineExceeded)
		p.kill("it did not start in time")
	})
	rpc, err := dispense(client)
	if err == nil && confine.user == nil {
		wire.TakeNear(rpc, true)
	}
	if !release() {
		<-expired
		if err == nil {
			err = context.Cause(ctx)
		}
	}
	r := &running{life: child{p, client}, dead: p.dead, rpc: rpc, log: log.log, pid: p.pid, limits: confine.status(), since: began}
	if err == nil {
		return r, nil
	}
	if !p.started() {
		_ = os.RemoveAll(dir)
		if !timedOut && ctx.Err() != nil {
			return nil, context.Cause(ctx)
		}
		return nil, err
	}
	r.destroy("it did not start")
	if !timedOut && ctx.Err() != nil {
		return nil, context.Cause(ctx)
	}
	return nil, explainStart(p, timedOut, h.opts.StartTimeout, err)
}

func dispense(client *plugin.Client) (protocol.Client, error) {
	conn, err := client.Client()
	if err != nil {
		return nil, err
	}
	raw, err := conn.Dispense(wire.Name)
	if err != nil {
		return nil, err
	}
	rpc, ok := raw.(protocol.Client)
	if !ok {
		return nil, fmt.Errorf("go-plugin gave a %T", raw)
	}
	return rpc, nil
}

// introduce makes the handshake of the protocol, and checks that the plugin is the one that was meant.
func (r *running) introduce(ctx context.Context, opts *Options, in Instance) error {
	hello, err := r.rpc.Handshake(ctx, protocol.Hello{
		Versions: protocol.Versions(),
		Limits:   protocol.Limits{MaxBatchBytes: protocol.MaxMessage},
		Software: opts.HostVersion,
	})
	if err != nil {
		return r.failedCall("handshake", err)
	}
	if len(hello.Versions) != 1 || !slices.Contains(protocol.Versions(), hello.Versions[0]) {
		return fmt.Errorf("the plugin chose version %v of the protocol, this host speaks %v", hello.Versions, protocol.Versions())
	}
	desc, err := r.rpc.Describe(ctx)
	if err != nil {
		return r.failedCall("description", err)
	}
	if err := bound(&hello, &desc); err != nil {
		return err
	}
	if desc.Kind != in.Kind {
		return &kindError{says: desc.Kind, named: in.Kind}
	}
	if desc.NeedsTrigger && !opts.Triggers {
		return errNoTriggers
	}
	r.hello, r.desc = hello, desc
	return nil
}

// kindError: a plugin is of another kind than its file name says.
type kindError struct{ says, named protocol.Kind }

func (e *kindError) Error() string {
	return fmt.Sprintf("the plugin says that its kind is %s, its file name says %s", e.says, e.named)
}

// failedCall explains a call of the start that failed: when the process has died, that is the reason.
func (r *running) failedCall(call string, err error) error {
	if wire.IsGone(err) && closedWithin(r.dead, time.Second) {
		return fmt.Errorf("it ended during its %s: %s", call, r.end())
	}
	if errors.Is(err, context.DeadlineExceeded) {
		return fmt.Errorf("it did not answer the call for its %s in time; killed", call)
	}
	return fmt.Errorf("its %s failed: %w", call, err)
}

// destroy ends it if it still runs, and waits until nothing of it is left: neither process nor goroutine nor socket. It is
// called once.
func (r *running) destroy(reason string) {
	r.kill(reason)
	r.release()
}

// stop ends the process in good order: what its instances accepted is finished, then it is asked to go, then it is killed.
func (r *running) stop(ctx context.Context, seats []*seat) {
	r.expectEnd()
	drainAll(ctx, r.log, seats)
	r.terminate()
	select {
	case <-r.dead:
	case <-ctx.Done():
		r.log.Warn("plugin did not end in time and is killed")
	}
	r.destroy("it did not stop in time")
}

func drainAll(ctx context.Context, log hclog.Logger, seats []*seat) {
	var all errgroup.Group
	for _, s := range seats {
		all.Go(func() error {
			if err := s.drain(ctx); err != nil {
				log.Warn("plugin did not drain", "instance", s.instance, "error", err)
			}
			return nil
		})
	}
	_ = all.Wait()
}

func levelName(log hclog.Logger) string {
	if level := log.GetLevel(); level > hclog.NoLevel && level < hclog.Off {
		return level.String()
	}
	return hclog.Info.String()
}
