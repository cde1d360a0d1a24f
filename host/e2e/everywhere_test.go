package e2e

import (
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/rivergate/rivergate/host/e2e/rig"
)

// everywhereRows is the size of the one ledger that goes to every destination.
const everywhereRows = 100_000

// place is one destination of the ledger: the pusher that goes there, and how to see what arrived.
type place struct {
	pusher  string
	env     map[string]string // beside ENABLED, without the prefix of the pusher
	service string            // the real server behind it, by its name in deploy/services; empty: none
	gentle  bool              // the server is ended by SIGTERM: it does not promise to keep what it took through SIGKILL
	last    bool              // its README keeps the order of the last copies of rows, not of the first
	exact   bool              // the pusher's README promises each row once
	arrived func(t *testing.T) []delivery
}

// places are all destinations. The servers are those that deploy/services started for the tests.
func places(t *testing.T, w *world) []place {
	t.Helper()
	return []place{
		fileEverywhere(w),
		httpEverywhere(t),
		postgresEverywhere(t),
		mysqlEverywhere(t),
		sqliteEverywhere(w),
		redisEverywhere(t),
		kafkaEverywhere(t),
		amqpEverywhere(t),
		mqttEverywhere(t),
		natsEverywhere(t),
	}
}

// TestOneLedgerReachesEveryDestinationWhateverIsKilled sends one ledger of 100 000 rows to every pusher at once. On the way
// each server is killed and comes back, plugins are killed at random, and the host is, several times.
func TestOneLedgerReachesEveryDestinationWhateverIsKilled(t *testing.T) {
	w := newWorld(t, nil)
	all := places(t, w)
	names := make([]string, len(all))
	for i, p := range all {
		names[i] = p.pusher
		w.set(variables(p.pusher)+"ENABLED", "true", variables(p.pusher)+"RETRY_MAX", "2s")
		for name, value := range p.env {
			w.set(variables(p.pusher)+name, value)
		}
	}
	w.start()
	for _, name := range names {
		w.runningPID(name)
	}
	l := startLoad(t, w.host.URL, loadOptions{clients: 5, rows: 20, pause: 100 * time.Millisecond})

	troubles := 0
	trouble := func(what func()) {
		troubles++
		l.reaches(t, 1000, time.Minute)
		moment(t)
		what()
	}
	for _, p := range all {
		if p.service != "" {
			trouble(func() { bounce(t, p) })
		}
		trouble(func() {
			victim := names[rand.IntN(len(names))]
			if pid, err := w.host.PluginPID(t.Context(), victim); err == nil { // it may be on its way back from the last time
				_ = syscall.Kill(pid, syscall.SIGKILL)
			}
		})
		if troubles%3 == 0 {
			trouble(func() {
				w.host.Kill()
				w.start()
			})
		}
	}
	if rest := everywhereRows - l.count(); rest > 0 {
		l.reaches(t, rest, 5*time.Minute)
	}
	l.stop()
	w.caughtUp(5*time.Minute, names...)

	for _, p := range all {
		dead := w.deadLetters(p.pusher)
		require.Empty(t, dead, "%s: no destination refuses a row of this ledger", p.pusher)
		arrived := p.arrived(t)
		kept := onceEach(arrived, p.last)
		t.Logf("%s: %d rows arrived, %d of them more than once", p.pusher, len(arrived), len(arrived)-len(kept))
		if p.exact {
			require.Equal(t, len(kept), len(arrived), "%s promises each row once", p.pusher)
		}
		l.settleRows(t, p.pusher, kept, nil)
	}
}

// bounce ends the server behind a place, leaves it away for a moment, and starts it again with its data on the same port.
func bounce(t *testing.T, p place) {
	t.Helper()
	signal := "KILL"
	if p.gentle {
		signal = "TERM"
	}
	services(t, "kill", "--signal", signal, p.service)
	require.NoError(t, rig.Pause(t.Context(), rand.N(time.Second)))
	services(t, "revive", p.service)
}

// services calls deploy/services on the servers that it started for this run.
func services(t *testing.T, command string, args ...string) {
	t.Helper()
	dir := server(t, "RIVERGATE_TEST_SERVICES_DIR")
	root, err := rig.Root(t.Context())
	require.NoError(t, err)
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, filepath.Join(root, "deploy", "services"), append([]string{command, "--dir", dir}, args...)...)
	said, err := cmd.CombinedOutput()
	require.NoError(t, err, "deploy/services %s %v: %s", command, args, said)
}

// server is a variable that deploy/services sets for a server that it started.
func server(t *testing.T, variable string) string {
	t.Helper()
	value := os.Getenv(variable)
	if value == "" {
		cannot(t, fmt.Sprintf("it needs %s: run it as `make e2e`", variable))
	}
	return value
}

// onceEach keeps the first copy of each row, or the last, in the order of arrival.
func onceEach(all []delivery, last bool) []delivery {
	seen := make(map[rowID]bool, len(all))
	kept := make([]delivery, 0, len(all))
	if last {
		slices.Reverse(all)
		defer func() { slices.Reverse(kept) }()
	}
	for _, d := range all {
		if !seen[d.rowID] {
			seen[d.rowID] = true
			kept = append(kept, d)
		}
	}
	return kept
}
