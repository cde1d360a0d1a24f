package pluginhost

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/rivergate/rivergate/sdk/protocol"
	"github.com/rivergate/rivergate/services/gateway/delivery"
)

// reapTimeout is how long Crashed waits for a process whose stream broke.
const reapTimeout = time.Second

// Destination is the named instance as delivery sees it. It may be asked for before Start, and before the instance is
// added; Open waits for Start.
func (h *Host) Destination(name string) delivery.Destination { return destination{host: h, name: name} }

type destination struct {
	host *Host
	name string
}

// Open waits for the instance to be ready and opens a delivery stream.
func (d destination) Open(ctx context.Context) (delivery.Session, error) {
	m, err := d.host.lookup(ctx, d.name)
	if err != nil {
		return nil, err
	}
	for {
		seat, err := m.ready(ctx)
		if err != nil {
			return nil, err
		}
		s, err := seat.open(ctx)
		if err == nil {
			return s, nil
		}
		if ctx.Err() != nil {
			return nil, context.Cause(ctx)
		}
		// The process is ending, or so broken that no stream opens: the supervisor sees to the next one.
		if !errors.Is(err, errRetired) && !closedWithin(seat.dead, reapTimeout) {
			seat.kill(fmt.Sprintf("no delivery stream could be opened: %v", err))
		}
		if err := m.waitPast(ctx, seat); err != nil {
			return nil, err
		}
	}
}

var errRetired = errors.New("the plugin process is being replaced")

// session is one delivery stream.
type session struct {
	protocol.DeliverStream
	seat   *seat
	cancel context.CancelFunc
	once   sync.Once

	mu       sync.Mutex
	broke    bool   // the plugin broke the protocol on this stream
	cut      string // why the host broke the stream of a process that it does not own
	inFlight []int  // rows of each batch that was sent and not acknowledged
	acked    uint64
}

var _ delivery.Session = (*session)(nil)

// open opens a stream that outlives ctx: it ends with Close.
func (s *seat) open(ctx context.Context) (*session, error) {
	if err := s.enter(); err != nil {
		return nil, err
	}
	streamCtx, cancel := context.WithCancel(context.WithoutCancel(ctx))
	stop := context.AfterFunc(ctx, cancel) // while it opens, ctx holds
	stream, err := s.plugin.Deliver(streamCtx, s.instance)
	if !stop() && err == nil {
		err = context.Cause(ctx)
	}
	if err != nil {
		cancel()
		s.leave()
		return nil, fmt.Errorf("open delivery stream: %w", err)
	}
	return &session{DeliverStream: stream, seat: s, cancel: cancel}, nil
}

// Send counts the rows on their way, so that the supervisor can tell a search for a poisonous row from a crash loop.
func (s *session) Send(batches ...*protocol.Batch) error {
	all := 0
	s.mu.Lock()
	for _, b := range batches {
		rows := 0
		for i := range b.Frames {
			rows += b.Frames[i].Len()
		}
		s.inFlight = append(s.inFlight, rows)
		all += rows
	}
	s.mu.Unlock()
	s.seat.rowsInFlight.Add(int64(all))
	return s.DeliverStream.Send(batches...)
}

func (s *session) settle(through uint64) {
	s.mu.Lock()
	n := min(int(through-s.acked), len(s.inFlight))
	rows := 0
	for _, r := range s.inFlight[:n] {
		rows += r
	}
	s.inFlight = s.inFlight[n:]
	s.acked += uint64(n)
	s.mu.Unlock()
	if n > 0 {
		s.seat.rowsInFlight.Add(-int64(rows))
		s.seat.progressed.Store(true)
	}
}

// Recv passes on what is well-formed. A plugin that breaks the protocol is ended: nothing that it says after that can be
// relied on.
func (s *session) Recv() (protocol.Ack, error) {
	ack, err := s.DeliverStream.Recv()
	if errors.Is(err, protocol.ErrMalformed) {
		s.mu.Lock()
		s.broke = true
		s.mu.Unlock()
		s.seat.kill("it broke the protocol: " + err.Error())
	}
	if err == nil {
		s.settle(ack.ThroughSeq)
	}
	return ack, err
}

func (s *session) Limits() protocol.Limits { return s.seat.hello.Limits }

func (s *session) NeedsTrigger() bool { return s.seat.desc.NeedsTrigger }

func (s *session) Crashed() (how string, crashed bool) {
	s.mu.Lock()
	cut := s.cut
	s.mu.Unlock()
	if cut != "" || !closedWithin(s.seat.dead, reapTimeout) {
		return cut, false
	}
	s.mu.Lock()
	broke := s.broke
	s.mu.Unlock()
	return s.seat.end(), !broke && !s.seat.wasTold()
}

// Kill ends the process, and adds to the reason whether it still answers anything. One that somebody else started only loses
// the stream: he may be at a breakpoint.
func (s *session) Kill(reason string) {
	if s.seat.attached == "" {
		s.seat.kill(reason + s.pulse())
		return
	}
	s.mu.Lock()
	s.cut = reason
	s.mu.Unlock()
	s.cancel()
}

// pulseTime is what a process that is to be killed gets for a last health check.
const pulseTime = 2 * time.Second

// pulse tells a process that hangs as a whole from one that hangs at its work.
func (s *session) pulse() string {
	ctx, cancel := context.WithTimeout(context.Background(), pulseTime)
	defer cancel()
	err := s.seat.plugin.Health(ctx, s.seat.instance)
	var unhealthy *protocol.Unhealthy
	switch {
	case err == nil:
		return "; it answers health checks"
	case errors.As(err, &unhealthy):
		return "; its health check says: " + quotable(unhealthy.Reason)
	case errors.Is(err, context.DeadlineExceeded):
		return "; it answers no health check either"
	default: // it has ended meanwhile, or does not keep to the protocol
		return ""
	}
}

func (s *session) Retired() <-chan struct{} { return s.seat.retired }

func (s *session) Close() {
	s.once.Do(func() {
		s.cancel()
		s.forget()
		s.seat.leave()
	})
}

// forget takes the rows of a stream that ends while its process lives out of the count. Those of a dead one stay: they are
// what it died with.
func (s *session) forget() {
	select {
	case <-s.seat.dead:
		return
	default:
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, rows := range s.inFlight {
		s.seat.rowsInFlight.Add(-int64(rows))
	}
	s.inFlight = nil
}
