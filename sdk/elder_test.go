package sdk_test

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/rivergate/rivergate/sdk/plugintest"
	"github.com/rivergate/rivergate/sdk/protocol"
)

// buildElder builds the plugin that knows version 1 of the protocol alone and has never seen this SDK.
func buildElder(t *testing.T) string {
	t.Helper()
	out := filepath.Join(t.TempDir(), "rivergate-pusher-elder")
	build := exec.Command("go", "build", "-ldflags=-s -w", "-o", out, ".")
	build.Dir = "../plugins/testdata/v1"
	build.Env = append(os.Environ(), "CGO_ENABLED=0", "GOFLAGS=-buildvcs=false", "GOWORK=off")
	text, err := build.CombinedOutput()
	require.NoError(t, err, "%s", text)
	return out
}

func TestAPluginBuiltAgainstVersion1WorksBesideOneOfVersion2(t *testing.T) {
	lines := filepath.Join(t.TempDir(), "lines")
	elder := plugintest.Start(t, buildElder(t), map[string]any{"path": lines})
	self, err := os.Executable()
	require.NoError(t, err)
	command := exec.Command(self)
	command.Env = []string{modeVariable + "=plugin", "TMPDIR=" + os.Getenv("TMPDIR")}
	younger := plugintest.Start(t, command, nil)

	for version, h := range map[uint32]*plugintest.Harness{1: elder, 2: younger} {
		hello, err := h.Client.Handshake(t.Context(), protocol.Hello{Versions: protocol.Versions()})
		require.NoError(t, err)
		require.Equal(t, []uint32{version}, hello.Versions)
	}

	// Both get what either version can say, in turns.
	var want strings.Builder
	for i := range 50 {
		frame := plugintest.Indexed(plugintest.Frame("a1", fmt.Sprintf(`{"n":%d.50}`, i), `{"reject":1,"do":"fail"}`, `{}`), 1, protocol.NoIndex, 3)
		frame.TraceParent = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01" // a field that the elder does not know
		require.Equal(t, []protocol.Outcome{
			{Position: frame.Position, Row: 1, Class: protocol.Rejected, Code: "asked", Message: "the row asks to be rejected"},
		}, elder.Deliver(frame))
		fmt.Fprintf(&want, "%d\t{\"n\":%d.50}\n%d\t{}\n", frame.Position, i, frame.Position+2)
		require.Len(t, younger.Deliver(frame), 1)
	}
	got, err := os.ReadFile(lines)
	require.NoError(t, err)
	require.Equal(t, want.String(), string(got))
	require.NoError(t, elder.Health())

	_, err = elder.Client.Deliver(t.Context(), "nobody") // version 1 says so at the first Recv
	require.NoError(t, err)
	_, err = younger.Client.Deliver(t.Context(), "nobody")
	require.ErrorIs(t, err, protocol.ErrUnknownInstance)
	elder.Drain()
	younger.Drain()
}

func TestAHostOfVersion1AloneIsServedByANewPlugin(t *testing.T) {
	p := startProcess(t) // its environment offers version 1 alone, as such a host's would
	hello, err := p.client.Handshake(context.Background(), protocol.Hello{Versions: []uint32{protocol.Version1}})
	require.NoError(t, err)
	require.Equal(t, []uint32{protocol.Version1}, hello.Versions)
	stream := p.open(t, `{}`)
	for seq := uint64(1); seq <= 3; seq++ {
		require.NoError(t, stream.Send(&protocol.Batch{Seq: seq, Frames: []protocol.Frame{plugintest.Frame("a", `{}`)}}))
		ack, err := stream.Recv()
		require.NoError(t, err)
		require.Equal(t, protocol.Ack{ThroughSeq: seq}, ack)
	}
	_, err = p.client.Handshake(context.Background(), protocol.Hello{Versions: []uint32{7}})
	require.ErrorIs(t, err, protocol.ErrMalformed)
	require.ErrorContains(t, err, "the host speaks protocol versions [7], this plugin [2 1]")
}
