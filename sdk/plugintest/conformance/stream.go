package conformance

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/rivergate/rivergate/sdk/protocol"
)

// hostWindow is how many batches a host has in flight unless the plugin wants fewer.
const hostWindow = 8

const ackChange = "acknowledge each batch once, in order, after its rows are where they belong or have an outcome"

// stream is a delivery stream that keeps account of what was sent and acknowledged.
type stream struct {
	s      *suite
	p      *process
	limits protocol.Limits
	raw    protocol.DeliverStream
	cancel context.CancelFunc
	acks   chan answer   // closed when the stream has ended
	done   chan struct{} // closed when nobody wants acknowledgements any more

	window   int
	seq      uint64 // of the last batch sent
	acked    uint64
	inFlight [][]protocol.Frame // sent and not acknowledged
	outcomes map[uint64]protocol.Outcome
}

type answer struct {
	ack protocol.Ack
	err error
}

// deliver opens the stream of an instance.
func (s *suite) deliver(ctx context.Context, p *process, name string) (*stream, error) {
	ctx, cancel := context.WithCancel(ctx)
	raw, err := p.client.Deliver(ctx, name)
	if err != nil {
		cancel()
		return nil, p.failed("Pusher.Deliver", err, "serve the Pusher service, and accept a stream for an instance that was configured")
	}
	st := &stream{
		s: s, p: p, limits: s.hello.Limits, raw: raw, cancel: cancel, acks: make(chan answer), done: make(chan struct{}),
		window: hostWindow, outcomes: map[uint64]protocol.Outcome{},
	}
	go func() {
		defer close(st.acks)
		for {
			ack, err := raw.Recv()
			select {
			case st.acks <- answer{ack, err}:
			case <-st.done:
				return
			}
			if err != nil {
				return
			}
		}
	}()
	return st, nil
}

// close breaks the stream off, and waits for its goroutine.
func (st *stream) close() {
	st.cancel()
	close(st.done)
	for range st.acks {
		continue
	}
}

// send sends batches, never more in flight than the window.
func (st *stream) send(ctx context.Context, ordered bool, batches ...[]protocol.Frame) error {
	for _, frames := range batches {
		for len(st.inFlight) >= st.window {
			if err := st.take(ctx); err != nil {
				return err
			}
		}
		if err := st.sendTogether(ordered, frames); err != nil {
			return err
		}
	}
	return nil
}

// sendTogether sends batches that are ready at the same moment.
func (st *stream) sendTogether(ordered bool, list ...[]protocol.Frame) error {
	batches := make([]*protocol.Batch, len(list))
	for n, frames := range list {
		for i := range frames {
			if f := &frames[i]; st.s.desc.NeedsTrigger && f.Trigger == nil {
				f.Trigger = triggerOf(st.s.opts.Trigger, f.UUID)
			}
		}
		batches[n] = &protocol.Batch{Seq: st.seq + 1 + uint64(n), Frames: frames, Ordered: ordered}
	}
	stuck := time.AfterFunc(st.s.opts.Timeout, st.cancel)
	err := st.raw.Send(batches...)
	if !stuck.Stop() && err != nil {
		return fail(fmt.Sprintf("batch %d to be read within %s", st.seq+1, st.s.opts.Timeout), "the plugin does not read its stream", "read batches as they come, up to the window")
	}
	if err != nil {
		// The reason is what the other direction ended with.
		timer := time.NewTimer(st.s.opts.Timeout)
		defer timer.Stop()
		for {
			select {
			case a, open := <-st.acks:
				if open && a.err == nil {
					continue
				}
				if open {
					err = a.err
				}
			case <-timer.C:
			}
			break
		}
		return st.broken(fmt.Sprintf("batch %d", st.seq+1), err)
	}
	st.seq += uint64(len(list))
	st.inFlight = append(st.inFlight, list...)
	return nil
}

// settle waits until everything is acknowledged.
func (st *stream) settle(ctx context.Context) error {
	for len(st.inFlight) > 0 {
		if err := st.take(ctx); err != nil {
			return err
		}
	}
	return nil
}

// deliver sends batches and waits until all are acknowledged.
func (st *stream) deliver(ctx context.Context, batches ...[]protocol.Frame) error {
	if err := st.send(ctx, false, batches...); err != nil {
		return err
	}
	return st.settle(ctx)
}

