package wire

import (
	"errors"
	"fmt"
	"io"
	"sync"

	"google.golang.org/grpc"
	"google.golang.org/grpc/metadata"

	pluginv1 "github.com/rivergate/rivergate/proto/rivergate/plugin/v1"
	pluginv2 "github.com/rivergate/rivergate/proto/rivergate/plugin/v2"
	"github.com/rivergate/rivergate/sdk/protocol"
)

// pusher1 is the plugin's end of a delivery stream in protocol version 1.
type pusher1 struct {
	pluginv1.UnimplementedPusherServer
	impl protocol.PusherServer
}

func (s *pusher1) Deliver(stream grpc.BidiStreamingServer[pluginv1.Batch, pluginv1.Ack]) error {
	ctx := stream.Context()
	md, _ := metadata.FromIncomingContext(ctx)
	instance := md.Get(instanceKey)
	if len(instance) != 1 || instance[0] == "" {
		return toStatus(fmt.Errorf("%w: deliver without the metadata %s", protocol.ErrMalformed, instanceKey))
	}
	var in batches
	recv := func() ([]protocol.Batch, error) {
		var m batchMessage
		if err := stream.RecvMsg(&m); err != nil {
			return nil, atEnd(err)
		}
		return in.next(&m)
	}
	send := func(a protocol.Ack) error {
		if a.Working {
			return nil // version 1 has no word for it
		}
		m, err := ackOut(a)
		if err != nil {
			return err
		}
		return stream.Send(m)
	}
	return toStatus(s.impl.Deliver(ctx, instance[0], recv, send))
}

// pusher2 is the same in version 2.
type pusher2 struct {
	pluginv2.UnimplementedPusherServer
	impl protocol.PusherServer
}

func (s *pusher2) Deliver(stream grpc.BidiStreamingServer[pluginv2.HostMessage, pluginv2.PluginMessage]) error {
	m, err := stream.Recv()
	if err != nil {
		if errors.Is(err, io.EOF) {
			return nil
		}
		return toStatus(err)
	}
	instance := m.GetOpen().GetInstanceId()
	if instance == "" {
		return toStatus(fmt.Errorf("%w: the stream does not begin with Open and an instance", protocol.ErrMalformed))
	}
	// gRPC allows one sender at a time: Opened comes from the receiving side.
	var sending sync.Mutex
	say := func(m *pluginv2.PluginMessage) error {
		sending.Lock()
		defer sending.Unlock()
		return stream.Send(m)
	}
	opened := false
	var in batches
	recv := func() ([]protocol.Batch, error) {
		if !opened {
			if err := say(&pluginv2.PluginMessage{Message: &pluginv2.PluginMessage_Opened{Opened: &pluginv2.Opened{}}}); err != nil {
				return nil, err
			}
			opened = true
		}
		var m hostMessage
		if err := stream.RecvMsg(&m); err != nil {
			return nil, atEnd(err)
		}
		return in.next(&m.batchMessage)
	}
	send := func(a protocol.Ack) error {
		if a.Working {
			return say(&pluginv2.PluginMessage{Message: &pluginv2.PluginMessage_Working{Working: &pluginv2.Working{}}})
		}
		m, err := ackOut(a)
		if err != nil {
			return err
		}
		return say(&pluginv2.PluginMessage{Message: &pluginv2.PluginMessage_Ack{Ack: m}})
	}
	return toStatus(s.impl.Deliver(stream.Context(), instance, recv, send))
}

// batches counts what comes down a stream.
type batches struct{ seq uint64 }

func (b *batches) next(m *batchMessage) ([]protocol.Batch, error) {
	if m.err != nil {
		return nil, m.err
	}
	if len(m.batches) == 0 {
		return nil, fmt.Errorf("%w: a message after Open holds no batch", protocol.ErrMalformed)
	}
	for i := range m.batches {
		seq := m.batches[i].Seq
		if seq != b.seq+1 {
			return nil, fmt.Errorf("%w: batch %d follows batch %d", protocol.ErrMalformed, seq, b.seq)
		}
		b.seq = seq
	}
	return m.batches, nil
}

func atEnd(err error) error {
	if errors.Is(err, io.EOF) {
		return io.EOF
	}
	return err
}
