package sdk_test

import (
	"bufio"
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/hashicorp/go-plugin"
	"github.com/stretchr/testify/require"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"

	"github.com/rivergate/rivergate/sdk/plugintest"
	"github.com/rivergate/rivergate/sdk/protocol"
	"github.com/rivergate/rivergate/sdk/wire"
)

func pluginEnv(mode string) []string {
	return []string{
		modeVariable + "=" + mode, wire.EnvCookie + "=" + wire.CookieValue, "PLUGIN_PROTOCOL_VERSIONS=1",
		"PATH=" + os.Getenv("PATH"), "TMPDIR=" + os.Getenv("TMPDIR"),
		"GORACE=atexit_sleep_ms=0", // the race detector would hold the exit up for a second
	}
}

// output collects what a process writes and lets a test wait for a text in it.
type output struct {
	mu      sync.Mutex
	text    bytes.Buffer
	changed chan struct{}
}

func (o *output) Write(p []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.text.Write(p)
	close(o.changed)
	o.changed = make(chan struct{})
	return len(p), nil
}

func (o *output) String() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.text.String()
}

func (o *output) waitFor(t *testing.T, text string) {
	t.Helper()
	deadline := time.After(20 * time.Second)
	for {
		o.mu.Lock()
		found, changed := strings.Contains(o.text.String(), text), o.changed
		o.mu.Unlock()
		if found {
			return
		}
		select {
		case <-changed:
		case <-deadline:
			t.Fatalf("%q never came in:\n%s", text, o)
		}
	}
}

// process is a plugin started without go-plugin, so that a test sees every byte of its two outputs.
type process struct {
	command *exec.Cmd
	stdout  output
	stderr  output
	client  protocol.PusherClient
}

func startProcess(t *testing.T, extra ...string) *process {
	t.Helper()
	self, err := os.Executable()
	require.NoError(t, err)
	p := &process{command: exec.Command(self)}
	p.stdout.changed, p.stderr.changed = make(chan struct{}), make(chan struct{})
	p.command.Env = append(pluginEnv("plugin"), extra...)
	p.command.Stdout, p.command.Stderr = &p.stdout, &p.stderr
	require.NoError(t, p.command.Start())
	t.Cleanup(func() {
		if p.command.ProcessState == nil {
			_ = p.command.Process.Kill()
			_ = p.command.Wait()
		}
	})
	p.stdout.waitFor(t, "\n")
	parts := strings.Split(strings.TrimSpace(p.stdout.String()), "|")
	require.Len(t, parts, 6, p.stdout.String())
	require.Equal(t, []string{"1", "1", "unix"}, parts[:3])
	require.Equal(t, "grpc", parts[4])
	conn, err := grpc.NewClient("unix:"+parts[3], append(wire.DialOptions(), grpc.WithTransportCredentials(insecure.NewCredentials()))...)
	require.NoError(t, err)
	t.Cleanup(func() { _ = conn.Close() })
	p.client = wire.NewClient(conn)
	return p
}

func (p *process) open(t *testing.T, config string) protocol.DeliverStream {
	t.Helper()
	problems, err := p.client.Configure(t.Context(), "one", json.RawMessage(config))
	require.NoError(t, err)
	require.Empty(t, problems)
	stream, err := p.client.Deliver(t.Context(), "one")
	require.NoError(t, err)
	return stream
}

func TestStrayPrintsNeverReachTheHandshake(t *testing.T) {
	p := startProcess(t)
	stream := p.open(t, `{}`)
	require.NoError(t, stream.Send(&protocol.Batch{Seq: 1, Frames: []protocol.Frame{plugintest.Frame("a", `{}`)}}))
	_, err := stream.Recv()
	require.NoError(t, err)
	require.NoError(t, p.command.Process.Signal(syscall.SIGTERM))
	require.NoError(t, p.command.Wait())

	require.Equal(t, 1, strings.Count(p.stdout.String(), "\n"), "one line and no more: %s", p.stdout.String())
	for _, noise := range []string{"noise of init", "noise of main", "noise of C", "noise of a library", "noise of Open", "noise of Deliver"} {
		require.Contains(t, p.stderr.String(), noise)
	}
}

func TestALogLineOfAMebibyteIsOneLine(t *testing.T) {
	p := startProcess(t)
	stream := p.open(t, `{}`)
	require.NoError(t, stream.Send(&protocol.Batch{Seq: 1, Frames: []protocol.Frame{plugintest.Frame("a", `{"do":"log"}`)}}))
	_, err := stream.Recv()
	require.NoError(t, err)
	require.NoError(t, p.command.Process.Signal(syscall.SIGTERM))
	require.NoError(t, p.command.Wait())
	for line := range strings.Lines(p.stderr.String()) {
		if !strings.Contains(line, "a long line") {
			continue
		}
		var entry map[string]any
		require.NoError(t, json.Unmarshal([]byte(line), &entry))
		require.Len(t, entry["text"], 1<<20)
		require.Equal(t, "info", entry["@level"])
		require.Equal(t, "one", entry["instance"])
		return
	}
	t.Fatal("the line did not come")
}

