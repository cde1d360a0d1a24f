package wire

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"math"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"

	pluginv1 "github.com/rivergate/rivergate/proto/rivergate/plugin/v1"
	"github.com/rivergate/rivergate/sdk/internal/stdio"
	"github.com/rivergate/rivergate/sdk/protocol"
)

// go-plugin's server never stops the two readers of its own standard output.
func TestMain(m *testing.M) {
	goleak.VerifyTestMain(m, goleak.IgnoreAnyFunction("github.com/hashicorp/go-plugin.copyChan"))
}

// dial serves what register registers on a unix socket and connects to it.
func dial(t testing.TB, register func(*grpc.Server)) (*grpc.ClientConn, *grpc.Server) {
	t.Helper()
	dir, err := os.MkdirTemp("", "wire")
	require.NoError(t, err)
	listener, err := net.Listen("unix", filepath.Join(dir, "s"))
	require.NoError(t, err)
	server := grpc.NewServer(ServerOptions()...)
	register(server)
	served := make(chan error, 1)
	go func() { served <- server.Serve(listener) }()
	conn, err := grpc.NewClient("unix:"+listener.Addr().String(), append(DialOptions(), grpc.WithTransportCredentials(insecure.NewCredentials()))...)
	require.NoError(t, err)
	t.Cleanup(func() {
		_ = conn.Close()
		server.Stop()
		require.NoError(t, <-served)
		_ = os.RemoveAll(dir)
	})
	return conn, server
}

func deadline(t testing.TB) context.Context {
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	t.Cleanup(cancel)
	return ctx
}

// fake is a plugin in plain Go.
type fake struct {
	got     chan *protocol.Batch
	ack     func(*protocol.Batch) protocol.Ack
	health  error
	blocked chan struct{} // Describe waits for it, when not nil
}

func (f *fake) Handshake(_ context.Context, host protocol.Hello) (protocol.Hello, error) {
	return protocol.Hello{Versions: host.Versions[:1], Capabilities: host.Capabilities, Limits: host.Limits, Software: "fake \xff"}, nil
}

func (f *fake) Describe(ctx context.Context) (protocol.Description, error) {
	if f.blocked != nil {
		f.blocked <- struct{}{}
		<-ctx.Done()
		return protocol.Description{}, ctx.Err()
	}
	return protocol.Description{Name: "fake", Version: "1.0.0", Kind: protocol.KindPusher, ConfigSchema: json.RawMessage(`{}`), Author: "a", Summary: "s", NeedsTrigger: true}, nil
}

func (f *fake) Configure(_ context.Context, instance string, config json.RawMessage) ([]protocol.ConfigProblem, error) {
	return []protocol.ConfigProblem{{Field: instance, Reason: string(config)}}, nil
}
func (f *fake) Health(context.Context, string) error { return f.health }
func (f *fake) Drain(context.Context, string) error  { return nil }

func (f *fake) Deliver(_ context.Context, instance string, recv func() ([]protocol.Batch, error), send func(protocol.Ack) error) error {
	if instance == "nobody" {
		return protocol.ErrUnknownInstance
	}
	for {
		batches, err := recv()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		for i := range batches {
			b := &batches[i]
			if f.got != nil {
				f.got <- b
			}
			ack := protocol.Ack{ThroughSeq: b.Seq}
			if f.ack != nil {
				ack = f.ack(b)
			}
			if err := send(ack); err != nil {
				return err
			}
		}
	}
}

func serveFake(t testing.TB, f *fake) (protocol.PusherClient, *grpc.ClientConn, *grpc.Server) {
	conn, server := dial(t, func(s *grpc.Server) { Register(s, f) })
	return NewClient(conn), conn, server
}

func TestTheCookieIsTheOneThatTheOutputGuardLooksFor(t *testing.T) {
	require.Equal(t, stdio.EnvCookie, EnvCookie)
	require.Equal(t, stdio.CookieValue, CookieValue)
	require.False(t, strings.HasPrefix(EnvCookie, "PLUGIN_"))
}

