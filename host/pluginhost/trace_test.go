package pluginhost

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"strings"
	"sync"
	"testing"

	"github.com/hashicorp/go-hclog"
	"github.com/stretchr/testify/require"

	"github.com/rivergate/rivergate/sdk/protocol"
)

const tracedSchema = `{"type":"object","properties":{
	"url":{"type":"string"},
	"token":{"type":"string","writeOnly":true},
	"key":{"$ref":"#/$defs/key"},
	"nested":{"type":"object","properties":{"password":{"type":"string","format":"password"}}},
	"elsewhere":{"$ref":"https://example.com/schema"},
	"limit":{"type":"integer"}
},"$defs":{"key":{"type":"integer","writeOnly":true}}}`

const tracedConfig = `{"url":"http://plain.example","token":"t0p\"secret","key":12345678,"nested":{"password":"hunter2"},"elsewhere":"far","undeclared":"odd-one","limit":7}`

// tracedPlugin answers as a plugin would that quotes rows and secrets in whatever it says.
type tracedPlugin struct {
	protocol.Storage
	acks chan protocol.Ack
}

func (p *tracedPlugin) Handshake(context.Context, protocol.Hello) (protocol.Hello, error) {
	return protocol.Hello{Versions: []uint32{1}, Software: "sdk/1"}, nil
}

func (p *tracedPlugin) Describe(context.Context) (protocol.Description, error) {
	return protocol.Description{Name: "acme", Version: "1.0.0", Kind: protocol.KindPusher, ConfigSchema: json.RawMessage(tracedSchema)}, nil
}

func (p *tracedPlugin) Configure(context.Context, string, json.RawMessage) ([]protocol.ConfigProblem, error) {
	return []protocol.ConfigProblem{{Field: "token", Reason: `t0p"secret is too short`}}, nil
}

func (p *tracedPlugin) Health(context.Context, string) error {
	return &protocol.Unhealthy{Reason: "hunter2 was refused, rowvalue"}
}

func (p *tracedPlugin) Drain(context.Context, string) error {
	return errors.New("12345678 and rowvalue")
}

func (p *tracedPlugin) Deliver(context.Context, string) (protocol.DeliverStream, error) {
	return p, nil
}

func (p *tracedPlugin) Send(batches ...*protocol.Batch) error {
	for _, b := range batches {
		p.acks <- protocol.Ack{ThroughSeq: b.Seq - 1, Working: true}
		p.acks <- protocol.Ack{ThroughSeq: b.Seq, Window: 3, Outcomes: []protocol.Outcome{
			{Position: b.Frames[0].Position, Row: 1, Class: protocol.Rejected, Code: "http_422", Message: `rowvalue, for t0p"secret`},
		}}
	}
	return nil
}

func (p *tracedPlugin) Recv() (protocol.Ack, error) {
	select {
	case ack := <-p.acks:
		return ack, nil
	default:
		return protocol.Ack{}, io.EOF
	}
}

func (p *tracedPlugin) CloseSend() error { return nil }

type traceBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *traceBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

// traceAll makes every call once and returns the log. What the plugin answers must come through unchanged.
func traceAll(t *testing.T, traces Traces) string {
	t.Helper()
	var out traceBuffer
	log := hclog.New(&hclog.LoggerOptions{Name: "acme", Output: &out, Level: hclog.Info})
	plugin := &tracedPlugin{acks: make(chan protocol.Ack, 8)}
	c := traces.Wrap()("acme", log, json.RawMessage(tracedSchema), plugin)

	_, err := c.Handshake(t.Context(), protocol.Hello{Versions: []uint32{2, 1}})
	require.NoError(t, err)
	d, err := c.Describe(t.Context())
	require.NoError(t, err)
	require.JSONEq(t, tracedSchema, string(d.ConfigSchema))
	problems, err := c.Configure(t.Context(), "acme", json.RawMessage(tracedConfig))
	require.NoError(t, err)
	require.Equal(t, []protocol.ConfigProblem{{Field: "token", Reason: `t0p"secret is too short`}}, problems)
	var unhealthy *protocol.Unhealthy
	require.ErrorAs(t, c.Health(t.Context(), "acme"), &unhealthy)

	stream, err := c.Deliver(t.Context(), "acme")
	require.NoError(t, err)
	data := []byte(`{"a":"rowvalue"}{"b":"hunter2"}`)
	require.NoError(t, stream.Send(&protocol.Batch{Seq: 1, Frames: []protocol.Frame{
		{OrgID: 7, UUID: "uuid-1", Position: 41, Data: data, Ends: []uint32{16, uint32(len(data))}},
	}}))
	working, err := stream.Recv()
	require.NoError(t, err)
	require.True(t, working.Working)
	ack, err := stream.Recv()
	require.NoError(t, err)
	require.Equal(t, `rowvalue, for t0p"secret`, ack.Outcomes[0].Message)
	require.NoError(t, stream.CloseSend())
	_, err = stream.Recv()
	require.ErrorIs(t, err, io.EOF)
	require.Error(t, c.Drain(t.Context(), "acme"))
	return out.b.String()
}

func TestATraceShowsEachBatchOfAPack(t *testing.T) {
	var out traceBuffer
	log := hclog.New(&hclog.LoggerOptions{Output: &out})
	c := Traces{Instances: []string{"acme"}}.Wrap()("acme", log, nil, &tracedPlugin{acks: make(chan protocol.Ack, 4)})
	stream, err := c.Deliver(t.Context(), "acme")
	require.NoError(t, err)
	frame := protocol.Frame{UUID: "u", Data: []byte(`{}`), Ends: []uint32{2}}
	require.NoError(t, stream.Send(&protocol.Batch{Seq: 1, Frames: []protocol.Frame{frame}}, &protocol.Batch{Seq: 2, Frames: []protocol.Frame{frame, frame}}))
	require.Contains(t, out.b.String(), "seq=1 rows=1 bytes=2")
	require.Contains(t, out.b.String(), "seq=2 rows=2 bytes=4")
}

