package gateway

import (
	"context"
	"testing"

	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"
	"go.opentelemetry.io/otel/trace"

	"github.com/rivergate/rivergate/services/gateway/journal"
)

// The example of the W3C's text.
const (
	clientsTrace  = "0af7651916cd43dd8448eb211c80319c"
	clientsSpan   = "b7ad6b7169203331"
	clientsParent = "00-" + clientsTrace + "-" + clientsSpan + "-01"
)

// newTracedRig is a rig that traces this share of the requests without a traceparent.
func newTracedRig(t *testing.T, share float64, changes ...change) (*rig, *tracetest.SpanRecorder) {
	t.Helper()
	recorder := tracetest.NewSpanRecorder()
	provider := sdktrace.NewTracerProvider(sdktrace.WithSpanProcessor(recorder),
		sdktrace.WithSampler(sdktrace.ParentBased(sdktrace.TraceIDRatioBased(share))))
	t.Cleanup(func() { require.NoError(t, provider.Shutdown(context.WithoutCancel(t.Context()))) })
	return newRig(t, append(changes, func(o *Options, _ *pushers) { o.Tracer = provider.Tracer("test") })...), recorder
}

// ended are the spans of one request, by name.
func ended(t *testing.T, recorder *tracetest.SpanRecorder, want int) map[string]sdktrace.ReadOnlySpan {
	t.Helper()
	spans := map[string]sdktrace.ReadOnlySpan{}
	for _, s := range recorder.Ended() {
		spans[s.Name()] = s
	}
	require.Len(t, recorder.Ended(), want)
	require.Len(t, spans, want)
	return spans
}

func attributesOf(s sdktrace.ReadOnlySpan) map[attribute.Key]any {
	out := map[attribute.Key]any{}
	for _, kv := range s.Attributes() {
		out[kv.Key] = kv.Value.AsInterface()
	}
	return out
}

func TestAPostIsASpanBelowTheClientsAndTheJournalKeepsIt(t *testing.T) {
	r, recorder := newTracedRig(t, 0) // nothing but what clients ask for
	r.post("/data/batch", `{"uuid":"u-1","rows":[{"data":{"a":1}},{"data":{"a":2}}]}`, "traceparent", clientsParent, "X-Request-ID", "req-1").accepted()

	spans := ended(t, recorder, 2)
	post, inJournal := spans["POST /data/batch"], spans["journal append"]
	require.Equal(t, trace.SpanKindServer, post.SpanKind())
	require.Equal(t, clientsTrace, post.SpanContext().TraceID().String())
	require.Equal(t, clientsSpan, post.Parent().SpanID().String())
	require.True(t, post.Parent().IsRemote())
	got := attributesOf(post)
	require.Equal(t, "u-1", got["rivergate.uuid"])
	require.Equal(t, int64(2), got["rivergate.rows"])
	require.Equal(t, int64(1), got["rivergate.org"])
	require.Equal(t, int64(202), got["http.response.status_code"])
	require.Equal(t, "/data/batch", got["http.route"])
	require.Equal(t, "req-1", got["rivergate.request_id"])
	require.Equal(t, post.SpanContext().SpanID(), inJournal.Parent().SpanID())

	want := "00-" + clientsTrace + "-" + post.SpanContext().SpanID().String() + "-01"
	require.Equal(t, want, r.pushers.accepted[0].TraceParent)
	oldest, _ := r.journal.Bounds()
	record, err := r.journal.Lookup(t.Context(), oldest)
	require.NoError(t, err)
	require.Equal(t, want, record.TraceParent)
}

func TestWhatIsNotSampledLeavesNothingInTheJournal(t *testing.T) {
	for name, parent := range map[string]string{
		"the client says no": "00-" + clientsTrace + "-" + clientsSpan + "-00",
		"the share is zero":  "",
		"it cannot be read":  "00-nonsense-01",
	} {
		r, recorder := newTracedRig(t, 0)
		r.post("/data", `{"uuid":"u","row":{"data":{}}}`, "traceparent", parent).accepted()
		require.Empty(t, recorder.Ended(), name)
		require.Empty(t, r.pushers.accepted[0].TraceParent, name)
	}
	r := newRig(t) // and without a tracer
	r.post("/data", `{"uuid":"u","row":{"data":{}}}`, "traceparent", clientsParent).accepted()
	require.Empty(t, r.pushers.accepted[0].TraceParent)
}

func TestAClientWithoutATraceGetsOneOfItsOwn(t *testing.T) {
	r, recorder := newTracedRig(t, 1)
	r.post("/data", `{"uuid":"u","row":{"data":{}}}`).accepted()
	post := ended(t, recorder, 2)["POST /data"]
	require.False(t, post.Parent().IsValid())
	require.Contains(t, r.pushers.accepted[0].TraceParent, post.SpanContext().TraceID().String())
}

func TestARefusedPostSaysWhyInItsSpan(t *testing.T) {
	r, recorder := newTracedRig(t, 1)
	r.post("/data", `{"uuid":`).refused(400)
	post := ended(t, recorder, 1)["POST /data"]
	require.Equal(t, "not_json", attributesOf(post)["error.type"])
	require.Equal(t, int64(400), attributesOf(post)["http.response.status_code"])
	require.Equal(t, codes.Unset, post.Status().Code, "the mistake is the client's")

	down := &stubborn{Journal: openJournal(t, t.TempDir())}
	r, recorder = newTracedRig(t, 1, func(o *Options, _ *pushers) { o.Journal = down })
	r.post("/data", `{"uuid":"u","row":{"data":{}}}`).refused(503)
	spans := ended(t, recorder, 2)
	require.Equal(t, codes.Error, spans["POST /data"].Status().Code)
	require.Equal(t, codes.Error, spans["journal append"].Status().Code)
}

// stubborn is a journal whose disk refuses.
type stubborn struct{ journal.Journal }

func (s *stubborn) Append(context.Context, *journal.Record) (uint64, error) {
	return 0, &journal.UnavailableError{Err: context.DeadlineExceeded}
}

func TestARepetitionIsTracedAndKeptOnce(t *testing.T) {
	r, recorder := newTracedRig(t, 1)
	for range 2 {
		r.post("/data", `{"uuid":"u","row":{"data":{}}}`, "Idempotency-Key", "k").accepted()
	}
	var names []string
	for _, s := range recorder.Ended() {
		names = append(names, s.Name())
	}
	require.Equal(t, []string{"journal append", "POST /data", "POST /data"}, names)
	require.Len(t, r.pushers.accepted, 1)
}
