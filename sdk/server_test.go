package sdk_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/hashicorp/go-hclog"
	"github.com/stretchr/testify/require"

	"github.com/rivergate/rivergate/sdk"
	"github.com/rivergate/rivergate/sdk/plugintest"
	"github.com/rivergate/rivergate/sdk/protocol"
	"github.com/rivergate/rivergate/sdk/wire"
)

// recorder writes down what the SDK does with its instances.
type recorder struct {
	mu     sync.Mutex
	events []string

	entered chan string            // one value per Deliver call that begins, when not nil
	leave   chan error             // what such a call returns
	deliver func(*sdk.Batch) error // otherwise
}

func (r *recorder) say(format string, args ...any) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.events = append(r.events, fmt.Sprintf(format, args...))
}

func (r *recorder) said() []string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return append([]string(nil), r.events...)
}

type probe struct {
	Name string `config:"name" required:"true" enum:"red,blue" doc:"A colour."`
	Sick bool   `config:"sick"`
	Bad  bool   `config:"bad"`

	on *recorder
}

func (p *probe) Open(_ context.Context, env sdk.Env) error {
	p.on.say("open %s %s", env.Instance, p.Name)
	if p.Bad {
		return errors.Join(sdk.FieldError("name", errors.New("cannot be reached")), errors.New("and more"))
	}
	return nil
}

func (p *probe) Health(context.Context) error {
	if p.Sick {
		return errors.New("not well")
	}
	return nil
}

func (p *probe) Deliver(ctx context.Context, b *sdk.Batch) error {
	for row := range b.Rows() {
		p.on.say("row %s %s", p.Name, row.JSON())
	}
	if p.on.entered != nil {
		p.on.entered <- p.Name
		select {
		case err := <-p.on.leave:
			return err
		case <-ctx.Done():
			p.on.say("broken off %s", p.Name)
			return ctx.Err()
		}
	}
	if p.on.deliver != nil {
		return p.on.deliver(b)
	}
	return nil
}

func (p *probe) Close(context.Context) error {
	p.on.say("close %s", p.Name)
	return nil
}

func pluginOf(on *recorder) sdk.Plugin {
	return sdk.Plugin{
		Name: "probe", Version: "1.0.0", Summary: "Records.", MaxBatchRows: 500, MaxBatchBytes: 1 << 20, Window: 3,
		Pusher: func() sdk.Pusher { return &probe{on: on} },
	}
}

func deadline(t *testing.T) context.Context {
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	t.Cleanup(cancel)
	return ctx
}

func send(t *testing.T, s protocol.DeliverStream, seq uint64, rows ...string) {
	t.Helper()
	require.NoError(t, s.Send(&protocol.Batch{Seq: seq, Frames: []protocol.Frame{plugintest.Frame("u", rows...)}}))
}

func TestBatchesAreDeliveredInOrderAndEachIsAcknowledged(t *testing.T) {
	on := &recorder{}
	h := plugintest.Connect(t, pluginOf(on))
	require.Empty(t, h.Configure(map[string]any{"name": "red"}))
	s, err := h.Client.Deliver(deadline(t), plugintest.Instance)
	require.NoError(t, err)
	want := []string{"open test red"}
	for seq := range uint64(50) {
		send(t, s, seq+1, fmt.Sprintf(`{"n":%d}`, seq))
		want = append(want, fmt.Sprintf(`row red {"n":%d}`, seq))
	}
	require.NoError(t, s.CloseSend())
	for through := uint64(0); through < 50; {
		ack, err := s.Recv()
		require.NoError(t, err)
		require.Greater(t, ack.ThroughSeq, through)
		through = ack.ThroughSeq
		require.Equal(t, protocol.Ack{ThroughSeq: through, Window: 3}, ack)
	}
	_, err = s.Recv()
	require.Equal(t, io.EOF, err, "everything is acknowledged before the stream ends")
	require.Equal(t, want, on.said())
}

