package e2e

import (
	"context"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/rivergate/rivergate/host/e2e/rig"
)

// withWitness enables a pusher that writes down what it is given, and misbehaves on demand.
func (w *world) withWitness() *world {
	require.NoError(w.t, os.MkdirAll(filepath.Dir(w.out("witness")), 0o700))
	return w.set("PLUGIN_WITNESS_ENABLED", "true", "PLUGIN_WITNESS_PATH", w.out("witness"),
		"PLUGIN_WITNESS_WEDGE_IF", w.wedgeFile(), "PLUGIN_WITNESS_RETRY_MAX", "1s")
}

func (w *world) wedgeFile() string { return filepath.Join(w.dir, "wedge") }

// every returns a shape that marks each nth row.
func every(n, first int, mark string) func(int) string {
	return func(seq int) string {
		if seq%n == first {
			return mark
		}
		return ""
	}
}

// deadSeqs are the rows in the dead letters of a class.
func deadSeqs(t *testing.T, dead []rig.DeadLetter, class string) (ids []rowID) {
	t.Helper()
	for _, d := range dead {
		require.Equal(t, class, d.Class, "%s: %s", d.Code, d.Message)
		ids = append(ids, rowOf(t, d.UUID, d.Data))
	}
	return ids
}

func TestAPluginThatCrashesOnOneRowLosesThatRowAlone(t *testing.T) {
	w := newWorld(t, nil).withFile("file").withWitness()
	w.start()
	// Rows without poison flow before, between and after.
	l := startLoad(t, w.host.URL, loadOptions{clients: 4, rows: 20, pause: time.Millisecond})
	l.reaches(t, 500, 20*time.Second)
	guilty := startLoad(t, w.host.URL, loadOptions{clients: 1, rows: 20, pause: 10 * time.Millisecond,
		shape: func(seq int) string { return every(1<<30, 137, `,"poison":true`)(seq) }})
	guilty.reaches(t, 200, 20*time.Second)
	l.reaches(t, 500, 20*time.Second)
	guilty.stop()
	l.stop()
	w.caughtUp(10*time.Second, "file") // it does not wait for the other's poison search
	w.caughtUp(120*time.Second, "file", "witness")

	dead := w.deadLetters("witness")
	buried := deadSeqs(t, dead, "poison")
	require.Len(t, buried, 1, "the guilty row, and no other")
	require.Equal(t, 137, buried[0].seq)
	require.NotEmpty(t, dead[0].Message, "it says how the process ended")
	l.merge(guilty.ledger)
	l.settle(t, "file", arrivals(t, w.out("file")), nil)
	l.settle(t, "witness", once(arrivals(t, w.out("witness"))), dead)
}

func TestAWedgedPluginIsKilledAndLosesNothing(t *testing.T) {
	w := newWorld(t, nil).withFile("file").withWitness().set("PLUGIN_WITNESS_TIMEOUT", "1s")
	w.start()
	l := startLoad(t, w.host.URL, loadOptions{clients: 4, rows: 10, pause: 2 * time.Millisecond})
	l.reaches(t, 300, 20*time.Second)
	first := w.runningPID("witness")
	was, err := rig.Identify(first)
	require.NoError(t, err)

	require.NoError(t, os.WriteFile(w.wedgeFile(), nil, 0o600))
	eventually(t, 20*time.Second, "the end of the wedged process", func(context.Context) bool { return !was.Alive() })
	accepted := l.count()
	eventually(t, 10*time.Second, "the other pusher keeping up", func(ctx context.Context) bool {
		p, err := w.host.Pusher(ctx, "file")
		return err == nil && p.DeliveredTotal >= int64(accepted)
	})
	require.NoError(t, os.Remove(w.wedgeFile()))
	l.reaches(t, 300, 20*time.Second)
	l.stop()
	w.caughtUp(10*time.Second, "file")
	w.caughtUp(120*time.Second, "witness")
	dead := w.deadLetters("witness")
	require.Empty(t, dead, "a plugin that was wedged for a while costs no rows")
	l.settle(t, "file", arrivals(t, w.out("file")), nil)
	l.settle(t, "witness", once(arrivals(t, w.out("witness"))), dead)
}

func TestARowThatWedgesThePluginIsFoundAndTheRestIsDelivered(t *testing.T) {
	t.Parallel()
	w := newWorld(t, nil).withWitness().set("PLUGIN_WITNESS_TIMEOUT", "500ms")
	w.start()
	l := startLoad(t, w.host.URL, loadOptions{clients: 1, rows: 4, pause: 20 * time.Millisecond,
		shape: every(1<<30, 61, `,"wedge":true`)})
	l.reaches(t, 100, 20*time.Second)
	l.stop()
	w.caughtUp(120*time.Second, "witness")
	dead := w.deadLetters("witness")
	buried := deadSeqs(t, dead, "poison")
	require.Len(t, buried, 1)
	require.Equal(t, 61, buried[0].seq)
	l.settle(t, "witness", once(arrivals(t, w.out("witness"))), dead)
}

func TestRejectedRowsGoToTheDeadLettersAndTheRestInOrder(t *testing.T) {
	t.Parallel()
	w := newWorld(t, nil).withWitness()
	w.start()
	l := startLoad(t, w.host.URL, loadOptions{clients: 3, rows: 10, pause: time.Millisecond, shape: every(10, 3, `,"reject":true`)})
	l.reaches(t, 600, 20*time.Second)
	l.stop()
	w.caughtUp(60*time.Second, "witness")
	w.host.Kill() // dead letters are durable before the cursor
	w.start()
	w.caughtUp(60*time.Second, "witness")
	dead := w.deadLetters("witness")
	for _, id := range deadSeqs(t, dead, "rejected") {
		require.Equal(t, 3, id.seq%10)
	}
	unique := map[string]bool{}
	for _, d := range dead {
		require.False(t, unique[d.UUID+string(d.Data)], "one letter for one row")
		unique[d.UUID+string(d.Data)] = true
	}
	l.settle(t, "witness", once(arrivals(t, w.out("witness"))), dead)
}

func TestABrokenBinaryIsShownAsFailedAndTheHostServesOn(t *testing.T) {
	t.Parallel()
	w := newWorld(t, nil).withFile("file").
		set("PLUGIN_FILE_SHA256", "0000000000000000000000000000000000000000000000000000000000000000").
		withFile("second")
	w.start()
	w.post("served", 0, 5)
	w.caughtUp(30*time.Second, "second")
	require.Equal(t, upTo(0, 5), sequences(t, w.out("second")))
	p, err := w.host.Pusher(t.Context(), "file")
	require.NoError(t, err)
	require.True(t, slices.Contains([]string{"failed", "backing_off", "crash_loop"}, p.State), "%+v", p)
	require.NotEmpty(t, p.Reason)
	require.Empty(t, arrivals(t, w.out("file")))
}
