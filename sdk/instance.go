package sdk

import (
	"context"
	"errors"
	"fmt"
	"io"
	"sync"
	"time"

	"github.com/rivergate/rivergate/sdk/protocol"
)

// instance is one configured value and the stream that feeds it.
type instance struct {
	name     string
	pusher   Pusher
	window   int
	parallel int // Deliver calls at once
	log      Logger

	busy    chan struct{} // held by the one stream that delivers; kept for ever once the instance is closed
	retired chan struct{} // closed: finish the batch in hand, then end the stream
	retire  func()

	life  context.Context // ends at a forced stop
	abort context.CancelCauseFunc
}

func newInstance(name string, pusher Pusher, p Plugin, log Logger) *instance {
	in := &instance{
		name: name, pusher: pusher, window: p.Window, parallel: max(p.Parallel, 1), log: log,
		busy: make(chan struct{}, 1), retired: make(chan struct{}),
	}
	in.retire = sync.OnceFunc(func() { close(in.retired) })
	in.life, in.abort = context.WithCancelCause(context.Background())
	return in
}

func (in *instance) author() any { return in.pusher }

func (in *instance) stop(cause error) { in.abort(cause) }

// errStopping is what a Deliver call sees as the cause of its context at a forced stop. It counts as a cancel, so that the
// host takes the stream for gone and sends the batch again.
var errStopping = fmt.Errorf("plugin is stopping: %w", context.Canceled)

// errBusy: the instance did not finish the batch in hand in time.
var errBusy = errors.New("instance is still delivering")

// close finishes the batch in hand and closes the pusher. When ctx ends first, the batch is broken off and errBusy
// returned; close may then be called again.
func (in *instance) close(ctx context.Context) error {
	in.retire()
	select {
	case in.busy <- struct{}{}:
	case <-ctx.Done():
		in.abort(errStopping)
		return fmt.Errorf("%w: %w", errBusy, ctx.Err())
	}
	in.abort(errStopping)
	if closer, ok := in.pusher.(Closer); ok {
		if err := closer.Close(ctx); err != nil {
			return fmt.Errorf("close instance %s: %w", in.name, err)
		}
	}
	return nil
}

// deliver serves one stream. It ends when the stream does, when a batch cannot be acknowledged, and when the instance is retired; the
// batches in hand are finished first.
func (in *instance) deliver(ctx context.Context, recv func() ([]protocol.Batch, error), send func(protocol.Ack) error) (err error) {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	defer context.AfterFunc(in.life, func() { cancel(context.Cause(in.life)) })()

	// They receive at once, which tells the host that the instance is there. Who has no batch in hand is inside recv, and ends with the
	// stream, which is when this function has returned.
	s := &stream{instance: in, recv: recv, send: send, ready: make(chan struct{})}
	ended := make(chan error, in.parallel)
	for range in.parallel {
		go func() { ended <- s.work(ctx) }()
	}

	// A stream that broke may still be inside Deliver when the host opens the next one.
	select {
	case in.busy <- struct{}{}:
		defer func() { <-in.busy }()
	case <-in.retired:
		return fmt.Errorf("%w: %s is closing", protocol.ErrUnknownInstance, in.name)
	case <-ctx.Done():
		return context.Cause(ctx)
	}
	s.acks = sendAcks(send)
	defer func() { // before the next stream, or the close of the instance
		if lost := s.acks.close(); err == nil && lost != nil {
			err = fmt.Errorf("acknowledge: %w", lost)
		}
	}()
	close(s.ready)
	select {
	case err = <-ended:
	case <-in.retired: // what was not acknowledged is sent again, to the next instance
	case <-ctx.Done():
		err = context.Cause(ctx)
	}
	if err != nil {
		cancel(err)
	}
	s.finish()
	if err == nil && ctx.Err() != nil {
		err = context.Cause(ctx) // at a forced stop: not everything was acknowledged
	}
	return err
}

// stream is one delivery stream. As many goroutines as there may be batches in hand work on it, each at receiving, at its batch, and at
// receiving again: a batch that were handed from one to another would cost more than the work on a small one. gRPC's window holds
// the batches that come meanwhile.
type stream struct {
	*instance
	recv  func() ([]protocol.Batch, error)
	send  func(protocol.Ack) error
	ready chan struct{} // closed when the stream has the instance for itself
	acks  *acks         // from then on

	receiving sync.Mutex
	waiting   []protocol.Batch // received with the one before, and not begun
	packed    bool             // there is one before
	at        error            // why nothing more is received
	last      <-chan struct{}  // closed when the batch that was received last is acknowledged; nil before the first

	turn sync.RWMutex // held by those that have a batch in hand
	over bool         // guarded by turn: none is begun any more
}

// work takes batches until the stream ends; nil is its orderly end.
func (s *stream) work(ctx context.Context) error {
	for {
		w, err := s.next(ctx)
		if w.batch == nil {
			return err
		}
		err = s.take(ctx, w)
		if w.acked != nil {
			close(w.acked)
		}
		s.turn.RUnlock()
		if err != nil {
			return err
		}
	}
}

// work is a batch in hand.
type work struct {
	batch  *Batch
	ack    moment          // when it is acknowledged
	before <-chan struct{} // with several in hand: closed when the one before is acknowledged; nil: there is none
	acked  chan struct{}   // to be closed when this one is
}

// next receives a batch and holds turn for it; none means the end.
func (s *stream) next(ctx context.Context) (w work, err error) {
	s.receiving.Lock()
	defer s.receiving.Unlock()
	if len(s.waiting) == 0 && s.at == nil {
		s.waiting, s.at = s.recv()
	}
	if errors.Is(s.at, io.EOF) {
		return work{}, nil
	}
	if s.at != nil {
		return work{}, s.at
	}
	select {
	case <-s.ready:
	case <-ctx.Done():
		return work{}, context.Cause(ctx)
	}
	// Before the next one receives: who waits for the batch before can be sure that it is in hand.
	s.turn.RLock()
	if s.over {
		s.turn.RUnlock()
		return work{}, nil
	}
	w = work{batch: &Batch{Batch: s.waiting[0], send: s.send}}
	s.waiting = s.waiting[1:]
	switch {
	case len(s.waiting) > 0:
		w.ack, s.packed = held, true
	case s.packed:
		w.ack, s.packed = now, false
	}
	if s.parallel > 1 {
		w.before, w.acked = s.last, make(chan struct{})
		s.last = w.acked
	}
	return w, nil
}

// take delivers one batch, and acknowledges it after the one before. An error ends the stream.
func (s *stream) take(ctx context.Context, w work) error {
	seq, begun := w.batch.Seq, time.Now()
	err := s.pusher.Deliver(ctx, w.batch)
	if w.ack == held && time.Since(begun) > ackQuick {
		w.ack = soon
	}
	outcomes := w.batch.finish(err)
	if w.before != nil {
		<-w.before // it ends as this one does
	}
	if ctx.Err() != nil {
		return context.Cause(ctx) // nobody listens any more, and what a cancelled call says is not to be trusted
	}
	if err := s.acks.put(protocol.Ack{ThroughSeq: seq, Outcomes: outcomes, Window: s.window}, w.ack); err != nil {
		return fmt.Errorf("acknowledge: %w", err)
	}
	return nil
}

// finish waits for the batches in hand. No other is begun.
func (s *stream) finish() {
	s.turn.Lock()
	s.over = true
	s.turn.Unlock()
}