func TestTheHandshakeStatesLimitsAndAgreesOnAVersion(t *testing.T) {
	h := plugintest.Connect(t, pluginOf(&recorder{}))
	hello, err := h.Client.Handshake(deadline(t), protocol.Hello{Versions: []uint32{7, 1}})
	require.NoError(t, err)
	require.Equal(t, []uint32{1}, hello.Versions)
	require.Equal(t, protocol.Limits{MaxBatchBytes: 1 << 20, MaxBatchRows: 500}, hello.Limits)
	require.True(t, strings.HasPrefix(hello.Software, "rivergate-sdk-go/"))
	_, err = h.Client.Handshake(deadline(t), protocol.Hello{Versions: []uint32{7}})
	require.ErrorIs(t, err, protocol.ErrMalformed)
	require.ErrorContains(t, err, "[7]")
}

func TestConfigureReportsWhatIsWrongByProperty(t *testing.T) {
	on := &recorder{}
	h := plugintest.Connect(t, pluginOf(on))
	require.Equal(t, []protocol.ConfigProblem{
		{Field: "name", Reason: "is required: A colour."}, {Field: "nmae", Reason: "is not a known setting; name is"},
	}, h.Configure(map[string]any{"nmae": "red"}))
	require.Equal(t, []protocol.ConfigProblem{{Field: "name", Reason: `"green" is none of red, blue`}}, h.Configure(map[string]any{"name": "green"}))
	require.Empty(t, on.said(), "nothing was opened")
	require.Equal(t, []protocol.ConfigProblem{{Field: "name", Reason: "cannot be reached"}, {Reason: "and more"}}, h.Configure(map[string]any{"name": "red", "bad": true}))
	require.ErrorIs(t, h.Health(), protocol.ErrUnknownInstance)

	require.Empty(t, h.Configure(map[string]any{"name": "red"}))
	require.NotEmpty(t, h.Configure(map[string]any{"name": "green"}))
	require.NoError(t, h.Health(), "a configuration that is plainly wrong leaves the instance as it was")
}

func TestHealthAsksTheImplementation(t *testing.T) {
	h := plugintest.Start(t, pluginOf(&recorder{}), map[string]any{"name": "red", "sick": true})
	var unhealthy *protocol.Unhealthy
	require.ErrorAs(t, h.Health(), &unhealthy)
	require.Equal(t, "not well", unhealthy.Reason)
	require.NoError(t, h.Client.Health(deadline(t), ""), "the process is well")
	require.ErrorIs(t, h.Client.Health(deadline(t), "nobody"), protocol.ErrUnknownInstance)
}

func TestAnUnknownInstanceHasNoStream(t *testing.T) {
	h := plugintest.Connect(t, pluginOf(&recorder{}))
	_, err := h.Client.Deliver(deadline(t), "nobody")
	require.ErrorIs(t, err, protocol.ErrUnknownInstance)
	require.False(t, wire.IsGone(err))
	require.NoError(t, h.Client.Drain(deadline(t), "nobody"))
}

func TestABrokenStreamEndsTheCallAndTheNextOneWaitsForIt(t *testing.T) {
	on := &recorder{entered: make(chan string), leave: make(chan error)}
	h := plugintest.Connect(t, pluginOf(on))
	require.Empty(t, h.Configure(map[string]any{"name": "red"}))
	ctx, cancel := context.WithCancel(deadline(t))
	first, err := h.Client.Deliver(ctx, plugintest.Instance)
	require.NoError(t, err)
	send(t, first, 1, `1`)
	<-on.entered
	second, err := h.Client.Deliver(deadline(t), plugintest.Instance)
	require.NoError(t, err)
	send(t, second, 1, `2`)
	cancel()
	_, err = first.Recv()
	require.ErrorIs(t, err, context.Canceled)
	require.False(t, wire.IsGone(err), "it was the caller who left")
	<-on.entered
	on.leave <- nil
	ack, err := second.Recv()
	require.NoError(t, err)
	require.Equal(t, uint64(1), ack.ThroughSeq)
	require.Equal(t, []string{"open test red", "row red 1", "broken off red", "row red 2"}, on.said())
}

