package delivery

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/rivergate/rivergate/sdk/protocol"
)

// fake is a destination in the test's own process. Each stream is a "process" of its own, which the behaviour may end.
// It keeps what was delivered: the ledger of positions, and for each key the order.
type fake struct {
	// behave answers one batch. It runs in the process's goroutine: it may wait for p.dead, and end the process itself.
	behave func(p *process, b *protocol.Batch) reaction
	limits protocol.Limits
	// needsTrigger is what the next process says.
	needsTrigger atomic.Bool

	mu        sync.Mutex
	processes []*process
	delivered map[uint64]int      // position → times
	data      map[uint64]string   // position → bytes
	answered  map[uint64]bool     // delivered, skipped or rejected
	orders    map[string][]uint64 // uuid → positions in the order in which they were first answered
	sent      map[uint64]int      // position → times sent
	triggers  map[uint64]string   // position → trigger that came with it last
	batches   [][]span            // rows of each batch that came
}

// reaction is what the process does with a batch.
type reaction struct {
	outcomes []protocol.Outcome
	crash    string        // ends the process so
	mute     bool          // no acknowledgement
	ack      *protocol.Ack // this one instead of the true one
	window   int
}

func newFake(behave func(p *process, b *protocol.Batch) reaction) *fake {
	return &fake{behave: behave, delivered: map[uint64]int{}, data: map[uint64]string{}, answered: map[uint64]bool{}, orders: map[string][]uint64{}, sent: map[uint64]int{}, triggers: map[uint64]string{}}
}

// process is one stream.
type process struct {
	number  int // from 0
	fake    *fake
	inbox   chan *protocol.Batch
	acks    chan protocol.Ack
	dead    chan struct{} // closed when the process ended
	retired chan struct{}
	once    sync.Once
	how     string // set before dead is closed
	crashed bool
	killed  string
	bye     sync.Once
}

