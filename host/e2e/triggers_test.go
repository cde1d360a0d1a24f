package e2e

import (
	"context"
	"fmt"
	"net/http"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/rivergate/rivergate/services/gateway/trigger/controltower"
)

// withLab enables a pusher whose plugin needs triggers: the process dies on a frame without the trigger of its uuid.
func (w *world) withLab() *world {
	return w.set("PLUGIN_LAB_ENABLED", "true", "PLUGIN_LAB_USE", "lying", "PLUGIN_LAB_PASS_ENV", "LIE", "LIE", "trigger", "PLUGIN_LAB_RETRY_MAX", "300ms")
}

func (w *world) posts(uuid string, n int) {
	w.t.Helper()
	for i := range n {
		answer, err := w.host.Post(w.t.Context(), "/data", fmt.Appendf(nil, `{"uuid":%q,"row":{"data":{"n":%d}}}`, uuid, i))
		require.NoError(w.t, err)
		require.Equal(w.t, http.StatusAccepted, answer.Status)
	}
}

// delivers waits until the pusher has delivered so many rows.
func (w *world) delivers(pusher string, rows int64) {
	w.t.Helper()
	eventually(w.t, 30*time.Second, fmt.Sprintf("%d rows delivered by %s", rows, pusher), func(ctx context.Context) bool {
		p, err := w.host.Pusher(ctx, pusher)
		return err == nil && p.DeliveredTotal == rows
	})
}

func TestTriggersComeFromTheControlTowerWhateverHappensToIt(t *testing.T) {
	w := newWorld(t, nil).withFile("file").withLab()
	tower := controltower.Start(t)
	require.NoError(t, tower.Put(controltower.Plain("known"), controltower.Plain("later")))

	out, errs, code := w.command("check")
	require.Equal(t, 2, code, "%s", out)
	require.Contains(t, errs, "RIVERGATE_CONTROL_TOWER_URL: is not set, and pusher lab:")

	w.set("RIVERGATE_CONTROL_TOWER_URL", tower.URL(), "RIVERGATE_CONTROL_TOWER_MISSING_FOR", "2s", "RIVERGATE_CONTROL_TOWER_TIMEOUT", "1s")
	w.start()
	w.posts("known", 20)
	w.delivers("lab", 20)
	require.Equal(t, 1, tower.Requests("known"))

	// Down, and hanging: rows of a uuid that is not known yet wait; the others go on, and so does the other pusher.
	tower.Down()
	w.posts("later", 5)
	w.posts("known", 5)
	w.delivers("lab", 25)
	w.delivers("file", 30)
	eventually(t, 10*time.Second, "the reason of the wait", func(ctx context.Context) bool {
		p, err := w.host.Pusher(ctx, "lab")
		return err == nil && p.Reason == "rows wait for their trigger: "+p.LastError
	})
	tower.Break(controltower.Fault{Hang: true})
	require.NoError(t, tower.Up())
	eventually(t, 10*time.Second, "a request that hangs", func(context.Context) bool { return tower.Requests("later") > 0 })

	// A host that is killed meanwhile has forgotten what it knew, and lost nothing.
	w.host.KillGroup()
	tower.Mend()
	w.start()
	w.caughtUp(30*time.Second, "lab", "file")
	require.Empty(t, w.deadLetters("lab"))

	// Its own failure has the look of a uuid that it does not know: passing, it costs nothing; lasting, the rows are rejected.
	require.NoError(t, tower.Put(controltower.Plain("passing")))
	tower.Break(controltower.Fault{OwnFailure: true}, "passing")
	w.posts("passing", 3)
	w.posts("unknown", 2)
	eventually(t, 10*time.Second, "a second request", func(context.Context) bool { return tower.Requests("passing") > 1 })
	tower.Mend()
	w.caughtUp(30*time.Second, "lab")
	dead := w.deadLetters("lab")
	require.Len(t, dead, 2)
	for _, d := range dead {
		require.Equal(t, []string{"unknown", "rejected", "trigger_missing"}, []string{d.UUID, d.Class, d.Code})
		require.Contains(t, d.Message, "HTTP 404: Trigger not found")
	}
	require.NoError(t, tower.Put(controltower.Plain("unknown")))
	n, err := w.host.Replay(t.Context(), dead[0].ID, dead[1].ID)
	require.NoError(t, err)
	require.Equal(t, 2, n)
	eventually(t, 20*time.Second, "an empty list of dead letters", func(ctx context.Context) bool {
		left, err := w.host.DeadLetters(ctx, "lab")
		return err == nil && len(left) == 0
	})
	metrics := string(w.page("/metrics"))
	require.Contains(t, metrics, `rivergate_trigger_lookups_total{result="found"}`)
	require.Contains(t, metrics, `rivergate_pusher_trigger_waits{pusher="lab"} 0`)
	w.stop()
}

// page is the body of a path of the host.
func (w *world) page(path string) []byte {
	w.t.Helper()
	answer, err := w.host.Do(w.t.Context(), http.MethodGet, path, nil, nil)
	require.NoError(w.t, err)
	require.Equal(w.t, http.StatusOK, answer.Status)
	return answer.Body
}
