package pluginhost

import (
	"context"
	"fmt"
	"math"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/rivergate/rivergate/services/gateway/delivery"
)

// hungry is an instance of the plugin that takes what it is told to take.
func hungry(l Limits, runAs string) Instance {
	in := acme("hungry")
	in.Limits, in.RunAs = l, runAs
	return in
}

// watching is a world whose host cannot use cgroups, whatever this machine has.
func watching(t testing.TB, change ...func(*Options)) *world {
	t.Helper()
	w := newWorld(t, change...)
	w.host.limits.files = noCgroups{w.host.limits.files}
	return w
}

// noCgroups is a machine without a cgroup v2 tree.
type noCgroups struct{ cgroupFS }

func (n noCgroups) Read(path string) (string, error) {
	if path == "/proc/self/mountinfo" {
		return "", nil
	}
	return n.cgroupFS.Read(path)
}

// tell sends one wish and returns what became of it.
func tell(t testing.TB, s delivery.Session, seq uint64, wish string) string {
	t.Helper()
	ack := deliver(t, s, batch(seq, seq, wish))
	require.Len(t, ack.Outcomes, 1)
	return ack.Outcomes[0].Message
}

// wishFatally sends a wish that ends the plugin, and returns how it ended.
func wishFatally(t testing.TB, s delivery.Session, seq uint64, wish string) string {
	t.Helper()
	require.NoError(t, s.Send(batch(seq, seq, wish)))
	late := time.AfterFunc(patience, s.Close)
	defer late.Stop()
	// The answer may come before the end.
	for {
		if _, err := s.Recv(); err != nil {
			break
		}
	}
	how, crashed := s.Crashed()
	require.True(t, crashed, "rows in flight are suspected, as after any crash: %s", how)
	return how
}

var overLimit = regexp.MustCompile(`^killed: over its memory limit: (\d+) MiB resident, PLUGIN_HUNGRY_MEMORY_MAX is 96 MiB$`)

func TestAPluginOverItsMemoryLimitIsKilledShownAndStartedAgain(t *testing.T) {
	for name, wish := range map[string]string{
		"its own memory":      `{"do":"eat","mib":300}`,
		"of what it started":  `{"do":"child","mib":300}`,
		"shared with a child": `{"do":"share","mib":300}`,
	} {
		t.Run(name, func(t *testing.T) {
			w := watching(t)
			w.install("hungry")
			w.start(hungry(Limits{MemoryMax: 96 * mebibyte}, ""))
			st := w.awaitState("hungry", StateRunning)
			require.Equal(t, &LimitStatus{MemoryMax: 96 * mebibyte, By: byRlimits}, st.Limits)
			s := w.open("hungry")
			require.Equal(t, "eaten", tell(t, s, 1, `{"do":"eat","mib":8}`), "within its limit")

			how := wishFatally(t, s, 2, wish)
			require.Regexp(t, overLimit, how)
			after := w.await("hungry", func(s Status) bool { return s.State == StateRunning && s.Restarts == 1 })
			require.Equal(t, how, after.LastError)
			used, err := strconv.Atoi(overLimit.FindStringSubmatch(how)[1])
			require.NoError(t, err)
			require.Greater(t, used, 96)
			require.False(t, alive(st.PID))
			require.Equal(t, "eaten", tell(t, w.open("hungry"), 1, `{"do":"eat","mib":1}`), "the instance works on")
		})
	}
}

func TestAPluginThatGrowsFasterThanAnybodyLooksHitsAWall(t *testing.T) {
	w := watching(t)
	w.install("hungry")
	w.start(hungry(Limits{MemoryMax: 96 * mebibyte}, ""))
	// The wall is at 1408 MiB: 4000 are never had, whoever is first, the kernel or the watch.
	how := wishFatally(t, w.open("hungry"), 1, `{"do":"eat","mib":4000}`)
	if !overLimit.MatchString(how) {
		require.Contains(t, how, "it cannot have more than 1408 MiB, since PLUGIN_HUNGRY_MEMORY_MAX is 96 MiB")
	}
}

func TestSharedMemoryCountsOnce(t *testing.T) {
	w := watching(t)
	w.install("hungry")
	w.start(hungry(Limits{MemoryMax: 96 * mebibyte}, ""))
	pid := w.pid("hungry")
	require.Equal(t, "shared", tell(t, w.open("hungry"), 1, `{"do":"share","mib":60}`))

	watch := w.host.limits.watch
	groups := watch.groups()
	require.Len(t, groups[pid], 1, "the child is found by its process group")
	used := watch.measure(pid, groups[pid])
	require.Greater(t, used, int64(60*mebibyte))
	require.Less(t, used, int64(96*mebibyte), "60 MiB that two processes share are no 120")
	exact, ok := watch.proportional(pid, groups[pid])
	require.True(t, ok)
	require.InDelta(t, used, exact, 20*mebibyte)
	require.True(t, watch.look(groups), "near its limit: it is looked at more often")
	require.Equal(t, pid, w.pid("hungry"))
	require.Zero(t, w.status("hungry").Restarts)
}