func TestSigtermFinishesTheBatchInHandAndCloses(t *testing.T) {
	gate := filepath.Join(t.TempDir(), "gate")
	require.NoError(t, syscall.Mkfifo(gate, 0o600))
	p := startProcess(t)
	stream := p.open(t, fmt.Sprintf(`{"gate":%q}`, gate))
	require.NoError(t, stream.Send(&protocol.Batch{Seq: 1, Frames: []protocol.Frame{plugintest.Frame("a", `{"do":"wait"}`)}}))
	require.NoError(t, stream.Send(&protocol.Batch{Seq: 2, Frames: []protocol.Frame{plugintest.Frame("a", `{}`)}}))
	p.stderr.waitFor(t, "in hand")
	require.NoError(t, p.command.Process.Signal(syscall.SIGTERM))
	p.stderr.waitFor(t, "plugin is stopping")
	require.NoError(t, os.WriteFile(gate, nil, 0o600))

	// The second batch was taken in the last moment, and is finished too, perhaps acknowledged with the first, or left to the next process.
	through := uint64(0)
	ack, err := stream.Recv()
	for ; err == nil; ack, err = stream.Recv() {
		require.Greater(t, ack.ThroughSeq, through)
		through = ack.ThroughSeq
	}
	require.NotZero(t, through)
	require.Equal(t, io.EOF, err, "the stream ends in good order")
	require.NoError(t, p.command.Wait())
	require.Contains(t, p.stderr.String(), `"@message":"closed"`)
}

func TestASecondSignalBreaksABatchThatHangs(t *testing.T) {
	p := startProcess(t)
	stream := p.open(t, `{}`)
	require.NoError(t, stream.Send(&protocol.Batch{Seq: 1, Frames: []protocol.Frame{plugintest.Frame("a", `{"do":"hang"}`)}}))
	p.stderr.waitFor(t, "in hand")
	require.NoError(t, p.command.Process.Signal(syscall.SIGTERM))
	p.stderr.waitFor(t, "plugin is stopping")
	began := time.Now()
	require.NoError(t, p.command.Process.Signal(syscall.SIGTERM))
	_, err := stream.Recv()
	require.True(t, wire.IsGone(err), "%v", err)
	require.Error(t, p.command.Wait())
	require.Less(t, time.Since(began), 3*time.Second, "not the five seconds that one signal leaves it")
	require.Equal(t, 1, p.command.ProcessState.ExitCode())
}

func TestAPanicInDeliverCrashesTheProcessWithItsStack(t *testing.T) {
	p := startProcess(t)
	stream := p.open(t, `{}`)
	require.NoError(t, stream.Send(&protocol.Batch{Seq: 1, Frames: []protocol.Frame{plugintest.Frame("a", `{"do":"panic"}`)}}))
	_, err := stream.Recv()
	require.True(t, wire.IsGone(err), "%v", err)
	require.Error(t, p.command.Wait())
	require.Equal(t, 2, p.command.ProcessState.ExitCode())
	require.Contains(t, p.stderr.String(), "panic: boom in Deliver")
	require.Contains(t, p.stderr.String(), "main_test.go")
}

func TestAPackInWhoseMiddleTheProcessIsKilledIsTakenAgainFromThere(t *testing.T) {
	rows := []string{`{}`, `{}`, `{"do":"hang"}`, `{}`}
	pack := func(rows []string) (batches []*protocol.Batch) {
		for i, row := range rows {
			batches = append(batches, &protocol.Batch{Seq: uint64(i + 1), Frames: []protocol.Frame{plugintest.Frame("a", row)}})
		}
		return batches
	}
	for _, hangs := range []bool{true, false} {
		p := startProcess(t)
		hello, err := p.client.Handshake(t.Context(), protocol.Hello{Versions: protocol.Versions()})
		require.NoError(t, err)
		require.Contains(t, hello.Capabilities, protocol.CapPacks)
		stream := p.open(t, `{}`)
		require.NoError(t, stream.Send(pack(rows)...))
		for seq := uint64(0); seq < uint64(len(rows)) && (!hangs || seq < 2); {
			ack, err := stream.Recv()
			require.NoError(t, err)
			require.Greater(t, ack.ThroughSeq, seq)
			seq = ack.ThroughSeq
		}
		if hangs { // the two before it are acknowledged, for the third they do not wait
			require.NoError(t, p.command.Process.Kill())
			_, err = stream.Recv()
			require.True(t, wire.IsGone(err), "%v", err)
			rows = []string{`{}`, `{}`} // what the host has not heard of
		}
	}
}

