package wire

import (
	"context"
	"io"
	"slices"
	"testing"
	"time"

	"github.com/hashicorp/go-hclog"
	"github.com/hashicorp/go-plugin"
	"github.com/stretchr/testify/require"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	pluginv1 "github.com/rivergate/rivergate/proto/rivergate/plugin/v1"
	pluginv2 "github.com/rivergate/rivergate/proto/rivergate/plugin/v2"
	"github.com/rivergate/rivergate/sdk/protocol"
)

// versioned is a fake that speaks some versions of the protocol.
type versioned struct {
	fake
	speaks []uint32
}

func (v *versioned) Handshake(_ context.Context, host protocol.Hello) (protocol.Hello, error) {
	for _, version := range v.speaks {
		if slices.Contains(host.Versions, version) {
			return protocol.Hello{Versions: []uint32{version}}, nil
		}
	}
	return protocol.Hello{}, protocol.ErrMalformed
}

// Deliver says that it works on each batch before it acknowledges it.
func (v *versioned) Deliver(ctx context.Context, instance string, recv func() ([]protocol.Batch, error), send func(protocol.Ack) error) error {
	return v.fake.Deliver(ctx, instance, recv, func(a protocol.Ack) error {
		if err := send(protocol.Ack{Working: true}); err != nil {
			return err
		}
		return send(a)
	})
}

// register serves what a plugin that knows these versions alone would serve.
func (v *versioned) register(s *grpc.Server) {
	pluginv1.RegisterBaseServer(s, &baseServer{impl: v})
	if slices.Contains(v.speaks, protocol.Version1) {
		pluginv1.RegisterPusherServer(s, &pusher1{impl: v})
	}
	if slices.Contains(v.speaks, protocol.Version2) {
		pluginv2.RegisterPusherServer(s, &pusher2{impl: v})
	}
}

func TestTheHandshakeCallSettlesTheVersionOfAnAttachedProcess(t *testing.T) {
	for name, c := range map[string]struct {
		host, plugin []uint32
		settled      uint32
	}{
		"both new":                    {protocol.Versions(), protocol.Versions(), 2},
		"plugin of version 1 only":    {protocol.Versions(), []uint32{1}, 1},
		"host of version 1 only":      {[]uint32{1}, protocol.Versions(), 1},
		"plugin that dropped 1":       {protocol.Versions(), []uint32{2}, 2},
		"host that offers 2 and only": {[]uint32{2}, protocol.Versions(), 2},
	} {
		t.Run(name, func(t *testing.T) {
			v := &versioned{speaks: c.plugin}
			conn, _ := dial(t, v.register)
			client := NewClient(conn)
			hello, err := client.Handshake(deadline(t), protocol.Hello{Versions: c.host})
			require.NoError(t, err)
			require.Equal(t, []uint32{c.settled}, hello.Versions)

			s, err := client.Deliver(deadline(t), "one")
			require.NoError(t, err)
			for seq := uint64(1); seq < 4; seq++ {
				require.NoError(t, s.Send(&protocol.Batch{Seq: seq}))
				ack, err := s.Recv()
				require.NoError(t, err)
				if c.settled == 2 {
					require.Equal(t, protocol.Ack{ThroughSeq: seq - 1, Working: true}, ack)
					ack, err = s.Recv()
					require.NoError(t, err)
				}
				require.Equal(t, protocol.Ack{ThroughSeq: seq}, ack)
			}
			require.NoError(t, s.CloseSend())
			for range 2 {
				_, err = s.Recv()
				require.Equal(t, io.EOF, err)
			}
		})
	}
}

func TestAVersionThatWasNotOfferedChangesNothing(t *testing.T) {
	v := &chooses{version: 99}
	conn, _ := dial(t, func(s *grpc.Server) { Register(s, v) })
	client := newClient(conn, protocol.Version1)
	hello, err := client.Handshake(deadline(t), protocol.Hello{Versions: protocol.Versions()})
	require.NoError(t, err)
	require.Equal(t, []uint32{99}, hello.Versions, "the host is to see it")
	require.Equal(t, uint32(protocol.Version1), client.version.Load())
}

