package pluginhost

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/hashicorp/go-hclog"
	"github.com/stretchr/testify/require"

	"github.com/rivergate/rivergate/sdk/protocol"
)

// apply changes the instances and demands that there are no configuration problems.
func (w *world) apply(list ...Instance) Changes {
	w.t.Helper()
	ctx, cancel := context.WithTimeout(w.t.Context(), patience)
	defer cancel()
	changes, problems := w.host.Apply(ctx, list)
	require.Empty(w.t, problems)
	return changes
}

// once delivers one batch on a stream of its own.
func (w *world) once(name string, b *protocol.Batch) {
	w.t.Helper()
	s := w.open(name)
	defer s.Close()
	deliver(w.t, s, b)
}

// using is an instance of another plugin.
func using(plugin, name string, vars ...string) Instance {
	in := acme(name, vars...)
	in.Plugin = plugin
	return in
}

// shared is an instance that may share its process.
func shared(name string, vars ...string) Instance {
	in := using("sharing", name, vars...)
	in.Shared = true
	return in
}

// lines are the lines of a file, waiting until there are n.
func lines(t testing.TB, path string, n int) []string {
	t.Helper()
	var all []string
	eventually(t, patience, fmt.Sprintf("%s has %d lines", path, n), func() bool {
		data, err := os.ReadFile(path)
		if err != nil {
			return false
		}
		all = strings.Split(strings.TrimSuffix(string(data), "\n"), "\n")
		return len(data) > 0 && len(all) >= n
	})
	return all
}

func TestApplyTouchesOnlyWhatHasChanged(t *testing.T) {
	w := newWorld(t)
	w.install("flaky")
	gone := using("flaky", "gone")
	w.start(using("flaky", "same", "SHARE", "0"), using("flaky", "other", "SHARE", "0"), gone)
	same, other, left := w.pid("same"), w.pid("other"), w.pid("gone")
	open := w.open("same")
	deliver(t, open, batch(1, 1, `{}`))

	_, err := w.host.Destination("new").Open(t.Context())
	require.ErrorIs(t, err, ErrUnknown)
	destination := w.host.Destination("new") // asked for before it is there
	out := filepath.Join(t.TempDir(), "rows")
	changes := w.apply(using("flaky", "new", "SHARE", "0"), using("flaky", "same", "SHARE", "0"), using("flaky", "other", "SHARE", "0", "PATH", out))
	require.Equal(t, Changes{
		Started: []string{"new"}, Stopped: []string{"gone"}, Replaced: []string{"other"}, Unchanged: []string{"same"}, Failed: map[string]string{},
	}, changes)

	require.Equal(t, same, w.pid("same"))
	deliver(t, open, batch(2, 2, `{}`)) // its stream has not noticed
	require.NotEqual(t, other, w.pid("other"))
	w.once("other", batch(1, 7, `{"n":1}`))
	require.Equal(t, []string{"7\t0123456789abcdef\t{\"n\":1}"}, lines(t, out, 1))
	s, err := destination.Open(t.Context())
	require.NoError(t, err)
	deliver(t, s, batch(1, 1, `{}`))
	s.Close()
	var names []string
	for _, st := range w.host.Status() {
		names = append(names, st.Name)
	}
	require.Equal(t, []string{"new", "same", "other"}, names)
	eventually(t, patience, "the removed process is gone", func() bool { return !alive(left) && !alive(other) })
	_, err = w.host.Destination("gone").Open(t.Context())
	require.ErrorIs(t, err, ErrUnknown)

	again := w.apply(using("flaky", "same", "SHARE", "0"), gone)
	require.Equal(t, []string{"gone"}, again.Started)
	require.Equal(t, []string{"new", "other"}, again.Stopped)
	w.once("gone", batch(1, 1, `{}`))
}