// finish closes the host's direction, takes the rest and the end of the stream.
func (st *stream) finish(ctx context.Context) error {
	if err := st.raw.CloseSend(); err != nil {
		return st.broken("the end of the batches", err)
	}
	for {
		a, err := st.next(ctx, "the end of the stream, after the host has closed its direction")
		switch {
		case err != nil:
			return err
		case errors.Is(a.err, io.EOF) && len(st.inFlight) > 0:
			return fail(fmt.Sprintf("acknowledgements of all %d batches before the end of the stream", st.seq), fmt.Sprintf("the end of the stream after batch %d", st.acked), "finish and acknowledge what was received before the stream is ended")
		case errors.Is(a.err, io.EOF):
			return nil
		case a.err != nil:
			return st.broken("the end of the stream", a.err)
		}
		if err := st.settleAck(a.ack); err != nil {
			return err
		}
	}
}

// take waits for one acknowledgement.
func (st *stream) take(ctx context.Context) error {
	want := fmt.Sprintf("the acknowledgement of batch %d", st.acked+1)
	if st.seq > st.acked+1 {
		want += fmt.Sprintf(" (%d are in flight)", st.seq-st.acked)
	}
	a, err := st.next(ctx, want)
	if err != nil {
		return err
	}
	if errors.Is(a.err, io.EOF) {
		return fail(want, "the end of the stream", "keep the stream open until the host closes it or drains the instance")
	}
	if a.err != nil {
		return st.broken(want, a.err)
	}
	return st.settleAck(a.ack)
}

func (st *stream) next(ctx context.Context, want string) (answer, error) {
	timer := time.NewTimer(st.s.opts.Timeout)
	defer timer.Stop()
	select {
	case a, open := <-st.acks:
		if !open {
			a.err = io.EOF
		}
		return a, nil
	case <-timer.C:
		return answer{}, fail(fmt.Sprintf("%s within %s", want, st.s.opts.Timeout), "nothing", ackChange)
	case <-ctx.Done():
		return answer{}, context.Cause(ctx)
	}
}

// broken explains the end of a stream.
func (st *stream) broken(want string, err error) error {
	if errors.Is(err, protocol.ErrMalformed) {
		return fail(want, oneLine(err.Error()), ackChange+"; give outcomes a class of the protocol")
	}
	return st.p.failed(want, err, "keep the stream up: what is wrong with a row is an outcome, not an error of the stream")
}

// settleAck holds an acknowledgement against what was sent.
func (st *stream) settleAck(a protocol.Ack) error {
	if a.Working {
		return nil
	}
	if a.Window > 0 {
		st.window = min(a.Window, hostWindow)
	}
	if a.ThroughSeq == st.acked {
		if len(a.Outcomes) > 0 || a.Window == 0 {
			return fail(fmt.Sprintf("one acknowledgement of batch %d", st.acked), "a second one", "acknowledge each batch once, with all its outcomes; an acknowledgement of nothing new may only change the window")
		}
		return nil
	}
	// The wire has checked that it is neither of the past nor of the future.
	n := a.ThroughSeq - st.acked
	rows := map[uint64]bool{} // first positions and rows of frames, as outcomes name them
	frames := map[uint64]int{}
	total := 0
	for _, batch := range st.inFlight[:n] {
		for _, f := range batch {
			frames[f.Position] = f.Len()
			total += f.Len()
		}
	}
	st.inFlight, st.acked = st.inFlight[n:], a.ThroughSeq
	for _, o := range a.Outcomes {
		length, known := frames[o.Position]
		at := o.Position + uint64(o.Row)
		switch {
		case !known:
			return fail("outcomes of the rows just acknowledged", fmt.Sprintf("%s for a frame at position %d, which is not in batches up to %d", o.Class, o.Position, a.ThroughSeq), "give the position of the frame as it stood in the batch, and the row within it")
		case o.Row < 0 || o.Row >= length:
			return fail("outcomes of the rows just acknowledged", fmt.Sprintf("%s for row %d of a frame of %s", o.Class, o.Row, rowCount(length)), "count the rows of a frame from 0")
		case rows[at]:
			return fail("at most one outcome for a row", fmt.Sprintf("a second one for row %d of the frame at position %d: %s", o.Row, o.Position, o.Class), "say the last word about a row only")
		}
		rows[at] = true
		st.outcomes[at] = o
		st.s.rows[o.Class.String()]++
	}
	st.s.rows[protocol.Delivered.String()] += total - len(a.Outcomes)
	return nil
}

// again tells whether an outcome leaves the row to be sent again.
func again(c protocol.Class) bool {
	return c == protocol.Retry || c == protocol.Throttled || c == protocol.Unauthenticated
}
