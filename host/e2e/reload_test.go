package e2e

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// configured makes a host read an env file, which write replaces.
func (w *world) configured(lines ...string) (write func(lines ...string)) {
	w.t.Helper()
	path := filepath.Join(w.dir, "rivergate.env")
	write = func(lines ...string) {
		require.NoError(w.t, os.WriteFile(path, []byte(strings.Join(lines, "\n")+"\n"), 0o600))
	}
	write(lines...)
	w.set("RIVERGATE_ENV_FILE", path)
	return write
}

// reloaded is the answer to reading the configuration again.
type reloaded struct {
	Started, Stopped, Replaced, Changed, Unchanged []string
	Failed                                         map[string]string
	NeedsRestart                                   []string `json:"needs_restart"`
}

func (w *world) reload() (r reloaded) {
	w.t.Helper()
	out, errs, code := w.command("reload", "--json")
	require.Zero(w.t, code, "%s %s", out, errs)
	decode(w.t, []byte(out), &r)
	return r
}

// processes are the process ids of the plugins, by instance.
func (w *world) processes() map[string]int {
	w.t.Helper()
	var list struct {
		Data struct {
			Plugins []struct {
				Name string
				PID  int
			}
		}
	}
	decode(w.t, w.get("/api/v1/plugins"), &list)
	pids := map[string]int{}
	for _, p := range list.Data.Plugins {
		pids[p.Name] = p.PID
	}
	return pids
}

// running is processes once every instance has one.
func (w *world) running() (pids map[string]int) {
	w.t.Helper()
	eventually(w.t, 30*time.Second, "a process of every plugin", func(context.Context) bool {
		pids = w.processes()
		return !slices.Contains(slices.Collect(maps.Values(pids)), 0)
	})
	return pids
}

func (w *world) get(path string) json.RawMessage {
	w.t.Helper()
	var raw json.RawMessage
	eventually(w.t, 10*time.Second, "an answer of "+path, func(ctx context.Context) bool {
		request, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+w.host.Addr+path, nil)
		require.NoError(w.t, err)
		answer, err := http.DefaultClient.Do(request)
		if err != nil {
			return false
		}
		defer answer.Body.Close()
		return answer.StatusCode == http.StatusOK && json.NewDecoder(answer.Body).Decode(&raw) == nil
	})
	return raw
}

func (w *world) instance(name, out string, more ...string) []string {
	prefix := variables(name)
	return append([]string{prefix + "ENABLED=true", prefix + "USE=file", prefix + "PATH='" + w.out(out) + "'"}, more...)
}

func TestAReloadUnderLoadTouchesOnlyWhatChangedAndLosesNoRow(t *testing.T) {
	t.Parallel()
	w := newWorld(t, nil)
	both := func(lists ...[]string) (all []string) {
		for _, list := range lists {
			all = append(all, list...)
		}
		return all
	}
	a, b := w.instance("a", "a"), w.instance("b", "b")
	write := w.configured(both(a, b)...)
	w.start()
	before := w.running()

	const rows = 400
	sent := make(chan error, 1)
	go func() {
		for i := range rows {
			a, err := w.host.Post(t.Context(), "/data/batch", batch("steady", i, 1, nil))
			if err == nil && a.Status != http.StatusAccepted {
				err = fmt.Errorf("row %d: %d %s", i, a.Status, a.Body)
			}
			if err != nil {
				sent <- err
				return
			}
		}
		sent <- nil
	}()
	// The window of a is the host's own matter; the path of b is its plugin's; c is new.
	write(both(w.instance("a", "a", "PLUGIN_A_WINDOW=2"), w.instance("b", "b", "PLUGIN_B_MAX_OPEN_FILES=7"), w.instance("c", "c"))...)
	r := w.reload()
	require.Equal(t, []string{"c"}, r.Started)
	require.Equal(t, []string{"b"}, r.Replaced)
	require.Equal(t, []string{"a"}, r.Changed)
	require.Empty(t, r.Failed)
	after := w.running()
	require.Equal(t, before["a"], after["a"], "the process of a was not touched")
	require.NotEqual(t, before["b"], after["b"])
	require.NotZero(t, after["c"])

	require.NoError(t, <-sent)
	w.caughtUp(60*time.Second, "a", "b", "c")
	require.Equal(t, upTo(0, rows), sequences(t, w.out("a")))
	require.Equal(t, upTo(0, rows), sequences(t, w.out("b")))
	last := sequences(t, w.out("c"))
	require.NotEmpty(t, last)
	require.Equal(t, upTo(rows-len(last), rows), last, "c has the rows that came after it")

	write(both(b, w.instance("c", "c"))...) // a goes, b as it was at first
	r = w.reload()
	require.Equal(t, []string{"a"}, r.Stopped)
	require.Equal(t, []string{"b"}, r.Replaced)
	require.Equal(t, []string{"c"}, r.Unchanged)
	require.NotContains(t, w.processes(), "a")
	w.accepted("/data/batch", string(batch("steady", rows, 1, nil)))
	w.caughtUp(30*time.Second, "b", "c")
	require.Equal(t, upTo(0, rows+1), sequences(t, w.out("b")))

	write(both(a, b, w.instance("c", "c"))...) // a comes back, by a signal this time, and gets the row that it missed
	require.NoError(t, w.host.Signal(syscall.SIGHUP))
	eventually(t, 30*time.Second, "a again", func(context.Context) bool { return w.processes()["a"] != 0 })
	w.caughtUp(30*time.Second, "a", "b", "c")
	require.Equal(t, upTo(0, rows+1), sequences(t, w.out("a")))
	w.stop()
}

func TestAConfigurationWithMistakesChangesNothingAndNamesThemAll(t *testing.T) {
	t.Parallel()
	w := newWorld(t, nil)
	write := w.configured(w.instance("a", "a")...)
	w.start()
	before := w.running()
	write(append(w.instance("b", "b"), "PLUGIN_B_PAHT=x", "PLUGIN_B_FORMAT=xml", "RIVERGATE_LISTN=y")...)
	_, errs, code := w.command("reload")
	require.Equal(t, 2, code)
	require.Contains(t, errs, "RIVERGATE_LISTN")
	require.Contains(t, errs, "RIVERGATE_LISTEN", "what was meant")
	require.Contains(t, errs, "PLUGIN_B_PAHT")
	require.Contains(t, errs, "PLUGIN_B_PATH", "what was meant")
	require.Contains(t, errs, "PLUGIN_B_FORMAT")
	require.Equal(t, before, w.processes())
	w.accepted("/data/batch", string(batch("u", 0, 1, nil)))
	w.caughtUp(30*time.Second, "a")
	require.Equal(t, upTo(0, 1), sequences(t, w.out("a")))
	w.stop()
}
