package pluginhost

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/hashicorp/go-hclog"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/rivergate/rivergate/sdk/protocol"
	"github.com/rivergate/rivergate/sdk/settings"
	"github.com/rivergate/rivergate/services/gateway/delivery"
)

// patience bounds every wait of the tests. Only a failing test uses it up.
const patience = 20 * time.Second

var binaries struct {
	dir string
	mu  sync.Mutex
}

func TestMain(m *testing.M) {
	if os.Getenv("PLUGINHOST_TEST_CHILD") != "" {
		serveAsChild()
		return
	}
	dir, err := os.MkdirTemp("", "plugins")
	if err != nil {
		panic(err)
	}
	binaries.dir = dir
	code := m.Run()
	if code == 0 {
		if err := goleak.Find(); err != nil {
			fmt.Fprintln(os.Stderr, err)
			code = 1
		}
	}
	_ = os.RemoveAll(dir)
	os.Exit(code)
}

// build compiles a plugin of plugins/testdata, once per run of the tests.
func build(t testing.TB, name string) string {
	t.Helper()
	binaries.mu.Lock()
	defer binaries.mu.Unlock()
	out := filepath.Join(binaries.dir, name)
	if _, err := os.Stat(out); err == nil {
		return out
	}
	cmd := exec.Command("go", "build", "-o", out, "./plugins/testdata/"+name)
	cmd.Dir = filepath.Join("..", "..")
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	text, err := cmd.CombinedOutput()
	require.NoError(t, err, "%s", text)
	return out
}

// world is a host under test with a plugin folder of its own.
type world struct {
	t    testing.TB
	host *Host
	opts Options
	log  *logBuffer
}

func newWorld(t testing.TB, change ...func(*Options)) *world {
	t.Helper()
	w := &world{t: t, log: &logBuffer{}}
	base := t.TempDir()
	w.opts = Options{
		Dir: filepath.Join(base, "plugins"), RunDir: filepath.Join(base, "run"), HostVersion: "test",
		Log: hclog.New(&hclog.LoggerOptions{Output: w.log, Level: hclog.Debug}), StartTimeout: patience, StopTimeout: 5 * time.Second,
	}
	require.NoError(t, os.Mkdir(w.opts.Dir, 0o755))
	for _, c := range change {
		c(&w.opts)
	}
	h, err := New(w.opts)
	require.NoError(t, err)
	w.host = h
	t.Cleanup(func() {
		_ = h.Stop(context.Background())
		if t.Failed() {
			t.Logf("the host's log:\n%s", w.log.text())
		}
	})
	return w
}

// install puts a plugin of plugins/testdata into the plugin folder, under its own name or another.
func (w *world) install(name string, as ...string) string {
	w.t.Helper()
	return w.installFile(build(w.t, name), append(as, name)[0])
}

// installFile copies a file to the plugin folder, in the way in which an operator replaces a binary: beside, then rename.
func (w *world) installFile(from, as string) string {
	w.t.Helper()
	data, err := os.ReadFile(from)
	require.NoError(w.t, err)
	return w.installBytes(data, as)
}

func (w *world) installBytes(data []byte, as string) string {
	w.t.Helper()
	path := filepath.Join(w.opts.Dir, BinaryName(protocol.KindPusher, as))
	require.NoError(w.t, os.WriteFile(path+".new", data, 0o755))
	require.NoError(w.t, os.Rename(path+".new", path))
	return path
}

// start starts instances and demands that there are no configuration problems.
func (w *world) start(list ...Instance) {
	w.t.Helper()
	require.Empty(w.t, w.host.Start(w.t.Context(), list))
}

func (w *world) status(name string) Status {
	w.t.Helper()
	for _, s := range w.host.Status() {
		if s.Name == name {
			return s
		}
	}
	require.Fail(w.t, "no such instance", name)
	return Status{}
}

// await waits until the instance's status is as wanted.
func (w *world) await(name string, want func(Status) bool) Status {
	w.t.Helper()
	ctx, cancel := context.WithTimeout(w.t.Context(), patience)
	defer cancel()
	s, err := w.host.lookup(ctx, name)
	require.NoError(w.t, err)
	for {
		s.mu.Lock()
		changed := s.changed
		s.mu.Unlock()
		st := s.status()
		if want(st) {
			return st
		}
		if err := s.waitChange(ctx, changed); err != nil {
			require.Fail(w.t, "the instance did not become what was wanted", "%v; it is %+v", err, st)
		}
	}
}

func (w *world) awaitState(name string, state State) Status {
	w.t.Helper()
	return w.await(name, func(s Status) bool { return s.State == state })
}

func (w *world) open(name string) delivery.Session {
	w.t.Helper()
	ctx, cancel := context.WithTimeout(w.t.Context(), patience)
	defer cancel()
	s, err := w.host.Destination(name).Open(ctx)
	require.NoError(w.t, err)
	w.t.Cleanup(s.Close)
	return s
}

// pid waits for the instance to run and returns its process.
func (w *world) pid(name string) int {
	w.t.Helper()
	return w.awaitState(name, StateRunning).PID
}

func acme(name string, vars ...string) Instance {
	in := Instance{Name: name, Kind: protocol.KindPusher, Prefix: VariablePrefix(protocol.KindPusher, name), Vars: map[string]string{}}
	for i := 0; i < len(vars); i += 2 {
		in.Vars[in.Prefix+vars[i]] = vars[i+1]
	}
	return in
}

// batch makes a batch of one frame with these rows.
func batch(seq, position uint64, rows ...string) *protocol.Batch {
	f := protocol.Frame{OrgID: 1, UUID: "0123456789abcdef", Position: position, ReceivedAt: time.Unix(1_700_000_000, 0).UTC(), RequestID: "r"}
	for _, r := range rows {
		f.Data = append(f.Data, r...)
		f.Ends = append(f.Ends, uint32(len(f.Data)))
	}
	return &protocol.Batch{Seq: seq, Frames: []protocol.Frame{f}}
}

// deliver sends one batch on the stream and takes its acknowledgement.
func deliver(t testing.TB, s delivery.Session, b *protocol.Batch) protocol.Ack {
	t.Helper()
	require.NoError(t, s.Send(b))
	for {
		ack, err := s.Recv()
		require.NoError(t, err)
		if ack.ThroughSeq >= b.Seq {
			return ack
		}
	}
}

func reasons(problems []settings.Problem) string {
	var all []string
	for _, p := range problems {
		all = append(all, p.Variable+" "+p.Reason)
	}
	return strings.Join(all, "\n")
}

// eventually polls what nobody announces: the process table, the file system.
func eventually(t testing.TB, within time.Duration, what string, ok func() bool) {
	t.Helper()
	require.Eventually(t, ok, within, 5*time.Millisecond, what)
}

func alive(pid int) bool {
	stat, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/stat")
	if err != nil {
		return false
	}
	_, rest, _ := strings.Cut(string(stat), ") ")
	return !strings.HasPrefix(rest, "Z")
}

// logBuffer is a log that tests read and wait on.
type logBuffer struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

var _ io.Writer = (*logBuffer)(nil)

func (b *logBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.Write(p)
}

func (b *logBuffer) text() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	text := b.buf.String()
	if len(text) > 20_000 {
		text = "…" + text[len(text)-20_000:]
	}
	return text
}

func (b *logBuffer) contains(s string) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	return bytes.Contains(b.buf.Bytes(), []byte(s))
}

func (b *logBuffer) await(t testing.TB, s string) {
	t.Helper()
	eventually(t, patience, "the log says "+s, func() bool { return b.contains(s) })
}
