package gateway

import (
	"context"
	"strings"

	"github.com/gofiber/fiber/v2"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/propagation"
	"go.opentelemetry.io/otel/trace"

	"github.com/rivergate/rivergate/services/gateway/intake"
	"github.com/rivergate/rivergate/services/gateway/journal"
	"github.com/rivergate/rivergate/services/platform/api"
)

// traceContext reads and writes the W3C headers traceparent and tracestate.
var traceContext propagation.TraceContext

// traced goes around taking a data request when there is a tracer: a span from here to the answer, child of what the client's
// traceparent names. Delivery's spans hang on it, through the record's TraceParent.
func (s *Service) traced(c *fiber.Ctx, form intake.Form, route string) error {
	name := "POST /data"
	if form == intake.Batch {
		name = "POST /data/batch"
	}
	parent := traceContext.Extract(s.life, requestHeaders{c})
	ctx, span := s.tracer.Start(parent, name, trace.WithSpanKind(trace.SpanKindServer))
	defer span.End()
	err := s.take(ctx, c, form, route)
	if err != nil {
		err = s.answerTo(err)
	}
	if !span.IsRecording() {
		return err
	}
	caller, status := api.CallerOf(c), c.Response().StatusCode()
	if err != nil {
		status = api.AsError(err).Status
		span.SetAttributes(attribute.String("error.type", rejectReason(err)))
	}
	if status >= fiber.StatusInternalServerError {
		span.SetStatus(codes.Error, rejectReason(err))
	}
	span.SetAttributes(
		attribute.String("http.request.method", fiber.MethodPost),
		attribute.String("http.route", c.Route().Path),
		attribute.Int("http.response.status_code", status),
		attribute.String("rivergate.request_id", caller.RequestID),
		attribute.Int64("rivergate.org", int64(caller.OrgID)),
	)
	return err
}

// nameRows says on the request's span what it brought, and hands the span down to delivery: it is in the record when it is
// sampled.
func nameRows(ctx context.Context, record *journal.Record) {
	span := trace.SpanFromContext(ctx)
	if !span.SpanContext().IsSampled() {
		return
	}
	record.TraceParent = traceParent(span.SpanContext())
	span.SetAttributes(
		attribute.String("rivergate.uuid", strings.Clone(record.UUID)), // the body's memory is used again
		attribute.Int("rivergate.rows", len(record.Ends)),
		attribute.Int("rivergate.bytes", len(record.Data)),
	)
}

// appendRecord makes the record durable, within a span of its own when the request has one.
func (s *Service) appendRecord(ctx context.Context, record *journal.Record) error {
	if s.tracer == nil {
		_, err := s.journal.Append(s.toTheEnd, record)
		return err
	}
	_, span := s.tracer.Start(ctx, "journal append")
	defer span.End()
	position, err := s.journal.Append(s.toTheEnd, record)
	if err != nil {
		span.SetStatus(codes.Error, rejectReason(err))
		return err
	}
	if span.IsRecording() {
		span.SetAttributes(attribute.Int64("rivergate.position", int64(position)))
	}
	return nil
}

// traceParent is the W3C form of a span: 00-<trace id>-<span id>-<flags>.
func traceParent(sc trace.SpanContext) string {
	return "00-" + sc.TraceID().String() + "-" + sc.SpanID().String() + "-" + sc.TraceFlags().String()
}

// requestHeaders lets the propagator read the headers of a request.
type requestHeaders struct{ c *fiber.Ctx }

func (h requestHeaders) Get(name string) string { return string(h.c.Request().Header.Peek(name)) }
func (h requestHeaders) Set(string, string)     {}
func (h requestHeaders) Keys() []string         { return nil }
