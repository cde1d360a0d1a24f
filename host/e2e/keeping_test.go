package e2e

import (
	"context"
	"net/http"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// post sends rows of one uuid, one request each, from seq on; all must be accepted.
func (w *world) post(uuid string, from, n int) {
	w.t.Helper()
	for i := range n {
		a, err := w.host.Post(w.t.Context(), "/data/batch", batch(uuid, from+i, 1, nil))
		require.NoError(w.t, err)
		require.Equal(w.t, http.StatusAccepted, a.Status, "%s", a.Body)
	}
}

// sequences are the seqs that arrived, in their order.
func sequences(t *testing.T, path string) []int {
	t.Helper()
	all := []int{}
	for _, a := range arrivals(t, path) {
		all = append(all, a.id(t).seq)
	}
	return all
}

func upTo(from, to int) []int {
	all := []int{}
	for i := from; i < to; i++ {
		all = append(all, i)
	}
	return all
}

func TestWithoutAPusherAPostAnswers503AndSaysWhatToSet(t *testing.T) {
	t.Parallel()
	w := newWorld(t, nil)
	var err error
	w.host, err = built.Exec(t.Context(), w.opts) // /ready may well say no without a pusher
	require.NoError(t, err)
	eventually(t, 20*time.Second, "a living host", func(ctx context.Context) bool {
		a, err := w.host.Do(ctx, http.MethodGet, "/health", nil, nil)
		return err == nil && a.Status == http.StatusOK
	})
	a, err := w.host.Post(t.Context(), "/data", []byte(`{"uuid":"u","row":{"data":{"a":1}}}`))
	require.NoError(t, err)
	require.Equal(t, http.StatusServiceUnavailable, a.Status, "%s", a.Body)
	require.NotEmpty(t, a.Header.Get("Retry-After"))
	for _, name := range []string{"PLUGIN_", "_ENABLED", "RIVERGATE_GATEWAY_HOLD"} {
		require.Contains(t, string(a.Body), name)
	}
}

func TestHeldRowsGoToAPusherThatStartsWithTheOldest(t *testing.T) {
	t.Parallel()
	w := newWorld(t, map[string]string{"RIVERGATE_GATEWAY_HOLD": "true"})
	w.start()
	w.post("held", 0, 20)
	w.stop()
	w.withFile("file").set("PLUGIN_FILE_START", "oldest").withFile("second")
	w.start()
	w.post("held", 20, 5)
	w.caughtUp(30*time.Second, "file", "second")
	require.Equal(t, upTo(0, 25), sequences(t, w.out("file")), "START=oldest begins with what the journal holds")
	require.Equal(t, upTo(20, 25), sequences(t, w.out("second")), "a new pusher begins with what comes after it")
}

func TestADisabledPusherKeepsItsRowsUntilItIsForgotten(t *testing.T) {
	t.Parallel()
	w := newWorld(t, nil).withFile("file").withFile("second")
	w.start()
	w.post("kept", 0, 10)
	w.caughtUp(30*time.Second, "file", "second")
	a, err := w.host.Do(t.Context(), http.MethodDelete, "/api/v1/gateway/pushers/second", nil, nil)
	require.NoError(t, err)
	require.Equal(t, http.StatusConflict, a.Status, "an enabled pusher is not forgotten")
	w.stop()

	w.set("PLUGIN_SECOND_ENABLED", "")
	w.start()
	require.Contains(t, w.log(), "second", "the host says at start who is gone")
	w.post("kept", 10, 10)
	w.caughtUp(30*time.Second, "file")
	p, err := w.host.Pusher(t.Context(), "second")
	require.NoError(t, err)
	require.Equal(t, "disabled", p.State)
	require.EqualValues(t, 10, p.LagRows)
	w.host.Kill()

	w.set("PLUGIN_SECOND_ENABLED", "true")
	w.start()
	w.caughtUp(30*time.Second, "file", "second")
	require.Equal(t, upTo(0, 20), sequences(t, w.out("second")), "it goes on where it stood")
	w.stop()

	w.set("PLUGIN_SECOND_ENABLED", "")
	w.start()
	out, errs, code := w.command("pushers", "forget", "second")
	require.Zero(t, code, "%s\n%s", out, errs)
	all, err := w.host.Pushers(t.Context())
	require.NoError(t, err)
	require.Len(t, all, 1, "the forgotten one is gone: %v", all)
}

func TestAPausedPusherLetsRowsWaitAndGoesOnAfterResume(t *testing.T) {
	t.Parallel()
	w := newWorld(t, nil).withFile("file").withFile("second")
	w.start()
	w.post("paused", 0, 5)
	w.caughtUp(30*time.Second, "file", "second")
	for range 2 { // idempotent
		require.NoError(t, w.host.PausePusher(t.Context(), "second"))
	}
	w.post("paused", 5, 5)
	w.caughtUp(30*time.Second, "file")
	// The pause outlives the host.
	w.host.Kill()
	w.start()
	w.post("paused", 10, 5)
	w.caughtUp(30*time.Second, "file")
	p, err := w.host.Pusher(t.Context(), "second")
	require.NoError(t, err)
	require.Equal(t, "paused", p.State)
	require.GreaterOrEqual(t, p.LagRows, int64(10)) // the kill may have set the cursor back a little: rows then come again
	require.Equal(t, upTo(0, 5), sequences(t, w.out("second")))
	for range 2 {
		require.NoError(t, w.host.ResumePusher(t.Context(), "second"))
	}
	w.caughtUp(30*time.Second, "second")
	require.Equal(t, upTo(0, 15), sequences(t, w.out("second")))
}

func TestAnIdempotencyKeyHoldsAcrossKillNine(t *testing.T) {
	t.Parallel()
	w := newWorld(t, nil).withFile("file")
	w.start()
	key := http.Header{"Idempotency-Key": {"run-17"}}
	body := batch("once", 0, 3, nil)
	first, err := w.host.Do(t.Context(), http.MethodPost, "/data/batch", key, body)
	require.NoError(t, err)
	require.Equal(t, http.StatusAccepted, first.Status)
	w.host.Kill()
	w.start()
	again, err := w.host.Do(t.Context(), http.MethodPost, "/data/batch", key, body)
	require.NoError(t, err)
	require.Equal(t, http.StatusAccepted, again.Status)
	require.Equal(t, deliveryID(t, first.Body), deliveryID(t, again.Body), "the first answer")
	other, err := w.host.Do(t.Context(), http.MethodPost, "/data/batch", key, batch("once", 3, 3, nil))
	require.NoError(t, err)
	require.Equal(t, http.StatusUnprocessableEntity, other.Status, "the same key with another body")
	w.caughtUp(30*time.Second, "file")
	require.Equal(t, upTo(0, 3), sequences(t, w.out("file")))
}

func TestADeliveryCanBeLookedUpAndWaitedFor(t *testing.T) {
	t.Parallel()
	w := newWorld(t, nil).withFile("file")
	w.start()
	a, err := w.host.Post(t.Context(), "/data/batch?wait=10s", batch("waited", 0, 4, nil))
	require.NoError(t, err)
	require.Equal(t, http.StatusOK, a.Status, "%s", a.Body)
	require.Equal(t, upTo(0, 4), sequences(t, w.out("file")), "200 says that every pusher has delivered")
	eventually(t, 10*time.Second, "the delivery as delivered", func(ctx context.Context) bool {
		d, err := w.host.Delivery(ctx, deliveryID(t, a.Body))
		return err == nil && d.Rows == 4 && len(d.Pushers) == 1 && d.Pushers[0].State == "delivered" && d.Pushers[0].Delivered == 4
	})
}

func TestASecondHostOnTheSameDataFolderRefuses(t *testing.T) {
	t.Parallel()
	w := newWorld(t, nil).withFile("file")
	w.start()
	_, errs, code := w.commandWith(map[string]string{"RIVERGATE_LISTEN": "127.0.0.1:0"}, "serve")
	require.NotZero(t, code)
	require.Contains(t, errs, w.opts.DataDir, "the message names the folder")
	w.post("first", 0, 3)
	w.caughtUp(30*time.Second, "file")
	w.host.Kill()
	w.start() // the lock of a killed host does not stay
	w.post("first", 3, 1)
	w.caughtUp(30*time.Second, "file")
	require.Equal(t, upTo(0, 4), sequences(t, w.out("file")))
}

func deliveryID(t *testing.T, body []byte) string {
	t.Helper()
	var a struct {
		Data struct {
			DeliveryID string `json:"delivery_id"`
		}
	}
	decode(t, body, &a)
	require.NotEmpty(t, a.Data.DeliveryID, "%s", body)
	return a.Data.DeliveryID
}
