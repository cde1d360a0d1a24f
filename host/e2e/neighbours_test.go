package e2e

import (
	"bytes"
	"context"
	"encoding/json"
	"os"
	"path/filepath"
	"strconv"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

func TestNoNeighbourHarmsAnother(t *testing.T) {
	w := newWorld(t, nil).withFile("file")
	flaky := w.out("flaky")
	require.NoError(t, os.MkdirAll(filepath.Dir(flaky), 0o700))
	for _, name := range []string{"crash", "hang", "slow", "flaky", "chatty", "lying"} {
		w.set(variables(name)+"ENABLED", "true", variables(name)+"TIMEOUT", "1s", variables(name)+"RETRY_MAX", "500ms")
	}
	// A lie that breaks the protocol with each batch: those rows wait, and nobody else notices.
	w.set("PLUGIN_LYING_PASS_ENV", "LIE", "LIE", "bad-class", "PLUGIN_FLAKY_PATH", flaky, "PLUGIN_FLAKY_RETRY_ATTEMPTS", "0",
		"PLUGIN_SLOW_DELAY", "900ms")
	w.start()
	l := startLoad(t, w.host.URL, loadOptions{clients: 4, rows: 5, pause: 5 * time.Millisecond, shape: every(400, 200, `,"poison":true`)})
	for range 20 {
		l.reaches(t, 150, 20*time.Second)
		accepted := l.count()
		eventually(t, 5*time.Second, "the healthy pusher keeping up among its neighbours", func(ctx context.Context) bool {
			p, err := w.host.Pusher(ctx, "file")
			return err == nil && p.DeliveredTotal >= int64(accepted)
		})
	}
	l.stop()
	w.caughtUp(60*time.Second, "file", "flaky")
	l.settle(t, "file", arrivals(t, w.out("file")), nil)
	dead := w.deadLetters("flaky")
	require.Empty(t, dead)
	l.settle(t, "flaky", once(tabbed(t, flaky)), nil)
	w.stop() // with plugins that do not answer
}

// tabbed reads the lines of the flaky pusher: position, uuid and row.
func tabbed(t *testing.T, path string) (all []arrival) {
	t.Helper()
	raw, err := os.ReadFile(path)
	require.NoError(t, err)
	for line := range bytes.Lines(raw) {
		parts := bytes.SplitN(bytes.TrimSuffix(line, []byte("\n")), []byte("\t"), 3)
		require.Len(t, parts, 3, "%s", line)
		position, err := strconv.ParseUint(string(parts[0]), 10, 64)
		require.NoError(t, err)
		all = append(all, arrival{Position: position, UUID: string(parts[1]), Data: json.RawMessage(parts[2])})
	}
	return all
}