func (f *fake) Open(ctx context.Context) (Session, error) {
	if ctx.Err() != nil {
		return nil, ctx.Err()
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	p := &process{number: len(f.processes), fake: f, inbox: make(chan *protocol.Batch, 2), acks: make(chan protocol.Ack, 2), dead: make(chan struct{}), retired: make(chan struct{})}
	f.processes = append(f.processes, p)
	go p.work()
	return p, nil
}

func (p *process) work() {
	defer p.end("", false)
	for {
		var b *protocol.Batch
		var ok bool
		select {
		case b, ok = <-p.inbox:
			if !ok {
				return
			}
		case <-p.dead:
			return
		}
		p.fake.note(b)
		r := reaction{}
		if p.fake.behave != nil {
			r = p.fake.behave(p, b)
		}
		if r.crash != "" {
			p.end(r.crash, true)
			return
		}
		select {
		case <-p.dead:
			return
		default:
		}
		ack := protocol.Ack{ThroughSeq: b.Seq, Outcomes: r.outcomes, Window: r.window}
		if r.ack != nil {
			ack = *r.ack
		} else if !r.mute {
			p.fake.deliver(b, r.outcomes)
		}
		if r.mute {
			continue
		}
		select {
		case p.acks <- ack:
		case <-p.dead:
			return
		}
	}
}

// takes passes time, or ends with the process.
func (p *process) takes(d time.Duration) {
	select {
	case <-time.After(d):
	case <-p.dead:
	}
}

func (p *process) end(how string, crashed bool) {
	p.once.Do(func() {
		p.how, p.crashed = how, crashed
		close(p.dead)
	})
}

func (p *process) Send(batches ...*protocol.Batch) error {
	for _, b := range batches {
		select {
		case <-p.dead:
			return io.EOF
		default:
		}
		select {
		case p.inbox <- b:
		case <-p.dead:
			return io.EOF
		}
	}
	return nil
}

func (p *process) Recv() (protocol.Ack, error) {
	select {
	case a := <-p.acks:
		return a, nil
	default:
	}
	select {
	case a := <-p.acks:
		return a, nil
	case <-p.dead:
		select {
		case a := <-p.acks:
			return a, nil
		default:
		}
		if p.crashed {
			return protocol.Ack{}, errGone
		}
		return protocol.Ack{}, io.EOF
	}
}

// errGone is how a stream ends whose process died; io.EOF is the end in good order.
var errGone = errors.New("plugin is gone")

func (p *process) CloseSend() error {
	p.bye.Do(func() { close(p.inbox) })
	return nil
}

func (p *process) Limits() protocol.Limits  { return p.fake.limits }
func (p *process) NeedsTrigger() bool       { return p.fake.needsTrigger.Load() }
func (p *process) Crashed() (string, bool)  { <-p.dead; return p.how, p.crashed }
func (p *process) Retired() <-chan struct{} { return p.retired }
func (p *process) Close()                   { p.end("", false) }
func (p *process) Kill(reason string) {
	p.fake.mu.Lock()
	p.killed = reason
	p.fake.mu.Unlock()
	p.end("signal: killed", true)
}

// all is the processes so far.
func (f *fake) all() []*process {
	f.mu.Lock()
	defer f.mu.Unlock()
	return slices.Clone(f.processes)
}

func (f *fake) process(number int) *process { return f.all()[number] }

// reason is why the process was killed; empty: it was not.
func (p *process) reason() string {
	p.fake.mu.Lock()
	defer p.fake.mu.Unlock()
	return p.killed
}

// kill ends the newest process from outside.
func (f *fake) kill(how string) {
	f.mu.Lock()
	p := f.processes[len(f.processes)-1]
	f.mu.Unlock()
	p.end(how, true)
}

func (f *fake) note(b *protocol.Batch) {
	f.mu.Lock()
	defer f.mu.Unlock()
	var spans []span
	for i := range b.Frames {
		fr := &b.Frames[i]
		spans = append(spans, span{fr.Position, fr.Position + uint64(fr.Len())})
		for r := range fr.Len() {
			f.sent[fr.Position+uint64(r)]++
			f.triggers[fr.Position+uint64(r)] = string(fr.Trigger)
		}
	}
	f.batches = append(f.batches, spans)
}

func (f *fake) deliver(b *protocol.Batch, outcomes []protocol.Outcome) {
	f.mu.Lock()
	defer f.mu.Unlock()
	failed := map[uint64]protocol.Class{}
	for _, o := range outcomes {
		failed[o.Position+uint64(o.Row)] = o.Class
	}
	for i := range b.Frames {
		fr := &b.Frames[i]
		for r := range fr.Len() {
			at := fr.Position + uint64(r)
			switch failed[at] {
			case protocol.Retry, protocol.Throttled, protocol.Unauthenticated:
				continue
			}
			if !f.answered[at] {
				f.answered[at] = true
				f.orders[fr.UUID] = append(f.orders[fr.UUID], at)
			}
			switch failed[at] {
			case protocol.Delivered, protocol.Duplicate:
				f.delivered[at]++
				f.data[at] = string(fr.Row(r))
			}
		}
	}
}

// has tells how many of the positions were delivered.
func (f *fake) has(from, to uint64) (n int) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for at := from; at < to; at++ {
		if f.delivered[at] > 0 {
			n++
		}
	}
	return n
}

// trigger is what came with a row the last time.
func (f *fake) trigger(position uint64) string {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.triggers[position]
}

// times is how often a row was sent.
func (f *fake) times(position uint64) int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.sent[position]
}

// outcome says the same of every row of a batch for which choose says so.
func outcome(b *protocol.Batch, class protocol.Class, choose func(f *protocol.Frame, row int) bool) (all []protocol.Outcome) {
	for i := range b.Frames {
		f := &b.Frames[i]
		for r := range f.Len() {
			if choose == nil || choose(f, r) {
				all = append(all, protocol.Outcome{Position: f.Position, Row: r, Class: class, Code: "code", Message: fmt.Sprintf("it is %s", class)})
			}
		}
	}
	return all
}