func TestReplacingAnInstanceClosesTheOldOneAfterItsBatch(t *testing.T) {
	on := &recorder{entered: make(chan string), leave: make(chan error)}
	h := plugintest.Connect(t, pluginOf(on))
	require.Empty(t, h.Configure(map[string]any{"name": "red"}))
	s, err := h.Client.Deliver(deadline(t), plugintest.Instance)
	require.NoError(t, err)
	send(t, s, 1, `1`)
	send(t, s, 2, `2`)
	<-on.entered

	replaced := make(chan []protocol.ConfigProblem, 1)
	go func() {
		problems, err := h.Client.Configure(deadline(t), plugintest.Instance, []byte(`{"name":"blue"}`))
		if err != nil {
			problems = append(problems, protocol.ConfigProblem{Reason: err.Error()})
		}
		replaced <- problems
	}()
	select {
	case <-replaced:
		t.Fatal("the instance was replaced while a batch was in hand")
	case on.leave <- errors.New("late"):
	}
	ack, err := s.Recv()
	require.NoError(t, err)
	require.Len(t, ack.Outcomes, 1)
	// The second batch may have been taken just before the replacement was seen; then it is finished as well.
	for ended := false; !ended; {
		select {
		case <-on.entered:
			on.leave <- nil
		case problems := <-replaced:
			require.Empty(t, problems)
			ended = true
		}
	}
	events := on.said()
	require.Equal(t, []string{"close red", "open test blue"}, events[len(events)-2:])
}

func TestDrainFinishesClosesAndForgets(t *testing.T) {
	on := &recorder{}
	h := plugintest.Start(t, pluginOf(on), map[string]any{"name": "red"})
	require.Empty(t, h.Deliver(plugintest.Frame("a", `1`)))
	h.Drain()
	h.Drain()
	require.Equal(t, []string{"open test red", "row red 1", "close red"}, on.said())
	require.ErrorIs(t, h.Health(), protocol.ErrUnknownInstance)
}

func TestADrainThatCannotWaitBreaksTheBatchOff(t *testing.T) {
	on := &recorder{entered: make(chan string), leave: make(chan error)}
	h := plugintest.Connect(t, pluginOf(on))
	require.Empty(t, h.Configure(map[string]any{"name": "red"}))
	s, err := h.Client.Deliver(deadline(t), plugintest.Instance)
	require.NoError(t, err)
	send(t, s, 1, `1`)
	<-on.entered
	// Long enough to reach the plugin on a busy machine: one that never hears of Drain breaks nothing off.
	ctx, cancel := context.WithTimeout(t.Context(), 500*time.Millisecond)
	defer cancel()
	require.ErrorIs(t, h.Client.Drain(ctx, plugintest.Instance), context.DeadlineExceeded)
	_, err = s.Recv()
	require.True(t, wire.IsGone(err), "%v", err)
	require.NoError(t, h.Client.Drain(deadline(t), plugintest.Instance), "the next attempt goes on from there")
	require.Equal(t, []string{"open test red", "row red 1", "broken off red", "close red"}, on.said())
}

func TestOneProcessServesSeveralInstances(t *testing.T) {
	on := &recorder{entered: make(chan string, 2), leave: make(chan error)}
	h := plugintest.Connect(t, pluginOf(on))
	var streams []protocol.DeliverStream
	for _, name := range []string{"red", "blue"} {
		problems, err := h.Client.Configure(deadline(t), name, []byte(`{"name":"`+name+`"}`))
		require.NoError(t, err)
		require.Empty(t, problems)
		s, err := h.Client.Deliver(deadline(t), name)
		require.NoError(t, err)
		send(t, s, 1, `1`)
		streams = append(streams, s)
	}
	require.ElementsMatch(t, []string{"red", "blue"}, []string{<-on.entered, <-on.entered}, "both at the same time")
	for range streams {
		on.leave <- nil
	}
	for _, s := range streams {
		ack, err := s.Recv()
		require.NoError(t, err)
		require.Equal(t, uint64(1), ack.ThroughSeq)
	}
	require.NoError(t, h.Client.Drain(deadline(t), ""))
	require.ErrorIs(t, h.Client.Health(deadline(t), "blue"), protocol.ErrUnknownInstance)
}