func TestApplyWithAProblemChangesNothing(t *testing.T) {
	w := newWorld(t)
	w.install("flaky")
	out := filepath.Join(t.TempDir(), "made-by-open")
	w.start(using("flaky", "one"), using("flaky", "two"), using("flaky", "three"))
	before := []int{w.pid("one"), w.pid("two"), w.pid("three")}
	_, problems := w.host.Apply(t.Context(), []Instance{
		using("flaky", "one", "SHARE", "seven"), using("flaky", "two", "PATH", out), using("flaky", "new", "PATH", out),
		using("absent", "four"), using("flaky", "five", "PAT", "x"),
	})
	require.Len(t, problems, 3)
	require.Equal(t, "PLUGIN_ONE_SHARE", problems[0].Variable)
	require.Equal(t, "PLUGIN_FOUR_USE", problems[1].Variable)
	require.Equal(t, "PLUGIN_FIVE_PAT", problems[2].Variable)
	require.Equal(t, "PLUGIN_FIVE_PATH", problems[2].Nearest)
	require.NoFileExists(t, out, "an instance was configured although nothing was to change")
	require.Equal(t, before, []int{w.pid("one"), w.pid("two"), w.pid("three")})
	require.Len(t, w.host.Status(), 3)
	w.noProcesses("absent")
	eventually(t, patience, "what was started for the check is gone", func() bool { return len(w.processes()) == 3 })

	_, problems = w.host.Apply(t.Context(), []Instance{using("flaky", "one"), using("flaky", "o-ne"), using("flaky", "o_ne")})
	require.Contains(t, reasons(problems), `PLUGIN_O_NE_ENABLED the name "o_ne" is not allowed`)
	require.Contains(t, reasons(problems), `two instances are called "o_ne"`)
	require.Len(t, w.host.Status(), 3)
}

func TestAChangeThatAPluginRefusesLeavesItServingAsItWas(t *testing.T) {
	w := newWorld(t)
	w.fast()
	w.install("sharing")
	w.start(using("sharing", "one"), using("sharing", "two"))
	pid := w.pid("one")
	changes := w.apply(using("sharing", "one", "REFUSE", "true"), using("sharing", "two"), using("sharing", "new", "REFUSE", "true"))
	require.Equal(t, []string{"new"}, changes.Started)
	require.Empty(t, changes.Replaced)
	require.Contains(t, changes.Failed["one"], "refused by configuration")
	require.Contains(t, changes.Failed["new"], "refused by configuration")
	st := w.status("one")
	require.Equal(t, StateRunning, st.State)
	require.Equal(t, pid, st.PID)
	require.Contains(t, st.LastError, "refused by configuration")
	w.once("one", batch(1, 1, `{}`))

	// It is not forgotten: the same list again tries again, and the new instance is as it was.
	changes = w.apply(using("sharing", "one", "REFUSE", "true"), using("sharing", "two"), using("sharing", "new", "REFUSE", "true"))
	require.Contains(t, changes.Failed["one"], "refused by configuration")
	require.Equal(t, []string{"new", "two"}, changes.Unchanged)
	require.Equal(t, []string{"new", "one"}, w.apply(using("sharing", "one", "SLOW", "1ms"), using("sharing", "two"), using("sharing", "new")).Replaced)
	w.once("new", batch(1, 1, `{}`))
}

