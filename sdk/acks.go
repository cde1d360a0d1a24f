package sdk

import (
	"runtime"
	"sync"
	"time"

	"github.com/rivergate/rivergate/sdk/protocol"
)

const (
	// ackQuick is how long a batch may have taken whose acknowledgement waits for that of the next one of its message.
	ackQuick = 100 * time.Microsecond
	// ackPatience is how long it waits when that one, against expectation, is not as quick. While batches flow it goes off
	// once in so long, for nothing, and each time wakes the process.
	ackPatience = 2 * time.Millisecond
)

// acks sends the acknowledgements of one stream. Those that are ready while one is on its way leave together, as far as they
// have nothing to say of single rows: a plugin that takes small batches quickly would otherwise pay a message, and wake the host,
// for each of them. One that takes its time sees no difference.
type acks struct {
	send func(protocol.Ack) error
	wake chan struct{} // holds one: there is something to send
	late *time.Timer   // goes off when what is held has waited long enough
	sent chan struct{} // closed when run has ended

	sending sync.Mutex // held while something is sent; before mu

	mu      sync.Mutex
	pending []protocol.Ack
	timed   bool  // late is set
	err     error // of the first send that failed
}

// moment is when an acknowledgement leaves.
type moment int

const (
	soon moment = iota // by the goroutine of acks: the next batch may be there, and done, at once
	held               // with that of the next batch of its message, which is likely to be done at once
	now                // it is that of the last batch of its message: nobody else need wake up for it
)

func sendAcks(send func(protocol.Ack) error) *acks {
	a := &acks{send: send, wake: make(chan struct{}, 1), sent: make(chan struct{}), late: time.NewTimer(time.Hour)}
	a.late.Stop()
	go a.run()
	return a
}

// put acknowledges a batch. Its error is that of the first acknowledgement that could not be sent.
func (a *acks) put(ack protocol.Ack, when moment) error {
	a.mu.Lock()
	last := len(a.pending) - 1
	if last >= 0 && len(a.pending[last].Outcomes) == 0 && len(ack.Outcomes) == 0 {
		a.pending[last] = ack
	} else {
		a.pending = append(a.pending, ack)
	}
	err := a.err
	// It is not stopped when the message is done: setting it for each would cost more than its going off now and then.
	if when == held && !a.timed {
		a.timed = true
		a.late.Reset(ackPatience)
	}
	a.mu.Unlock()
	switch when {
	case now:
		return a.flush()
	case soon:
		select {
		case a.wake <- struct{}{}:
		default:
		}
	}
	return err
}

func (a *acks) run() {
	defer close(a.sent)
	defer a.late.Stop()
	for {
		select {
		case _, open := <-a.wake:
			if !open {
				return
			}
			runtime.Gosched() // whoever is about to finish the next batch goes first
		case <-a.late.C:
			a.mu.Lock()
			a.timed = false
			a.mu.Unlock()
		}
		_ = a.flush() // the next put tells of it
	}
}

// flush sends what is there.
func (a *acks) flush() error {
	a.sending.Lock()
	defer a.sending.Unlock()
	a.mu.Lock()
	pending, err := a.pending, a.err
	a.pending = nil
	a.mu.Unlock()
	for len(pending) > 0 && err == nil {
		err = a.send(pending[0])
		pending = pending[1:]
	}
	if err != nil { // the stream is broken
		a.mu.Lock()
		a.err = err
		a.mu.Unlock()
	}
	return err
}

// close returns when everything that was put has been given to send, with the error of the first that failed. Nothing is put
// any more.
func (a *acks) close() error {
	close(a.wake)
	<-a.sent
	return a.flush()
}
