// Package plugintest runs a plugin under test as the host would, over real gRPC: a sdk.Plugin in the test's own process,
// or a built binary as a process of its own.
//
//	h := plugintest.Start(t, plugin, map[string]any{"url": server.URL})
//	outcomes := h.Deliver(plugintest.Frame("a1", `{"key":1}`, `{"key":2}`))
//	require.Empty(t, outcomes) // silence means delivered
package plugintest

import (
	"context"
	"encoding/json"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/hashicorp/go-hclog"
	"google.golang.org/grpc"

	"github.com/rivergate/rivergate/sdk"
	"github.com/rivergate/rivergate/sdk/protocol"
	"github.com/rivergate/rivergate/sdk/wire"
)

// Timeout bounds every call of a Harness.
const Timeout = 30 * time.Second

// Instance is the name of the instance that Start configures.
const Instance = "test"

// Harness is one configured instance and the stream to it. It belongs to the test's goroutine.
type Harness struct {
	// Client is the host's view of the plugin, for what the harness does not wrap.
	Client protocol.Client

	t      testing.TB
	config json.RawMessage
	stream protocol.DeliverStream
	cancel context.CancelFunc
	seq    uint64
}

// Start runs a plugin, shakes hands and configures one instance with config; the test fails when the plugin finds a
// problem in it. plugin is a sdk.Plugin, the path of a binary, or an *exec.Cmd with an environment of its own. Everything is
// stopped when the test ends.
func Start(t testing.TB, plugin any, config map[string]any) *Harness {
	t.Helper()
	h := Connect(t, plugin)
	if problems := h.Configure(config); len(problems) > 0 {
		t.Fatalf("configure: %+v", problems)
	}
	h.open()
	return h
}

// Connect runs a plugin and shakes hands. Configure it with Configure, and open a stream with Reopen.
func Connect(t testing.TB, plugin any) *Harness {
	t.Helper()
	h := &Harness{t: t}
	switch p := plugin.(type) {
	case sdk.Plugin:
		h.Client = serve(t, p)
	case string:
		command := exec.Command(p)
		command.Env = []string{"PATH=" + os.Getenv("PATH"), "TMPDIR=" + socketDir(t)}
		h.Client = launch(t, command)
	case *exec.Cmd:
		h.Client = launch(t, p)
	default:
		t.Fatalf("plugintest: %T is neither a sdk.Plugin nor a binary", plugin)
	}
	ctx, cancel := h.context()
	defer cancel()
	if _, err := h.Client.Handshake(ctx, protocol.Hello{Versions: protocol.Versions(), Software: "plugintest"}); err != nil {
		t.Fatalf("handshake: %v", err)
	}
	t.Cleanup(h.stop)
	return h
}

// Configure makes or replaces the instance and returns what the plugin finds wrong with config.
func (h *Harness) Configure(config map[string]any) []protocol.ConfigProblem {
	h.t.Helper()
	if config == nil {
		config = map[string]any{}
	}
	raw, err := json.Marshal(config)
	if err != nil {
		h.t.Fatalf("configure: %v", err)
	}
	h.config = raw
	ctx, cancel := h.context()
	defer cancel()
	problems, err := h.Client.Configure(ctx, Instance, raw)
	if err != nil {
		h.t.Fatalf("configure: %v", err)
	}
	return problems
}

// Deliver sends one batch, waits for its acknowledgement and returns the outcomes: none means that every row was
// delivered.
func (h *Harness) Deliver(frames ...protocol.Frame) []protocol.Outcome {
	h.t.Helper()
	outcomes, err := h.TryDeliver(frames...)
	if err != nil {
		h.t.Fatalf("deliver: %v", err)
	}
	return outcomes
}

// DeliverOrdered is Deliver as the host does it under ORDER=key.
func (h *Harness) DeliverOrdered(frames ...protocol.Frame) []protocol.Outcome {
	h.t.Helper()
	outcomes, err := h.deliver(protocol.Batch{Frames: frames, Ordered: true})
	if err != nil {
		h.t.Fatalf("deliver: %v", err)
	}
	return outcomes
}

// TryDeliver is Deliver for a plugin that may break the stream.
func (h *Harness) TryDeliver(frames ...protocol.Frame) ([]protocol.Outcome, error) {
	h.t.Helper()
	return h.deliver(protocol.Batch{Frames: frames})
}

func (h *Harness) deliver(b protocol.Batch) ([]protocol.Outcome, error) {
	h.t.Helper()
	// A plugin that says nothing is cut off, and the stream with it.
	timer := time.AfterFunc(Timeout, h.cancel)
	defer timer.Stop()
	h.seq++
	b.Seq = h.seq
	if err := h.stream.Send(&b); err != nil {
		return nil, err
	}
	ack, err := h.stream.Recv()
	for err == nil && ack.Working { // the batch takes its time
		ack, err = h.stream.Recv()
	}
	if err != nil {
		return nil, err
	}
	if ack.ThroughSeq != h.seq {
		return nil, fmt.Errorf("batch %d was acknowledged, %d was sent", ack.ThroughSeq, h.seq)
	}
	return ack.Outcomes, nil
}

// Health asks the instance.
func (h *Harness) Health() error {
	ctx, cancel := h.context()
	defer cancel()
	return h.Client.Health(ctx, Instance)
}

// Break cuts the stream off, as a dying host would.
func (h *Harness) Break() {
	if h.cancel != nil {
		h.cancel()
	}
}

