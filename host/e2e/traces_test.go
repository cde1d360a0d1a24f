package e2e

import (
	"io"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/rivergate/rivergate/host/telemetry/telemetrytest"
)

// postTraced posts as part of a trace of the client's own.
func (w *world) postTraced(body, traceParent string) {
	w.t.Helper()
	request, err := http.NewRequestWithContext(w.t.Context(), http.MethodPost, "http://"+w.host.Addr+"/data", strings.NewReader(body))
	require.NoError(w.t, err)
	request.Header.Set("Content-Type", "application/json")
	request.Header.Set("traceparent", traceParent)
	answer, err := http.DefaultClient.Do(request)
	require.NoError(w.t, err)
	defer answer.Body.Close()
	raw, err := io.ReadAll(answer.Body)
	require.NoError(w.t, err)
	require.Equal(w.t, http.StatusAccepted, answer.StatusCode, "%s", raw)
}

func TestOneTraceGoesFromThePostThroughTheJournalAndARestartToThePluginsOutcome(t *testing.T) {
	t.Parallel()
	collector := telemetrytest.Receive(t)
	destination := newReceiver(t)
	destination.answers(func(uuid string, _ []receivedRow) int {
		if uuid == "bad" {
			return http.StatusUnprocessableEntity
		}
		return http.StatusAccepted
	})
	w := newWorld(t, nil).withHTTP("http://"+destination.addr+"/").set("RIVERGATE_TRACES_OTLP", collector.URL, "RIVERGATE_TRACES_SAMPLE", "0")
	w.start()
	_, errs, code := w.command("pushers", "pause", "http")
	require.Zero(t, code, errs)

	const client = "b7ad6b7169203331"
	traces := map[string]string{"good": "0af7651916cd43dd8448eb211c80319c", "bad": "1bf7651916cd43dd8448eb211c80319c"}
	for uuid, trace := range traces {
		w.postTraced(`{"uuid":"`+uuid+`","row":{"data":{"n":1}}}`, "00-"+trace+"-"+client+"-01")
	}
	w.postTraced(`{"uuid":"untraced","row":{"data":{"n":1}}}`, "00-2cf7651916cd43dd8448eb211c80319c-"+client+"-00")
	w.stop() // what the first process has to tell is sent before it ends
	require.Len(t, collector.Spans(), 4, "a POST and a journal append of each traced request")

	w.start()
	_, errs, code = w.command("pushers", "resume", "http")
	require.Zero(t, code, errs)
	w.caughtUp(30*time.Second, "http")
	spans := collector.Wait(t, func(spans []telemetrytest.Span) bool { return len(spans) >= 6 })
	w.stop()
	require.Len(t, collector.Spans(), 6, "nothing of the request whose client did not want it")

	find := func(trace, name string) telemetrytest.Span {
		i := slices.IndexFunc(spans, func(s telemetrytest.Span) bool { return s.Trace == trace && s.Name == name })
		require.GreaterOrEqual(t, i, 0, "%s in %s: %+v", name, trace, spans)
		return spans[i]
	}
	for uuid, trace := range traces {
		post, inJournal, deliver := find(trace, "POST /data"), find(trace, "journal append"), find(trace, "deliver http")
		require.Equal(t, client, post.Parent)
		require.Equal(t, "SPAN_KIND_SERVER", post.Kind)
		require.Equal(t, "rivergate", post.Service)
		require.Equal(t, uuid, post.Attributes["rivergate.uuid"])
		require.Equal(t, post.ID, inJournal.Parent)
		require.Equal(t, inJournal.Attributes["rivergate.position"], deliver.Attributes["rivergate.position"])
		require.Equal(t, post.ID, deliver.Parent)
		require.True(t, deliver.Start.After(post.End), "the delivery came after a restart")
		require.Equal(t, "http", deliver.Attributes["rivergate.pusher"])
		require.EqualValues(t, 1, deliver.Attributes["rivergate.rows"])
		require.EqualValues(t, 1, deliver.Attributes["rivergate.attempt"])
		if uuid == "good" {
			require.Equal(t, "delivered", deliver.Attributes["rivergate.outcome"])
			require.Equal(t, "STATUS_CODE_UNSET", deliver.Status)
		} else {
			require.Equal(t, "rejected", deliver.Attributes["rivergate.outcome"])
			require.EqualValues(t, 1, deliver.Attributes["rivergate.dead_letters"])
			require.Equal(t, "STATUS_CODE_ERROR", deliver.Status)
			require.Contains(t, deliver.StatusMessage, "422")
		}
	}

	// The plugin handed the trace on to its destination, as part of the delivery.
	deliver := find(traces["good"], "deliver http")
	destination.mu.Lock()
	heads := slices.Clone(destination.heads)
	destination.mu.Unlock()
	require.Len(t, heads, 2)
	require.True(t, slices.ContainsFunc(heads, func(h http.Header) bool {
		return h.Get("traceparent") == "00-"+traces["good"]+"-"+deliver.ID+"-01"
	}), "%v", heads)
}

func TestACollectorThatIsGoneHoldsNothingUp(t *testing.T) {
	t.Parallel()
	w := newWorld(t, nil).withFile("file").set("RIVERGATE_TRACES_OTLP", "http://127.0.0.1:1")
	w.start()
	for i := range 50 {
		w.accepted("/data/batch", string(batch("u", i, 1, nil)))
	}
	w.caughtUp(30*time.Second, "file")
	require.Equal(t, upTo(0, 50), sequences(t, w.out("file")))
	w.stop()
	require.LessOrEqual(t, strings.Count(w.log(), "traces cannot be sent"), 1)
}
