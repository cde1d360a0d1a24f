package delivery

import (
	"cmp"
	"context"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/propagation"
	"go.opentelemetry.io/otel/trace"

	"github.com/rivergate/rivergate/sdk/protocol"
)

// Each attempt at a frame of a traced request is one span, from the sending of its batch to the acknowledgement, as a child
// of the span in which the request was accepted. A frame that is cut into several batches has several. Frames that are not
// traced cost nothing but the look at an empty string.

// flight is a span under way.
type flight struct {
	trace.Span
	piece int // of the batch
}

// gaveUp is the rows that went to the dead letters since it was cleared.
type gaveUp struct {
	rows   int
	reason string
}

// outcomeNone is the outcome of rows about which nothing was said before the stream ended.
const outcomeNone = "none"

// depart starts the spans of a batch. What the plugin sends on belongs to the attempt: its frames carry that span.
func (c *chain) depart(b *batch, frames []protocol.Frame) {
	if c.d.tracer == nil {
		return
	}
	for i := range frames {
		if frames[i].TraceParent == "" {
			continue
		}
		span := c.startSpan(b, &b.pieces[i])
		if span == nil {
			continue
		}
		if sc := span.SpanContext(); sc.IsSampled() {
			frames[i].TraceParent = "00-" + sc.TraceID().String() + "-" + sc.SpanID().String() + "-" + sc.TraceFlags().String()
		}
		b.flights = append(b.flights, flight{span, i})
	}
}

// startSpan starts the span of one attempt; nil when the piece names no span that can be a parent.
func (c *chain) startSpan(b *batch, p *piece) trace.Span {
	ctx := propagation.TraceContext{}.Extract(context.Background(), propagation.MapCarrier{"traceparent": p.TraceParent})
	if !trace.SpanContextFromContext(ctx).IsValid() {
		return nil
	}
	attempt := p.tries() + 1
	if b.suspect != nil {
		attempt += b.suspect.crashes
	}
	_, span := c.d.tracer.Start(ctx, "deliver "+c.Name, trace.WithSpanKind(trace.SpanKindClient), trace.WithAttributes(
		attribute.String("rivergate.pusher", c.Name),
		attribute.String("rivergate.delivery_id", DeliveryID(p.origin)),
		attribute.Int64("rivergate.position", int64(p.Position)),
		attribute.Int("rivergate.rows", p.Len()),
		attribute.Int("rivergate.attempt", attempt),
	))
	return span
}

// arrive ends the span of one piece, when it has one, with what the plugin said of its rows.
func (c *chain) arrive(b *batch, piece int, answers []answer) {
	for len(b.flights) > 0 && b.flights[0].piece < piece {
		b.flights = b.flights[1:]
	}
	if len(b.flights) == 0 || b.flights[0].piece != piece {
		return
	}
	span := b.flights[0]
	b.flights = b.flights[1:]
	defer span.End()
	if !span.IsRecording() {
		return
	}
	counts := make(map[protocol.Class]int)
	worst := &protocol.Outcome{Class: protocol.Delivered}
	for i := range answers {
		o := &answers[i].Outcome
		counts[o.Class]++
		if severity[o.Class] > severity[worst.Class] {
			worst = o
		}
	}
	if n := b.pieces[piece].Len() - len(answers); n > 0 {
		counts[protocol.Delivered] = n
	}
	span.SetAttributes(attribute.String("rivergate.outcome", worst.Class.String()))
	for class, n := range counts {
		span.SetAttributes(attribute.Int("rivergate.rows."+class.String(), n))
	}
	if c.gaveUp.rows > 0 {
		span.SetAttributes(attribute.Int("rivergate.dead_letters", c.gaveUp.rows))
	}
	if severity[worst.Class] >= severity[protocol.Throttled] {
		span.SetStatus(codes.Error, cmp.Or(reasonOf(worst), worst.Class.String()))
	}
}

// severity orders classes for a span that tells of many rows; from Throttled on, it ends with an error.
var severity = [...]int{
	protocol.Delivered: 0, protocol.Duplicate: 1, protocol.Skipped: 2, protocol.Throttled: 3, protocol.Retry: 4,
	protocol.Unauthenticated: 5, protocol.Rejected: 6, protocol.Poison: 7,
}

// crash ends the spans of a batch that was not acknowledged.
func (c *chain) crash(b *batch, reason string) {
	outcome := outcomeNone
	if c.gaveUp.rows > 0 {
		outcome, reason = protocol.Poison.String(), c.gaveUp.reason
	}
	for _, span := range b.flights {
		span.SetAttributes(attribute.String("rivergate.outcome", outcome))
		if c.gaveUp.rows > 0 {
			span.SetAttributes(attribute.Int("rivergate.dead_letters", c.gaveUp.rows))
		}
		span.SetStatus(codes.Error, reason)
		span.End()
	}
	b.flights = nil
}

// refuse is the span of a row that is not sent at all.
func (c *chain) refuse(b *batch, p *piece) {
	if c.d.tracer == nil || p.TraceParent == "" {
		return
	}
	if span := c.startSpan(b, p); span != nil {
		span.SetAttributes(attribute.String("rivergate.outcome", protocol.Rejected.String()), attribute.Int("rivergate.dead_letters", c.gaveUp.rows))
		span.SetStatus(codes.Error, c.gaveUp.reason)
		span.End()
	}
}
