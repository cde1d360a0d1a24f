package wire

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"

	"google.golang.org/grpc"

	pluginv1 "github.com/rivergate/rivergate/proto/rivergate/plugin/v1"
	pluginv2 "github.com/rivergate/rivergate/proto/rivergate/plugin/v2"
	"github.com/rivergate/rivergate/sdk/protocol"
)

// Register serves a pusher or a storage on s, which ServerOptions made, in every version of the protocol side by side. Panics of
// the implementation are left alone: the process is to crash, and the host to see it.
func Register(s grpc.ServiceRegistrar, impl protocol.Base) {
	pluginv1.RegisterBaseServer(s, &baseServer{impl: impl})
	if pusher, ok := impl.(protocol.PusherServer); ok {
		pluginv1.RegisterPusherServer(s, &pusher1{impl: pusher})
		pluginv2.RegisterPusherServer(s, &pusher2{impl: pusher})
	}
	if storage, ok := impl.(protocol.StorageServer); ok {
		pluginv1.RegisterStorageServer(s, &storageServer{impl: storage})
	}
}

type baseServer struct {
	pluginv1.UnimplementedBaseServer
	impl protocol.Base
}

func (s *baseServer) Handshake(ctx context.Context, m *pluginv1.HandshakeRequest) (*pluginv1.HandshakeResponse, error) {
	hello, err := s.impl.Handshake(ctx, protocol.Hello{
		Versions: m.ProtocolVersions, Capabilities: m.Capabilities, Limits: limitsIn(m.Limits), Software: m.HostVersion,
	})
	if err != nil {
		return nil, toStatus(err)
	}
	if len(hello.Versions) != 1 {
		return nil, toStatus(fmt.Errorf("%w: the plugin chose %d protocol versions", protocol.ErrMalformed, len(hello.Versions)))
	}
	return &pluginv1.HandshakeResponse{
		ProtocolVersion: hello.Versions[0], Capabilities: texts(hello.Capabilities), Limits: limitsOut(hello.Limits), Sdk: text(hello.Software),
	}, nil
}

func (s *baseServer) Describe(ctx context.Context, _ *pluginv1.DescribeRequest) (*pluginv1.DescribeResponse, error) {
	d, err := s.impl.Describe(ctx)
	if err != nil {
		return nil, toStatus(err)
	}
	return &pluginv1.DescribeResponse{
		Name: text(d.Name), Version: text(d.Version), Kind: kindOut[d.Kind], ConfigSchema: d.ConfigSchema,
		Author: text(d.Author), Summary: text(d.Summary), NeedsTrigger: d.NeedsTrigger,
	}, nil
}

func (s *baseServer) Configure(ctx context.Context, m *pluginv1.ConfigureRequest) (*pluginv1.ConfigureResponse, error) {
	if m.InstanceId == "" {
		return nil, toStatus(fmt.Errorf("%w: configure without an instance", protocol.ErrMalformed))
	}
	problems, err := s.impl.Configure(ctx, m.InstanceId, json.RawMessage(m.Config))
	if err != nil {
		return nil, toStatus(err)
	}
	out := &pluginv1.ConfigureResponse{}
	for _, p := range problems {
		out.Problems = append(out.Problems, &pluginv1.ConfigProblem{Field: text(p.Field), Reason: text(cut(p.Reason, 4<<10))})
	}
	return out, nil
}

func (s *baseServer) Health(ctx context.Context, m *pluginv1.HealthRequest) (*pluginv1.HealthResponse, error) {
	err := s.impl.Health(ctx, m.InstanceId)
	var unhealthy *protocol.Unhealthy
	switch {
	case err == nil:
		return &pluginv1.HealthResponse{Healthy: true}, nil
	case errors.As(err, &unhealthy):
		return &pluginv1.HealthResponse{Reason: text(cut(unhealthy.Reason, 4<<10))}, nil
	default:
		return nil, toStatus(err)
	}
}

func (s *baseServer) Drain(ctx context.Context, m *pluginv1.DrainRequest) (*pluginv1.DrainResponse, error) {
	if err := s.impl.Drain(ctx, m.InstanceId); err != nil {
		return nil, toStatus(err)
	}
	return &pluginv1.DrainResponse{}, nil
}
