package e2e

import (
	"context"
	"io"
	"maps"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/rivergate/rivergate/host/e2e/rig"
)

// world is one host with a data folder and a destination folder of its own, over all its incarnations.
type world struct {
	t    *testing.T
	dir  string
	opts rig.Options
	host *rig.Host // the incarnation that was started last
}

// newWorld prepares folders and an address; nothing runs yet. Folders have short names: the path of a unix socket ends
// after 107 bytes.
func newWorld(t *testing.T, env map[string]string) *world {
	t.Helper()
	if built.skip != "" {
		t.Skip(built.skip)
	}
	dir, err := os.MkdirTemp("", "rg")
	require.NoError(t, err)
	addr, err := rig.FreeAddr(t.Context())
	require.NoError(t, err)
	w := &world{t: t, dir: dir, opts: rig.Options{
		DataDir: filepath.Join(dir, "data"),
		Log:     filepath.Join(dir, "host.log"),
		Addr:    addr,
		TempDir: filepath.Join(dir, "tmp"),
		Env:     maps.Clone(env),
	}}
	require.NoError(t, os.Mkdir(w.opts.TempDir, 0o700))
	if w.opts.Env == nil {
		w.opts.Env = map[string]string{}
	}
	t.Cleanup(w.close)
	return w
}

// withFile enables a file pusher of that instance name, whose lines land in out(name).
func (w *world) withFile(name string) *world {
	prefix := variables(name)
	w.opts.Env[prefix+"ENABLED"] = "true"
	w.opts.Env[prefix+"PATH"] = w.out(name)
	if name != "file" {
		w.opts.Env[prefix+"USE"] = "file"
	}
	return w
}

// out is the file that the file pusher of that name writes.
func (w *world) out(name string) string { return filepath.Join(w.dir, "out", name+".jsonl") }

// set changes variables for the next start; an empty value removes one.
func (w *world) set(pairs ...string) *world {
	for i := 0; i < len(pairs); i += 2 {
		if pairs[i+1] == "" {
			delete(w.opts.Env, pairs[i])
			continue
		}
		w.opts.Env[pairs[i]] = pairs[i+1]
	}
	return w
}

// start runs a host and waits until it is ready.
func (w *world) start() *rig.Host {
	w.t.Helper()
	h, err := built.Start(w.t.Context(), w.opts)
	require.NoError(w.t, err)
	w.host = h
	return h
}

// stop ends the host in good order.
func (w *world) stop() {
	w.t.Helper()
	code, err := w.host.Terminate(30 * time.Second)
	require.NoError(w.t, err)
	require.Zero(w.t, code, "exit code after SIGTERM")
}

func (w *world) close() {
	if w.host != nil {
		w.host.KillGroup()
		w.host.Forget()
	}
	if w.t.Failed() {
		w.t.Logf("last lines of the host's log:\n%s", rig.Tail(w.opts.Log, 16<<10))
	}
	if err := os.RemoveAll(w.dir); err != nil {
		// Plugins of a killed host die within moments and may still have written.
		w.t.Logf("first clean-up of %s: %v", w.dir, err)
		_ = os.RemoveAll(w.dir)
	}
}

// log is everything that the host has said so far.
func (w *world) log() string {
	w.t.Helper()
	raw, err := os.ReadFile(w.opts.Log)
	require.NoError(w.t, err)
	return string(raw)
}

// command runs a command of the binary with the host's variables and returns what it printed and its exit code.
func (w *world) command(args ...string) (stdout, stderr string, code int) {
	w.t.Helper()
	return w.commandWith(nil, args...)
}

// commandWith is command with other variables beside those of the host.
func (w *world) commandWith(env map[string]string, args ...string) (stdout, stderr string, code int) {
	w.t.Helper()
	o := w.opts
	o.Env = maps.Clone(o.Env)
	maps.Copy(o.Env, env)
	var out, errs limited
	p, err := rig.Spawn(built.Host, args, built.Environment(o, o.Addr), w.dir, nil, &out, &errs)
	require.NoError(w.t, err)
	timer := time.NewTimer(30 * time.Second)
	defer timer.Stop()
	select {
	case <-p.Done():
		return string(out.raw), string(errs.raw), p.ExitCode()
	case <-timer.C:
		p.KillGroup()
		w.t.Fatalf("rivergate %v did not end; it said:\n%s\n%s", args, out.raw, errs.raw)
		return "", "", -1
	}
}

// limited keeps the first MiB of what is written.
type limited struct{ raw []byte }

func (l *limited) Write(p []byte) (int, error) {
	l.raw = append(l.raw, p[:min(len(p), 1<<20-len(l.raw))]...)
	return len(p), nil
}

var _ io.Writer = (*limited)(nil)

// variables is the prefix of an instance's variables.
func variables(instance string) string {
	raw := []byte("PLUGIN_" + instance + "_")
	for i, c := range raw {
		switch {
		case c == '-':
			raw[i] = '_'
		case 'a' <= c && c <= 'z':
			raw[i] = c - 'a' + 'A'
		}
	}
	return string(raw)
}

// eventually polls a condition until it holds. what says what is waited for.
func eventually(t *testing.T, within time.Duration, what string, holds func(ctx context.Context) bool) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), within)
	defer cancel()
	for !holds(ctx) {
		if err := rig.Pause(ctx, 5*time.Millisecond); err != nil {
			t.Fatalf("not within %s: %s", within, what)
		}
	}
}

// caughtUp waits until the pushers have settled everything.
func (w *world) caughtUp(within time.Duration, names ...string) {
	w.t.Helper()
	require.NoError(w.t, w.host.CaughtUp(w.t.Context(), within, names...))
}

// deadLetters waits until the list shows as many as the pusher has counted (they are written in groups, a moment after the
// row is settled), and returns them.
func (w *world) deadLetters(name string) (all []rig.DeadLetter) {
	w.t.Helper()
	eventually(w.t, 10*time.Second, "as many dead letters of "+name+" in the list as it has counted", func(ctx context.Context) bool {
		p, err := w.host.Pusher(ctx, name)
		if err != nil {
			return false
		}
		all, err = w.host.DeadLetters(ctx, name)
		return err == nil && int64(len(all)) == p.DeadTotal
	})
	return all
}