func TestABatchOf20MiBArrivesByteForByte(t *testing.T) {
	row := `{"x":"` + strings.Repeat("y", 20<<20) + `"}`
	var got string
	on := &recorder{deliver: func(b *sdk.Batch) error {
		for r := range b.Rows() {
			got = string(r.JSON())
		}
		return nil
	}}
	p := pluginOf(on)
	p.Pusher = func() sdk.Pusher { return &quiet{on} }
	h := plugintest.Start(t, p, nil)
	require.Empty(t, h.Deliver(plugintest.Frame("a", row)))
	require.True(t, got == row)
}

func TestAHundredThousandLongErrorsFitOneAcknowledgement(t *testing.T) {
	long := errors.New(strings.Repeat("very long ", 1000))
	on := &recorder{deliver: func(*sdk.Batch) error { return long }}
	p := pluginOf(on)
	p.Pusher = func() sdk.Pusher { return &quiet{on} }
	h := plugintest.Start(t, p, nil)
	rows := make([]string, 100_000)
	for i := range rows {
		rows[i] = `{}`
	}
	outcomes := h.Deliver(plugintest.Frame("a", rows...))
	require.Len(t, outcomes, len(rows))
	require.Contains(t, outcomes[99_999].Message, "very long")
}

// quiet hands its batches to the test.
type quiet struct{ on *recorder }

func (q *quiet) Deliver(_ context.Context, b *sdk.Batch) error { return q.on.deliver(b) }

func TestAPluginThatCannotBeServedSaysWhy(t *testing.T) {
	for says, p := range map[string]sdk.Plugin{
		"form [a-z]":                 {Name: "Acme", Version: "1.0.0", Pusher: func() sdk.Pusher { return &quiet{} }},
		"reserved":                   {Name: "client", Version: "1.0.0", Pusher: func() sdk.Pusher { return &quiet{} }},
		"semantic version":           {Name: "acme", Version: "one", Pusher: func() sdk.Pusher { return &quiet{} }},
		"neither Pusher nor Storage": {Name: "acme", Version: "1.0.0"},
		"not a pointer":              {Name: "acme", Version: "1.0.0", Pusher: func() sdk.Pusher { return nil }},
		"limit":                      {Name: "acme", Version: "1.0.0", Window: -1, Pusher: func() sdk.Pusher { return &quiet{} }},
		"camelCase":                  {Name: "acme", Version: "1.0.0", Pusher: func() sdk.Pusher { return &mistagged{} }},
	} {
		_, err := sdk.NewServer(p, hclog.NewNullLogger())
		require.ErrorContains(t, err, says)
	}
}

type mistagged struct {
	A string `config:"camelCase"`
}

func (*mistagged) Deliver(context.Context, *sdk.Batch) error { return nil }

func TestALongBatchSaysThatItIsBeingWorkedOn(t *testing.T) {
	kept := make(chan *sdk.Batch, 1)
	on := &recorder{deliver: func(b *sdk.Batch) error {
		for range 1000 { // far more often than anybody wants to hear it
			b.Working()
		}
		kept <- b
		return nil
	}}
	h := plugintest.Connect(t, pluginOf(on))
	require.Empty(t, h.Configure(map[string]any{"name": "red"}))
	s, err := h.Client.Deliver(deadline(t), plugintest.Instance)
	require.NoError(t, err)
	for seq := uint64(1); seq <= 2; seq++ {
		send(t, s, seq, `1`)
		ack, err := s.Recv()
		require.NoError(t, err)
		require.Equal(t, protocol.Ack{ThroughSeq: seq - 1, Working: true}, ack)
		for ack.Working { // more of them only on a machine that takes a quarter of a second for the loop
			ack, err = s.Recv()
			require.NoError(t, err)
		}
		require.Equal(t, seq, ack.ThroughSeq)
		(<-kept).Working() // too late to be heard
	}
	require.NoError(t, s.CloseSend())
	_, err = s.Recv()
	require.Equal(t, io.EOF, err)
}

