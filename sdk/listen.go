package sdk

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/netip"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"

	"github.com/hashicorp/go-hclog"
	"google.golang.org/grpc"

	"github.com/rivergate/rivergate/sdk/protocol"
	"github.com/rivergate/rivergate/sdk/wire"
)

// listenFlag is the address of --listen among args; ok tells whether that is what args ask for.
func listenFlag(args []string) (address string, ok bool) {
	switch {
	case len(args) == 2 && (args[0] == "--listen" || args[0] == "-listen"):
		return args[1], true
	case len(args) == 1:
		_, flag, dashed := strings.Cut(args[0], "-")
		if address, ok := strings.CutPrefix(strings.TrimPrefix(flag, "-"), "listen="); dashed && ok {
			return address, true
		}
	}
	return "", false
}

// attachable serves a plugin that a person has started, under a debugger perhaps, for hosts that are told its address by
// RIVERGATE_PLUGIN_ATTACH. It returns the exit code, after SIGINT or SIGTERM.
func attachable(p Plugin, d protocol.Description, address string, stderr io.Writer) int {
	stop := make(chan os.Signal, 2)
	signal.Notify(stop, syscall.SIGTERM, os.Interrupt)
	defer signal.Stop(stop)

	listener, at, err := listenLocally(address)
	if err != nil {
		fmt.Fprintln(stderr, err)
		return 1
	}
	level := hclog.LevelFromString(os.Getenv(wire.EnvLogLevel))
	if level == hclog.NoLevel {
		level = hclog.Debug
	}
	log := hclog.New(&hclog.LoggerOptions{Level: level, Output: stderr, Name: d.Name})
	impl := newServer(p, d, log)

	done := make(chan struct{})
	s := &serving{grpc: grpc.NewServer(append(wire.ServerOptions(), grpc.Creds(wire.Local()))...), done: done}
	wire.Register(s.grpc, impl.kind())
	go func() { // ends with s.end
		defer close(done)
		if err := s.grpc.Serve(listener); err != nil {
			log.Error("plugin cannot be served", "error", err)
		}
	}()
	fmt.Fprintf(stderr, `rivergate-%s-%s %s is served on %s. A host uses it when it is started with

  %s RIVERGATE_PLUGIN_ATTACH=%s=%s

Configuration and work come from there. Ctrl-C finishes what is in hand and ends.
`, d.Kind, d.Name, d.Version, at, enabling(d), instanceName(d), at)
	return s.wait(impl, stop, nil, log)
}

// listenLocally opens 127.0.0.1:7000 or unix:/path. Whoever reaches the address can give rows to the plugin, so it is never
// one that other machines reach, and the socket is its owner's alone. at is the address as a host is told it.
func listenLocally(address string) (l net.Listener, at string, err error) {
	if path, ok := strings.CutPrefix(address, "unix:"); ok {
		l, path, err = listenUnix(path)
		return l, "unix:" + path, err
	}
	host, port, err := net.SplitHostPort(address)
	if err != nil {
		return nil, "", fmt.Errorf("--listen %s: give 127.0.0.1:7000 or unix:/path", address)
	}
	if host == "localhost" {
		host = "127.0.0.1"
	}
	if ip, err := netip.ParseAddr(host); err != nil || !ip.IsLoopback() {
		return nil, "", fmt.Errorf("--listen %s: give a loopback address, such as 127.0.0.1:%s, or unix:/path; on any other, strangers could send rows", address, port)
	}
	l, err = net.Listen("tcp", net.JoinHostPort(host, port))
	if err != nil {
		return nil, "", fmt.Errorf("--listen %s: %w", address, err)
	}
	return l, l.Addr().String(), nil
}

func listenUnix(path string) (net.Listener, string, error) {
	absolute, err := filepath.Abs(path)
	if err != nil || path == "" {
		return nil, "", errors.New("--listen unix: needs a path, such as unix:/tmp/acme.sock")
	}
	// What a killed process left behind is a socket on which nobody answers.
	if info, err := os.Lstat(absolute); err == nil && info.Mode().Type() == fs.ModeSocket {
		if conn, err := net.Dial("unix", absolute); err == nil {
			_ = conn.Close()
			return nil, "", fmt.Errorf("--listen unix:%s: another process serves there", absolute)
		} else if errors.Is(err, syscall.ECONNREFUSED) {
			_ = os.Remove(absolute)
		}
	}
	l, err := net.Listen("unix", absolute)
	if err != nil {
		return nil, "", fmt.Errorf("--listen unix:%s: %w", absolute, err)
	}
	if err := os.Chmod(absolute, 0o600); err != nil {
		_ = l.Close()
		return nil, "", fmt.Errorf("--listen unix:%s: %w", absolute, err)
	}
	return l, absolute, nil
}