type chooses struct {
	fake
	version uint32
}

func (c *chooses) Handshake(context.Context, protocol.Hello) (protocol.Hello, error) {
	return protocol.Hello{Versions: []uint32{c.version}}, nil
}

func TestGoPluginNegotiatesTheNewestCommonVersion(t *testing.T) {
	for offered, chosen := range map[string]int{"1,2": 2, "1": 1, "2": 2} {
		t.Run("host offers "+offered, func(t *testing.T) {
			t.Setenv("PLUGIN_PROTOCOL_VERSIONS", offered)
			attach := make(chan *plugin.ReattachConfig, 1)
			closed := make(chan struct{})
			ctx, cancel := context.WithCancel(t.Context())
			defer func() { cancel(); <-closed }()
			go plugin.Serve(&plugin.ServeConfig{
				HandshakeConfig: Handshake(), VersionedPlugins: VersionedPlugins(&fake{}), GRPCServer: plugin.DefaultGRPCServer, Logger: hclog.NewNullLogger(),
				Test: &plugin.ServeTestConfig{Context: ctx, ReattachConfigCh: attach, CloseCh: closed},
			})
			require.Equal(t, chosen, (<-attach).ProtocolVersion)
		})
	}
}

// dial2 connects to a pusher and settles on version 2.
func dial2(t *testing.T, p pluginv2.PusherServer) protocol.PusherClient {
	conn, _ := dial(t, func(s *grpc.Server) { pluginv2.RegisterPusherServer(s, p) })
	return newClient(conn, protocol.Version2)
}

func TestAnInstanceIsRefusedBeforeTheFirstBatch(t *testing.T) {
	client := dial2(t, &pusher2{impl: &fake{}})
	_, err := client.Deliver(deadline(t), "nobody")
	require.ErrorIs(t, err, protocol.ErrUnknownInstance)
	require.False(t, IsGone(err))
	_, err = client.Deliver(deadline(t), "")
	require.ErrorIs(t, err, protocol.ErrMalformed)
}

// scripted answers Open with what it was told to, and then waits for the host to go.
type scripted struct {
	pluginv2.UnimplementedPusherServer
	opened chan struct{} // told about each stream, when not nil
	says   []*pluginv2.PluginMessage
}

func (s *scripted) Deliver(stream grpc.BidiStreamingServer[pluginv2.HostMessage, pluginv2.PluginMessage]) error {
	if s.opened != nil {
		s.opened <- struct{}{}
	}
	for _, m := range s.says {
		if err := stream.Send(m); err != nil {
			return err
		}
	}
	<-stream.Context().Done()
	return nil
}

func TestAPluginThatNeverOpensTheStreamIsWaitedForNoLongerThanTheCallerWaits(t *testing.T) {
	s := &scripted{opened: make(chan struct{}, 1)}
	client := dial2(t, s)
	ctx, cancel := context.WithCancelCause(deadline(t))
	go func() { <-s.opened; cancel(errTired) }()
	_, err := client.Deliver(ctx, "one")
	require.ErrorIs(t, err, errTired)
	require.False(t, IsGone(err))
}

func TestAPluginThatNeverOpensTheStreamIsGivenUp(t *testing.T) {
	conn, _ := dial(t, func(s *grpc.Server) { pluginv2.RegisterPusherServer(s, &scripted{}) })
	client := newClient(conn, protocol.Version2)
	client.patience = 20 * time.Millisecond
	ctx := deadline(t)
	_, err := client.Deliver(ctx, "one")
	require.ErrorIs(t, err, context.DeadlineExceeded)
	require.ErrorContains(t, err, "did not open the stream within 20ms")
	require.NoError(t, ctx.Err(), "its own bound, not the caller's")
}

var errTired = status.Error(codes.Unknown, "tired of waiting")