func TestOnlyLimitedProcessesAreWatched(t *testing.T) {
	w := watching(t)
	w.install("hungry")
	unlimited := acme("free")
	unlimited.Plugin = "hungry"
	w.start(hungry(Limits{MemoryMax: 96 * mebibyte}, ""), unlimited)
	w.awaitState("hungry", StateRunning)
	w.awaitState("free", StateRunning)
	looking := func() (int, bool) {
		w.host.limits.watch.mu.Lock()
		defer w.host.limits.watch.mu.Unlock()
		return len(w.host.limits.watch.watched), w.host.limits.watch.quit != nil
	}
	n, running := looking()
	require.Equal(t, 1, n)
	require.True(t, running)
	require.Nil(t, w.status("free").Limits)
	require.NoError(t, w.host.Stop(context.Background()))
	n, running = looking()
	require.Zero(t, n)
	require.False(t, running)
}

func TestAPluginOpensNoMoreFilesThanItMay(t *testing.T) {
	w := newWorld(t)
	w.install("hungry")
	w.start(hungry(Limits{OpenFiles: 64}, ""))
	require.Equal(t, &LimitStatus{OpenFiles: 64, By: byRlimits}, w.awaitState("hungry", StateRunning).Limits)
	s := w.open("hungry")
	require.Contains(t, tell(t, s, 1, `{"do":"who"}`), "nofile=64 ")
	require.Equal(t, "opened", tell(t, s, 2, `{"do":"open","files":20}`))
	require.Contains(t, tell(t, s, 3, `{"do":"open","files":64}`), "too many open files")
	require.Equal(t, StateRunning, w.status("hungry").State)
}

func TestAProcessorLimitThatCannotBeKeptIsTold(t *testing.T) {
	tree, why := openCgroups(kernelFS{})
	if why == nil {
		tree.close()
		t.Skip("cgroup v2 can be used here")
	}
	w := newWorld(t)
	w.install("hungry")
	w.start(hungry(Limits{CPUMax: 0.5}, ""))
	st := w.awaitState("hungry", StateRunning)
	require.Equal(t, []string{"CPU_MAX (needs cgroup v2: " + why.Error() + ")"}, st.Limits.NotEnforced)
	killNine(t, st.PID)
	w.await("hungry", func(s Status) bool { return s.State == StateRunning && s.Restarts == 1 })
	const said = "a limit cannot be enforced on this machine"
	require.Equal(t, 1, strings.Count(w.log.text(), said), "said once, not at each start")
}

func TestLimitsThatNoPluginCouldLiveWithAreRefused(t *testing.T) {
	for _, c := range []struct {
		limits Limits
		want   string
	}{
		{Limits{MemoryMax: 16*mebibyte - 1}, "PLUGIN_HUNGRY_MEMORY_MAX must be at least 16MiB"},
		{Limits{MemoryMax: -1}, "PLUGIN_HUNGRY_MEMORY_MAX must be at least 16MiB"},
		{Limits{CPUMax: 0.009}, "PLUGIN_HUNGRY_CPU_MAX must be at least 0.01"},
		{Limits{CPUMax: math.NaN()}, "PLUGIN_HUNGRY_CPU_MAX must be at least 0.01"},
		{Limits{OpenFiles: 31}, "PLUGIN_HUNGRY_OPEN_FILES must be at least 32"},
		{Limits{OpenFiles: -1}, "PLUGIN_HUNGRY_OPEN_FILES must be at least 32"},
	} {
		problems := hungry(c.limits, "").withDefaults().check()
		require.Len(t, problems, 1, c.want)
		require.Contains(t, reasons(problems), c.want)
	}
	require.Empty(t, hungry(Limits{MemoryMax: 16 * mebibyte, CPUMax: 0.01, OpenFiles: 32}, "").withDefaults().check())
}

func TestTheMemoryOfAGroupIsReadFromProc(t *testing.T) {
	proc := fakeProc{t, t.TempDir()}
	proc.process(10, 10, "RssAnon:\t 100 kB\nRssFile:\t 9000 kB\nRssShmem:\t 40 kB\nVmSwap:\t 8 kB\n")
	proc.process(11, 10, "RssAnon:\t 200 kB\nRssShmem:\t 30 kB\n")
	proc.process(12, 10, "RssAnon:\t 1 kB\n")
	proc.process(20, 20, "RssAnon:\t 5000 kB\n")
	w := newMemoryWatch()
	w.proc = proc.dir
	w.watched[&process{pid: 10}] = 1
	groups := w.groups()
	require.Equal(t, map[int][]int{10: {11, 12}}, groups)
	require.Equal(t, int64(100+8+200+1+40)<<10, w.measure(10, groups[10]))
	require.Equal(t, int64(100+8+40)<<10, w.measure(10, []int{20, 99}), "neither one of another group nor one that is gone counts")
	_, ok := w.proportional(10, nil)
	require.False(t, ok, "no smaps_rollup: the sum has to do")
}

// fakeProc is a /proc with what the watch reads of it.
type fakeProc struct {
	t   *testing.T
	dir string
}

func (p fakeProc) process(pid, group int, status string) {
	p.t.Helper()
	dir := fmt.Sprintf("%s/%d", p.dir, pid)
	writeFiles(p.t, dir, map[string]string{"stat": fmt.Sprintf("%d (odd) name) S 1 %d 0 0", pid, group), "status": status})
}
