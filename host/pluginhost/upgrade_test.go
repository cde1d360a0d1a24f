package pluginhost

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// installAgain replaces the binary by the same program with another hash.
func (w *world) installAgain(name, as string) {
	w.t.Helper()
	w.installBytes(append(readAll(w.t.(*testing.T), build(w.t, name)), "\n"...), as)
}

// reloading reloads in the background.
func (w *world) reloading(name string) <-chan error {
	done := make(chan error, 1)
	go func() { done <- w.host.Reload(w.t.Context(), name) }()
	return done
}

func TestABadNewVersionLeavesTheOldOneServingAndSaysWhy(t *testing.T) {
	foreign := append([]byte(nil), readAll(t, build(t, "sharing"))...)
	foreign[18], foreign[19] = 243, 0 // e_machine: RISC-V
	lie := func(lie string) func(*testing.T, *world) {
		return func(t *testing.T, w *world) {
			t.Setenv("LIE", lie)
			w.install("lying", "acme")
		}
	}
	for name, c := range map[string]struct {
		spoil   func(*testing.T, *world)
		timeout time.Duration
		want    string
	}{
		"no plugin": {func(t *testing.T, w *world) {
			t.Setenv("NOTAPLUGIN", "greet")
			w.install("notaplugin", "acme")
		}, 0, "ended before its handshake"},
		"gone":            {func(t *testing.T, w *world) { require.NoError(t, os.Remove(w.binary("acme"))) }, 0, "there is no "},
		"world-writable":  {func(t *testing.T, w *world) { require.NoError(t, os.Chmod(w.binary("acme"), 0o777)) }, 0, "chmod o-w"},
		"not executable":  {func(t *testing.T, w *world) { require.NoError(t, os.Chmod(w.binary("acme"), 0o644)) }, 0, "chmod +x"},
		"wrong hash":      {func(_ *testing.T, w *world) { w.installAgain("sharing", "acme") }, 0, "is pinned"},
		"wrong processor": {func(_ *testing.T, w *world) { w.installBytes(foreign, "acme") }, 0, "built for riscv64"},
		"other variables": {func(_ *testing.T, w *world) { w.install("flaky", "acme") }, 0, "PLUGIN_ACME_SLOW"},
		"broken schema":   {lie("schema"), 0, "configuration schema is broken"},
		"unhealthy":       {lie("unwell"), 0, "I feel unwell"},
		"refuses":         {lie("refuses"), 0, "cannot be written"},
		"mute":            {lie("mute"), time.Second, "did not answer the call for its description in time"},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t, func(o *Options) {
				if c.timeout > 0 {
					o.StartTimeout = c.timeout
				}
			})
			w.install("sharing", "acme")
			in := acme("acme", "SLOW", "0s")
			in.PassEnv = []string{"LIE", "NOTAPLUGIN"}
			if name == "wrong hash" {
				in.SHA256 = sum(t, w.binary("acme"))
			}
			if strings.Contains("broken schema unhealthy refuses mute", name) {
				in.Vars = nil
			}
			w.start(in)
			s := w.open("acme")
			old := w.pid("acme")
			c.spoil(t, w)
			require.ErrorContains(t, w.host.Reload(t.Context(), "acme"), c.want)
			st := w.status("acme")
			require.Equal(t, old, st.PID)
			require.Equal(t, StateRunning, st.State)
			require.Contains(t, st.LastError, c.want)
			require.Empty(t, st.Phase)
			require.True(t, w.log.contains("plugin upgrade failed: it goes on as it was"))
			deliver(t, s, batch(1, 1, `{}`)) // its stream has not noticed
			eventually(t, patience, "nothing of the new one is left", func() bool { return len(w.processes()) == 1 })
		})
	}
}

// binary is the path of a plugin in the plugin folder.
func (w *world) binary(name string) string {
	return filepath.Join(w.opts.Dir, "rivergate-pusher-"+name)
}

func TestBatchesInFlightAreFinishedByTheOldProcessBeforeTheNewOneGetsAny(t *testing.T) {
	w := newWorld(t)
	w.install("sharing", "acme")
	out := filepath.Join(t.TempDir(), "rows")
	w.start(acme("acme", "PATH", out, "SLOW", "20ms"))
	old := w.awaitState("acme", StateRunning)
	s := w.open("acme")
	const inFlight = 8
	for seq := range uint64(inFlight) {
		require.NoError(t, s.Send(batch(seq+1, seq+1, `{}`)))
	}
	w.installAgain("sharing", "acme")
	reloaded := w.reloading("acme")
	ended := drainInBackground(s)
	again := w.open("acme") // at whichever is in charge
	if st := w.status("acme"); st.PID == old.PID {
		again.Close() // the new one was not ready yet
		require.NoError(t, <-reloaded)
		again = w.open("acme")
	} else {
		require.NoError(t, <-reloaded)
	}
	require.NoError(t, <-ended, "the old stream ended in good order, all acknowledged")
	deliver(t, again, batch(1, inFlight+1, `{}`))
	st := w.status("acme")
	require.NotEqual(t, old.PID, st.PID)
	require.Empty(t, st.Phase)
	require.True(t, w.log.contains("plugin upgraded"))
	require.True(t, w.log.contains("from_sha256="+old.SHA256))

	var rows []string
	for _, line := range lines(t, out, inFlight+3) {
		who, what, _ := strings.Cut(line, " acme ")
		if what != "open" && what != "close" {
			position, _, _ := strings.Cut(what, " ")
			rows = append(rows, position)
			require.Equal(t, position == "9", who != fmtInt(old.PID), "row %s", position)
		}
	}
	require.Equal(t, []string{"1", "2", "3", "4", "5", "6", "7", "8", "9"}, rows)
}