func TestAPluginSaysWhetherOneProcessMayServeManyInstances(t *testing.T) {
	for _, may := range []bool{false, true} {
		p := pluginOf(&recorder{})
		p.Instances = may
		hello, err := plugintest.Connect(t, p).Client.Handshake(deadline(t), protocol.Hello{Versions: protocol.Versions()})
		require.NoError(t, err)
		require.Equal(t, may, slices.Contains(hello.Capabilities, protocol.CapInstances))
	}
}

func TestARowKnowsTheTraceItBelongsTo(t *testing.T) {
	var seen []string
	on := &recorder{deliver: func(b *sdk.Batch) error {
		for row := range b.Rows() {
			seen = append(seen, row.TraceParent())
		}
		return nil
	}}
	h := plugintest.Start(t, pluginOf(on), map[string]any{"name": "red"})
	traced := plugintest.Frame("a", `{}`)
	traced.TraceParent = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
	require.Empty(t, h.Deliver(traced, plugintest.Frame("a", `{}`)))
	require.Equal(t, []string{traced.TraceParent, ""}, seen)
}

func TestAPluginMayHaveSeveralBatchesInHandAndTheyAreAcknowledgedInOrder(t *testing.T) {
	entered, leave := make(chan string, 4), map[string]chan error{}
	for _, row := range []string{`1`, `2`, `3`, `4`} {
		leave[row] = make(chan error, 1)
	}
	p := pluginOf(&recorder{deliver: func(b *sdk.Batch) error {
		for row := range b.Rows() {
			entered <- string(row.JSON())
			return <-leave[string(row.JSON())]
		}
		return nil
	}})
	p.Parallel = 3
	h := plugintest.Connect(t, p)
	require.Empty(t, h.Configure(map[string]any{"name": "red"}))
	s, err := h.Client.Deliver(deadline(t), plugintest.Instance)
	require.NoError(t, err)
	for seq, row := range []string{`1`, `2`, `3`, `4`} {
		send(t, s, uint64(seq+1), row)
	}
	require.ElementsMatch(t, []string{`1`, `2`, `3`}, []string{<-entered, <-entered, <-entered})
	leave[`3`] <- errors.New("third")
	leave[`2`] <- nil
	select {
	case row := <-entered:
		t.Fatalf("batch %s began while three were not acknowledged", row)
	default:
	}
	leave[`1`] <- errors.New("first")
	require.Equal(t, `4`, <-entered)
	leave[`4`] <- nil
	require.NoError(t, s.CloseSend())
	var messages []string
	for through := uint64(0); through < 4; {
		ack, err := s.Recv()
		require.NoError(t, err)
		require.Greater(t, ack.ThroughSeq, through)
		through = ack.ThroughSeq
		for _, o := range ack.Outcomes {
			messages = append(messages, o.Message)
		}
	}
	require.Equal(t, []string{"first", "third"}, messages)
	_, err = s.Recv()
	require.Equal(t, io.EOF, err)
}

func TestDrainWaitsForAllBatchesInHandAndABrokenStreamEndsThem(t *testing.T) {
	for _, broken := range []bool{false, true} {
		on := &recorder{entered: make(chan string), leave: make(chan error)}
		p := pluginOf(on)
		p.Parallel = 2
		h := plugintest.Connect(t, p)
		require.Empty(t, h.Configure(map[string]any{"name": "red"}))
		ctx, cancel := context.WithCancel(deadline(t))
		s, err := h.Client.Deliver(ctx, plugintest.Instance)
		require.NoError(t, err)
		send(t, s, 1, `1`)
		send(t, s, 2, `2`)
		<-on.entered
		<-on.entered
		drained := make(chan error, 1)
		go func() { drained <- h.Client.Drain(deadline(t), plugintest.Instance) }()
		if broken {
			cancel()
		} else {
			for range 2 {
				select {
				case err := <-drained:
					t.Fatalf("the instance was closed while a batch was in hand: %v", err)
				case on.leave <- nil:
				}
			}
		}
		require.NoError(t, <-drained)
		cancel()
		said := on.said()
		require.Equal(t, "close red", said[len(said)-1])
		endings := 0
		for _, event := range said {
			if event == "broken off red" {
				endings++
			}
		}
		require.Equal(t, map[bool]int{true: 2, false: 0}[broken], endings)
	}
}

