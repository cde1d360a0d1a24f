package wire

import (
	"context"
	"errors"
	"fmt"
	"io"
	"sync/atomic"
	"time"

	"google.golang.org/grpc"

	pluginv1 "github.com/rivergate/rivergate/proto/rivergate/plugin/v1"
	pluginv2 "github.com/rivergate/rivergate/proto/rivergate/plugin/v2"
	"github.com/rivergate/rivergate/sdk/protocol"
)

// openTimeout is what a plugin gets to answer Open. It has nothing to do for it, so one that takes longer is wedged.
const openTimeout = 10 * time.Second

// hostStream is the host's end in the form of one protocol version. A nil Ack says that the plugin is at work.
type hostStream interface {
	SendMessage([]*protocol.Batch) error // more than one only where the plugin takes packs
	Recv() (*pluginv1.Ack, error)
	CloseSend() error
}

type stream1 struct {
	grpc.BidiStreamingClient[pluginv1.Batch, pluginv1.Ack]
}

func (s stream1) SendMessage(batches []*protocol.Batch) error {
	return s.SendMsg(&outgoing{batches: batches})
}

type stream2 struct {
	stream grpc.BidiStreamingClient[pluginv2.HostMessage, pluginv2.PluginMessage]
}

func (s stream2) SendMessage(batches []*protocol.Batch) error {
	return s.stream.SendMsg(&outgoing{batches: batches, nested: true})
}

func (s stream2) Recv() (*pluginv1.Ack, error) {
	for {
		m, err := s.stream.Recv()
		if err != nil {
			return nil, err
		}
		switch m := m.Message.(type) {
		case *pluginv2.PluginMessage_Ack:
			if m.Ack == nil {
				return nil, fmt.Errorf("%w: an acknowledgement is missing", protocol.ErrMalformed)
			}
			return m.Ack, nil
		case *pluginv2.PluginMessage_Working:
			return nil, nil
		case *pluginv2.PluginMessage_Opened:
			return nil, fmt.Errorf("%w: the stream was opened twice", protocol.ErrMalformed)
		default: // what a later version may say beside
		}
	}
}

func (s stream2) CloseSend() error { return s.stream.CloseSend() }

func (c *client) deliver2(parent context.Context, instance string) (protocol.DeliverStream, error) {
	doing := "open stream of " + instance
	ctx, cancel := context.WithCancelCause(parent)
	errLate := fmt.Errorf("the plugin did not open the stream within %s: %w", c.patience, context.DeadlineExceeded)
	late := time.AfterFunc(c.patience, func() { cancel(errLate) })
	stream, err := c.open2(ctx, instance)
	if !late.Stop() && err == nil {
		err = errLate
	}
	if err != nil {
		err = fromStatus(ctx, doing, err)
		cancel(nil)
		return nil, err
	}
	return &clientStream{ctx: ctx, end: cancel, stream: stream2{stream}, pack: int(c.pack.Load())}, nil
}

func (c *client) open2(ctx context.Context, instance string) (grpc.BidiStreamingClient[pluginv2.HostMessage, pluginv2.PluginMessage], error) {
	stream, err := c.pusher2.Deliver(ctx, grpc.ForceCodecV2(newGuard()))
	if err != nil {
		return nil, err
	}
	// A stream that ended already says so by EOF; the reason comes with Recv.
	if err := stream.Send(&pluginv2.HostMessage{Message: &pluginv2.HostMessage_Open{Open: &pluginv2.Open{InstanceId: instance}}}); err != nil && !errors.Is(err, io.EOF) {
		return nil, err
	}
	m, err := stream.Recv()
	if err != nil {
		return nil, err
	}
	if _, ok := m.Message.(*pluginv2.PluginMessage_Opened); !ok {
		return nil, fmt.Errorf("%w: the plugin's first message is %T, not Opened", protocol.ErrMalformed, m.Message)
	}
	return stream, nil
}

// clientStream checks both directions: a host that skips a number is as wrong as a plugin that acknowledges one that was
// never sent.
type clientStream struct {
	ctx    context.Context // of the stream
	end    func(error)     // releases ctx, when it is the stream's own
	stream hostStream
	pack   int // bytes of a message that carries several batches, at most; 0: each goes alone
	sent   atomic.Uint64
	acked  uint64 // used by Recv alone
}

func (s *clientStream) Send(batches ...*protocol.Batch) error {
	want := s.sent.Load()
	for _, b := range batches {
		if want++; b.Seq != want {
			return fmt.Errorf("send batch: %w: seq is %d, want %d", protocol.ErrMalformed, b.Seq, want)
		}
	}
	for len(batches) > 0 {
		n := s.together(batches)
		// Counted before they leave: the acknowledgement may be here before Send returns.
		s.sent.Store(batches[n-1].Seq)
		if err := s.stream.SendMessage(batches[:n]); err != nil {
			return fromStatus(s.ctx, "send batch", err)
		}
		batches = batches[n:]
	}
	return nil
}

// together is how many batches, from the first, go into one message.
func (s *clientStream) together(batches []*protocol.Batch) int {
	size, n := 0, 0
	for n < len(batches) && (n == 0 || s.pack > 0) {
		if size += atMost(batches[n]); n > 0 && size > s.pack {
			break
		}
		n++
	}
	return n
}

func (s *clientStream) Recv() (protocol.Ack, error) {
	m, err := s.stream.Recv()
	if err != nil {
		return protocol.Ack{}, s.ended(err)
	}
	if m == nil {
		return protocol.Ack{ThroughSeq: s.acked, Working: true}, nil
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

// ended makes the error of a stream that has ended.
func (s *clientStream) ended(err error) error {
	if cause := context.Cause(s.ctx); errors.Is(err, io.EOF) && (cause == nil || errors.Is(cause, io.EOF)) {
		err = io.EOF
	} else {
		err = fromStatus(s.ctx, "receive acknowledgement", err)
	}
	if s.end != nil && !errors.Is(err, protocol.ErrMalformed) { // gRPC has let go of it
		s.end(err)
	}
	return err
}

func (s *clientStream) CloseSend() error {
	return fromStatus(s.ctx, "close stream", s.stream.CloseSend())
}