func TestEveryFieldMakesTheJourney(t *testing.T) {
	f := &fake{got: make(chan *protocol.Batch, 1), health: &protocol.Unhealthy{Reason: "ill"}}
	outcomes := []protocol.Outcome{
		{Position: 1 << 50, Row: 1, Class: protocol.Retry, Code: "a", Message: "m", RetryAfter: 1500 * time.Millisecond},
		{Position: 2, Class: protocol.Throttled}, {Position: 3, Class: protocol.Rejected}, {Position: 4, Class: protocol.Unauthenticated},
		{Position: 5, Class: protocol.Duplicate}, {Position: 6, Class: protocol.Skipped},
	}
	f.ack = func(b *protocol.Batch) protocol.Ack {
		return protocol.Ack{ThroughSeq: b.Seq, Window: 4, Outcomes: outcomes}
	}
	client, _, _ := serveFake(t, f)

	hello, err := client.Handshake(deadline(t), protocol.Hello{Versions: []uint32{1}, Capabilities: []string{"x"}, Limits: protocol.Limits{MaxBatchBytes: 5, MaxBatchRows: 6}})
	require.NoError(t, err)
	require.Equal(t, protocol.Hello{Versions: []uint32{1}, Capabilities: []string{"x"}, Limits: protocol.Limits{MaxBatchBytes: 5, MaxBatchRows: 6}, Software: "fake \uFFFD"}, hello)
	d, err := client.Describe(deadline(t))
	require.NoError(t, err)
	require.Equal(t, protocol.Description{Name: "fake", Version: "1.0.0", Kind: protocol.KindPusher, ConfigSchema: json.RawMessage(`{}`), Author: "a", Summary: "s", NeedsTrigger: true}, d)
	problems, err := client.Configure(deadline(t), "one", json.RawMessage(`{"a":1}`))
	require.NoError(t, err)
	require.Equal(t, []protocol.ConfigProblem{{Field: "one", Reason: `{"a":1}`}}, problems)
	var unhealthy *protocol.Unhealthy
	require.ErrorAs(t, client.Health(deadline(t), "one"), &unhealthy)
	require.Equal(t, "ill", unhealthy.Reason)
	require.NoError(t, client.Drain(deadline(t), "one"))

	s, err := client.Deliver(deadline(t), "one")
	require.NoError(t, err)
	batch := &protocol.Batch{Seq: 1, Frames: []protocol.Frame{
		{OrgID: 7, UserID: 8, UUID: "u", Position: 1 << 52, ReceivedAt: time.Unix(1, 2).UTC(), Data: []byte(`{"a":1}{}`), Ends: []uint32{7, 9}, Index: []int32{protocol.NoIndex, 3}, Trigger: []byte(`{}`), RequestID: "r", TraceParent: "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"},
		{UUID: "v", Position: 1, ReceivedAt: time.Unix(0, 0).UTC(), Data: []byte(`{}`), Ends: []uint32{2}},
	}}
	require.NoError(t, s.Send(batch))
	require.Equal(t, batch, <-f.got)
	ack, err := s.Recv()
	require.NoError(t, err)
	require.Equal(t, protocol.Ack{ThroughSeq: 1, Window: 4, Outcomes: outcomes}, ack)
	require.NoError(t, s.CloseSend())
	_, err = s.Recv()
	require.Equal(t, io.EOF, err)
}

func TestOddBatchesAreRefusedAndThePluginLives(t *testing.T) {
	_, conn, _ := serveFake(t, &fake{})
	client := pluginv1.NewPusherClient(conn)
	named := metadata.AppendToOutgoingContext(deadline(t), instanceKey, "one")
	for says, c := range map[string]struct {
		ctx   context.Context
		batch *pluginv1.Batch
	}{
		"without the metadata": {deadline(t), &pluginv1.Batch{Seq: 1}},
		"batch 2 follows":      {named, &pluginv1.Batch{Seq: 2}},
		"batch 0 follows":      {named, &pluginv1.Batch{}},
		"not in order":         {named, &pluginv1.Batch{Seq: 1, Frames: []*pluginv1.Frame{{Data: []byte("abc"), Ends: []uint32{2, 1}}}}},
		"ends at byte 4 of 3":  {named, &pluginv1.Batch{Seq: 1, Frames: []*pluginv1.Frame{{Data: []byte("abc"), Ends: []uint32{4}}}}},
		"of 0":                 {named, &pluginv1.Batch{Seq: 1, Frames: []*pluginv1.Frame{{Ends: []uint32{math.MaxUint32}}}}},
		"2 indices for 1 rows": {named, &pluginv1.Batch{Seq: 1, Frames: []*pluginv1.Frame{{Data: []byte("abc"), Ends: []uint32{3}, Index: []int32{1, 2}}}}},
		"1 indices for 0 rows": {named, &pluginv1.Batch{Seq: 1, Frames: []*pluginv1.Frame{{Index: []int32{1}}}}},
		"frame 0: index -2":    {named, &pluginv1.Batch{Seq: 1, Frames: []*pluginv1.Frame{{Data: []byte("abc"), Ends: []uint32{3}, Index: []int32{-2}}}}},
	} {
		s, err := client.Deliver(c.ctx)
		require.NoError(t, err)
		if err := s.Send(c.batch); err != nil { // the plugin may have ended the stream already
			require.Equal(t, io.EOF, err)
		}
		_, err = s.Recv()
		require.Equal(t, codes.InvalidArgument, status.Code(err), says)
		require.ErrorContains(t, err, says)
	}
	twice := metadata.AppendToOutgoingContext(named, instanceKey, "two")
	s, err := client.Deliver(twice)
	require.NoError(t, err)
	_, err = s.Recv()
	require.Equal(t, codes.InvalidArgument, status.Code(err))
	_, err = pluginv1.NewBaseClient(conn).Configure(deadline(t), &pluginv1.ConfigureRequest{})
	require.Equal(t, codes.InvalidArgument, status.Code(err))

	// Empty batches and frames say nothing wrong.
	s, err = client.Deliver(named)
	require.NoError(t, err)
	require.NoError(t, s.Send(&pluginv1.Batch{Seq: 1, Frames: []*pluginv1.Frame{{}}}))
	ack, err := s.Recv()
	require.NoError(t, err)
	require.Equal(t, uint64(1), ack.ThroughSeq)
}