func TestApplyReloadStopAndStatusAtOnceDoNotDisturbEachOther(t *testing.T) {
	w := newWorld(t)
	w.fast()
	w.install("sharing")
	w.start(shared("a"), shared("b"), using("sharing", "own"))
	ctx, cancel := context.WithCancel(t.Context())
	var all sync.WaitGroup
	for _, name := range []string{"a", "own"} {
		all.Go(func() {
			for ctx.Err() == nil {
				err := w.host.Reload(ctx, name)
				if err != nil && !errors.Is(err, errStopped) && ctx.Err() == nil && !errors.Is(err, ErrUnknown) {
					t.Errorf("reload of %s: %v", name, err)
				}
			}
		})
	}
	all.Go(func() {
		for ctx.Err() == nil {
			for _, st := range w.host.Status() {
				if st.PID == os.Getpid() {
					t.Error("impossible")
				}
			}
		}
	})
	for i := range 6 {
		list := []Instance{shared("a"), shared("b", "SLOW", fmt.Sprintf("%dms", i)), using("sharing", "own", "SLOW", fmt.Sprintf("%dms", i))}
		if i%2 == 0 {
			list = append(list, shared("c"))
		}
		changes := w.apply(list...)
		require.Empty(t, changes.Failed)
	}
	w.once("own", batch(1, 1, `{}`))
	require.NoError(t, w.host.Stop(context.Background()))
	cancel()
	all.Wait()
	require.Empty(t, w.processes())
	_, problems := w.host.Apply(t.Context(), nil)
	require.Contains(t, reasons(problems), errStopped.Error())
}

func TestApplyComesAfterStart(t *testing.T) {
	w := newWorld(t)
	_, problems := w.host.Apply(t.Context(), nil)
	require.Contains(t, reasons(problems), "was not started")
}

// processes are the ids of all processes that run out of the host's folder.
func (w *world) processes() []string {
	w.t.Helper()
	var pids []string
	exes, _ := filepath.Glob("/proc/[0-9]*/exe")
	for _, exe := range exes {
		if to, err := os.Readlink(exe); err == nil && strings.HasPrefix(to, w.opts.RunDir) {
			pids = append(pids, filepath.Base(filepath.Dir(exe)))
		}
	}
	return pids
}

func TestTheHooksSeeEachStartAndEachCall(t *testing.T) {
	var mu sync.Mutex
	var verified []Binary
	var wrapped []string
	refuse := false
	w := newWorld(t, func(o *Options) {
		o.Verify = func(_ context.Context, b Binary) (Trust, error) {
			mu.Lock()
			defer mu.Unlock()
			verified = append(verified, b)
			if refuse {
				return "", errors.New("nobody has signed it")
			}
			return "locked", nil
		}
		o.Wrap = func(instance string, log hclog.Logger, schema json.RawMessage, c protocol.Client) protocol.Client {
			mu.Lock()
			defer mu.Unlock()
			wrapped = append(wrapped, instance+" "+fmt.Sprint(strings.Contains(string(schema), `"share"`), log != nil))
			return c
		}
	})
	path := w.install("flaky", "acme")
	w.start(acme("acme"))
	st := w.awaitState("acme", StateRunning)
	require.Equal(t, Trust("locked"), st.Trust)
	mu.Lock()
	require.Equal(t, []string{"acme true true"}, wrapped)
	require.Len(t, verified, 1)
	require.Equal(t, path, verified[0].Source)
	require.Equal(t, st.SHA256, verified[0].SHA256)
	require.Equal(t, sum(t, verified[0].Path), verified[0].SHA256)
	refuse = true
	mu.Unlock()

	require.ErrorContains(t, w.host.Reload(t.Context(), "acme"), "nobody has signed it")
	require.Equal(t, st.PID, w.pid("acme"))
	require.Contains(t, w.status("acme").LastError, "nobody has signed it")
}

func TestStartingFiftyInstancesIsQuick(t *testing.T) {
	w := newWorld(t)
	w.install("null")
	var list []Instance
	for i := range 50 {
		list = append(list, using("null", fmt.Sprintf("i%d", i), "COUNT_FILE", filepath.Join(t.TempDir(), "count")))
	}
	began := time.Now()
	w.start(list...)
	for _, in := range list {
		w.awaitState(in.Name, StateRunning)
	}
	t.Logf("50 instances run after %s", time.Since(began))
	require.Less(t, time.Since(began), patience)
	copies, err := filepath.Glob(filepath.Join(w.opts.RunDir, "run-*", "bin", "*", "*"))
	require.NoError(t, err)
	require.Len(t, copies, 1, "one copy of one binary")
}
