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

// deliver serves one stream: batch by batch, in order, each acknowledged when it and those before it are done. A goroutine
// receives one batch ahead, and gRPC's window holds more, so the next one is there when the former ends. That goroutine ends with
// the stream, at the latest when deliver has returned and recv fails.
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
	var calls sync.WaitGroup
	defer func() {
		calls.Wait()
		if err == nil && ctx.Err() != nil {
			err = context.Cause(ctx) // at a forced stop: not everything was acknowledged
		}
	}()
	free := make(chan struct{}, in.parallel)
	before := make(chan struct{}) // closed when the batch before is acknowledged
	close(before)
	for {
		select {
		case <-in.retired:
			return nil // what was not acknowledged is sent again, to the next instance
		case <-ctx.Done():
			return context.Cause(ctx)
		case free <- struct{}{}:
		}
		select {
		case <-in.retired:
			return nil
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
			if in.parallel == 1 {
				if err := in.take(ctx, r.batch, send, acks, before); err != nil {
					return err
				}
				<-free
				continue
			}
			previous, acked := before, make(chan struct{})
			before = acked
			calls.Go(func() {
				if err := in.take(ctx, r.batch, send, acks, previous); err != nil {
					cancel(err)
				}
				close(acked)
				<-free
			})
		}
	}
}

// take delivers one batch, and acknowledges it after the one before. An error ends the stream.
func (in *instance) take(ctx context.Context, received *protocol.Batch, send func(protocol.Ack) error, acks *acks, before <-chan struct{}) error {
	b := &Batch{Batch: *received, send: send}
	err := in.pusher.Deliver(ctx, b)
	outcomes := b.finish(err)
	<-before // it ends as this one does
	if ctx.Err() != nil {
		return context.Cause(ctx) // nobody listens any more, and what a cancelled call says is not to be trusted
	}
	if err := acks.put(protocol.Ack{ThroughSeq: received.Seq, Outcomes: outcomes, Window: in.window}); err != nil {
		return fmt.Errorf("acknowledge: %w", err)
	}
	return nil
}
