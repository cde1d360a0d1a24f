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

// Destination is the named instance as delivery sees it. It may be asked for before Start; Open waits.
func (h *Host) Destination(name string) delivery.Destination { return destination{host: h, name: name} }

type destination struct {
	host *Host
	name string
}

// Open waits for the instance to be ready and opens a delivery stream.
func (d destination) Open(ctx context.Context) (delivery.Session, error) {
	sup, err := d.host.lookup(ctx, d.name)
	if err != nil {
		return nil, err
	}
	for {
		r, err := sup.ready(ctx)
		if err != nil {
			return nil, err
		}
		s, err := r.open(ctx, d.name)
		if err == nil {
			return s, nil
		}
		if ctx.Err() != nil {
			return nil, context.Cause(ctx)
		}
		// The process is ending, or so broken that no stream opens: the supervisor sees to the next one.
		if !errors.Is(err, errRetired) && !closedWithin(r.dead, reapTimeout) {
			r.kill(fmt.Sprintf("no delivery stream could be opened: %v", err))
		}
		if err := sup.waitPast(ctx, r); err != nil {
			return nil, err
		}
	}
}

var errRetired = errors.New("the plugin process is being replaced")

// session is one delivery stream.
type session struct {
	protocol.DeliverStream
	r      *running
	cancel context.CancelFunc
	once   sync.Once

	mu       sync.Mutex
	broke    bool  // the plugin broke the protocol on this stream
	inFlight []int // rows of each batch that was sent and not acknowledged
	acked    uint64
}

var _ delivery.Session = (*session)(nil)

// open opens a stream that outlives ctx: it ends with Close.
func (r *running) open(ctx context.Context, instance string) (*session, error) {
	r.sessMu.Lock()
	if r.closing {
		r.sessMu.Unlock()
		return nil, errRetired
	}
	r.sessions++
	r.sessMu.Unlock()

	streamCtx, cancel := context.WithCancel(context.WithoutCancel(ctx))
	stop := context.AfterFunc(ctx, cancel) // while it opens, ctx holds
	stream, err := r.rpc.Deliver(streamCtx, instance)
	if !stop() && err == nil {
		err = context.Cause(ctx)
	}
	if err != nil {
		cancel()
		r.sessionClosed()
		return nil, err
	}
	return &session{DeliverStream: stream, r: r, cancel: cancel}, nil
}

// Send counts the rows on their way, so that the supervisor can tell a search for a poisonous row from a crash loop.
func (s *session) Send(b *protocol.Batch) error {
	rows := 0
	for i := range b.Frames {
		rows += b.Frames[i].Len()
	}
	s.mu.Lock()
	s.inFlight = append(s.inFlight, rows)
	s.mu.Unlock()
	s.r.rowsInFlight.Add(int64(rows))
	return s.DeliverStream.Send(b)
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
		s.r.rowsInFlight.Add(-int64(rows))
		s.r.progressed.Store(true)
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
		s.r.kill("it broke the protocol: " + err.Error())
	}
	if err == nil {
		s.settle(ack.ThroughSeq)
	}
	return ack, err
}

func (s *session) Limits() protocol.Limits { return s.r.hello.Limits }

func (s *session) Crashed() (how string, crashed bool) {
	if !closedWithin(s.r.dead, reapTimeout) {
		return "", false
	}
	s.mu.Lock()
	broke := s.broke
	s.mu.Unlock()
	return s.r.how, !broke && !s.r.wasTold()
}

func (s *session) Kill(reason string)       { s.r.kill(reason) }
func (s *session) Retired() <-chan struct{} { return s.r.retired }

func (s *session) Close() {
	s.once.Do(func() {
		s.cancel()
		s.forget()
		s.r.sessionClosed()
	})
}

// forget takes the rows of a stream that ends while its process lives out of the count. Those of a dead one stay: they are
// what it died with.
func (s *session) forget() {
	select {
	case <-s.r.dead:
		return
	default:
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, rows := range s.inFlight {
		s.r.rowsInFlight.Add(-int64(rows))
	}
	s.inFlight = nil
}

func (r *running) sessionClosed() {
	r.sessMu.Lock()
	defer r.sessMu.Unlock()
	r.sessions--
	r.checkIdle()
}

// checkIdle is called with the lock held.
func (r *running) checkIdle() {
	if r.closing && r.sessions == 0 {
		r.idleOnce.Do(func() { close(r.idle) })
	}
}

// retireSessions asks the streams to end in good order and waits for that, half of the time that ctx has: the rest is for
// draining. No new one opens.
func (r *running) retireSessions(ctx context.Context) error {
	if deadline, ok := ctx.Deadline(); ok {
		half, cancel := context.WithTimeout(ctx, time.Until(deadline)/2)
		defer cancel()
		ctx = half
	}
	r.sessMu.Lock()
	if !r.closing {
		r.closing = true
		close(r.retired)
	}
	r.checkIdle()
	r.sessMu.Unlock()

	select {
	case <-r.idle:
		return nil
	case <-r.dead:
		return nil
	case <-ctx.Done():
		return fmt.Errorf("delivery streams are still open: %w", context.Cause(ctx))
	}
}
