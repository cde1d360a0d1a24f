package wire

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"sync/atomic"

	"google.golang.org/grpc"
	"google.golang.org/grpc/metadata"

	pluginv1 "github.com/rivergate/rivergate/proto/rivergate/plugin/v1"
	"github.com/rivergate/rivergate/sdk/protocol"
)

// instanceKey is the metadata key of Deliver that names the instance.
const instanceKey = "rivergate-instance"

// NewClient is the host's end of a pusher over conn. Errors are typed where the host decides by them: IsGone,
// protocol.ErrUnknownInstance, protocol.ErrMalformed, *protocol.Unhealthy, and the caller's own context errors.
func NewClient(conn grpc.ClientConnInterface) protocol.PusherClient {
	return &client{base: pluginv1.NewBaseClient(conn), pusher: pluginv1.NewPusherClient(conn)}
}

type client struct {
	base   pluginv1.BaseClient
	pusher pluginv1.PusherClient
}

func (c *client) Handshake(ctx context.Context, host protocol.Hello) (protocol.Hello, error) {
	m, err := c.base.Handshake(ctx, &pluginv1.HandshakeRequest{
		ProtocolVersions: host.Versions, Capabilities: texts(host.Capabilities), Limits: limitsOut(host.Limits), HostVersion: text(host.Software),
	})
	if err != nil {
		return protocol.Hello{}, fromStatus(ctx, "handshake", err)
	}
	return protocol.Hello{
		Versions: []uint32{m.ProtocolVersion}, Capabilities: m.Capabilities, Limits: limitsIn(m.Limits), Software: m.Sdk,
	}, nil
}

func (c *client) Describe(ctx context.Context) (protocol.Description, error) {
	m, err := c.base.Describe(ctx, &pluginv1.DescribeRequest{})
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
	m, err := c.base.Configure(ctx, &pluginv1.ConfigureRequest{InstanceId: instance, Config: config})
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
	m, err := c.base.Health(ctx, &pluginv1.HealthRequest{InstanceId: instance})
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
	_, err := c.base.Drain(ctx, &pluginv1.DrainRequest{InstanceId: instance})
	return fromStatus(ctx, "drain "+instance, err)
}

func (c *client) Deliver(ctx context.Context, instance string) (protocol.DeliverStream, error) {
	stream, err := c.pusher.Deliver(metadata.AppendToOutgoingContext(ctx, instanceKey, instance))
	if err != nil {
		return nil, fromStatus(ctx, "open stream of "+instance, err)
	}
	return &clientStream{ctx: ctx, stream: stream}, nil
}

// clientStream checks both directions: a host that skips a number is as wrong as a plugin that acknowledges one that was
// never sent.
type clientStream struct {
	ctx    context.Context // of Deliver
	stream grpc.BidiStreamingClient[pluginv1.Batch, pluginv1.Ack]
	sent   atomic.Uint64
	acked  uint64 // used by Recv alone
}

func (s *clientStream) Send(b *protocol.Batch) error {
	if want := s.sent.Load() + 1; b.Seq != want {
		return fmt.Errorf("send batch: %w: seq is %d, want %d", protocol.ErrMalformed, b.Seq, want)
	}
	// Counted before it leaves: the acknowledgement may be here before Send returns.
	s.sent.Store(b.Seq)
	return fromStatus(s.ctx, "send batch", s.stream.Send(batchOut(b)))
}

func (s *clientStream) Recv() (protocol.Ack, error) {
	m, err := s.stream.Recv()
	if errors.Is(err, io.EOF) && s.ctx.Err() == nil {
		return protocol.Ack{}, io.EOF
	}
	if err != nil {
		return protocol.Ack{}, fromStatus(s.ctx, "receive acknowledgement", err)
	}
	if sent := s.sent.Load(); m.ThroughSeq > sent {
		return protocol.Ack{}, fmt.Errorf("receive acknowledgement: %w: batch %d is acknowledged, %d were sent", protocol.ErrMalformed, m.ThroughSeq, sent)
	}
	if m.ThroughSeq < s.acked {
		return protocol.Ack{}, fmt.Errorf("receive acknowledgement: %w: batch %d is acknowledged after %d", protocol.ErrMalformed, m.ThroughSeq, s.acked)
	}
	s.acked = m.ThroughSeq
	ack, err := ackIn(m)
	if err != nil {
		return protocol.Ack{}, fmt.Errorf("receive acknowledgement: %w", err)
	}
	return ack, nil
}

func (s *clientStream) CloseSend() error {
	return fromStatus(s.ctx, "close stream", s.stream.CloseSend())
}
