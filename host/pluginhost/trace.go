package pluginhost

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/hashicorp/go-hclog"

	"github.com/rivergate/rivergate/sdk/protocol"
	"github.com/rivergate/rivergate/sdk/wire"
)

const (
	traceEveryone = "*"
	traceItems    = 20       // frames or outcomes of one message that are listed
	traceBytes    = 16 << 10 // of the rows of one message that are shown
	traceCode     = 64       // bytes of an outcome's code
)

// Traces says of which instances every message to and from the plugin is logged.
//
// By default a line holds what the message is made of (kinds, numbers, uuids, positions, sizes, classes and codes), and no
// value that a client or an operator wrote, nor any text that a plugin made of them.
type Traces struct {
	Instances []string // names; "*": all
	Data      bool     // rows, configuration and messages too. What the schema marks as secret stays masked
}

// Wrap is what Options.Wrap takes. It is nil when nothing is traced, so that tracing costs nothing then. schema is the
// plugin's configuration schema, or nil when it is not known yet: then it is learnt from Describe.
func (t Traces) Wrap() func(instance string, log hclog.Logger, schema json.RawMessage, c protocol.Client) protocol.Client {
	if len(t.Instances) == 0 {
		return nil
	}
	return func(instance string, log hclog.Logger, schema json.RawMessage, c protocol.Client) protocol.Client {
		if !slices.Contains(t.Instances, instance) && !slices.Contains(t.Instances, traceEveryone) {
			return c
		}
		return &tracedClient{Client: c, log: log.Named("trace"), data: t.Data, schema: schema}
	}
}

// tracedClient logs the calls of one process and passes them on.
type tracedClient struct {
	protocol.Client
	log  hclog.Logger
	data bool

	mu      sync.Mutex
	schema  json.RawMessage
	secrets *strings.Replacer // of the values that the last Configure carried; nil: none
}

func (t *tracedClient) sent(message string, fields ...any) {
	t.log.Info("to plugin: "+message, fields...)
}

// answered logs the end of a call that began at since.
func (t *tracedClient) answered(message string, since time.Time, err error, fields ...any) {
	fields = append(fields, "took", time.Since(since).Round(time.Microsecond).String())
	if err != nil {
		fields = append(fields, "error", t.errorText(err))
	}
	t.log.Info("from plugin: "+message, fields...)
}

func (t *tracedClient) Handshake(ctx context.Context, host protocol.Hello) (protocol.Hello, error) {
	began := time.Now()
	t.sent("Handshake", "versions", host.Versions)
	hello, err := t.Client.Handshake(ctx, host)
	t.answered("Handshake", began, err, "versions", hello.Versions, "capabilities", hello.Capabilities, "sdk", printable(hello.Software),
		"max_batch_rows", hello.Limits.MaxBatchRows, "max_batch_bytes", hello.Limits.MaxBatchBytes)
	return hello, err
}

func (t *tracedClient) Describe(ctx context.Context) (protocol.Description, error) {
	began := time.Now()
	t.sent("Describe")
	d, err := t.Client.Describe(ctx)
	if err == nil {
		t.mu.Lock()
		t.schema = d.ConfigSchema
		t.mu.Unlock()
	}
	t.answered("Describe", began, err, "name", printable(d.Name), "version", printable(d.Version), "kind", string(d.Kind), "schema_bytes", len(d.ConfigSchema))
	return d, err
}

func (t *tracedClient) Configure(ctx context.Context, instance string, config json.RawMessage) ([]protocol.ConfigProblem, error) {
	began := time.Now()
	t.mu.Lock()
	masked, secrets := maskConfig(t.schema, config)
	t.secrets = secrets
	t.mu.Unlock()
	fields := []any{"instance", instance, "bytes", len(config)}
	if t.data {
		fields = append(fields, "config", masked)
	}
	t.sent("Configure", fields...)
	problems, err := t.Client.Configure(ctx, instance, config)
	fields = []any{"instance", instance, "problems", len(problems)}
	for _, p := range problems {
		fields = append(fields, "field", printable(p.Field))
		if t.data {
			fields = append(fields, "reason", t.text(p.Reason))
		}
	}
	t.answered("Configure", began, err, fields...)
	return problems, err
}

func (t *tracedClient) Health(ctx context.Context, instance string) error {
	began := time.Now()
	t.sent("Health", "instance", instance)
	err := t.Client.Health(ctx, instance)
	t.answered("Health", began, err, "instance", instance, "healthy", err == nil)
	return err
}

func (t *tracedClient) Drain(ctx context.Context, instance string) error {
	began := time.Now()
	t.sent("Drain", "instance", instance)
	err := t.Client.Drain(ctx, instance)
	t.answered("Drain", began, err, "instance", instance)
	return err
}

func (t *tracedClient) Deliver(ctx context.Context, instance string) (protocol.DeliverStream, error) {
	began := time.Now()
	t.sent("Deliver opens", "instance", instance)
	stream, err := t.Client.Deliver(ctx, instance)
	t.answered("Deliver opened", began, err, "instance", instance)
	if err != nil {
		return nil, err
	}
	return &tracedStream{DeliverStream: stream, t: t, instance: instance}, nil
}

// tracedStream logs the batches and acknowledgements of one delivery stream.
type tracedStream struct {
	protocol.DeliverStream
	t        *tracedClient
	instance string

	mu    sync.Mutex
	waits []sentBatch // not acknowledged, in order
}

type sentBatch struct {
	seq uint64
	at  time.Time
}