// packs makes the client of the harness send packs, as the host does after its handshake.
func packs(t *testing.T, h *plugintest.Harness) {
	t.Helper()
	hello, err := h.Client.Handshake(deadline(t), protocol.Hello{Versions: protocol.Versions()})
	require.NoError(t, err)
	require.Contains(t, hello.Capabilities, protocol.CapPacks)
}

func packOf(n int) []*protocol.Batch {
	batches := make([]*protocol.Batch, n)
	for i := range batches {
		batches[i] = &protocol.Batch{Seq: uint64(i + 1), Frames: []protocol.Frame{plugintest.Frame("u", fmt.Sprintf(`{"n":%d}`, i))}}
	}
	return batches
}

func TestBatchesOfOneMessageAreDeliveredAsIfTheyHadComeOneByOne(t *testing.T) {
	on := &recorder{}
	on.deliver = func(b *sdk.Batch) error {
		if b.Seq%4 == 0 {
			return sdk.Permanent("fourth", errors.New("no"))
		}
		return nil
	}
	h := plugintest.Connect(t, pluginOf(on))
	require.Empty(t, h.Configure(map[string]any{"name": "red"}))
	packs(t, h)
	s, err := h.Client.Deliver(deadline(t), plugintest.Instance)
	require.NoError(t, err)
	batches := packOf(50)
	require.NoError(t, s.Send(batches...))
	require.NoError(t, s.CloseSend())
	want := []string{"open test red"}
	refused := map[uint64]bool{}
	for i, b := range batches {
		want = append(want, fmt.Sprintf(`row red {"n":%d}`, i))
		if b.Seq%4 == 0 {
			refused[b.Frames[0].Position] = true
		}
	}
	for through := uint64(0); through < 50; {
		ack, err := s.Recv()
		require.NoError(t, err)
		require.Greater(t, ack.ThroughSeq, through)
		for _, o := range ack.Outcomes {
			require.Equal(t, "fourth", o.Code)
			require.True(t, refused[o.Position])
			delete(refused, o.Position)
		}
		through = ack.ThroughSeq
	}
	require.Empty(t, refused)
	_, err = s.Recv()
	require.Equal(t, io.EOF, err)
	require.Equal(t, want, on.said())
}

func TestABatchIsAcknowledgedWhileTheNextOneOfItsMessageTakesItsTime(t *testing.T) {
	on := &recorder{entered: make(chan string), leave: make(chan error)}
	h := plugintest.Connect(t, pluginOf(on))
	require.Empty(t, h.Configure(map[string]any{"name": "red"}))
	packs(t, h)
	s, err := h.Client.Deliver(deadline(t), plugintest.Instance)
	require.NoError(t, err)
	require.NoError(t, s.Send(packOf(3)...))
	for seq := uint64(1); seq <= 3; seq++ {
		<-on.entered // the one before is done, and this one is in hand
		if seq > 1 {
			ack, err := s.Recv()
			require.NoError(t, err)
			require.Equal(t, protocol.Ack{ThroughSeq: seq - 1, Window: 3}, ack)
		}
		on.leave <- nil
	}
	ack, err := s.Recv()
	require.NoError(t, err)
	require.Equal(t, protocol.Ack{ThroughSeq: 3, Window: 3}, ack)
}

func TestBatchesOfOneMessageAreDeliveredAtOnceWhenThePluginIsParallel(t *testing.T) {
	on := &recorder{entered: make(chan string), leave: make(chan error)}
	p := pluginOf(on)
	p.Parallel = 4
	h := plugintest.Connect(t, p)
	require.Empty(t, h.Configure(map[string]any{"name": "red"}))
	packs(t, h)
	s, err := h.Client.Deliver(deadline(t), plugintest.Instance)
	require.NoError(t, err)
	require.NoError(t, s.Send(packOf(4)...))
	for range 4 {
		<-on.entered
	}
	for range 4 {
		on.leave <- nil
	}
	for through := uint64(0); through < 4; {
		ack, err := s.Recv()
		require.NoError(t, err)
		require.Greater(t, ack.ThroughSeq, through)
		through = ack.ThroughSeq
	}
}
