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
	env     map[string]string           // beside ENABLED, without the prefix of the pusher
	client  func(uuid string)           // is told of each uuid of the load before its first row; may be nil
	bounce  func(t *testing.T)          // puts what is behind it in trouble, and brings it back; nil: nothing is
	copies  func([]delivery) []delivery // of each row one, which its README keeps in order; nil: the first
	exact   bool                        // the pusher's README promises each row once
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
		s3Everywhere(t, w),
		riffynEverywhere(w),
		pyliteEverywhere(w),
		formerEverywhere(w),
	}
}

// TestOneLedgerReachesEveryDestinationWhateverIsKilled sends one ledger of 100 000 rows to every pusher at once. On the way
// each server is killed and comes back, each plugin is killed, and the host is, several times.
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
	began := time.Now()
	l := startLoad(t, w.host.URL, loadOptions{clients: 5, rows: 20, pause: 100 * time.Millisecond, starts: func(uuid string) {
		for _, p := range all {
			if p.client != nil {
				p.client(uuid)
			}
		}
	}})

	troubles := 0
	trouble := func(what func()) {
		troubles++
		l.reaches(t, 1000, time.Minute)
		moment(t)
		what()
	}
	victims := rand.Perm(len(all))
	for i, p := range all {
		if p.bounce != nil {
			trouble(func() { p.bounce(t) })
		}
		trouble(func() {
			require.NoError(t, syscall.Kill(w.runningPID(names[victims[i]]), syscall.SIGKILL))
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
	ended := time.Now()
	w.caughtUp(5*time.Minute, names...)
	t.Logf("%d troubles; %d rows accepted within %s, and delivered everywhere %s later",
		troubles, l.count(), ended.Sub(began).Round(time.Second), time.Since(ended).Round(time.Second))

	for _, p := range all {
		dead := w.deadLetters(p.pusher)
		require.Empty(t, dead, "%s: no destination refuses a row of this ledger", p.pusher)
		arrived := p.arrived(t)
		copies := p.copies
		if copies == nil {
			copies = firstCopies
		}
		kept := copies(arrived)
		t.Logf("%s: %d rows arrived, %d of them more than once", p.pusher, len(arrived), len(arrived)-len(kept))
		if p.exact {
			require.Equal(t, len(kept), len(arrived), "%s promises each row once", p.pusher)
		}
		l.settleRows(t, p.pusher, kept, nil)
	}
}

// killed ends a server of deploy/services, leaves it away for a moment, and starts it again with its data on the same port.
func killed(service string) func(t *testing.T) { return ended(service, "KILL") }

// ended is killed for a server that does not promise to keep what it took through SIGKILL, with TERM.
func ended(service, signal string) func(t *testing.T) {
	return func(t *testing.T) {
		t.Helper()
		services(t, "kill", "--signal", signal, service)
		away(t)
		services(t, "revive", service)
	}
}

// away is how long a destination stays away.
func away(t *testing.T) {
	t.Helper()
	require.NoError(t, rig.Pause(t.Context(), rand.N(time.Second)))
}

// services calls deploy/services on the servers that it started for this run.
func services(t *testing.T, command string, args ...string) {
	t.Helper()
	dir := server(t, "RIVERGATE_TEST_SERVICES_DIR")
	root, err := rig.Root(t.Context())
	require.NoError(t, err)
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Minute)
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

// firstCopies keeps the first copy of each row, in the order of arrival.
func firstCopies(all []delivery) []delivery {
	seen := make(map[rowID]bool, len(all))
	kept := make([]delivery, 0, len(all))
	for _, d := range all {
		if !seen[d.rowID] {
			seen[d.rowID] = true
			kept = append(kept, d)
		}
	}
	return kept
}

// lastCopies keeps the last copy of each row, in the order of arrival.
func lastCopies(all []delivery) []delivery {
	all = slices.Clone(all)
	slices.Reverse(all)
	kept := firstCopies(all)
	slices.Reverse(kept)
	return kept
}

// anyCopies keeps of each row the first copy behind the one that it keeps of the uuid's row before. Rows without such a copy
// stand before all others, where they are out of order.
func anyCopies(all []delivery) []delivery {
	due := map[string][]int{} // of each uuid, the rows of which none is kept yet
	for _, d := range firstCopies(all) {
		due[d.uuid] = append(due[d.uuid], d.seq)
	}
	for _, seqs := range due {
		slices.Sort(seqs)
	}
	kept := make([]delivery, 0, len(all))
	for _, d := range all {
		if seqs := due[d.uuid]; len(seqs) > 0 && d.seq == seqs[0] {
			due[d.uuid] = seqs[1:]
			kept = append(kept, d)
		}
	}
	left := slices.DeleteFunc(firstCopies(all), func(d delivery) bool { return !slices.Contains(due[d.uuid], d.seq) })
	return append(left, kept...)
}

func TestCopiesAreToldApart(t *testing.T) {
	deliveries := func(seqs ...int) (all []delivery) {
		for _, seq := range seqs {
			all = append(all, delivery{rowID: rowID{"u", seq}})
		}
		return all
	}
	// Rows 1 and 2 came before row 0, and with it again: the last copies are in order.
	require.Equal(t, deliveries(1, 2, 0, 3), firstCopies(deliveries(1, 2, 0, 1, 2, 3)))
	require.Equal(t, deliveries(0, 1, 2, 3), lastCopies(deliveries(1, 2, 0, 1, 2, 3)))
	require.Equal(t, deliveries(0, 1, 2, 3), anyCopies(deliveries(1, 2, 0, 1, 2, 3)))
	// What a killed process had sent, 0 and 1, came in beside what its successor sent: the first copies are.
	require.Equal(t, deliveries(0, 1, 2), firstCopies(deliveries(0, 1, 2, 0, 1)))
	require.Equal(t, deliveries(2, 0, 1), lastCopies(deliveries(0, 1, 2, 0, 1)))
	require.Equal(t, deliveries(0, 1, 2), anyCopies(deliveries(0, 1, 2, 0, 1)))
	// Nothing helps where row 1 comes before row 0 alone.
	require.Equal(t, deliveries(1, 0), anyCopies(deliveries(1, 0)))
}
