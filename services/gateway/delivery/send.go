package delivery

import (
	"cmp"
	"context"
	"errors"
	"io"
	"sync"
	"sync/atomic"
	"time"

	"github.com/rivergate/rivergate/sdk/protocol"
)

const (
	// maxWindow is how many batches can be in flight whatever the configuration says.
	maxWindow = 1024
	// endGrace is how long a stream may take to end after it was killed or has failed.
	endGrace = 5 * time.Second
	// reopenMax bounds the pause between streams that end before anything was acknowledged.
	reopenMax = 5 * time.Second
)

// session is one open stream with its two goroutines. The chain's goroutine owns all fields but sent.
type session struct {
	Session
	limits   protocol.Limits
	outbox   chan *protocol.Batch
	sent     atomic.Uint64 // seq of the last batch given to Send
	finished chan struct{} // closed when the chain is done with it

	needsTrigger bool // each frame is to carry the trigger of its uuid

	seq      uint64    // of the last batch put into the outbox
	through  uint64    // acknowledged
	window   int       // that the plugin wants; 0: it said nothing
	progress time.Time // last acknowledgement, word of being at work, or batch sent with nothing in flight
	advanced time.Time // the same without the words
	closing  bool      // no more batches: retired, killed or failed
	deadline time.Time // when closing: it must have ended by then; zero: as long as it gets on
	wedged   string    // why it was killed: it acknowledges nothing
	lied     string    // why it was killed: it broke the protocol
	acked    bool      // anything at all
}

// event is what a session's goroutines tell the chain.
type event struct {
	session *session
	ack     protocol.Ack
	isAck   bool
	sending bool // Send failed; what Recv says counts
	err     error
	how     string // the process ended so
	crashed bool
}

// connect opens one stream after the other until ctx ends.
func (c *chain) connect(ctx context.Context) {
	for barren := 0; ctx.Err() == nil; {
		s, err := c.converse(ctx)
		switch {
		case ctx.Err() != nil:
			return
		case err != nil:
			c.log.Error("cannot open a delivery stream; trying again", "error", err)
			barren++
		case s.acked:
			barren = 0
		default:
			barren++
		}
		// One stream that ends early is followed by the next at once; more of them by a growing pause.
		if barren > 1 && !sleep(ctx, min(c.backoff(barren-1), reopenMax)) {
			return
		}
	}
}

// converse opens a stream and serves it until the chain is done with it.
func (c *chain) converse(ctx context.Context) (*session, error) {
	ctx, cancel := context.WithCancel(ctx)
	stream, err := c.Destination.Open(ctx)
	if err != nil {
		cancel()
		return nil, err
	}
	s := &session{Session: stream, limits: stream.Limits(), needsTrigger: stream.NeedsTrigger() && c.d.triggers != nil,
		outbox: make(chan *protocol.Batch, min(c.Window, maxWindow)+1), finished: make(chan struct{})}
	var wg sync.WaitGroup
	defer wg.Wait()
	defer stream.Close()
	defer cancel()
	select {
	case c.sessions <- s:
	case <-ctx.Done():
		return s, nil
	}
	wg.Go(func() { c.send(s) })
	wg.Go(func() { c.receive(s) })
	// The chain is done with it, or has ended: in both cases the stream is of no more use.
	select {
	case <-s.finished:
	case <-ctx.Done():
	}
	return s, nil
}

// send hands batches to the stream, in a goroutine of its own since a plugin that does not read makes Send wait.
func (c *chain) send(s *session) {
	failed := false
	var pack []*protocol.Batch
	for {
		select {
		case b, ok := <-s.outbox:
			if !ok {
				if !failed {
					_ = s.CloseSend() // an error shows in Recv too
				}
				return
			}
			if failed {
				continue
			}
			pack = s.gather(append(pack[:0], b))
			err := c.sendPack(s, pack)
			clear(pack)
			if err != nil {
				failed = true
				c.tell(event{session: s, sending: true, err: err})
			}
		case <-s.finished:
			return
		}
	}
}

// gather adds to a batch those that wait behind it, as many as go into one message.
func (s *session) gather(pack []*protocol.Batch) []*protocol.Batch {
	for size := 0; ; {
		for _, f := range pack[len(pack)-1].Frames {
			size += len(f.Data)
		}
		if size >= protocol.PackBytes {
			return pack
		}
		select {
		case b, ok := <-s.outbox:
			if !ok { // send sees it again
				return pack
			}
			pack = append(pack, b)
		default:
			return pack
		}
	}
}

func (c *chain) sendPack(s *session, pack []*protocol.Batch) error {
	for _, b := range pack {
		if err := c.shapeBatch(b); err != nil {
			return err
		}
	}
	s.sent.Store(pack[len(pack)-1].Seq)
	return s.Send(pack...)
}

// receive takes acknowledgements until the stream ends, and finds out how it ended.
func (c *chain) receive(s *session) {
	for {
		ack, err := s.Recv()
		if err != nil {
			select {
			case <-s.finished: // the chain ended the stream itself; nobody asks how
				return
			default:
			}
			e := event{session: s, err: err}
			// A stream that ended in good order (io.EOF) or was refused for what it said did not end by a crash.
			if !errors.Is(err, io.EOF) && !errors.Is(err, protocol.ErrMalformed) {
				e.how, e.crashed = s.Crashed()
			}
			c.tell(e)
			return
		}
		if !c.tell(event{session: s, ack: ack, isAck: true}) {
			return
		}
	}
}

func (c *chain) tell(e event) bool {
	select {
	case c.events <- e:
		return true
	case <-e.session.finished:
		return false
	}
}

// opened takes over a new stream.
func (c *chain) opened(s *session, now time.Time) {
	s.progress, s.advanced = now, now
	c.session = s
	if !s.needsTrigger {
		c.untriggered(now)
	}
	if c.stopping {
		c.retire(now, 0)
	}
}

