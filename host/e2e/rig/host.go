package rig

import (
	"context"
	"fmt"
	"maps"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"
)

// Options say how a host is to run.
type Options struct {
	DataDir string            // RIVERGATE_DATA_DIR
	Log     string            // file that both outputs are appended to
	Env     map[string]string // beside the address, the data and the plugin folder; wins over them
	Addr    string            // host:port; empty: a free port of 127.0.0.1
	TempDir string            // TMPDIR of the host and its plugins; empty: the system's
}

// Host is a running host process.
type Host struct {
	*Process
	Client
	Addr    string
	DataDir string
	Log     string
	Started time.Time // just before the exec
}

// startDeadline bounds the wait for /ready.
const startDeadline = 30 * time.Second

// Start runs `rivergate serve` and waits until it is ready. When another process took the free port in between, it takes
// another one.
func (b Binaries) Start(ctx context.Context, o Options) (*Host, error) {
	for attempt := 1; ; attempt++ {
		h, err := b.Exec(ctx, o)
		if err != nil {
			return nil, err
		}
		err = h.Ready(ctx)
		if err == nil {
			return h, nil
		}
		h.KillGroup()
		if o.Addr != "" || attempt == 5 || !strings.Contains(Tail(o.Log, 4<<10), "address already in use") {
			return nil, fmt.Errorf("%w\nlast lines of its log:\n%s", err, Tail(o.Log, 8<<10))
		}
	}
}

// Exec runs `rivergate serve` and returns at once.
func (b Binaries) Exec(ctx context.Context, o Options) (*Host, error) {
	addr := o.Addr
	if addr == "" {
		var err error
		if addr, err = FreeAddr(ctx); err != nil {
			return nil, err
		}
	}
	started := time.Now()
	p, err := b.Command(o, addr, "serve")
	if err != nil {
		return nil, err
	}
	return &Host{Process: p, Client: NewClient("http://" + addr), Addr: addr, DataDir: o.DataDir, Log: o.Log, Started: started}, nil
}

// Command runs any command of the binary with the variables that a host with these options would have.
func (b Binaries) Command(o Options, addr string, args ...string) (*Process, error) {
	log, err := os.OpenFile(o.Log, os.O_WRONLY|os.O_CREATE|os.O_APPEND, 0o600)
	if err != nil {
		return nil, fmt.Errorf("open log: %w", err)
	}
	defer log.Close() // the child has its own descriptor
	return Spawn(b.Host, args, b.Environment(o, addr), filepath.Dir(o.Log), nil, nil, log)
}

// Environment is all that the host sees.
func (b Binaries) Environment(o Options, addr string) []string {
	vars := map[string]string{
		"PATH":                 os.Getenv("PATH"),
		"RIVERGATE_LISTEN":     addr,
		"RIVERGATE_DATA_DIR":   o.DataDir,
		"RIVERGATE_PLUGIN_DIR": b.Plugins,
	}
	if o.TempDir != "" {
		vars["TMPDIR"] = o.TempDir
	}
	maps.Copy(vars, o.Env)
	env := make([]string, 0, len(vars))
	for _, k := range slices.Sorted(maps.Keys(vars)) {
		env = append(env, k+"="+vars[k])
	}
	return env
}

// Ready waits until /ready answers 200, the process ends, or the deadline is over.
func (h *Host) Ready(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, startDeadline)
	defer cancel()
	var last string
	for {
		select {
		case <-h.Done():
			return fmt.Errorf("host ended with %d before it was ready", h.ExitCode())
		default:
		}
		answer, err := h.Do(ctx, http.MethodGet, "/ready", nil, nil)
		if err == nil && answer.Status == http.StatusOK {
			return nil
		}
		if err == nil {
			last = string(answer.Body)
		}
		if waitErr := Pause(ctx, 2*time.Millisecond); waitErr != nil {
			return fmt.Errorf("host is not ready: %w (last answer: %s)", waitErr, last)
		}
	}
}

// Terminate sends SIGTERM and returns the exit code. A host that does not end within the time is killed: an error.
func (h *Host) Terminate(within time.Duration) (code int, err error) {
	if err := h.Signal(syscall.SIGTERM); err != nil {
		return -1, fmt.Errorf("terminate host: %w", err)
	}
	timer := time.NewTimer(within)
	defer timer.Stop()
	select {
	case <-h.Done():
		return h.ExitCode(), nil
	case <-timer.C:
		h.KillGroup()
		return -1, fmt.Errorf("host did not end within %s of SIGTERM", within)
	}
}

// FreeAddr returns an address of 127.0.0.1 that nobody listens on now. It lies below the range from which the kernel takes
// ports for outgoing connections, so that it is still free when a killed host comes back to it.
func FreeAddr(ctx context.Context) (string, error) {
	var last error
	for range 100 {
		addr := fmt.Sprintf("127.0.0.1:%d", 20_000+rand.IntN(12_000))
		l, err := new(net.ListenConfig).Listen(ctx, "tcp", addr)
		if err != nil {
			last = err
			continue
		}
		return addr, l.Close()
	}
	return "", fmt.Errorf("find a free port: %w", last)
}

// Pause lets d pass between two looks at a condition; it returns the error of ctx when that ends first.
func Pause(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// Tail returns the last bytes of the file.
func Tail(path string, limit int64) string {
	f, err := os.Open(path)
	if err != nil {
		return err.Error()
	}
	defer f.Close()
	if info, err := f.Stat(); err == nil && info.Size() > limit {
		if _, err := f.Seek(-limit, 2); err != nil {
			return err.Error()
		}
	}
	raw := make([]byte, limit)
	n, _ := f.Read(raw) // an empty log is an empty answer
	return string(raw[:n])
}

// Listening waits until somebody accepts connections at addr, the channel is closed, or the start deadline is over.
func Listening(ctx context.Context, addr string, gone <-chan struct{}) error {
	ctx, cancel := context.WithTimeout(ctx, startDeadline)
	defer cancel()
	for {
		conn, err := new(net.Dialer).DialContext(ctx, "tcp", addr)
		if err == nil {
			return conn.Close()
		}
		select {
		case <-gone:
			return fmt.Errorf("the process ended before it listened on %s", addr)
		default:
		}
		if waitErr := Pause(ctx, 2*time.Millisecond); waitErr != nil {
			return fmt.Errorf("nobody listens on %s: %w", addr, err)
		}
	}
}