func TestNoOrphanIsLeftWhenTheHostIsKilled(t *testing.T) {
	self, err := os.Executable()
	require.NoError(t, err)
	for _, extra := range []string{"X=", wire.EnvHostPID + "=1"} {
		alive, held, err := os.Pipe()
		require.NoError(t, err)
		sockets, err := os.MkdirTemp("", "sdk")
		require.NoError(t, err)
		t.Cleanup(func() { _ = os.RemoveAll(sockets) })
		host := exec.Command(self)
		host.Env = []string{modeVariable + "=host", "TMPDIR=" + sockets, "SDK_TEST_EXTRA=" + extra}
		host.ExtraFiles = []*os.File{held}
		stdout, err := host.StdoutPipe()
		require.NoError(t, err)
		require.NoError(t, host.Start())
		require.NoError(t, held.Close())
		lines := bufio.NewReader(stdout)
		for {
			line, err := lines.ReadString('\n')
			require.NoError(t, err)
			if strings.Contains(line, "|grpc|") {
				break
			}
		}
		require.NotEmpty(t, list(t, sockets), "the socket is there")
		killed := time.Now()
		require.NoError(t, host.Process.Kill())
		_, _ = io.Copy(io.Discard, alive) // ends when the last holder of the other end has ended
		// It takes a third of a second; the contract's five are for a machine with other work.
		require.Less(t, time.Since(killed), 5*time.Second)
		_ = host.Wait()
		require.NoError(t, alive.Close())
		require.Empty(t, list(t, sockets), "no stale socket")
	}
}

func list(t *testing.T, dir string) []os.DirEntry {
	t.Helper()
	entries, err := os.ReadDir(dir)
	require.NoError(t, err)
	return entries
}

func TestAHostThatDiedBeforeThePluginLookedIsNoticed(t *testing.T) {
	dead := exec.Command("true")
	require.NoError(t, dead.Run())
	p := startProcess(t, fmt.Sprintf("%s=%d", wire.EnvHostPID, dead.Process.Pid))
	_ = p.command.Wait() // the test's own time limit is the proof that it would not end
	require.Equal(t, 0, p.command.ProcessState.ExitCode())
}

func TestMutualTLSThroughGoPlugin(t *testing.T) {
	self, err := os.Executable()
	require.NoError(t, err)
	command := exec.Command(self)
	command.Env = []string{modeVariable + "=plugin", "TMPDIR=" + os.Getenv("TMPDIR")}
	client := plugin.NewClient(&plugin.ClientConfig{
		HandshakeConfig: wire.Handshake(), VersionedPlugins: wire.VersionedPlugins(nil), AllowedProtocols: []plugin.Protocol{plugin.ProtocolGRPC},
		GRPCDialOptions: wire.DialOptions(), Cmd: command, SkipHostEnv: true, AutoMTLS: true, SyncStdout: io.Discard,
	})
	defer client.Kill()
	connection, err := client.Client()
	require.NoError(t, err)
	dispensed, err := connection.Dispense(wire.Name)
	require.NoError(t, err)
	description, err := dispensed.(protocol.PusherClient).Describe(t.Context())
	require.NoError(t, err)
	require.Equal(t, "child", description.Name)
	require.Equal(t, protocol.KindPusher, description.Kind)

	// Somebody who has found the socket, and has no certificate of this host, is not let in.
	stranger, err := grpc.NewClient("unix:"+client.ReattachConfig().Addr.String(), grpc.WithTransportCredentials(insecure.NewCredentials()))
	require.NoError(t, err)
	defer func() { _ = stranger.Close() }()
	_, err = wire.NewClient(stranger).Describe(t.Context())
	require.Error(t, err)
}

func TestTheHostsHarnessRunsABinary(t *testing.T) {
	self, err := os.Executable()
	require.NoError(t, err)
	command := exec.Command(self)
	command.Env = []string{modeVariable + "=plugin", "TMPDIR=" + os.Getenv("TMPDIR")}
	h := plugintest.Start(t, command, nil)
	require.Empty(t, h.Deliver(plugintest.Frame("a", `{"do":"x"}`)))
	frame := plugintest.Frame("a", `{}`, `{"do":"fail"}`)
	require.Equal(t, []protocol.Outcome{
		{Position: frame.Position, Row: 1, Class: protocol.Retry, Code: "error", Message: "failed as told \uFFFD"},
	}, h.Deliver(frame))
	h.Reopen()
	require.Empty(t, h.Deliver(plugintest.Frame("a", `{}`)))
	require.NoError(t, h.Health())
}