func TestATraceShowsEveryMessageInBothDirections(t *testing.T) {
	log := traceAll(t, Traces{Instances: []string{"acme"}})
	at := 0
	for _, message := range []string{
		"to plugin: Handshake", "from plugin: Handshake", "to plugin: Describe", "from plugin: Describe", "name=acme",
		"to plugin: Configure", "from plugin: Configure", "field=token", "to plugin: Health", "from plugin: Health", "error=unhealthy",
		"to plugin: Deliver opens", "from plugin: Deliver opened",
		"to plugin: batch", "seq=1 rows=2 bytes=31", `uuid=\"uuid-1\" org=7 position=41 rows=2 bytes=31`,
		"from plugin: working", "from plugin: ack", "through_seq=1", "took=", "window=3", "position=41 row=1 rejected http_422",
		"to plugin: no more batches", "from plugin: stream ends", "to plugin: Drain", "from plugin: Drain", "error=failed",
	} {
		found := strings.Index(log[at:], message)
		require.GreaterOrEqual(t, found, 0, "%q is not behind byte %d of\n%s", message, at, log)
		at += found
	}
}

func TestATraceHoldsNoValueUnlessAsked(t *testing.T) {
	log := traceAll(t, Traces{Instances: []string{"*"}})
	for _, value := range []string{"rowvalue", "hunter2", "t0p", "12345678", "plain.example", "odd-one", "far", `"a"`} {
		require.NotContains(t, log, value)
	}
}

func TestATraceWithDataStillMasksSecretsWhereverTheyTurnUp(t *testing.T) {
	log := traceAll(t, Traces{Instances: []string{"acme"}, Data: true})
	for _, shown := range []string{"rowvalue", "http://plain.example", `\"limit\":7`} {
		require.Contains(t, log, shown)
	}
	for _, secret := range []string{"hunter2", "t0p", "12345678", "odd-one", "far"} {
		require.NotContains(t, log, secret, "a value that the schema marks as secret, or does not declare openly")
	}
}

func TestASchemaThatIsLearntFromDescribeMasksAsWell(t *testing.T) {
	var out traceBuffer
	log := hclog.New(&hclog.LoggerOptions{Output: &out})
	c := Traces{Instances: []string{"acme"}, Data: true}.Wrap()("acme", log, nil, &tracedPlugin{})
	_, err := c.Configure(t.Context(), "acme", json.RawMessage(tracedConfig))
	require.NoError(t, err)
	require.NotContains(t, out.b.String(), "plain.example", "nothing is declared yet, so everything is masked")
	_, err = c.Describe(t.Context())
	require.NoError(t, err)
	_, err = c.Configure(t.Context(), "acme", json.RawMessage(tracedConfig))
	require.NoError(t, err)
	require.Contains(t, out.b.String(), "plain.example")
	require.NotContains(t, out.b.String(), "hunter2")
}

func TestWhatIsNotTracedIsNotTouched(t *testing.T) {
	require.Nil(t, Traces{Data: true}.Wrap(), "nothing is traced: the host has nothing to call")
	plugin := &tracedPlugin{}
	got := Traces{Instances: []string{"other"}}.Wrap()("acme", hclog.NewNullLogger(), nil, plugin)
	require.Same(t, plugin, got)
}

func TestALargeBatchIsCutInTheTrace(t *testing.T) {
	var out traceBuffer
	log := hclog.New(&hclog.LoggerOptions{Output: &out})
	c := Traces{Instances: []string{"acme"}, Data: true}.Wrap()("acme", log, nil, &tracedPlugin{acks: make(chan protocol.Ack, 2)})
	stream, err := c.Deliver(t.Context(), "acme")
	require.NoError(t, err)
	row := []byte(`{"a":"` + strings.Repeat("x", 1000) + `"}`)
	frames := make([]protocol.Frame, 100)
	for i := range frames {
		frames[i] = protocol.Frame{UUID: "u", Position: uint64(i), Data: row, Ends: []uint32{uint32(len(row))}}
	}
	require.NoError(t, stream.Send(&protocol.Batch{Seq: 1, Frames: frames}))
	require.Contains(t, out.b.String(), "and 80 more")
	require.Less(t, out.b.Len(), 2*traceBytes)
}

func TestARealPluginIsTracedThroughTheHostFromConfigureToDrain(t *testing.T) {
	w := newWorld(t, func(o *Options) { o.Wrap = Traces{Instances: []string{"traced"}}.Wrap() })
	w.install("crash", "traced")
	w.install("crash", "other")
	w.start(acme("traced", "CRASH_ON", "settingvalue"), acme("other", "CRASH_ON", "settingvalue"))
	for _, name := range []string{"traced", "other"} {
		w.pid(name)
		s := w.open(name)
		deliver(t, s, batch(1, 41, `{"a":"rowvalue"}`))
		s.Close()
	}
	require.NoError(t, w.host.Stop(t.Context()))
	log := w.log.text()
	for _, message := range []string{"to plugin: Configure", "to plugin: Health", "to plugin: Deliver opens", "to plugin: batch", "position=41 rows=1 bytes=16", "from plugin: ack", "to plugin: Drain"} {
		require.Contains(t, log, message)
	}
	require.Contains(t, log, "traced.trace: to plugin: batch")
	require.NotContains(t, log, "other.trace", "only what is traced is logged")
	for _, value := range []string{"rowvalue", "settingvalue"} {
		require.NotContains(t, log, value)
	}
}
