package pluginhost

import (
	"context"
	"io/fs"
	"os"
	"path/filepath"
	"reflect"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// held is what a host holds of the machine.
type held struct {
	goroutines, descriptors, children int
	files                             []string // without the numbers in their names
}

func holding(t *testing.T, w *world) held {
	t.Helper()
	h := held{goroutines: runtime.NumGoroutine(), children: len(children())}
	open, err := os.ReadDir("/proc/self/fd")
	require.NoError(t, err)
	h.descriptors = len(open)
	_ = filepath.WalkDir(w.opts.RunDir, func(path string, d fs.DirEntry, err error) error {
		if err == nil && !d.IsDir() {
			h.files = append(h.files, strings.TrimRight(filepath.Base(path), "0123456789"))
		}
		return nil // folders come and go while it looks
	})
	slices.Sort(h.files)
	return h
}

// children are the processes that this one has started, those that ended and were not reaped among them.
func children() []int {
	entries, _ := os.ReadDir("/proc")
	var pids []int
	for _, e := range entries {
		pid, err := strconv.Atoi(e.Name())
		if err != nil {
			continue
		}
		stat, err := os.ReadFile(filepath.Join("/proc", e.Name(), "stat"))
		if err != nil {
			continue
		}
		fields := strings.Fields(string(stat[strings.LastIndexByte(string(stat), ')')+1:]))
		if len(fields) > 1 && fields[1] == strconv.Itoa(os.Getpid()) {
			pids = append(pids, pid)
		}
	}
	return pids
}

func TestAHundredStartsCrashesReloadsAndStopsLeaveNothing(t *testing.T) {
	w := newWorld(t, passable(t))
	w.host.pace.healthyAfter = 0 // each crash is the first: no pauses
	w.install("flaky", "crasher")
	w.install("hungry")
	crasher := acme("crasher", "SHARE", "0")
	limited := hungry(Limits{MemoryMax: 512 * mebibyte, OpenFiles: 128}, "")
	if os.Geteuid() == 0 {
		limited.RunAs = "nobody"
	}
	w.start(crasher, limited)

	round := func() {
		t.Helper()
		ctx, cancel := context.WithTimeout(t.Context(), patience)
		defer cancel()
		st := w.awaitState("crasher", StateRunning)
		s := w.open("crasher")
		deliver(t, s, batch(1, 1, `{}`))
		killNine(t, st.PID)
		_, err := s.Recv()
		require.Error(t, err)
		s.Close()
		st = w.await("crasher", func(n Status) bool { return n.State == StateRunning && n.PID != st.PID })
		require.NoError(t, w.host.Reload(ctx, "crasher"))
		require.NotEqual(t, st.PID, w.pid("crasher"))

		changes, problems := w.host.Apply(ctx, []Instance{crasher})
		require.Empty(t, problems)
		require.Equal(t, []string{"hungry"}, changes.Stopped)
		changes, problems = w.host.Apply(ctx, []Instance{crasher, limited})
		require.Empty(t, problems)
		require.Equal(t, []string{"hungry"}, changes.Started)
		w.awaitState("hungry", StateRunning)
	}
	for range 3 { // what is made once is made now
		round()
	}
	// Processes on their way out are waited for: what two looks find alike, and with two processes, is at rest.
	before := held{}
	eventually(t, patience, "all is at rest", func() bool {
		now := holding(t, w)
		same := now.children == 2 && reflect.DeepEqual(now, before)
		before = now
		return same
	})
	for range 33 { // of three starts, a crash and a reload each
		round()
	}
	after := held{}
	if !assert.Eventually(t, func() bool {
		after = holding(t, w)
		return after.goroutines <= before.goroutines && after.descriptors <= before.descriptors && after.children == 2 && slices.Equal(after.files, before.files)
	}, patience, 5*time.Millisecond) {
		require.Equal(t, before, after)
	}
	t.Logf("%+v", after)
	require.NoError(t, w.host.Stop(t.Context()))
	require.Empty(t, children())
	require.Empty(t, runDirs(t, w))
}