// window is how many batches may be in flight now.
func (c *chain) window() int {
	if c.hold.kind != holdNone {
		return 1 // one batch finds out whether the destination is well again
	}
	if w := c.fullWindow(); c.pace.allowed == 0 || w < c.pace.allowed {
		return w
	}
	return c.pace.allowed
}

// fullWindow is how many the configuration and the plugin allow.
func (c *chain) fullWindow() int {
	w := min(c.Window, maxWindow)
	if s := c.session; s != nil && s.window > 0 {
		w = min(w, s.window)
	}
	return w
}

// maySend tells whether rows may go out at all.
func (c *chain) maySend() bool {
	return c.session != nil && !c.session.closing && !c.stopping && !c.paused && len(c.full) == 0 && c.d.trouble.Load() == nil
}

// pump sends as much as may be sent.
func (c *chain) pump(now time.Time) {
	if !c.maySend() || c.hold.kind != holdNone && now.Before(c.hold.until) {
		return
	}
	if len(c.suspects) > 0 {
		if len(c.inflight) == 0 {
			c.sendSuspect(now)
		}
		if len(c.suspects) > 0 || len(c.inflight) > 0 {
			return
		}
	}
	for len(c.inflight) < c.window() {
		b := c.nextBatch(now)
		if b == nil {
			return
		}
		b.lane.out++
		c.dispatch(b, now)
	}
}

// dispatch puts a batch on the stream.
func (c *chain) dispatch(b *batch, now time.Time) {
	s := c.session
	s.seq++
	b.seq, b.sent, b.epoch, b.probe = s.seq, now, c.epoch, c.hold.kind != holdNone
	if len(c.inflight) == 0 {
		s.progress, s.advanced = now, now
	}
	c.inflight = append(c.inflight, b)
	frames := make([]protocol.Frame, len(b.pieces))
	for i := range b.pieces {
		frames[i] = b.pieces[i].Frame
	}
	c.depart(b, frames)
	c.metrics.batchRows.Observe(float64(b.rows))
	s.outbox <- &protocol.Batch{Seq: b.seq, Frames: frames, Ordered: b.lane.kind == laneKeyed} // has room for a window
}

// event handles what the session's goroutines say; those of earlier sessions are over.
func (c *chain) event(e event, now time.Time) {
	if e.session != c.session {
		return
	}
	switch {
	case e.sending:
		c.close(e.session, now.Add(endGrace))
	case !e.isAck:
		if errors.Is(e.err, protocol.ErrMalformed) && e.session.lied == "" && e.session.wedged == "" {
			c.broken(e.err.Error(), now)
		}
		c.end(e, now)
	case e.session.lied == "":
		if err := c.acknowledge(e.ack, now); err != nil {
			c.broken(err.Error(), now)
		}
	}
}

// close sends nothing more on the stream and gives it until deadline to end.
func (c *chain) close(s *session, deadline time.Time) {
	if s.closing {
		return
	}
	s.closing, s.deadline = true, deadline
	close(s.outbox)
}

// retire ends the stream in good order: the remaining acknowledgements still come.
func (c *chain) retire(now time.Time, grace time.Duration) {
	if c.session != nil {
		c.close(c.session, now.Add(grace))
		c.session.deadline = now.Add(grace)
	}
}

// broken ends a process that does not keep to the protocol. No row is blamed; the pusher goes on with a pause.
func (c *chain) broken(reason string, now time.Time) {
	s := c.session
	s.lied = "protocol error: " + reason
	c.log.Error("the plugin broke the protocol and is killed", "reason", reason)
	c.lastErr = s.lied
	c.enterHold(holdBroken, s.lied, 0, c.hold.kind == holdBroken, now)
	c.close(s, now.Add(endGrace))
	c.kill(s, s.lied)
}

// kill may wait for the process to be reaped; the chain does not.
func (c *chain) kill(s *session, reason string) {
	c.d.killers.Go(func() { s.Kill(reason) })
}

// end is what follows when a stream is over: rows in flight go back to where they came from, or become suspects.
func (c *chain) end(e event, now time.Time) {
	s := e.session
	c.close(s, now)
	c.session = nil
	close(s.finished)
	unacked := c.inflight
	c.inflight = nil
	cause := ""
	switch {
	case s.lied != "":
	case s.wedged != "":
		cause = s.wedged
	case e.crashed && !c.stopping:
		cause = e.how
		c.lastErr = "the plugin ended: " + e.how
		c.log.Warn("the plugin ended while rows were in flight", "how", e.how, "in_flight", len(unacked))
	case e.err != nil && !errors.Is(e.err, io.EOF) && !c.stopping:
		c.log.Warn("the delivery stream broke", "error", e.err, "in_flight", len(unacked))
	}
	blamed := unacked[:0:0]
	var innocent []*batch
	for _, b := range unacked {
		if cause != "" && b.seq <= s.sent.Load() {
			blamed = append(blamed, b)
		} else {
			innocent = append(innocent, b)
		}
	}
	for i := len(innocent) - 1; i >= 0; i-- {
		c.giveBack(innocent[i])
	}
	c.gaveUp = gaveUp{}
	c.accuse(blamed, cause, now)
	why := cmp.Or(s.lied, cause, "the stream ended before an acknowledgement")
	for _, b := range unacked {
		if len(b.flights) > 0 {
			c.crash(b, why)
		}
	}
}

// giveBack puts a batch back of which nothing is known.
func (c *chain) giveBack(b *batch) {
	if b.suspect != nil {
		c.suspects = append([]*suspect{b.suspect}, c.suspects...)
		return
	}
	b.lane.out--
	b.lane.giveBack(b.pieces)
}
