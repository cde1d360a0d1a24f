package telemetry

import (
	"bytes"
	"context"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/hashicorp/go-hclog"
	"github.com/stretchr/testify/require"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/trace"
	"go.uber.org/goleak"

	"github.com/rivergate/rivergate/host/telemetry/telemetrytest"
)

func TestMain(m *testing.M) {
	goleak.VerifyTestMain(m,
		// The exporter's connections to receivers that are gone; they are one pool of the whole process.
		goleak.IgnoreAnyFunction("net/http.(*persistConn).readLoop"), goleak.IgnoreAnyFunction("net/http.(*persistConn).writeLoop"))
}

// safeBuffer is written by the exporter's goroutine.
type safeBuffer struct {
	sync.Mutex
	bytes.Buffer
}

func (b *safeBuffer) Write(p []byte) (int, error) {
	b.Lock()
	defer b.Unlock()
	return b.Buffer.Write(p)
}

func (b *safeBuffer) text() string {
	b.Lock()
	defer b.Unlock()
	return b.String()
}

func openTo(t *testing.T, endpoint string, sample float64) (*Traces, *safeBuffer) {
	t.Helper()
	log := &safeBuffer{}
	traces, err := Open(t.Context(), Options{Endpoint: endpoint, Sample: sample, Version: "1.2.3", Log: hclog.New(&hclog.LoggerOptions{Output: log})})
	require.NoError(t, err)
	return traces, log
}

func TestWithoutAnEndpointThereIsNoTracer(t *testing.T) {
	traces, _ := openTo(t, "", 1)
	require.Nil(t, traces)
	require.Nil(t, traces.Tracer())
	require.NoError(t, traces.Close(t.Context()))
}

func TestSpansReachTheReceiverAtTheLatestWithTheEnd(t *testing.T) {
	receiver := telemetrytest.Receive(t)
	traces, log := openTo(t, receiver.URL+"/v1/traces", 1)
	_, span := traces.Tracer().Start(t.Context(), "POST /data", trace.WithSpanKind(trace.SpanKindServer))
	span.End()
	require.NoError(t, traces.Close(t.Context()))
	spans := receiver.Spans()
	require.Len(t, spans, 1)
	require.Equal(t, "POST /data", spans[0].Name)
	require.Equal(t, "SPAN_KIND_SERVER", spans[0].Kind)
	require.Equal(t, "rivergate", spans[0].Service)
	require.Equal(t, "1.2.3", spans[0].Version)
	require.Empty(t, log.text())
}

func TestTheCallersDecisionCountsBeforeTheShare(t *testing.T) {
	receiver := telemetrytest.Receive(t)
	traces, _ := openTo(t, receiver.URL+"/v1/traces", 0)
	_, span := traces.Tracer().Start(t.Context(), "not asked for")
	span.End()
	parent := trace.NewSpanContext(trace.SpanContextConfig{TraceID: trace.TraceID{1}, SpanID: trace.SpanID{2}, TraceFlags: trace.FlagsSampled, Remote: true})
	_, span = traces.Tracer().Start(trace.ContextWithRemoteSpanContext(t.Context(), parent), "asked for")
	span.End()
	require.NoError(t, traces.Close(t.Context()))
	spans := receiver.Spans()
	require.Len(t, spans, 1)
	require.Equal(t, "asked for", spans[0].Name)
	require.Equal(t, "0200000000000000", spans[0].Parent)
}

// refusing is an exporter whose receiver takes nothing while fail is set.
type refusing struct{ err error }

func (r *refusing) ExportSpans(context.Context, []sdktrace.ReadOnlySpan) error { return r.err }
func (r *refusing) Shutdown(context.Context) error                             { return nil }

func TestAReceiverThatTakesNothingIsNamedOnceAMinute(t *testing.T) {
	log := &safeBuffer{}
	now := time.Unix(1000, 0)
	inner := &refusing{err: context.DeadlineExceeded}
	r := &reporting{SpanExporter: inner, log: hclog.New(&hclog.LoggerOptions{Output: log}), now: func() time.Time { return now }}
	batch := make([]sdktrace.ReadOnlySpan, 3)
	for range 10 {
		require.NoError(t, r.ExportSpans(t.Context(), batch))
	}
	require.Equal(t, 1, strings.Count(log.text(), "traces cannot be sent"))
	now = now.Add(quietTime)
	require.NoError(t, r.ExportSpans(t.Context(), batch))
	require.Equal(t, 2, strings.Count(log.text(), "traces cannot be sent"))
	require.Contains(t, log.text(), "lost_spans=33")
	inner.err = nil
	require.NoError(t, r.ExportSpans(t.Context(), batch))
	require.Contains(t, log.text(), "traces can be sent again")
}

func TestTheEndDoesNotWaitForAReceiverThatIsSilent(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0") // takes connections, never answers
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, l.Close()) })
	traces, log := openTo(t, "http://"+l.Addr().String()+"/v1/traces", 1)
	_, span := traces.Tracer().Start(t.Context(), "lost")
	span.End()
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	require.NoError(t, traces.Close(ctx))
	require.Contains(t, log.text(), "not all traces could be sent")
}

func TestARefusalOfTheReceiverIsLoggedAndHoldsNothingUp(t *testing.T) {
	receiver := telemetrytest.Receive(t)
	receiver.Answer(http.StatusForbidden)
	traces, log := openTo(t, receiver.URL+"/v1/traces", 1)
	for range 2 * queueSpans { // more than may wait
		_, span := traces.Tracer().Start(t.Context(), "refused")
		span.End()
	}
	require.NoError(t, traces.Close(t.Context()))
	require.Positive(t, receiver.Calls())
	require.Empty(t, receiver.Spans())
	require.Equal(t, 1, strings.Count(log.text(), "traces cannot be sent"))
	require.Contains(t, log.text(), "403")
}
