package pluginhost

import (
	"context"
	"encoding/json"
	"fmt"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/hashicorp/go-hclog"
	"github.com/stretchr/testify/require"

	"github.com/rivergate/rivergate/sdk/protocol"
)

func fmtInt(n int) string { return strconv.Itoa(n) }

// opens counts the lines that say that an instance was opened.
func opens(all []string, instance string) int {
	n := 0
	for _, line := range all {
		if strings.HasSuffix(line, " "+instance+" open") {
			n++
		}
	}
	return n
}

func TestInstancesThatShareStartOneProcess(t *testing.T) {
	w := newWorld(t)
	w.install("sharing")
	out := filepath.Join(t.TempDir(), "rows")
	w.start(shared("a", "PATH", out), shared("b", "PATH", out), shared("c", "PATH", out), using("sharing", "own", "PATH", out))
	pid := w.pid("a")
	require.Equal(t, []int{pid, pid}, []int{w.pid("b"), w.pid("c")})
	require.NotEqual(t, pid, w.pid("own"))
	require.Len(t, w.processes(), 2)
	require.Equal(t, []string{"b", "c"}, w.status("a").SharedWith)
	require.Empty(t, w.status("own").SharedWith)
	a, b := w.open("a"), w.open("b")
	deliver(t, a, batch(1, 1, `{}`))
	deliver(t, b, batch(1, 2, `{}`))
	all := lines(t, out, 6)
	require.Contains(t, all, fmt.Sprintf("%d a 1 {}", pid))
	require.Contains(t, all, fmt.Sprintf("%d b 2 {}", pid))

	// Another limit, binary, pin or environment is another process.
	other := shared("d")
	other.Limits.OpenFiles = 64
	pinned := shared("e")
	pinned.SHA256 = w.status("a").SHA256
	changes := w.apply(shared("a", "PATH", out), shared("b", "PATH", out), shared("c", "PATH", out), other, pinned)
	require.Equal(t, []string{"d", "e"}, changes.Started)
	require.Equal(t, []string{"own"}, changes.Stopped)
	require.NotEqual(t, pid, w.pid("d"))
	require.NotEqual(t, pid, w.pid("e"))
	require.Equal(t, pid, w.pid("a"))
}

func TestACrashOfASharedProcessRestartsAllOfItsInstances(t *testing.T) {
	w := newWorld(t)
	w.fast()
	w.install("sharing")
	w.start(shared("a"), shared("b"))
	pid := w.pid("a")
	a, b := w.open("a"), w.open("b")
	require.NoError(t, a.Send(batch(1, 1, `{"crash":true}`)))
	_, err := b.Recv()
	require.Error(t, err)
	how, crashed := b.Crashed()
	require.True(t, crashed)
	require.Contains(t, how, "panic: crash")
	a.Close()
	b.Close()
	for _, name := range []string{"a", "b"} {
		st := w.await(name, func(s Status) bool { return s.State == StateRunning && s.Restarts == 1 })
		require.Contains(t, st.LastError, "panic: crash")
		w.once(name, batch(1, 1, `{}`))
	}
	require.NotEqual(t, pid, w.pid("a"))
	require.Equal(t, w.pid("a"), w.pid("b"))
}

func TestOneOfSeveralSharedInstancesComesGoesAndChangesAlone(t *testing.T) {
	w := newWorld(t)
	w.install("sharing")
	out := filepath.Join(t.TempDir(), "rows")
	w.start(shared("a", "PATH", out), shared("b", "PATH", out))
	pid := w.pid("a")
	a, b := w.open("a"), w.open("b")
	deliver(t, a, batch(1, 1, `{}`))
	require.NoError(t, b.Send(batch(1, 2, `{}`)))
	ended := drainInBackground(b)

	changes := w.apply(shared("a", "PATH", out), shared("b", "PATH", out, "SLOW", "1ms"), shared("c", "PATH", out))
	require.Equal(t, Changes{Started: []string{"c"}, Replaced: []string{"b"}, Unchanged: []string{"a"}, Failed: map[string]string{}}, changes)
	require.NoError(t, <-ended, "the stream of the changed instance ended in good order")
	deliver(t, a, batch(2, 3, `{}`)) // that of the other goes on
	w.once("b", batch(1, 4, `{}`))
	w.once("c", batch(1, 5, `{}`))
	all := lines(t, out, 10)
	require.Equal(t, []int{1, 2, 1}, []int{opens(all, "a"), opens(all, "b"), opens(all, "c")})
	require.Equal(t, []int{pid, pid, pid}, []int{w.pid("a"), w.pid("b"), w.pid("c")})

	changes = w.apply(shared("a", "PATH", out), shared("c", "PATH", out))
	require.Equal(t, []string{"b"}, changes.Stopped)
	deliver(t, a, batch(3, 6, `{}`))
	require.Equal(t, []string{"c"}, w.status("a").SharedWith)
	require.True(t, slices.Contains(lines(t, out, 12), fmt.Sprintf("%d b close", pid)), "the removed instance was drained")

	// One moves out, into a process of its own, and back again.
	own := using("sharing", "a", "PATH", out)
	deliveredEnd := drainInBackground(a)
	require.Equal(t, []string{"a"}, w.apply(own, shared("c", "PATH", out)).Replaced)
	require.NoError(t, <-deliveredEnd)
	require.NotEqual(t, pid, w.pid("a"))
	require.Equal(t, pid, w.pid("c"))
	w.once("a", batch(1, 7, `{}`))
	require.Equal(t, []string{"a"}, w.apply(shared("a", "PATH", out), shared("c", "PATH", out)).Replaced)
	require.Equal(t, pid, w.pid("a"))
	eventually(t, patience, "one process is left", func() bool { return len(w.processes()) == 1 })
	w.apply()
	require.Empty(t, w.host.Status())
	eventually(t, patience, "the last one ends the process", func() bool { return len(w.processes()) == 0 })
}

