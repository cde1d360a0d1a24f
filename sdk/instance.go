package sdk

import (
	"context"
	"errors"
	"fmt"
	"io"
	"sync"

	"github.com/rivergate/rivergate/sdk/protocol"
)

// instance is one configured value and the stream that feeds it.
type instance struct {
	name   string
	pusher Pusher
	window int
	log    Logger

	busy    chan struct{} // held by the one stream that delivers; kept for ever once the instance is closed
	retired chan struct{} // closed: finish the batch in hand, then end the stream
	retire  func()

	life  context.Context // ends at a forced stop
	abort context.CancelCauseFunc
}

func newInstance(name string, pusher Pusher, window int, log Logger) *instance {
	in := &instance{
		name: name, pusher: pusher, window: window, log: log,
		busy: make(chan struct{}, 1), retired: make(chan struct{}),
	}
	in.retire = sync.OnceFunc(func() { close(in.retired) })
	in.life, in.abort = context.WithCancelCause(context.Background())
	return in
}

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

type received struct {
	batch *protocol.Batch
	err   error
}

// deliver serves one stream: batch by batch, in order, each acknowledged when it is done. A goroutine receives one
// batch ahead, and gRPC's window holds more, so the next one is there when the former ends. That goroutine ends with the
// stream, at the latest when deliver has returned and recv fails.
func (in *instance) deliver(ctx context.Context, recv func() (*protocol.Batch, error), send func(protocol.Ack) error) (err error) {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	defer context.AfterFunc(in.life, func() { cancel(context.Cause(in.life)) })()

	// It receives at once, which tells the host that the instance is there.
	ahead := make(chan received, 1)
	go func() {
		for {
			b, err := recv()
			select {
			case ahead <- received{b, err}:
			case <-ctx.Done():
				return
			}
			if err != nil {
				return
			}
		}
	}()

	// A stream that broke may still be inside Deliver when the host opens the next one.
	select {
	case in.busy <- struct{}{}:
		defer func() { <-in.busy }()
	case <-in.retired:
		return fmt.Errorf("%w: %s is closing", protocol.ErrUnknownInstance, in.name)
	case <-ctx.Done():
		return context.Cause(ctx)
	}
	acks := sendAcks(send)
	defer func() {
		if lost := acks.close(); err == nil && lost != nil {
			err = fmt.Errorf("acknowledge: %w", lost)
		}
	}()
	for {
		select {
		case <-in.retired:
			return nil // what was not acknowledged is sent again, to the next instance
		default:
		}
		select {
		case <-in.retired:
			return nil
		case <-ctx.Done():
			return context.Cause(ctx)
		case r := <-ahead:
			if errors.Is(r.err, io.EOF) {
				return nil
			}
			if r.err != nil {
				return r.err
			}
			b := &Batch{Batch: *r.batch, send: send}
			err := in.pusher.Deliver(ctx, b)
			outcomes := b.finish(err)
			if ctx.Err() != nil {
				return context.Cause(ctx) // nobody listens any more, and what a cancelled call says is not to be trusted
			}
			if err := acks.put(protocol.Ack{ThroughSeq: r.batch.Seq, Outcomes: outcomes, Window: in.window}); err != nil {
				return fmt.Errorf("acknowledge: %w", err)
			}
		}
	}
}
