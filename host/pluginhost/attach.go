package pluginhost

import (
	"context"
	"fmt"
	"net/netip"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"github.com/hashicorp/go-hclog"
	"google.golang.org/grpc"
	"google.golang.org/grpc/connectivity"

	"github.com/rivergate/rivergate/sdk/settings"
	"github.com/rivergate/rivergate/sdk/wire"
)

// attachVariable is the variable of Options.Attach.
const attachVariable = "RIVERGATE_PLUGIN_ATTACH"

// checkAttach finds what is wrong with the address that an instance is attached at: others could listen anywhere but on
// this machine.
func checkAttach(name, address string) []settings.Problem {
	reason := ""
	if path, unix := strings.CutPrefix(address, "unix:"); unix {
		if !filepath.IsAbs(path) {
			reason = "the path of a unix socket must be absolute, such as unix:/tmp/" + name + ".sock"
		}
	} else if at, err := netip.ParseAddrPort(address); err != nil || at.Port() == 0 {
		reason = "must be an IP address with a port, such as 127.0.0.1:7000, or unix:/path"
	} else if !at.Addr().IsLoopback() {
		reason = "only loopback addresses and unix sockets are allowed: whoever listens there gets every row and all settings of the plugin"
	}
	if reason == "" {
		return nil
	}
	return []settings.Problem{{Variable: attachVariable, Reason: fmt.Sprintf("%s=%s: %s", name, quotable(address), reason)}}
}

// attachment is the connection to a plugin process that somebody else started. It ends with the connection; the process is
// never touched.
type attachment struct {
	conn    *grpc.ClientConn
	address string
	cancel  context.CancelFunc
	closed  chan struct{} // the connection has ended
	over    chan struct{} // nothing is left of it

	mu  sync.Mutex
	how string
}

var _ life = (*attachment)(nil)

// attach connects to the process that listens at the address, and asks it who it is. ctx bounds all of it.
func (h *Host) attach(ctx context.Context, in Instance, address string, log hclog.Logger) (*running, error) {
	target := address
	if !strings.HasPrefix(address, "unix:") {
		target = "passthrough:///" + address
	}
	conn, err := grpc.NewClient(target, append(wire.DialOptions(),
		grpc.WithTransportCredentials(wire.Local()), grpc.WithNoProxy(), grpc.WithIdleTimeout(0))...)
	if err != nil {
		return nil, fmt.Errorf("attach to %s: %w", address, err)
	}
	if err := awaitReady(ctx, conn, address); err != nil {
		_ = conn.Close()
		return nil, err
	}
	watch, cancel := context.WithCancel(context.Background())
	a := &attachment{conn: conn, address: address, cancel: cancel, closed: make(chan struct{}), over: make(chan struct{})}
	go a.watch(watch)
	r := &running{life: a, dead: a.closed, rpc: wire.NewClient(conn), attached: address, log: log, since: time.Now()}
	if err := r.introduce(ctx, &h.opts, in); err != nil {
		r.destroy("its introduction failed")
		return nil, err
	}
	return r, nil
}

func awaitReady(ctx context.Context, conn *grpc.ClientConn, address string) error {
	conn.Connect()
	for {
		state := conn.GetState()
		if state == connectivity.Ready {
			return nil
		}
		if state == connectivity.TransientFailure || !conn.WaitForStateChange(ctx, state) {
			return fmt.Errorf("no plugin answers at %s: start it with --listen %s; tried again every second", address, address)
		}
	}
}

// watch waits for the end of the connection.
func (a *attachment) watch(ctx context.Context) {
	defer close(a.over)
	if a.conn.WaitForStateChange(ctx, connectivity.Ready) {
		a.ended("the connection to " + a.address + " has ended; tried again every second")
	}
	_ = a.conn.Close()
	close(a.closed)
}

func (a *attachment) ended(how string) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.how == "" {
		a.how = how
	}
}

// kill ends the connection.
func (a *attachment) kill(reason string) {
	a.ended("disconnected: " + reason)
	a.cancel()
}

func (a *attachment) terminate() { a.kill("the host has no more use for it") }

func (a *attachment) expectEnd() {}

// wasTold is always true: that somebody ends what he debugs is no crash, and says nothing of the rows.
func (a *attachment) wasTold() bool { return true }

func (a *attachment) endedItself() bool {
	select {
	case <-a.closed:
		return true
	default:
		return false
	}
}

func (a *attachment) end() string {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.how
}

func (a *attachment) release() { <-a.over }