// Reopen cuts the stream off, configures the instance again and opens a new stream, as the host does after a crash.
func (h *Harness) Reopen() {
	h.t.Helper()
	h.Break()
	ctx, cancel := h.context()
	defer cancel()
	problems, err := h.Client.Configure(ctx, Instance, h.config)
	if err != nil || len(problems) > 0 {
		h.t.Fatalf("reopen: %+v %v", problems, err)
	}
	h.open()
}

// Drain ends the stream in good order and releases the instance.
func (h *Harness) Drain() {
	h.t.Helper()
	ctx, cancel := h.context()
	defer cancel()
	if h.stream != nil {
		if err := h.stream.CloseSend(); err != nil {
			h.t.Fatalf("drain: %v", err)
		}
	}
	if err := h.Client.Drain(ctx, Instance); err != nil {
		h.t.Fatalf("drain: %v", err)
	}
}

func (h *Harness) open() {
	h.t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	stream, err := h.Client.Deliver(ctx, Instance)
	if err != nil {
		cancel()
		h.t.Fatalf("open stream: %v", err)
	}
	h.stream, h.cancel, h.seq = stream, cancel, 0
}

// stop runs before the connection is closed: the instance is drained, so that what it holds is released.
func (h *Harness) stop() {
	h.Break()
	ctx, cancel := h.context()
	defer cancel()
	_ = h.Client.Drain(ctx, "") // a plugin that was killed by its test cannot answer
}

func (h *Harness) context() (context.Context, context.CancelFunc) {
	return context.WithTimeout(context.Background(), Timeout)
}

// serve runs p in this process, behind a unix socket.
func serve(t testing.TB, p sdk.Plugin) protocol.Client {
	t.Helper()
	impl, err := sdk.NewServer(p, testLog(t))
	if err != nil {
		t.Fatalf("plugintest: %v", err)
	}
	path := filepath.Join(socketDir(t), "s")
	listener, err := net.Listen("unix", path)
	if err != nil {
		t.Fatalf("plugintest: %v", err)
	}
	server := grpc.NewServer(append(wire.ServerOptions(), grpc.Creds(wire.Local()))...)
	wire.Register(server, impl)
	served := make(chan error, 1)
	go func() { served <- server.Serve(listener) }()
	conn, err := grpc.NewClient("unix:"+path, append(wire.DialOptions(), grpc.WithTransportCredentials(wire.Local()))...)
	if err != nil {
		t.Fatalf("plugintest: %v", err)
	}
	t.Cleanup(func() {
		_ = conn.Close()
		server.Stop()
		if err := <-served; err != nil {
			t.Errorf("plugintest: serve: %v", err)
		}
	})
	return wire.NewClient(conn)
}

// socketDir is short: a unix socket's path has room for about a hundred bytes, and t.TempDir holds the test's name.
func socketDir(t testing.TB) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "rvg")
	if err != nil {
		t.Fatalf("plugintest: %v", err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	return dir
}

// testLog writes to the test's log until the test ends; after that a stray goroutine of the plugin must not panic it.
func testLog(t testing.TB) hclog.Logger {
	w := &testWriter{t: t}
	t.Cleanup(func() {
		w.mu.Lock()
		defer w.mu.Unlock()
		w.t = nil
	})
	return hclog.New(&hclog.LoggerOptions{Level: hclog.Debug, Output: w, DisableTime: true})
}

type testWriter struct {
	mu sync.Mutex
	t  testing.TB
}

func (w *testWriter) Write(p []byte) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.t != nil {
		w.t.Logf("%s", p)
	}
	return len(p), nil
}

// nextPosition rises over all frames of the process, as a journal's would.
var nextPosition atomic.Uint64

// Frame makes a frame of JSON rows: org 1, no user, the next free position, no indices.
func Frame(uuid string, rows ...string) protocol.Frame {
	f := protocol.Frame{
		OrgID: 1, UUID: uuid, Position: nextPosition.Add(uint64(len(rows))) - uint64(len(rows)) + 1,
		ReceivedAt: time.Date(2026, 1, 2, 3, 4, 5, 678_000_000, time.UTC), RequestID: "req-test",
	}
	for _, row := range rows {
		f.Data = append(f.Data, row...)
		f.Ends = append(f.Ends, uint32(len(f.Data)))
	}
	return f
}

// FrameAt is Frame at a position of the test's own.
func FrameAt(position uint64, uuid string, rows ...string) protocol.Frame {
	f := Frame(uuid, rows...)
	f.Position = position
	return f
}

// Indexed gives the rows of a frame the client's indices; protocol.NoIndex where there is none.
func Indexed(f protocol.Frame, index ...int32) protocol.Frame {
	f.Index = index
	return f
}

// ByPosition is the outcomes by the positions of their rows.
func ByPosition(outcomes []protocol.Outcome) map[uint64]protocol.Outcome {
	m := map[uint64]protocol.Outcome{}
	for _, o := range outcomes {
		m[o.Position+uint64(o.Row)] = o
	}
	return m
}

// RequireAll fails the test unless each of so many rows has that outcome; it returns the first.
func RequireAll(t testing.TB, outcomes []protocol.Outcome, rows int, class sdk.Class, code string) protocol.Outcome {
	t.Helper()
	if len(outcomes) != rows || rows == 0 {
		t.Fatalf("%d outcomes, want %d: %+v", len(outcomes), rows, outcomes)
	}
	for _, o := range outcomes {
		if o.Class != class || o.Code != code {
			t.Fatalf("want %s %q: %+v", class, code, o)
		}
	}
	return outcomes[0]
}
