package wire

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"sync/atomic"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/metadata"

	pluginv1 "github.com/rivergate/rivergate/proto/rivergate/plugin/v1"
	pluginv2 "github.com/rivergate/rivergate/proto/rivergate/plugin/v2"
	"github.com/rivergate/rivergate/sdk/protocol"
)

// instanceKey is the metadata key of Deliver that names the instance.
const instanceKey = "rivergate-instance"

// NewClient is the host's end of a plugin over conn. Errors are typed where the host decides by them: IsGone,
// protocol.ErrUnknownInstance, protocol.ErrMalformed, *protocol.Unhealthy, and the caller's own context errors.
//
// The plugin's answer to Handshake settles the protocol version, also over a connection that go-plugin did not negotiate.
// Before that call it is 1.
func NewClient(conn grpc.ClientConnInterface) protocol.Client {
	return newClient(conn, protocol.Version1)
}

func newClient(conn grpc.ClientConnInterface, version uint32) *client {
	c := &client{
		base: pluginv1.NewBaseClient(conn), pusher1: pluginv1.NewPusherClient(conn), pusher2: pluginv2.NewPusherClient(conn), patience: openTimeout,
		storage: pluginv1.NewStorageClient(conn), wait: defaultPatience,
	}
	c.version.Store(version)
	return c
}

// answer bounds what a plugin answers to a call.
var answer = grpc.MaxCallRecvMsgSize(maxAnswer)

type client struct {
	base    pluginv1.BaseClient
	pusher1 pluginv1.PusherClient
	pusher2 pluginv2.PusherClient
	storage pluginv1.StorageClient
	version atomic.Uint32
	// takesFiles: a storage may answer Get with a file that it has open.
	takesFiles atomic.Bool
	// near: large bodies may go beside the call, if the plugin can do that, which beside says.
	near, beside atomic.Bool
	pack         atomic.Int64 // bytes of a message that carries several batches, at most; 0: the plugin does not take packs

	patience time.Duration // openTimeout
	wait     patience      // of the calls to a storage
}

func (c *client) Handshake(ctx context.Context, host protocol.Hello) (protocol.Hello, error) {
	m, err := c.base.Handshake(ctx, &pluginv1.HandshakeRequest{
		ProtocolVersions: host.Versions, Capabilities: texts(host.Capabilities), Limits: limitsOut(host.Limits), HostVersion: text(host.Software),
	}, answer)
	if err != nil {
		return protocol.Hello{}, fromStatus(ctx, "handshake", err)
	}
	// A version that was not offered is for the host to refuse; it has the words for it.
	if slices.Contains(host.Versions, m.ProtocolVersion) {
		c.version.Store(m.ProtocolVersion)
	}
	c.pack.Store(packLimit(m))
	c.beside.Store(slices.Contains(m.Capabilities, protocol.CapBeside))
	return protocol.Hello{
		Versions: []uint32{m.ProtocolVersion}, Capabilities: m.Capabilities, Limits: limitsIn(m.Limits), Software: m.Sdk,
	}, nil
}

func (c *client) Describe(ctx context.Context) (protocol.Description, error) {
	m, err := c.base.Describe(ctx, &pluginv1.DescribeRequest{}, answer)
	if err != nil {
		return protocol.Description{}, fromStatus(ctx, "describe", err)
	}
	kind, ok := kindIn[m.Kind]
	if !ok {
		return protocol.Description{}, fmt.Errorf("describe: %w: unknown kind %d", protocol.ErrMalformed, int32(m.Kind))
	}
	return protocol.Description{
		Name: m.Name, Version: m.Version, Kind: kind, ConfigSchema: json.RawMessage(m.ConfigSchema),
		Author: m.Author, Summary: m.Summary, NeedsTrigger: m.NeedsTrigger,
	}, nil
}

func (c *client) Configure(ctx context.Context, instance string, config json.RawMessage) ([]protocol.ConfigProblem, error) {
	m, err := c.base.Configure(ctx, &pluginv1.ConfigureRequest{InstanceId: instance, Config: config}, answer)
	if err != nil {
		return nil, fromStatus(ctx, "configure "+instance, err)
	}
	var problems []protocol.ConfigProblem
	for _, p := range m.Problems {
		problems = append(problems, protocol.ConfigProblem{Field: p.GetField(), Reason: p.GetReason()})
	}
	return problems, nil
}

func (c *client) Health(ctx context.Context, instance string) error {
	m, err := c.base.Health(ctx, &pluginv1.HealthRequest{InstanceId: instance}, answer)
	if err != nil {
		return fromStatus(ctx, "health of "+instance, err)
	}
	if !m.Healthy {
		reason := m.Reason
		if reason == "" {
			reason = "not healthy, no reason given"
		}
		return &protocol.Unhealthy{Reason: reason}
	}
	return nil
}

func (c *client) Drain(ctx context.Context, instance string) error {
	_, err := c.base.Drain(ctx, &pluginv1.DrainRequest{InstanceId: instance}, answer)
	return fromStatus(ctx, "drain "+instance, err)
}

// Deliver opens the stream in the form of the version that Handshake settled. In version 2 it returns when the plugin has
// said that the instance is there; in version 1 an unknown instance shows at the first Recv.
func (c *client) Deliver(ctx context.Context, instance string) (protocol.DeliverStream, error) {
	if c.version.Load() >= protocol.Version2 {
		return c.deliver2(ctx, instance)
	}
	stream, err := c.pusher1.Deliver(metadata.AppendToOutgoingContext(ctx, instanceKey, instance), grpc.ForceCodecV2(newGuard()))
	if err != nil {
		return nil, fromStatus(ctx, "open stream of "+instance, err)
	}
	return &clientStream{ctx: ctx, stream: stream1{stream}}, nil
}