func TestWhatVersion2DoesNotAllowIsAProtocolError(t *testing.T) {
	opened := &pluginv2.PluginMessage{Message: &pluginv2.PluginMessage_Opened{Opened: &pluginv2.Opened{}}}
	ack := &pluginv2.PluginMessage{Message: &pluginv2.PluginMessage_Ack{Ack: &pluginv1.Ack{}}}
	for says, script := range map[string][]*pluginv2.PluginMessage{
		"not Opened":                  {ack},
		"the stream was opened twice": {opened, opened},
		"batch 9 is acknowledged, 0":  {opened, {Message: &pluginv2.PluginMessage_Ack{Ack: &pluginv1.Ack{ThroughSeq: 9}}}},
	} {
		client := dial2(t, &scripted{says: script})
		s, err := client.Deliver(deadline(t), "one")
		if err == nil {
			_, err = s.Recv()
		}
		require.ErrorIs(t, err, protocol.ErrMalformed, says)
		require.ErrorContains(t, err, says)
		require.False(t, IsGone(err))
	}

	// The plugin's side is as strict.
	conn, _ := dial(t, func(s *grpc.Server) { pluginv2.RegisterPusherServer(s, &pusher2{impl: &fake{}}) })
	open := &pluginv2.HostMessage{Message: &pluginv2.HostMessage_Open{Open: &pluginv2.Open{InstanceId: "one"}}}
	batch := func(seq uint64) *pluginv2.HostMessage {
		return &pluginv2.HostMessage{Message: &pluginv2.HostMessage_Batch{Batch: &pluginv1.Batch{Seq: seq}}}
	}
	pack := func(seqs ...uint64) *pluginv2.HostMessage {
		p := &pluginv2.Pack{}
		for _, seq := range seqs {
			p.Batches = append(p.Batches, &pluginv1.Batch{Seq: seq})
		}
		return &pluginv2.HostMessage{Message: &pluginv2.HostMessage_Pack{Pack: p}}
	}
	for says, script := range map[string][]*pluginv2.HostMessage{
		"does not begin with Open":      {batch(1)},
		"a message after Open":          {open, open},
		"after Open holds no batch":     {open, {}},
		"a message after Open holds no": {open, pack()},
		"batch 2 follows batch 0":       {open, batch(2)},
		"batch 3 follows batch 1":       {open, pack(1, 3)},
	} {
		s, err := pluginv2.NewPusherClient(conn).Deliver(deadline(t))
		require.NoError(t, err)
		for _, m := range script {
			if err := s.Send(m); err != nil { // the plugin may have ended the stream already
				require.Equal(t, io.EOF, err)
			}
		}
		for err == nil {
			_, err = s.Recv()
		}
		require.Equal(t, codes.InvalidArgument, status.Code(err), says)
		require.ErrorContains(t, err, says)
	}
	// A stream that ends before it began says nothing wrong.
	s, err := pluginv2.NewPusherClient(conn).Deliver(deadline(t))
	require.NoError(t, err)
	require.NoError(t, s.CloseSend())
	_, err = s.Recv()
	require.Equal(t, io.EOF, err)
}

func TestAProcessThatDiesIsGoneInVersion2(t *testing.T) {
	conn, server := dial(t, func(s *grpc.Server) { pluginv2.RegisterPusherServer(s, &pusher2{impl: &fake{}}) })
	client := newClient(conn, protocol.Version2)
	s, err := client.Deliver(deadline(t), "one")
	require.NoError(t, err)
	server.Stop()
	_, err = s.Recv()
	require.ErrorIs(t, err, ErrGone)
	require.True(t, IsGone(s.Send(&protocol.Batch{Seq: 1})))
	_, err = client.Deliver(deadline(t), "one")
	require.True(t, IsGone(err), "%v", err)

	ctx, cancel := context.WithTimeout(t.Context(), time.Nanosecond)
	defer cancel()
	_, err = client.Deliver(ctx, "one")
	require.ErrorIs(t, err, context.DeadlineExceeded)
}
