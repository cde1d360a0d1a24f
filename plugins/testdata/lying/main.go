// Command lying breaks the plugin protocol in the way that the variable LIE names (to be passed with PASS_ENV). It proves
// that the host passes on nothing malformed, and survives a plugin that does not keep its word.
//
// It is written against the raw protocol, since the SDK would not let it lie. Its lies:
//
//	future-ack     acknowledges a batch that was never sent
//	back-ack       acknowledges an earlier batch again after a later one
//	double-ack     acknowledges each batch twice
//	unknown-rows   gives outcomes for rows that were not in the batch
//	bad-class      gives an outcome class that does not exist
//	no-class       gives an outcome without a class
//	zero-window    asks for a window of 0 in each acknowledgement, which means no change
//	deaf           takes batches, and never acknowledges
//	kind           says that it is an engine
//	trigger        says that it needs triggers
//	schema         has a configuration schema that is none
//	version        chooses protocol version 99
//	wedged         never answers Health after the first time
//	unwell         answers every Health with no
//	forgetful      knows no instance after it was configured
//	refuses        finds a problem in every configuration
//	mute           never answers Describe
//	deaf-drain     never answers Drain
//	tcp            no lie: it serves on TCP, without go-plugin
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"sync/atomic"

	"github.com/hashicorp/go-plugin"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	pluginv1 "github.com/rivergate/rivergate/proto/rivergate/plugin/v1" //nolint:depguard // package wire would not let it lie
	"github.com/rivergate/rivergate/sdk/protocol"
	"github.com/rivergate/rivergate/sdk/wire"
)

func main() {
	l := &liar{lie: os.Getenv("LIE")}
	if l.lie == "tcp" && os.Getenv(wire.EnvCookie) == wire.CookieValue {
		if err := serveTCP(l); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		return
	}
	plugin.Serve(&plugin.ServeConfig{
		HandshakeConfig:  wire.Handshake(),
		VersionedPlugins: map[int]plugin.PluginSet{protocol.Version1: {wire.Name: l}},
		GRPCServer: func(opts []grpc.ServerOption) *grpc.Server {
			return grpc.NewServer(append(opts, wire.ServerOptions()...)...)
		},
	})
}

type liar struct {
	plugin.NetRPCUnsupportedPlugin
	pluginv1.UnimplementedBaseServer
	pluginv1.UnimplementedPusherServer
	lie    string
	health atomic.Int64
}

func (l *liar) GRPCServer(_ *plugin.GRPCBroker, s *grpc.Server) error {
	pluginv1.RegisterBaseServer(s, l)
	pluginv1.RegisterPusherServer(s, l)
	return nil
}

func (l *liar) GRPCClient(context.Context, *plugin.GRPCBroker, *grpc.ClientConn) (any, error) {
	return nil, status.Error(codes.Unimplemented, "a plugin has no client")
}

func (l *liar) Handshake(context.Context, *pluginv1.HandshakeRequest) (*pluginv1.HandshakeResponse, error) {
	version := uint32(protocol.Version1)
	if l.lie == "version" {
		version = 99
	}
	return &pluginv1.HandshakeResponse{ProtocolVersion: version, Sdk: "lies"}, nil
}

func (l *liar) Describe(context.Context, *pluginv1.DescribeRequest) (*pluginv1.DescribeResponse, error) {
	d := &pluginv1.DescribeResponse{
		Name: "lying", Version: "1.0.0", Kind: pluginv1.Kind_KIND_PUSHER, ConfigSchema: []byte(`{"type":"object"}`),
		NeedsTrigger: l.lie == "trigger",
	}
	switch l.lie {
	case "mute":
		select {}
	case "kind":
		d.Kind = pluginv1.Kind_KIND_ENGINE
	case "schema":
		d.ConfigSchema = []byte(`{"type": 12}`)
	}
	return d, nil
}

func (l *liar) Configure(context.Context, *pluginv1.ConfigureRequest) (*pluginv1.ConfigureResponse, error) {
	if l.lie == "refuses" {
		return &pluginv1.ConfigureResponse{Problems: []*pluginv1.ConfigProblem{{Field: "path", Reason: "cannot be written"}}}, nil
	}
	return &pluginv1.ConfigureResponse{}, nil
}

func (l *liar) Health(context.Context, *pluginv1.HealthRequest) (*pluginv1.HealthResponse, error) {
	n := l.health.Add(1)
	switch {
	case l.lie == "unwell":
		return &pluginv1.HealthResponse{Reason: "I feel unwell"}, nil
	case l.lie == "wedged" && n > 1:
		select {}
	case l.lie == "forgetful" && n > 1:
		return nil, status.Error(codes.NotFound, "no such instance")
	}
	return &pluginv1.HealthResponse{Healthy: true}, nil
}

func (l *liar) Drain(context.Context, *pluginv1.DrainRequest) (*pluginv1.DrainResponse, error) {
	if l.lie == "deaf-drain" {
		select {}
	}
	return &pluginv1.DrainResponse{}, nil
}

func (l *liar) Deliver(stream grpc.BidiStreamingServer[pluginv1.Batch, pluginv1.Ack]) error {
	for {
		b, err := stream.Recv()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		for _, ack := range l.acks(b) {
			if err := stream.Send(ack); err != nil {
				return err
			}
		}
	}
}

func (l *liar) acks(b *pluginv1.Batch) []*pluginv1.Ack {
	ack := &pluginv1.Ack{ThroughSeq: b.Seq}
	position := uint64(0)
	if len(b.Frames) > 0 {
		position = b.Frames[0].Position
	}
	switch l.lie {
	case "deaf":
		return nil
	case "future-ack":
		ack.ThroughSeq += 1000
	case "back-ack":
		return []*pluginv1.Ack{ack, {ThroughSeq: b.Seq - 1}}
	case "double-ack":
		return []*pluginv1.Ack{ack, {ThroughSeq: b.Seq}}
	case "unknown-rows":
		ack.Outcomes = []*pluginv1.Outcome{
			{Position: position + 1_000_000, Class: pluginv1.OutcomeClass_OUTCOME_CLASS_REJECTED, Code: "lie", Message: "no such frame"},
			{Position: position, Row: 1_000_000, Class: pluginv1.OutcomeClass_OUTCOME_CLASS_REJECTED, Code: "lie", Message: "no such row"},
		}
	case "bad-class":
		ack.Outcomes = []*pluginv1.Outcome{{Position: position, Class: 77}}
	case "no-class":
		ack.Outcomes = []*pluginv1.Outcome{{Position: position}}
	case "zero-window":
		ack.Window = 0
	}
	return []*pluginv1.Ack{ack}
}