// liar answers each batch with the acknowledgements it was told to.
type liar struct {
	pluginv1.UnimplementedPusherServer
	pluginv1.UnimplementedBaseServer
	acks []*pluginv1.Ack
}

func (l *liar) Deliver(s grpc.BidiStreamingServer[pluginv1.Batch, pluginv1.Ack]) error {
	if _, err := s.Recv(); err != nil {
		return err
	}
	for _, ack := range l.acks {
		if err := s.Send(ack); err != nil {
			return err
		}
	}
	return nil
}

func (l *liar) Describe(context.Context, *pluginv1.DescribeRequest) (*pluginv1.DescribeResponse, error) {
	return &pluginv1.DescribeResponse{Kind: 99}, nil
}

func (l *liar) Health(context.Context, *pluginv1.HealthRequest) (*pluginv1.HealthResponse, error) {
	return &pluginv1.HealthResponse{}, nil
}

func TestALyingPluginIsAProtocolErrorInTheHost(t *testing.T) {
	l := &liar{}
	conn, _ := dial(t, func(s *grpc.Server) {
		pluginv1.RegisterPusherServer(s, l)
		pluginv1.RegisterBaseServer(s, l)
	})
	client := NewClient(conn)
	for says, acks := range map[string][]*pluginv1.Ack{
		"batch 2 is acknowledged, 1 were sent":                      {{ThroughSeq: 2}},
		"batch 0 is acknowledged after 1":                           {{ThroughSeq: 1}, {}},
		"position 5, row 0 has outcome class 0":                     {{ThroughSeq: 1, Outcomes: []*pluginv1.Outcome{{Position: 5}}}},
		"position 6, row 1 has outcome class 77":                    {{ThroughSeq: 1, Outcomes: []*pluginv1.Outcome{{Position: 6, Row: 1, Class: 77}}}},
		"position 7 has an outcome for row 4294967295":              {{ThroughSeq: 1, Outcomes: []*pluginv1.Outcome{{Position: 7, Row: math.MaxUint32, Class: 1}}}},
		"receive acknowledgement: batch 18446744073709551615 is ac": {{ThroughSeq: math.MaxUint64}},
	} {
		l.acks = acks
		s, err := client.Deliver(deadline(t), "one")
		require.NoError(t, err)
		require.NoError(t, s.Send(&protocol.Batch{Seq: 1}))
		for err == nil {
			_, err = s.Recv()
		}
		require.ErrorIs(t, err, protocol.ErrMalformed, says)
		require.Contains(t, strings.ReplaceAll(err.Error(), protocol.ErrMalformed.Error()+": ", ""), says)
		require.False(t, IsGone(err))
	}
	_, err := client.Describe(deadline(t))
	require.ErrorIs(t, err, protocol.ErrMalformed)
	var unhealthy *protocol.Unhealthy
	require.ErrorAs(t, client.Health(deadline(t), ""), &unhealthy)
	require.NotEmpty(t, unhealthy.Reason)
	_, err = client.Handshake(deadline(t), protocol.Hello{})
	require.Error(t, err)
	require.False(t, IsGone(err), "a plugin without that call is there")
}

