package main

import (
	"errors"
	"io"

	"google.golang.org/grpc"

	pluginv1 "github.com/rivergate/rivergate/proto/rivergate/plugin/v1" //nolint:depguard // package wire would not let it lie
	pluginv2 "github.com/rivergate/rivergate/proto/rivergate/plugin/v2" //nolint:depguard // the same
)

// packing is the stream of protocol version 2, for the lie about packs.
type packing struct {
	pluginv2.UnimplementedPusherServer
	liar *liar
}

func (p packing) Deliver(stream grpc.BidiStreamingServer[pluginv2.HostMessage, pluginv2.PluginMessage]) error {
	m, err := stream.Recv()
	if err != nil {
		return err
	}
	if !p.liar.knows(m.GetOpen().GetInstanceId()) {
		return errUnknown
	}
	if err := stream.Send(&pluginv2.PluginMessage{Message: &pluginv2.PluginMessage_Opened{Opened: &pluginv2.Opened{}}}); err != nil {
		return err
	}
	for {
		m, err := stream.Recv()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		b := m.GetBatch()
		if pack := m.GetPack().GetBatches(); len(pack) > 0 {
			b = pack[0]
		}
		ack := &pluginv2.PluginMessage_Ack{Ack: &pluginv1.Ack{ThroughSeq: b.GetSeq()}}
		if err := stream.Send(&pluginv2.PluginMessage{Message: ack}); err != nil {
			return err
		}
	}
}
