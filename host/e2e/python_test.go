package e2e

import (
	"bytes"
	"context"
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/rivergate/rivergate/host/e2e/rig"
)

// fromRoot runs a program in the root of the tree.
func fromRoot(t *testing.T, program string, args ...string) (stdout string, err error) {
	t.Helper()
	root, err := rig.Root(t.Context())
	require.NoError(t, err)
	ctx, cancel := context.WithTimeout(t.Context(), guideDeadline)
	defer cancel()
	cmd := exec.CommandContext(ctx, program, args...)
	cmd.Dir = root
	var said bytes.Buffer
	cmd.Stderr = &said
	out, err := cmd.Output()
	if err != nil {
		t.Logf("%s %v: %s\n%s", program, args, out, said.Bytes())
	}
	return string(out), err
}

// python is the interpreter with the SDK and what it builds with.
func python(t *testing.T) string {
	t.Helper()
	environment, err := fromRoot(t, "deploy/python")
	if err != nil {
		cannot(t, "deploy/python makes no environment on this machine; see above")
	}
	return filepath.Join(strings.TrimSpace(environment), "bin", "python")
}

// withPylite makes the plugin in Python that puts rows into an SQLite file. What it unpacks stays within the world.
func (w *world) withPylite(more ...string) (path string) {
	w.t.Helper()
	_, err := fromRoot(w.t, python(w.t), append([]string{"-m", "rivergate_sdk.build", "--output", built.Pusher("pylite"),
		"--entry", "pylite:main", "--source", "plugins/testdata/pylite/pylite.py"}, more...)...)
	require.NoError(w.t, err)
	path = filepath.Join(w.dir, "pylite.sqlite")
	w.set("XDG_CACHE_HOME", filepath.Join(w.dir, "cache"),
		"PLUGIN_PYLITE_ENABLED", "true", "PLUGIN_PYLITE_PATH", path, "PLUGIN_PYLITE_PASS_ENV", "XDG_CACHE_HOME")
	return path
}

func pyliteEverywhere(w *world) place {
	path := w.withPylite()
	return place{pusher: "pylite", exact: true, arrived: func(t *testing.T) []delivery {
		return table(t, "sqlite", path, "SELECT uuid, position, data FROM rivergate_rows ORDER BY position")
	}}
}

// formerEverywhere is a pusher of the former gateway, made a plugin as its owner would. It appends to a file and knows of no
// positions: what it is given again it writes again.
func formerEverywhere(w *world) place {
	python(w.t)
	_, err := fromRoot(w.t, built.Host, "plugin", "wrap-python", "plugins/testdata/pyformer/plugins/former", "--sdk", ".",
		"--output", built.Pusher("former"))
	require.NoError(w.t, err)
	path := filepath.Join(w.dir, "former.jsonl")
	return place{
		pusher: "former",
		env:    map[string]string{"FILE": path, "API_KEY": "key-of-former", "PASS_ENV": "XDG_CACHE_HOME"},
		arrived: func(t *testing.T) (all []delivery) {
			raw, err := os.ReadFile(path)
			require.NoError(t, err)
			for line := range strings.Lines(string(raw)) {
				// A kill may have cut a line off: the next one is behind what there is of it.
				line = line[max(0, strings.LastIndex(line, `{"uuid": `)):]
				var row struct {
					UUID string
					Data json.RawMessage
				}
				if json.Unmarshal([]byte(line), &row) == nil {
					all = append(all, delivery{rowID: seqOf(t, row.UUID, row.Data)})
				}
			}
			return all
		},
	}
}

// Over the unix socket, the default, no TLS is needed. Where it is demanded, a plugin in Python speaks it as one in Go does.
func TestAPluginInPythonSpeaksMutualTLSWithTheHost(t *testing.T) {
	w := newWorld(t, map[string]string{"RIVERGATE_PLUGIN_MTLS": "on"}).withFile("file")
	requirements := filepath.Join(w.dir, "requirements.txt")
	require.NoError(t, os.WriteFile(requirements, []byte("cryptography>=44\n"), 0o600)) // what rivergate-sdk[mtls] adds
	path := w.withPylite("--requirements", requirements)
	w.start()
	l := startLoad(t, w.host.URL, loadOptions{clients: 2, rows: 10, pause: 10 * time.Millisecond})
	for range 2 {
		l.reaches(t, 500, time.Minute)
		require.NoError(t, syscall.Kill(w.runningPID("pylite"), syscall.SIGKILL))
	}
	l.reaches(t, 500, time.Minute)
	l.stop()
	w.caughtUp(time.Minute, "pylite", "file")
	environment, err := os.ReadFile("/proc/" + strconv.Itoa(w.runningPID("pylite")) + "/environ")
	require.NoError(t, err)
	require.Contains(t, string(environment), "PLUGIN_CLIENT_CERT=-----BEGIN CERTIFICATE-----", "the process was asked for mutual TLS")
	l.settleRows(t, "pylite", table(t, "sqlite", path, "SELECT uuid, position, data FROM rivergate_rows ORDER BY position"), nil)
	l.settle(t, "file", arrivals(t, w.out("file")), nil)
}
