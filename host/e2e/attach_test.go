package e2e

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/rivergate/rivergate/host/e2e/rig"
)

// byHand starts the file pusher as somebody with a debugger would, and waits until it listens.
func (w *world) byHand(socket string) *rig.Process {
	w.t.Helper()
	said, err := os.OpenFile(filepath.Join(w.dir, "by-hand.log"), os.O_WRONLY|os.O_CREATE|os.O_APPEND, 0o600)
	require.NoError(w.t, err)
	defer said.Close()
	p, err := rig.Spawn(built.Pusher("file"), []string{"--listen", "unix:" + socket}, []string{"PATH=" + os.Getenv("PATH")}, w.dir, nil, nil, said)
	require.NoError(w.t, err)
	w.t.Cleanup(p.KillGroup)
	eventually(w.t, 20*time.Second, "the socket of the plugin", func(context.Context) bool {
		info, err := os.Stat(socket)
		return err == nil && info.Mode().Type() == os.ModeSocket
	})
	return p
}

func TestAPluginThatRunsByHandIsAttachedAndItsMessagesAreTraced(t *testing.T) {
	t.Parallel()
	w := newWorld(t, nil).withFile("file")
	socket := filepath.Join(w.dir, "file.sock")
	w.set("RIVERGATE_PLUGIN_ATTACH", "file=unix:"+socket, "RIVERGATE_PLUGIN_TRACE", "file", "RIVERGATE_TARGETS", "gateway")
	first := w.byHand(socket)
	w.start()
	w.post("attached", 0, 20)
	w.caughtUp(30*time.Second, "file")
	require.Equal(t, upTo(0, 20), sequences(t, w.out("file")))

	below, err := rig.Descendants(w.host.PID)
	require.NoError(t, err)
	require.Empty(t, below, "the host has started no process of its own")
	out, errs, code := w.command("plugins", "--json")
	require.Zero(t, code, errs)
	require.Contains(t, out, socket, "it is shown where the plugin is attached")

	// Whoever debugs ends the process and starts it again: rows wait, and nothing is lost.
	first.Kill()
	w.post("attached", 20, 20)
	w.byHand(socket)
	w.post("attached", 40, 10)
	w.caughtUp(30*time.Second, "file")
	require.Equal(t, upTo(0, 50), sequences(t, w.out("file")))

	log := w.log()
	require.Contains(t, log, "to plugin: batch")
	require.Contains(t, log, "from plugin: ack")
	require.NotContains(t, log, strings.Repeat("x", 20), "the trace shows no data unless asked")
	w.stop()
	require.NotContains(t, w.log(), "was not answered")
}
