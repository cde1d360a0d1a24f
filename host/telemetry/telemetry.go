// Package telemetry sends traces over OTLP/HTTP. It holds nothing up: spans wait in a queue of bounded size, are sent in
// batches by one goroutine, and are dropped when nobody takes them. There is no global state of OpenTelemetry in it.
package telemetry

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/hashicorp/go-hclog"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/exporters/otlp/otlptrace/otlptracehttp"
	"go.opentelemetry.io/otel/sdk/resource"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/trace"
)

const (
	scope = "github.com/rivergate/rivergate"

	exportTimeout = 10 * time.Second // of one batch, retries included
	batchTime     = time.Second      // a span waits so long at most before it is sent
	queueSpans    = 8192             // that wait; more are dropped
	batchSpans    = 512
	quietTime     = time.Minute // between two complaints about the receiver
)

// Options says where traces go.
type Options struct {
	Endpoint string  // whole address of the OTLP/HTTP receiver, http://127.0.0.1:4318/v1/traces
	Sample   float64 // share of the requests without a traceparent that are traced, 0 to 1
	Version  string  // of the host
	Log      hclog.Logger
}

// Traces makes spans and sends them. Nil makes none: its methods may be called.
type Traces struct {
	provider *sdktrace.TracerProvider
	exporter *reporting
}

// Open prepares sending; nothing is connected to yet. With an empty endpoint it returns nil: no traces.
func Open(ctx context.Context, o Options) (*Traces, error) {
	if o.Endpoint == "" {
		return nil, nil //nolint:nilnil // nil is the Traces that makes none
	}
	otlp, err := otlptracehttp.New(ctx, otlptracehttp.WithEndpointURL(o.Endpoint), otlptracehttp.WithTimeout(exportTimeout))
	if err != nil {
		return nil, fmt.Errorf("prepare sending traces: %w", err)
	}
	// What the operator says in OTEL_SERVICE_NAME and OTEL_RESOURCE_ATTRIBUTES comes last, so it counts.
	about, err := resource.New(ctx,
		resource.WithAttributes(attribute.String("service.name", "rivergate"), attribute.String("service.version", o.Version)),
		resource.WithHost(), resource.WithTelemetrySDK(), resource.WithFromEnv())
	if err != nil && !errors.Is(err, resource.ErrPartialResource) {
		return nil, errors.Join(fmt.Errorf("describe this host for traces: %w", err), otlp.Shutdown(ctx))
	}
	exporter := &reporting{SpanExporter: otlp, log: o.Log, now: time.Now}
	return &Traces{exporter: exporter, provider: sdktrace.NewTracerProvider(
		sdktrace.WithResource(about),
		sdktrace.WithSampler(sdktrace.ParentBased(sdktrace.TraceIDRatioBased(o.Sample))),
		sdktrace.WithBatcher(exporter, sdktrace.WithBatchTimeout(batchTime), sdktrace.WithExportTimeout(exportTimeout),
			sdktrace.WithMaxQueueSize(queueSpans), sdktrace.WithMaxExportBatchSize(batchSpans)),
	)}, nil
}

// Tracer makes spans; nil when there are none to make.
func (t *Traces) Tracer() trace.Tracer {
	if t == nil {
		return nil
	}
	return t.provider.Tracer(scope)
}

// Close sends what waits, until ctx ends. The spans that are left then are lost, and the log says so.
func (t *Traces) Close(ctx context.Context) error {
	if t == nil {
		return nil
	}
	err := t.provider.Shutdown(ctx)
	if errors.Is(err, context.DeadlineExceeded) || errors.Is(err, context.Canceled) {
		t.exporter.log.Warn("not all traces could be sent before the end")
		return nil
	}
	if err != nil {
		return fmt.Errorf("end sending traces: %w", err)
	}
	return nil
}
