package e2e

import (
	"context"
	"math/rand/v2"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/rivergate/rivergate/host/e2e/rig"
)

// moment is a short random time, so that a kill falls anywhere in the work.
func moment(t *testing.T) {
	t.Helper()
	require.NoError(t, rig.Pause(t.Context(), rand.N(80*time.Millisecond)))
}

func TestRowsSurviveTwentyKillNineOfTheHostUnderLoad(t *testing.T) {
	w := newWorld(t, nil).withFile("file")
	w.start()
	l := startLoad(t, w.host.URL, loadOptions{clients: 8, rows: 10})
	for range 20 {
		l.reaches(t, 500, 20*time.Second)
		moment(t)
		w.host.Kill()
		w.start()
	}
	l.reaches(t, 500, 20*time.Second)
	l.stop()
	w.caughtUp(60*time.Second, "file")
	dead := w.deadLetters("file")
	require.Empty(t, dead, "a destination that is well rejects nothing")
	l.settle(t, "file", arrivals(t, w.out("file")), dead)
}

func TestRowsSurviveKillNineOfPluginsAtRandom(t *testing.T) {
	// Three instances: a process that dies often is restarted with growing patience, and the kills are to fall on the work.
	names := []string{"file", "second", "third"}
	w := newWorld(t, nil)
	for _, n := range names {
		w.withFile(n)
	}
	w.start()
	l := startLoad(t, w.host.URL, loadOptions{clients: 6, rows: 10})
	for range 12 {
		l.reaches(t, 300, 20*time.Second)
		moment(t)
		victim := names[rand.IntN(len(names))]
		pid := w.runningPID(victim)
		require.NoError(t, syscall.Kill(pid, syscall.SIGKILL))
	}
	l.reaches(t, 300, 20*time.Second)
	l.stop()
	w.caughtUp(90*time.Second, names...)
	for _, n := range names {
		dead := w.deadLetters(n)
		require.Empty(t, dead, "a process killed from outside costs no rows")
		l.settle(t, n, arrivals(t, w.out(n)), dead)
	}
}

// runningPID waits until the plugin has a process, and returns it.
func (w *world) runningPID(name string) (pid int) {
	w.t.Helper()
	eventually(w.t, 60*time.Second, "a running process of "+name, func(ctx context.Context) bool {
		var err error
		if pid, err = w.host.PluginPID(ctx, name); err != nil {
			return false
		}
		_, err = rig.Identify(pid)
		return err == nil
	})
	return pid
}

func TestHostAndPluginsKilledTogetherLoseNothing(t *testing.T) {
	w := newWorld(t, nil).withFile("file")
	w.start()
	l := startLoad(t, w.host.URL, loadOptions{clients: 4, rows: 25})
	for range 4 {
		l.reaches(t, 1000, 20*time.Second)
		pid := w.runningPID("file")
		moment(t)
		_ = syscall.Kill(pid, syscall.SIGKILL) // may be gone by itself
		w.host.KillGroup()
		w.start()
	}
	l.stop()
	w.caughtUp(60*time.Second, "file")
	l.settle(t, "file", arrivals(t, w.out("file")), nil)
}

func TestAKilledHostLeavesNoProcessAndNoSocket(t *testing.T) {
	w := newWorld(t, nil).withFile("file").withFile("second")
	w.start()
	l := startLoad(t, w.host.URL, loadOptions{clients: 2, rows: 10})
	for range 3 {
		l.reaches(t, 200, 20*time.Second)
		children, err := rig.Descendants(w.host.PID)
		require.NoError(t, err)
		require.GreaterOrEqual(t, len(children), 2, "both pushers run as processes, and the storage as soon as it is asked for")
		w.host.Kill()
		for _, c := range children {
			eventually(t, 5*time.Second, "the end of a plugin whose host was killed",
				func(context.Context) bool { return !c.Alive() })
		}
		w.start()
		w.runningPID("file")
		w.runningPID("second")
		w.runningPID("storage-local")
		sockets := w.sockets()
		require.LessOrEqual(t, len(sockets), 3, "sockets of processes that are gone: %v", sockets)
	}
	l.stop()
	w.stop()
	require.Empty(t, w.sockets(), "after a stop in good order")
}

// sockets lists every unix socket in the folders that the host and its plugins may use.
func (w *world) sockets() []string {
	w.t.Helper()
	found, err := rig.Sockets(w.dir)
	require.NoError(w.t, err)
	return found
}

func TestSIGTERMUnderLoadEndsWithZeroAndLosesNothing(t *testing.T) {
	w := newWorld(t, nil).withFile("file")
	w.start()
	l := startLoad(t, w.host.URL, loadOptions{clients: 8, rows: 10})
	for range 3 {
		l.reaches(t, 500, 20*time.Second)
		children, err := rig.Descendants(w.host.PID)
		require.NoError(t, err)
		w.stop()
		for _, c := range children {
			require.False(t, c.Alive(), "process %d outlives its host", c.PID)
		}
		w.start()
	}
	l.reaches(t, 100, 20*time.Second)
	l.stop()
	w.caughtUp(60*time.Second, "file")
	l.settle(t, "file", arrivals(t, w.out("file")), nil)
}
