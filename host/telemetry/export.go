package telemetry

import (
	"context"
	"sync"
	"time"

	"github.com/hashicorp/go-hclog"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
)

// reporting says in the log when spans cannot be sent, at most once a minute, instead of leaving that to the one error
// handler that OpenTelemetry has for the whole process.
type reporting struct {
	sdktrace.SpanExporter
	log hclog.Logger
	now func() time.Time

	mu      sync.Mutex
	said    time.Time // zero: never
	lost    int       // spans since then
	failing bool
}

// ExportSpans implements sdktrace.SpanExporter. It never fails: nobody above could do better than drop the spans.
func (r *reporting) ExportSpans(ctx context.Context, spans []sdktrace.ReadOnlySpan) error {
	err := r.SpanExporter.ExportSpans(ctx, spans)
	r.mu.Lock()
	defer r.mu.Unlock()
	if err == nil {
		if r.failing {
			r.failing = false
			r.log.Info("traces can be sent again", "lost_spans", r.lost)
			r.lost, r.said = 0, time.Time{}
		}
		return nil
	}
	r.failing = true
	r.lost += len(spans)
	if now := r.now(); r.said.IsZero() || now.Sub(r.said) >= quietTime {
		r.said = now
		r.log.Warn("traces cannot be sent; rows are not affected", "error", err, "lost_spans", r.lost)
	}
	return nil
}