func TestAnOldProcessThatDiesDuringItsUpgradeIsReplacedAllTheSame(t *testing.T) {
	w := newWorld(t)
	w.install("sharing", "acme")
	w.start(acme("acme"))
	old := w.pid("acme")
	s := w.open("acme")
	reloaded := w.reloading("acme")
	<-s.Retired() // the new process is ready, and waits for the streams of the old one
	require.Equal(t, PhaseUpgrading, w.status("acme").Phase)
	killNine(t, old)
	_, err := s.Recv()
	require.Error(t, err)
	_, crashed := s.Crashed()
	require.False(t, crashed, "it was on its way out")
	s.Close()
	require.NoError(t, <-reloaded)
	w.once("acme", batch(1, 1, `{}`))
	st := w.status("acme")
	require.NotEqual(t, old, st.PID)
	require.Zero(t, st.Restarts)
	require.Len(t, w.processes(), 1)
}

func TestANewProcessThatDiesRightAfterItsUpgradeIsStartedAgain(t *testing.T) {
	w := newWorld(t)
	w.fast()
	w.install("sharing")
	w.start(using("sharing", "acme"))
	changes := w.apply(using("sharing", "acme", "DIE", "true"))
	require.Empty(t, changes.Failed)
	require.Contains(t, w.await("acme", func(s Status) bool { return s.Restarts >= 2 }).LastError, "exit status 9")
	w.apply(using("sharing", "acme"))
	w.once("acme", batch(1, 1, `{}`))
}

func TestTwoReloadsAtOnceTakeTurns(t *testing.T) {
	w := newWorld(t)
	w.install("sharing", "acme")
	w.start(acme("acme"))
	first := w.pid("acme")
	one, two, three := w.reloading("acme"), w.reloading("acme"), w.reloading("acme")
	require.NoError(t, <-one)
	require.NoError(t, <-two)
	require.NoError(t, <-three)
	require.NotEqual(t, first, w.pid("acme"))
	w.once("acme", batch(1, 1, `{}`))
	eventually(t, patience, "one process is left", func() bool { return len(w.processes()) == 1 })
}

func TestAReloadMendsAnInstanceThatCouldNotBeStarted(t *testing.T) {
	w := newWorld(t)
	w.fast(func(p *pace) { p.backoffMin, p.backoffMax = time.Hour, time.Hour }) // it comes back by the reload alone
	t.Setenv("NOTAPLUGIN", "fail")
	w.install("notaplugin", "acme")
	in := acme("acme")
	in.PassEnv = []string{"NOTAPLUGIN"}
	w.start(in)
	w.awaitState("acme", StateFailed)
	require.ErrorContains(t, w.host.Reload(t.Context(), "acme"), "exit status 4")
	require.Equal(t, StateFailed, w.status("acme").State)
	w.install("sharing", "acme")
	require.NoError(t, w.host.Reload(t.Context(), "acme"))
	w.once("acme", batch(1, 1, `{}`))
}

func TestANewProcessThatHangsAtItsConfigurationIsGivenUp(t *testing.T) {
	w := newWorld(t, func(o *Options) { o.StartTimeout = 2 * time.Second })
	w.install("sharing")
	w.start(using("sharing", "acme"))
	old := w.pid("acme")
	s := w.open("acme")
	changes := w.apply(using("sharing", "acme", "HANG", "true"))
	require.Contains(t, changes.Failed["acme"], "did not answer the call for its configuration in time")
	require.Equal(t, old, w.pid("acme"))
	deliver(t, s, batch(1, 1, `{}`))
	eventually(t, patience, "the new one is gone", func() bool { return len(w.processes()) == 1 })
}

func TestStopCutsAReloadShort(t *testing.T) {
	w := newWorld(t)
	w.install("sharing", "acme")
	in := acme("acme")
	in.PassEnv = []string{"NOTAPLUGIN"}
	w.start(in)
	t.Setenv("NOTAPLUGIN", "hang")
	w.install("notaplugin", "acme")
	reloaded := w.reloading("acme")
	w.await("acme", func(s Status) bool { return s.Phase == PhaseUpgrading })
	require.NoError(t, w.host.Stop(context.Background()))
	require.ErrorIs(t, <-reloaded, errStopped)
	require.ErrorIs(t, w.host.Reload(t.Context(), "acme"), errStopped)
	require.Empty(t, w.processes())
}

func TestAReloadWhoseCallerLeavesDuringTheStartChangesNothing(t *testing.T) {
	w := newWorld(t)
	w.install("sharing", "acme")
	in := acme("acme")
	in.PassEnv = []string{"NOTAPLUGIN"}
	w.start(in)
	old := w.pid("acme")
	t.Setenv("NOTAPLUGIN", "hang")
	w.install("notaplugin", "acme")
	ctx, cancel := context.WithCancel(t.Context())
	reloaded := make(chan error, 1)
	go func() { reloaded <- w.host.Reload(ctx, "acme") }()
	w.await("acme", func(s Status) bool { return s.Phase == PhaseUpgrading })
	cancel()
	require.ErrorIs(t, <-reloaded, context.Canceled)
	require.Equal(t, old, w.pid("acme"))
	eventually(t, patience, "the new one is gone", func() bool { return len(w.processes()) == 1 })
}

func TestAReloadThatWaitedWhileItsInstanceWasRemovedStartsNothing(t *testing.T) {
	w := newWorld(t)
	w.install("sharing", "acme")
	w.start(acme("acme"))
	m, err := w.host.lookup(t.Context(), "acme")
	require.NoError(t, err)
	w.apply()
	for range 20 {
		require.ErrorIs(t, w.host.reload(t.Context(), m), ErrUnknown)
	}
	require.Empty(t, w.processes())
}
