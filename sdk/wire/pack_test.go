package wire

import (
	"context"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"google.golang.org/grpc"

	pluginv1 "github.com/rivergate/rivergate/proto/rivergate/plugin/v1"
	pluginv2 "github.com/rivergate/rivergate/proto/rivergate/plugin/v2"
	"github.com/rivergate/rivergate/sdk/protocol"
)

// packer says what it is told to in the handshake, and acknowledges what comes message by message.
type packer struct {
	pluginv1.UnimplementedBaseServer
	pluginv2.UnimplementedPusherServer
	hello    *pluginv1.HandshakeResponse
	messages chan *pluginv2.HostMessage
}

func (p *packer) Handshake(context.Context, *pluginv1.HandshakeRequest) (*pluginv1.HandshakeResponse, error) {
	return p.hello, nil
}

func (p *packer) Deliver(s grpc.BidiStreamingServer[pluginv2.HostMessage, pluginv2.PluginMessage]) error {
	if _, err := s.Recv(); err != nil {
		return err
	}
	if err := s.Send(&pluginv2.PluginMessage{Message: &pluginv2.PluginMessage_Opened{Opened: &pluginv2.Opened{}}}); err != nil {
		return err
	}
	for {
		m, err := s.Recv()
		if err != nil {
			return err
		}
		p.messages <- m
	}
}

// messagesOf sends batches at once to a plugin that says this, and gives the seqs of each message, and whether it is a pack.
func messagesOf(t *testing.T, hello *pluginv1.HandshakeResponse, batches ...*protocol.Batch) (seqs [][]uint64, packs []bool) {
	t.Helper()
	p := &packer{hello: hello, messages: make(chan *pluginv2.HostMessage, len(batches))}
	conn, _ := dial(t, func(s *grpc.Server) {
		pluginv1.RegisterBaseServer(s, p)
		pluginv2.RegisterPusherServer(s, p)
	})
	client := NewClient(conn)
	_, err := client.Handshake(deadline(t), protocol.Hello{Versions: protocol.Versions()})
	require.NoError(t, err)
	s, err := client.Deliver(deadline(t), "one")
	require.NoError(t, err)
	require.NoError(t, s.Send(batches...))
	for n := 0; n < len(batches); {
		m := <-p.messages
		list := m.GetPack().GetBatches()
		packs = append(packs, list != nil)
		if list == nil {
			list = append(list, m.GetBatch())
		}
		var message []uint64
		for _, b := range list {
			message = append(message, b.GetSeq())
		}
		n += len(message)
		seqs = append(seqs, message)
	}
	return seqs, packs
}

func batchesOf(sizes ...int) []*protocol.Batch {
	var batches []*protocol.Batch
	for i, size := range sizes {
		data := []byte(strings.Repeat("1", size))
		batches = append(batches, &protocol.Batch{Seq: uint64(i + 1), Frames: []protocol.Frame{{UUID: "u", Data: data, Ends: []uint32{uint32(size)}}}})
	}
	return batches
}

func TestBatchesThatAreSentTogetherTravelInOneMessageToAPluginThatTakesIt(t *testing.T) {
	packs := []string{"other", protocol.CapPacks}
	small := []int{100, 100, 100, 100}
	for name, c := range map[string]struct {
		hello *pluginv1.HandshakeResponse
		sizes []int
		seqs  [][]uint64
		packs []bool
	}{
		"it takes packs":       {&pluginv1.HandshakeResponse{Capabilities: packs}, small, [][]uint64{{1, 2, 3, 4}}, []bool{true}},
		"it does not say so":   {&pluginv1.HandshakeResponse{Capabilities: packs[:1]}, small, [][]uint64{{1}, {2}, {3}, {4}}, make([]bool, 4)},
		"one alone is no pack": {&pluginv1.HandshakeResponse{Capabilities: packs}, small[:1], [][]uint64{{1}}, []bool{false}},
		"it limits messages": {
			&pluginv1.HandshakeResponse{Capabilities: packs, Limits: &pluginv1.Limits{MaxBatchBytes: 600}}, small, [][]uint64{{1, 2}, {3, 4}}, []bool{true, true},
		},
		"large ones go alone": {
			&pluginv1.HandshakeResponse{Capabilities: packs}, []int{10, protocol.PackBytes, 10, 10}, [][]uint64{{1}, {2}, {3, 4}}, []bool{false, false, true},
		},
	} {
		t.Run(name, func(t *testing.T) {
			c.hello.ProtocolVersion = protocol.Version2
			seqs, packs := messagesOf(t, c.hello, batchesOf(c.sizes...)...)
			require.Equal(t, c.seqs, seqs)
			require.Equal(t, c.packs, packs)
		})
	}
}

func TestBatchesThatAreSentTogetherReachAPluginInEachVersion(t *testing.T) {
	for _, version := range protocol.Versions() {
		f := &fake{got: make(chan *protocol.Batch, 4)}
		conn, _ := dial(t, func(s *grpc.Server) {
			pluginv1.RegisterPusherServer(s, &pusher1{impl: f})
			pluginv2.RegisterPusherServer(s, &pusher2{impl: f})
		})
		client := newClient(conn, version)
		client.pack.Store(protocol.PackBytes)
		s, err := client.Deliver(deadline(t), "one")
		require.NoError(t, err)
		require.NoError(t, s.Send(batchesOf(1, 2, 3)...))
		for seq := uint64(1); seq <= 3; seq++ {
			require.Equal(t, seq, (<-f.got).Seq)
			ack, err := s.Recv()
			require.NoError(t, err)
			require.Equal(t, seq, ack.ThroughSeq)
		}
		require.ErrorIs(t, s.Send(&protocol.Batch{Seq: 4}, &protocol.Batch{Seq: 6}), protocol.ErrMalformed)
	}
}
