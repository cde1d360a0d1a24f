package e2e

import (
	"bytes"
	"context"
	"fmt"
	"net/http"
	"os"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/rivergate/rivergate/host/e2e/rig"
)

// outage is how long a destination stays away: a minute, as promised. RIVERGATE_E2E_OUTAGE shortens it while one works on
// the test.
func outage(t *testing.T) time.Duration {
	t.Helper()
	if v := os.Getenv("RIVERGATE_E2E_OUTAGE"); v != "" {
		d, err := time.ParseDuration(v)
		require.NoError(t, err)
		return d
	}
	return time.Minute
}

func (w *world) withHTTP(url string) *world {
	return w.set("PLUGIN_HTTP_ENABLED", "true", "PLUGIN_HTTP_URL", url, "PLUGIN_HTTP_RETRY_MAX", "2s")
}

func TestADestinationDownForAMinuteGetsEverythingAndHoldsUpNobody(t *testing.T) {
	t.Parallel()
	r := newReceiver(t)
	w := newWorld(t, nil).withFile("file").withHTTP("http://" + r.addr + "/data/batch")
	w.start()
	l := startLoad(t, w.host.URL, loadOptions{clients: 3, rows: 5, pause: 30 * time.Millisecond})
	l.reaches(t, 200, 20*time.Second)
	eventually(t, 20*time.Second, "rows at the destination before it goes", func(context.Context) bool { return len(r.received()) > 0 })

	r.down()
	gone, looks := time.Now(), 0
	for length := outage(t); time.Since(gone) < length; looks++ {
		accepted := l.count()
		eventually(t, 10*time.Second, "the other pusher keeping up while this one is down", func(ctx context.Context) bool {
			p, err := w.host.Pusher(ctx, "file")
			return err == nil && p.DeliveredTotal >= int64(accepted)
		})
		require.NoError(t, rig.Pause(t.Context(), 250*time.Millisecond))
	}
	waiting, err := w.host.Pusher(t.Context(), "http")
	require.NoError(t, err)
	require.Positive(t, waiting.LagRows, "rows wait for the destination")
	require.Zero(t, waiting.DeadTotal, "an outage sends nothing to the dead letters")
	t.Logf("down for %s: file pusher found up to date %d times, %d rows wait for http (%s, %s)",
		outage(t), looks, waiting.LagRows, waiting.State, waiting.LastError)

	r.up()
	l.reaches(t, 100, 20*time.Second)
	l.stop()
	w.caughtUp(60*time.Second, "file", "http")
	dead := w.deadLetters("http")
	l.settle(t, "file", arrivals(t, w.out("file")), nil)
	l.settle(t, "http", once(r.received()), dead)
}

// once drops rows that came again: an HTTP destination may see a row twice when the answer to the first was lost.
func once(all []arrival) []arrival {
	seen := map[string]bool{}
	var kept []arrival
	for _, a := range all {
		key := a.UUID + string(a.Data)
		if !seen[key] {
			seen[key] = true
			kept = append(kept, a)
		}
	}
	return kept
}

func TestOneGatewayFeedsAnother(t *testing.T) {
	t.Parallel()
	down := newWorld(t, nil).withFile("file")
	down.start()
	up := newWorld(t, nil).withHTTP(down.host.URL + "/data/batch")
	up.start()
	l := startLoad(t, up.host.URL, loadOptions{clients: 3, rows: 10, pause: 2 * time.Millisecond})
	for range 2 {
		l.reaches(t, 500, 20*time.Second)
		down.host.Kill()
		l.reaches(t, 200, 20*time.Second)
		down.start()
	}
	l.reaches(t, 500, 20*time.Second)
	l.stop()
	up.caughtUp(60*time.Second, "http")
	down.caughtUp(60*time.Second, "file")
	all := arrivals(t, down.out("file"))
	l.settle(t, "file behind http", once(all), nil)
	t.Logf("%d rows came twice because the lower gateway was killed before it answered", len(all)-len(once(all)))
}

func TestADeadLetterIsReplayedOnceTheDestinationAcceptsIt(t *testing.T) {
	t.Parallel()
	r := newReceiver(t)
	var refusals atomic.Int64
	r.answers(func(uuid string, _ []receivedRow) int {
		if uuid == "refused" {
			refusals.Add(1)
			return http.StatusUnprocessableEntity
		}
		return http.StatusAccepted
	})
	w := newWorld(t, nil).withHTTP("http://" + r.addr + "/")
	w.start()
	data := `{"first":1.50,"second":"zwei"}`
	for _, uuid := range []string{"before", "refused", "after"} {
		a, err := w.host.Post(t.Context(), "/data", fmt.Appendf(nil, `{"uuid":%q,"row":{"index":7,"data":%s}}`, uuid, data))
		require.NoError(t, err)
		require.Equal(t, http.StatusAccepted, a.Status)
	}
	w.caughtUp(30*time.Second, "http")
	dead := w.deadLetters("http")
	require.Len(t, dead, 1)
	require.Equal(t, "refused", dead[0].UUID)
	require.Equal(t, "rejected", dead[0].Class)
	require.Contains(t, dead[0].Code, "422")
	require.Equal(t, data, string(dead[0].Data), "the original bytes")
	require.Equal(t, 7, *dead[0].Index)

	// It survives the host, and leaves the list only when it was delivered.
	w.host.Kill()
	w.start()
	_, err := w.host.Replay(t.Context(), dead[0].ID)
	require.NoError(t, err)
	eventually(t, 20*time.Second, "the letter back in the list after a replay in vain", func(ctx context.Context) bool {
		again, err := w.host.DeadLetters(ctx, "http")
		return err == nil && len(again) == 1 && refusals.Load() == 2
	})
	r.answers(nil)
	eventually(t, 30*time.Second, "an empty list after a replay that succeeds", func(ctx context.Context) bool {
		left, err := w.host.DeadLetters(ctx, "http")
		if err != nil {
			return false
		}
		for _, d := range left {
			_, _ = w.host.Replay(ctx, d.ID) // one that is being replayed already may answer 409
		}
		return len(left) == 0
	})
	found := 0
	for _, a := range r.received() {
		if a.UUID == "refused" {
			found++
			require.True(t, bytes.Equal([]byte(data), a.Data))
		}
	}
	require.Equal(t, 1, found, "the replayed row at the destination")
}