// lateDrain is a connection on which the call Drain takes its time to arrive.
type lateDrain struct{ protocol.Client }

func (l lateDrain) Drain(ctx context.Context, instance string) error {
	<-time.After(300 * time.Millisecond)
	return l.Client.Drain(ctx, instance)
}

func TestAnInstanceThatComesBackToASharedProcessIsNotDrainedThere(t *testing.T) {
	w := newWorld(t, func(o *Options) {
		o.Wrap = func(_ string, _ hclog.Logger, _ json.RawMessage, c protocol.Client) protocol.Client {
			return lateDrain{c}
		}
	})
	w.install("sharing")
	w.start(shared("a"), shared("b"))
	pid := w.pid("b")
	require.Empty(t, w.apply(using("sharing", "a"), shared("b")).Failed)
	require.Empty(t, w.apply(shared("a"), shared("b")).Failed)
	require.Equal(t, pid, w.pid("a"))
	w.host.ending.Wait()
	m, err := w.host.lookup(t.Context(), "a")
	require.NoError(t, err)
	require.NoError(t, m.seat().plugin.Health(t.Context(), "a"), "the process still has the instance")
}

func TestASharedInstanceThatRefusesAChangeGetsItsFormerConfigurationBack(t *testing.T) {
	w := newWorld(t)
	w.install("sharing")
	out := filepath.Join(t.TempDir(), "rows")
	w.start(shared("a", "PATH", out), shared("b", "PATH", out))
	pid := w.pid("a")
	for _, bad := range []string{"REFUSE", "UNWELL"} {
		changes := w.apply(shared("a", "PATH", out, bad, "true"), shared("b", "PATH", out))
		require.Contains(t, changes.Failed["a"], "by configuration")
		require.Empty(t, w.status("a").Condition)
		w.once("a", batch(1, 1, `{}`))
		require.Equal(t, pid, w.pid("a"))
	}
	_, problems := w.host.Apply(t.Context(), []Instance{shared("a", "PAT", out), shared("b", "PATH", out), shared("new", "SLO", "1s")})
	require.Equal(t, []string{"PLUGIN_A_PAT", "PLUGIN_NEW_SLO"}, []string{problems[0].Variable, problems[1].Variable})
	require.Len(t, w.host.Status(), 2)
}

func TestOneOfSeveralSharedInstancesThatFailsIsTriedAgainAlone(t *testing.T) {
	w := newWorld(t)
	w.fast()
	w.install("sharing")
	folder := filepath.Join(t.TempDir(), "late")
	w.start(shared("a"), shared("b", "PATH", filepath.Join(folder, "rows")))
	pid := w.pid("a")
	w.awaitState("b", StateFailed)
	require.Contains(t, w.status("b").Reason, "PLUGIN_B_PATH")
	w.once("a", batch(1, 1, `{}`))
	mkdir(t, folder)
	w.once("b", batch(1, 1, `{}`))
	require.Equal(t, pid, w.pid("a"))
	require.Equal(t, pid, w.pid("b"))
}

func TestAReloadOfOneReloadsTheProcessForAllThatShareIt(t *testing.T) {
	w := newWorld(t)
	w.install("sharing")
	w.start(shared("a"), shared("b"))
	pid := w.pid("a")
	w.installAgain("sharing", "sharing")
	require.NoError(t, w.host.Reload(t.Context(), "b"))
	require.NotEqual(t, pid, w.pid("a"))
	require.Equal(t, w.pid("a"), w.pid("b"))
	w.once("a", batch(1, 1, `{}`))

	w.install("flaky", "sharing") // cannot serve several
	require.ErrorContains(t, w.host.Reload(t.Context(), "a"), "a, b share one process")
	w.once("b", batch(1, 1, `{}`))
}

