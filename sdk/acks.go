package sdk

import (
	"runtime"
	"sync"

	"github.com/rivergate/rivergate/sdk/protocol"
)

// acks sends the acknowledgements of one stream, in a goroutine of its own. Those that come while one is on its way leave
// together, as far as they have nothing to say of single rows: a plugin that takes small batches quickly would otherwise pay
// a message, and wake the host, for each of them. One that takes its time sees no difference.
type acks struct {
	send func(protocol.Ack) error
	wake chan struct{} // holds one: there is something to send
	sent chan struct{} // closed when run has ended

	mu      sync.Mutex
	pending []protocol.Ack
	err     error // of the first send that failed
}

func sendAcks(send func(protocol.Ack) error) *acks {
	a := &acks{send: send, wake: make(chan struct{}, 1), sent: make(chan struct{})}
	go a.run()
	return a
}

// put acknowledges a batch. It never waits; its error is that of an earlier acknowledgement.
func (a *acks) put(ack protocol.Ack) error {
	a.mu.Lock()
	last := len(a.pending) - 1
	if last >= 0 && len(a.pending[last].Outcomes) == 0 && len(ack.Outcomes) == 0 {
		a.pending[last] = ack
	} else {
		a.pending = append(a.pending, ack)
	}
	err := a.err
	a.mu.Unlock()
	select {
	case a.wake <- struct{}{}:
	default:
	}
	return err
}

func (a *acks) run() {
	defer close(a.sent)
	for range a.wake {
		runtime.Gosched() // whoever is about to finish the next batch goes first
		a.mu.Lock()
		pending := a.pending
		a.pending = nil
		a.mu.Unlock()
		for _, ack := range pending {
			if err := a.send(ack); err != nil {
				a.mu.Lock()
				a.err = err
				a.mu.Unlock()
				return // the stream is broken
			}
		}
	}
}

// close returns when everything that was put has been given to send, with the error of the first that failed.
func (a *acks) close() error {
	close(a.wake)
	<-a.sent
	return a.err
}