func TestTheHostCountsItsOwnBatches(t *testing.T) {
	client, _, _ := serveFake(t, &fake{})
	s, err := client.Deliver(deadline(t), "one")
	require.NoError(t, err)
	require.ErrorIs(t, s.Send(&protocol.Batch{Seq: 2}), protocol.ErrMalformed)
}

func TestAPluginThatIsGoneIsToldFromACallerWhoLeft(t *testing.T) {
	f := &fake{blocked: make(chan struct{})}
	client, _, server := serveFake(t, f)

	ctx, cancel := context.WithCancelCause(deadline(t))
	left := errors.New("caller left")
	go func() { <-f.blocked; cancel(left) }()
	_, err := client.Describe(ctx)
	require.ErrorIs(t, err, left)
	require.False(t, IsGone(err))

	late, cancelLate := context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer cancelLate()
	go func() { <-f.blocked }()
	_, err = client.Describe(late)
	require.ErrorIs(t, err, context.DeadlineExceeded)
	require.False(t, IsGone(err))

	s, err := client.Deliver(deadline(t), "nobody")
	require.NoError(t, err)
	_, err = s.Recv()
	require.ErrorIs(t, err, protocol.ErrUnknownInstance)
	require.False(t, IsGone(err))

	s, err = client.Deliver(deadline(t), "one")
	require.NoError(t, err)
	require.NoError(t, s.Send(&protocol.Batch{Seq: 1}))
	_, err = s.Recv()
	require.NoError(t, err)
	server.Stop()
	_, err = s.Recv()
	require.ErrorIs(t, err, ErrGone)
	err = s.Send(&protocol.Batch{Seq: 2})
	require.True(t, IsGone(err), "%v", err)
	_, err = client.Describe(deadline(t))
	require.True(t, IsGone(err), "%v", err)
	require.True(t, IsGone(io.EOF))
	require.False(t, IsGone(nil))
}

func TestAcknowledgementsStayWithinTheMessageLimit(t *testing.T) {
	outcomes := make([]protocol.Outcome, 30_000)
	for i := range outcomes {
		outcomes[i] = protocol.Outcome{Position: uint64(i), Class: protocol.Retry, Code: strings.Repeat("c", 1000), Message: strings.Repeat("é", 10_000), RetryAfter: math.MaxInt64}
	}
	m, err := ackOut(protocol.Ack{ThroughSeq: 1, Outcomes: outcomes})
	require.NoError(t, err)
	require.Less(t, proto.Size(m), protocol.MaxMessage)
	_, err = proto.Marshal(m)
	require.NoError(t, err, "cut between two characters")
	require.Equal(t, uint32(math.MaxUint32), m.Outcomes[0].RetryAfterMs)
	for _, bad := range []protocol.Outcome{{}, {Class: protocol.Poison}, {Class: protocol.Retry, Row: -1}} {
		_, err := ackOut(protocol.Ack{Outcomes: []protocol.Outcome{bad}})
		require.ErrorIs(t, err, protocol.ErrMalformed)
	}
	require.Equal(t, uint32(2), millis(time.Millisecond+1))
}

func FuzzMessages(f *testing.F) {
	seed, err := proto.Marshal(&pluginv1.Batch{Seq: 1, Frames: []*pluginv1.Frame{{Data: []byte(`{}{}`), Ends: []uint32{2, 4}, Index: []int32{1, -1}}}})
	require.NoError(f, err)
	f.Add(seed)
	seed, err = proto.Marshal(&pluginv1.Ack{ThroughSeq: 1, Outcomes: []*pluginv1.Outcome{{Position: 1, Class: 3, Code: "x"}}})
	require.NoError(f, err)
	f.Add(seed)
	f.Fuzz(func(t *testing.T, data []byte) {
		var batch pluginv1.Batch
		if proto.Unmarshal(data, &batch) == nil {
			if b, err := batchIn(&batch); err == nil {
				for i := range b.Frames {
					frame := &b.Frames[i]
					for n := range frame.Len() {
						_ = frame.Row(n)
						_ = frame.Slice(n, frame.Len())
						if frame.Index != nil {
							_ = frame.Index[n]
						}
					}
				}
			}
		}
		var ack pluginv1.Ack
		if proto.Unmarshal(data, &ack) == nil {
			if a, err := ackIn(&ack); err == nil {
				_, err := ackOut(a)
				require.NoError(t, err)
			}
		}
	})
}