func TestAPluginThatCannotServeSeveralInstancesGetsAProcessForEach(t *testing.T) {
	w := newWorld(t)
	w.install("flaky")
	both := func(vars ...string) []Instance {
		one, two := using("flaky", "one", vars...), using("flaky", "two", vars...)
		one.Shared, two.Shared = true, true
		return []Instance{one, two}
	}
	w.start(both()...)
	require.NotEqual(t, w.pid("one"), w.pid("two"))
	w.log.await(t, "PLUGIN_TWO_PROCESS=shared has no effect")
	require.Empty(t, w.status("one").SharedWith)
	w.once("two", batch(1, 1, `{}`))

	first := []int{w.pid("one"), w.pid("two")}
	require.Equal(t, []string{"one", "two"}, w.apply(both("SHARE", "0")...).Replaced)
	require.NotEqual(t, w.pid("one"), w.pid("two"))
	require.NotContains(t, first, w.pid("one"))
	require.NoError(t, w.host.Reload(t.Context(), "one"))
	_, problems := w.host.Apply(t.Context(), both("SHAR", "0"))
	require.Len(t, problems, 2)
	eventually(t, patience, "two processes are left", func() bool { return len(w.processes()) == 2 })
}

func TestASharedProcessThatIsSilentIsKilledForAll(t *testing.T) {
	w := newWorld(t)
	w.fast(impatient)
	w.install("sharing")
	w.start(shared("a"), shared("b"))
	pid := w.pid("a")
	stopProcess(t, pid)
	for _, name := range []string{"a", "b"} {
		st := w.await(name, func(s Status) bool { return s.State == StateRunning && s.Restarts > 0 })
		require.Contains(t, st.LastError, "health checks in a row were not answered")
	}
	require.False(t, alive(pid))
}

func TestASharedInstanceThatIsUnwellIsShownAlone(t *testing.T) {
	w := newWorld(t)
	w.fast()
	w.install("sharing")
	w.start(shared("a"), shared("b", "UNWELL", "true"))
	st := w.await("b", func(s Status) bool { return s.Condition == ConditionUnhealthy })
	require.Equal(t, "not healthy: unwell by configuration", st.Reason)
	require.Empty(t, w.status("a").Condition)
	require.Equal(t, st.PID, w.pid("a"))
	require.Less(t, time.Since(st.StartedAt), patience)
}

func TestANewInstanceThatStartsTogetherWithAChangedOneIsNotShownAsUpgrading(t *testing.T) {
	w := newWorld(t)
	w.install("sharing")
	w.start(using("sharing", "a"))
	changes := w.apply(shared("a"), shared("b"))
	require.Empty(t, changes.Failed)
	require.Equal(t, w.pid("a"), w.pid("b"))
	require.Empty(t, w.status("a").Phase)
	require.Empty(t, w.status("b").Phase)
}

func TestTwoInstancesCanSwapTheirSharedProcesses(t *testing.T) {
	w := newWorld(t)
	w.install("sharing")
	limited := func(name string, files int) Instance {
		in := shared(name)
		in.Limits.OpenFiles = files
		return in
	}
	w.start(limited("a", 64), limited("b", 128))
	pids := []int{w.pid("a"), w.pid("b")}
	m, err := w.host.lookup(t.Context(), "a")
	require.NoError(t, err)
	home := m.supervisor()
	home.work.Lock() // b is late at the process of a, which must not be ended meanwhile
	time.AfterFunc(200*time.Millisecond, home.work.Unlock)
	require.Empty(t, w.apply(limited("a", 128), limited("b", 64)).Failed)
	require.Equal(t, []int{pids[1], pids[0]}, []int{w.pid("a"), w.pid("b")})
	w.once("a", batch(1, 1, `{}`))
	w.once("b", batch(1, 1, `{}`))
}

// heldLog tells whether the supervisor's tenants could change when an instance was said to have failed.
type heldLog struct {
	home        atomic.Pointer[supervisor]
	held, loose atomic.Int64
}

func (l *heldLog) Write(line []byte) (int, error) {
	if home := l.home.Load(); home != nil && strings.Contains(string(line), "plugin cannot be started") {
		if home.work.TryLock() {
			home.work.Unlock()
			l.loose.Add(1)
		} else {
			l.held.Add(1)
		}
	}
	return len(line), nil
}

func TestAnInstanceIsSaidToHaveFailedBeforeItMaySitInTheNextProcess(t *testing.T) {
	said := &heldLog{}
	w := newWorld(t, func(o *Options) { o.Log = hclog.New(&hclog.LoggerOptions{Output: said}) })
	w.fast()
	w.install("sharing")
	w.start(shared("a"), shared("b", "PATH", filepath.Join(t.TempDir(), "missing", "rows")))
	m, err := w.host.lookup(t.Context(), "b")
	require.NoError(t, err)
	said.home.Store(m.supervisor())
	eventually(t, patience, "b was tried again", func() bool { return said.held.Load()+said.loose.Load() >= 3 })
	require.Zero(t, said.loose.Load())
}
