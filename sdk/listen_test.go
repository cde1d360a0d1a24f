package sdk_test

import (
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"

	"github.com/rivergate/rivergate/sdk/plugintest"
	"github.com/rivergate/rivergate/sdk/protocol"
	"github.com/rivergate/rivergate/sdk/wire"
)

// byHand starts the plugin as a person does: without the host's environment.
func byHand(t *testing.T, args ...string) *process {
	t.Helper()
	self, err := os.Executable()
	require.NoError(t, err)
	p := &process{command: exec.Command(self, args...)}
	p.stdout.changed, p.stderr.changed = make(chan struct{}), make(chan struct{})
	p.command.Env = []string{modeVariable + "=plugin", "TMPDIR=" + os.Getenv("TMPDIR"), "GORACE=atexit_sleep_ms=0"}
	p.command.Stdout, p.command.Stderr = &p.stdout, &p.stderr
	require.NoError(t, p.command.Start())
	t.Cleanup(func() {
		if p.command.ProcessState == nil {
			_ = p.command.Process.Kill()
			_ = p.command.Wait()
		}
	})
	return p
}

var attachLine = regexp.MustCompile(`RIVERGATE_PLUGIN_ATTACH=child=(\S+)\n`)

func attach(t *testing.T, p *process) (protocol.PusherClient, string) {
	t.Helper()
	p.stderr.waitFor(t, "Ctrl-C")
	found := attachLine.FindStringSubmatch(p.stderr.String())
	require.NotNil(t, found, p.stderr.String())
	conn, err := grpc.NewClient(strings.Replace(found[1], "127.0.0.1", "dns:127.0.0.1", 1), append(wire.DialOptions(), grpc.WithTransportCredentials(insecure.NewCredentials()))...)
	require.NoError(t, err)
	t.Cleanup(func() { _ = conn.Close() })
	return wire.NewClient(conn), found[1]
}

func TestAPluginStartedByHandIsServedToAHostThatIsToldItsAddress(t *testing.T) {
	dir, err := os.MkdirTemp("", "sdk")
	require.NoError(t, err)
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	socket := filepath.Join(dir, "s")
	for name, args := range map[string][]string{
		"unix":         {"--listen", "unix:" + socket},
		"tcp":          {"--listen", "127.0.0.1:0"},
		"tcp, one arg": {"--listen=localhost:0"},
	} {
		t.Run(name, func(t *testing.T) {
			p := byHand(t, args...)
			client, at := attach(t, p)
			if name == "unix" {
				require.Equal(t, "unix:"+socket, at)
				info, err := os.Stat(socket)
				require.NoError(t, err)
				require.Equal(t, os.FileMode(0o600), info.Mode().Perm(), "nobody else sends rows")
				second := byHand(t, args...)
				require.Error(t, second.command.Wait())
				require.Contains(t, second.stderr.String(), "another process serves there")
			}
			hello, err := client.Handshake(t.Context(), protocol.Hello{Versions: protocol.Versions()})
			require.NoError(t, err)
			require.Equal(t, []uint32{protocol.Version2}, hello.Versions)
			problems, err := client.Configure(t.Context(), "one", json.RawMessage(`{}`))
			require.NoError(t, err)
			require.Empty(t, problems)
			stream, err := client.Deliver(t.Context(), "one")
			require.NoError(t, err)
			require.NoError(t, stream.Send(&protocol.Batch{Seq: 1, Frames: []protocol.Frame{plugintest.Frame("a", `{}`)}}))
			ack, err := stream.Recv()
			require.NoError(t, err)
			require.Equal(t, protocol.Ack{ThroughSeq: 1}, ack)

			require.NoError(t, p.command.Process.Signal(syscall.SIGTERM))
			require.NoError(t, p.command.Wait())
			require.Contains(t, p.stderr.String(), "closed", "the instance was closed in good order")
			require.NoFileExists(t, socket)
		})
	}
}

func TestASocketThatAKilledProcessLeftIsTakenOver(t *testing.T) {
	dir, err := os.MkdirTemp("", "sdk")
	require.NoError(t, err)
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	socket := filepath.Join(dir, "s")
	first := byHand(t, "--listen", "unix:"+socket)
	attach(t, first)
	require.NoError(t, first.command.Process.Kill())
	require.Error(t, first.command.Wait())
	require.FileExists(t, socket)

	client, _ := attach(t, byHand(t, "--listen", "unix:"+socket))
	_, err = client.Describe(t.Context())
	require.NoError(t, err)
}

func TestAnAddressThatStrangersReachIsRefused(t *testing.T) {
	file := filepath.Join(t.TempDir(), "file")
	require.NoError(t, os.WriteFile(file, []byte("mine"), 0o600))
	for address, says := range map[string]string{
		"0.0.0.0:0":     "give a loopback address",
		":7000":         "give a loopback address, such as 127.0.0.1:7000",
		"example.com:1": "give a loopback address",
		"7000":          "give 127.0.0.1:7000 or unix:/path",
		"unix:":         "needs a path",
		"unix:" + file:  "address already in use",
	} {
		p := byHand(t, "--listen", address)
		require.Error(t, p.command.Wait(), address)
		require.Equal(t, 1, p.command.ProcessState.ExitCode())
		require.Contains(t, p.stderr.String(), says)
	}
	kept, err := os.ReadFile(file)
	require.NoError(t, err)
	require.Equal(t, "mine", string(kept))
}