func (s *tracedStream) Send(batches ...*protocol.Batch) error {
	lines, now := make([][]any, len(batches)), time.Now()
	s.mu.Lock()
	for i, b := range batches {
		lines[i] = s.batchFields(b)
		s.waits = append(s.waits, sentBatch{b.Seq, now})
	}
	s.mu.Unlock()
	err := s.DeliverStream.Send(batches...)
	for _, fields := range lines {
		if err != nil {
			fields = append(fields, "error", s.t.errorText(err))
		}
		s.t.sent("batch", fields...)
	}
	return err
}

func (s *tracedStream) batchFields(b *protocol.Batch) []any {
	rows, bytes := 0, 0
	frames := make([]string, 0, min(len(b.Frames), traceItems)+1)
	for i := range b.Frames {
		f := &b.Frames[i]
		rows += f.Len()
		bytes += len(f.Data)
		if i < traceItems {
			frames = append(frames, fmt.Sprintf("uuid=%q org=%d position=%d rows=%d bytes=%d", f.UUID, f.OrgID, f.Position, f.Len(), len(f.Data)))
		}
	}
	fields := []any{"instance", s.instance, "seq", b.Seq, "rows", rows, "bytes", bytes, "ordered", b.Ordered, "frames", more(frames, len(b.Frames))}
	if s.t.data {
		fields = append(fields, "data", s.t.rowsText(b.Frames))
	}
	return fields
}

func (s *tracedStream) Recv() (protocol.Ack, error) {
	ack, err := s.DeliverStream.Recv()
	if err != nil {
		s.t.log.Info("from plugin: stream ends", "instance", s.instance, "error", s.t.errorText(err))
		return ack, err
	}
	fields := []any{"instance", s.instance, "through_seq", ack.ThroughSeq}
	if ack.Working {
		s.t.log.Info("from plugin: working", fields...)
		return ack, nil
	}
	if at := s.settle(ack.ThroughSeq); !at.IsZero() {
		fields = append(fields, "took", time.Since(at).Round(time.Microsecond).String())
	}
	fields = append(fields, "window", ack.Window)
	outcomes := make([]string, 0, min(len(ack.Outcomes), traceItems)+1)
	for _, o := range ack.Outcomes[:min(len(ack.Outcomes), traceItems)] {
		outcomes = append(outcomes, s.outcomeText(o))
	}
	fields = append(fields, "outcomes", more(outcomes, len(ack.Outcomes)))
	s.t.log.Info("from plugin: ack", fields...)
	return ack, nil
}

func (s *tracedStream) CloseSend() error {
	err := s.DeliverStream.CloseSend()
	fields := []any{"instance", s.instance}
	if err != nil {
		fields = append(fields, "error", s.t.errorText(err))
	}
	s.t.sent("no more batches", fields...)
	return err
}

// settle forgets the batches up to through, and returns when the last of them was sent.
func (s *tracedStream) settle(through uint64) (sent time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for len(s.waits) > 0 && s.waits[0].seq <= through {
		sent = s.waits[0].at
		s.waits = s.waits[1:]
	}
	return sent
}

func (s *tracedStream) outcomeText(o protocol.Outcome) string {
	code := printable(o.Code)
	if len(code) > traceCode {
		code = strings.ToValidUTF8(code[:traceCode], "") + "…"
	}
	text := fmt.Sprintf("position=%d row=%d %s %s", o.Position, o.Row, o.Class, code)
	if o.RetryAfter > 0 {
		text += " retry_after=" + o.RetryAfter.String()
	}
	if s.t.data && o.Message != "" {
		text += ": " + s.t.text(o.Message)
	}
	return text
}

// more says how many items of a list are not shown.
func more(shown []string, all int) []string {
	if rest := all - len(shown); rest > 0 {
		shown = append(shown, fmt.Sprintf("and %d more", rest))
	}
	return shown
}

// rowsText is the rows' own bytes, one after another, cut at traceBytes.
func (t *tracedClient) rowsText(frames []protocol.Frame) string {
	var b strings.Builder
	for i := range frames {
		for n := range frames[i].Len() {
			row := frames[i].Row(n)
			if b.Len()+len(row) > traceBytes {
				b.WriteString(" …")
				return t.text(b.String())
			}
			if b.Len() > 0 {
				b.WriteByte(' ')
			}
			b.Write(row)
		}
	}
	return t.text(b.String())
}

// text is a text that may be shown when data are: without the secrets that were configured.
func (t *tracedClient) text(s string) string {
	t.mu.Lock()
	secrets := t.secrets
	t.mu.Unlock()
	if secrets != nil {
		s = secrets.Replace(s)
	}
	return printable(s)
}

// errorText names the sort of an error. Its text may quote a row or a setting, so it is shown only with the data.
func (t *tracedClient) errorText(err error) string {
	if t.data {
		return t.text(err.Error())
	}
	var unhealthy *protocol.Unhealthy
	switch {
	case errors.As(err, &unhealthy):
		return "unhealthy"
	case errors.Is(err, io.EOF):
		return "end of stream"
	case errors.Is(err, context.DeadlineExceeded):
		return "deadline exceeded"
	case errors.Is(err, context.Canceled):
		return "cancelled"
	case errors.Is(err, protocol.ErrUnknownInstance):
		return "unknown instance"
	case errors.Is(err, protocol.ErrMalformed):
		return "protocol violation"
	case wire.IsGone(err):
		return "the plugin is gone"
	}
	return "failed"
}
