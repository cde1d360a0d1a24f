package sdk

import (
	"context"
	"crypto/tls"
	"encoding/base64"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/hashicorp/go-hclog"
	"github.com/hashicorp/go-plugin"
	"google.golang.org/grpc"

	"github.com/rivergate/rivergate/sdk/internal/stdio"
	"github.com/rivergate/rivergate/sdk/protocol"
	"github.com/rivergate/rivergate/sdk/wire"
)

const (
	// drainTime is what instances get at SIGTERM, or when the host ends the plugin in good order.
	drainTime = 5 * time.Second
	// orphanTime is what they get when the host is dead: nobody waits for an acknowledgement any more.
	orphanTime = 500 * time.Millisecond
	// flushTime is what the last acknowledgements get to leave.
	flushTime = 250 * time.Millisecond
)

// Serve runs the plugin until the host ends it, and does not return. It belongs at the end of main.
//
// Started by hand, it explains itself; --version and --describe print what the plugin is, and --listen ADDRESS serves it for
// a host that does not start it, so that it can run under a debugger. A panic in the plugin's code is
// left alone: the process crashes with the stack on standard error, and the host starts it again.
func Serve(p Plugin) {
	os.Exit(run(p, os.Args[1:]))
}

func run(p Plugin, args []string) int {
	description, err := p.describe()
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	handshake, err := stdio.Handshake()
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	if handshake == nil {
		if address, ok := listenFlag(args); ok {
			return attachable(p, description, address, os.Stderr)
		}
		return byHand(p, description, args, os.Stdout, os.Stderr)
	}
	// Asked before the handshake: a host that dies later leaves another number, one that died earlier breaks the handshake.
	parent := os.Getppid()
	// What the plugin starts is not started by the host.
	_ = os.Unsetenv(wire.EnvCookie)

	// Before the handshake: from then on the host may stop the plugin at any moment.
	stop := make(chan os.Signal, 2)
	signal.Notify(stop, syscall.SIGTERM, os.Interrupt)
	defer signal.Stop(stop)
	// Caught and dropped: with the host dead, a log line must fail and not kill the process before it has closed.
	signal.Notify(make(chan os.Signal, 1), syscall.SIGPIPE)

	log := newLogger(os.Getenv(wire.EnvLogLevel))
	impl := newServer(p, description, log)
	s, err := listen(impl.kind(), handshake)
	if err != nil {
		log.Error("plugin cannot be served", "error", err)
		return 1
	}
	orphaned, cancel := watchHost(parent)
	defer cancel()
	return s.wait(impl, stop, orphaned, log)
}

// newLogger writes one JSON line per entry, of any length; the host reads level and fields from it.
func newLogger(level string) Logger {
	l := hclog.LevelFromString(level)
	if l == hclog.NoLevel {
		l = hclog.Debug
	}
	return hclog.New(&hclog.LoggerOptions{Level: l, Output: os.Stderr, JSONFormat: true})
}

// serving is a plugin whose socket is open and announced.
type serving struct {
	grpc *grpc.Server
	done <-chan struct{} // closed when the gRPC server has ended and its socket is removed
}

// listen lets go-plugin open the socket and serve on it, and writes the handshake line itself.
//
// go-plugin is run in its test mode, which is its in-process mode: otherwise it prints the line on os.Stdout, which is
// noise's own place, then replaces os.Stdout and os.Stderr by pipes that nobody has to read, swallows SIGINT and never
// hands control back. What test mode leaves out is done here: the cookie, the line, the certificate in it, the signals.
func listen(impl protocol.Base, handshake *os.File) (*serving, error) {
	var config *tls.Config
	var certificate string
	if pem := os.Getenv(wire.EnvClientCert); pem != "" {
		c, der, err := mutualTLS([]byte(pem))
		if err != nil {
			return nil, fmt.Errorf("prepare mutual TLS: %w", err)
		}
		config, certificate = c, base64.RawStdEncoding.EncodeToString(der)
	}
	attach := make(chan *plugin.ReattachConfig, 1)
	servers := make(chan *grpc.Server, 1)
	done := make(chan struct{})
	serve := &plugin.ServeConfig{
		HandshakeConfig:  wire.Handshake(),
		VersionedPlugins: wire.VersionedPlugins(impl),
		GRPCServer: func(opts []grpc.ServerOption) *grpc.Server {
			if config == nil {
				opts = append(opts, grpc.Creds(wire.Local()))
			}
			s := grpc.NewServer(append(opts, wire.ServerOptions()...)...)
			servers <- s
			return s
		},
		Logger: hclog.New(&hclog.LoggerOptions{Level: hclog.Warn, Output: os.Stderr, JSONFormat: true}),
		Test:   &plugin.ServeTestConfig{ReattachConfigCh: attach, CloseCh: done},
	}
	if config != nil {
		serve.TLSProvider = func() (*tls.Config, error) { return config, nil }
	}
	go plugin.Serve(serve)

	var at *plugin.ReattachConfig
	select {
	case at = <-attach:
	case <-done:
		return nil, errors.New("the socket could not be opened")
	}
	line := fmt.Sprintf("%d|%d|%s|%s|%s|%s", plugin.CoreProtocolVersion, at.ProtocolVersion, at.Addr.Network(), at.Addr.String(), at.Protocol, certificate)
	if os.Getenv("PLUGIN_MULTIPLEX_GRPC") != "" {
		line += "|true"
	}
	s := &serving{grpc: <-servers, done: done}
	if _, err := fmt.Fprintln(handshake, line); err != nil {
		s.end()
		return nil, fmt.Errorf("write the handshake: %w", err)
	}
	return s, nil
}

// watchHost closes the channel when the host is dead. cancel ends the watch.
func watchHost(parent int) (orphaned <-chan struct{}, cancel func()) {
	watch, cancel := context.WithCancel(context.Background())
	dead := make(chan struct{})
	go func() {
		if watchParent(watch, parent, os.Getenv(wire.EnvHostPID)) {
			close(dead)
		}
	}()
	return dead, cancel
}

// wait is the rest of the process's life. It returns the exit code.
func (s *serving) wait(impl *server, stop <-chan os.Signal, orphaned <-chan struct{}, log Logger) int {
	allowed := drainTime
	select {
	case <-s.done: // the host asked the gRPC server to end; its streams are broken already
	case sig := <-stop:
		log.Info("plugin is stopping", "signal", sig.String())
	case <-orphaned:
		allowed = orphanTime
	}

	ctx, cancelDrain := context.WithTimeout(context.Background(), allowed)
	defer cancelDrain()
	go func() {
		select {
		case <-stop: // a second signal, or the host's death, cuts the time short
		case <-orphaned:
			if allowed == orphanTime {
				return
			}
		case <-ctx.Done():
			return
		}
		cancelDrain()
	}()
	err := impl.Drain(ctx, "")
	impl.stop()
	s.end()
	if err != nil {
		log.Error("plugin did not stop in good order", "error", err)
		return 1
	}
	return 0
}

// end stops the gRPC server. The graceful way sends what is queued, but would wait for go-plugin's own endless streams.
func (s *serving) end() {
	flushed := make(chan struct{})
	go func() {
		defer close(flushed)
		s.grpc.GracefulStop()
	}()
	timer := time.NewTimer(flushTime)
	defer timer.Stop()
	select {
	case <-flushed:
	case <-timer.C:
		s.grpc.Stop()
		<-flushed
	}
	<-s.done
}
