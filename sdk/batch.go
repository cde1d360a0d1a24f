package sdk

import (
	"errors"
	"iter"
	"sync"
	"sync/atomic"
	"time"

	"github.com/rivergate/rivergate/sdk/protocol"
)

// Batch is the rows of one Deliver call, and the place where their outcomes are noted. Its methods may be called from
// several goroutines, until Deliver returns. The last word about a row counts; a row of another batch is ignored.
type Batch struct {
	protocol.Batch

	mu       sync.Mutex
	said     map[place]int // index in outcomes
	outcomes []Outcome
	waits    map[key]wait // keys with a row that is to be sent again, when the batch is ordered
	waiting  atomic.Bool  // there are such keys
	finished bool

	sending sync.Mutex               // held while something is sent; before mu
	send    func(protocol.Ack) error // nil once Deliver has returned
	told    time.Time                // when Working last sent something
}

// key is what an ordered batch keeps in order.
type key struct {
	org  uint64
	uuid string
}

type place struct{ f, n int }

// wait is the first row of a key that is to be sent again, and how many of its rows are.
type wait struct {
	first place
	rows  int
}

// Len is the number of rows in the batch.
func (b *Batch) Len() int {
	n := 0
	for i := range b.Frames {
		n += b.Frames[i].Len()
	}
	return n
}

// Rows yields the rows of the batch, in order. Under ORDER=key it passes over the rows of a uuid of which an earlier row was
// just said to be sent again: they wait for it.
func (b *Batch) Rows() iter.Seq[Row] {
	return func(yield func(Row) bool) {
		for f := range b.Frames {
			for n := range b.Frames[f].Ends {
				row := Row{batch: b, f: f, n: n}
				if b.waiting.Load() && b.behind(row) {
					continue
				}
				if !yield(row) {
					return
				}
			}
		}
	}
}

// behind tells whether an earlier row of the same uuid is to be sent again, and notes that this one then is too.
func (b *Batch) behind(row Row) bool {
	b.mu.Lock()
	w, waits := b.waits[b.keyOf(row)]
	_, said := b.said[place{row.f, row.n}]
	b.mu.Unlock()
	if !waits || !w.first.before(place{row.f, row.n}) {
		return false
	}
	if !said {
		b.note(row, Outcome{Class: Retry, Code: "not_sent", Message: "an earlier row of the same uuid is to be delivered first"})
	}
	return true
}

func (b *Batch) keyOf(row Row) key { return key{b.Frames[row.f].OrgID, b.Frames[row.f].UUID} }

func (p place) before(q place) bool { return p.f < q.f || p.f == q.f && p.n < q.n }

// Fail says that row was not delivered, with the class of the *Error inside err, or Retry. A nil err takes back what was
// said: the row was delivered after all.
func (b *Batch) Fail(row Row, err error) {
	if err == nil {
		b.note(row, Outcome{})
		return
	}
	b.note(row, outcomeOf(err))
}

// Reject says that row can never be delivered: it goes to the dead letters under code, short and stable ("http_422").
func (b *Batch) Reject(row Row, code string, err error) {
	if err == nil {
		err = errors.New("rejected")
	}
	b.note(row, Outcome{Class: Rejected, Code: code, Message: err.Error()})
}

// Skip says that row is not meant for this destination. It is done, and counted apart.
func (b *Batch) Skip(row Row, reason string) {
	b.note(row, Outcome{Class: Skipped, Code: "skipped", Message: reason})
}

// Duplicate says that the destination had row already. It counts as delivered.
func (b *Batch) Duplicate(row Row) {
	b.note(row, Outcome{Class: Duplicate, Code: "duplicate"})
}

// workingPause is the shortest time between two messages of Working.
const workingPause = 250 * time.Millisecond

// Working tells the host that Deliver gets on with a batch that takes its time: the host, which ends a plugin that
// acknowledges nothing for TIMEOUT, starts that clock again. Call it after each step that was really made, as often as you
// like: no more than four a second leave. A host of protocol version 1 does not hear it.
func (b *Batch) Working() {
	b.sending.Lock()
	defer b.sending.Unlock()
	if b.send == nil {
		return
	}
	now := time.Now()
	if now.Sub(b.told) < workingPause {
		return
	}
	b.told = now
	_ = b.send(protocol.Ack{Working: true}) // a stream that broke ends the context of Deliver
}

// note keeps an outcome; the zero class means delivered.
func (b *Batch) note(row Row, o Outcome) {
	if row.batch != b {
		return
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.finished {
		return // said after Deliver returned: the acknowledgement is on its way
	}
	o.Position, o.Row = b.Frames[row.f].Position, row.n
	at := place{row.f, row.n}
	b.order(row, at, o.Class)
	if i, ok := b.said[at]; ok {
		b.outcomes[i] = o
		return
	}
	if b.said == nil {
		b.said = make(map[place]int)
	}
	b.said[at] = len(b.outcomes)
	b.outcomes = append(b.outcomes, o)
}

// order keeps the first row of each key that is to be sent again. The caller holds mu, and notes class after it.
func (b *Batch) order(row Row, at place, class Class) {
	if !b.Ordered {
		return
	}
	before := protocol.Delivered
	if i, ok := b.said[at]; ok {
		before = b.outcomes[i].Class
	}
	if sentAgain(before) == sentAgain(class) {
		return
	}
	k := b.keyOf(row)
	w, waits := b.waits[k]
	if sentAgain(class) {
		if !waits || at.before(w.first) {
			w.first = at
		}
		w.rows++
	} else { // said differently now
		w.rows--
		if w.rows > 0 && w.first == at {
			w.first = b.nextAgain(k, at)
		}
	}
	if b.waits == nil {
		b.waits = make(map[key]wait)
	}
	b.waits[k] = w
	if w.rows == 0 {
		delete(b.waits, k)
	}
	b.waiting.Store(len(b.waits) > 0)
}

// nextAgain is the first row of the key behind a place of which it was said that it is to be sent again. There is one. The
// caller holds mu.
func (b *Batch) nextAgain(k key, behind place) (next place) {
	found := false
	for at, i := range b.said {
		if behind.before(at) && sentAgain(b.outcomes[i].Class) && b.keyOf(Row{f: at.f}) == k && (!found || at.before(next)) {
			next, found = at, true
		}
	}
	return next
}

// sentAgain: the host sends a row of this class again.
func sentAgain(class Class) bool {
	return class == Retry || class == Throttled || class == Unauthenticated
}

// finish ends the batch with what Deliver returned and gives the outcomes of its acknowledgement.
func (b *Batch) finish(err error) []Outcome {
	b.sending.Lock()
	b.send = nil
	b.sending.Unlock()
	b.mu.Lock()
	defer b.mu.Unlock()
	b.finished = true
	out := b.outcomes[:0:0]
	if err == nil {
		for _, o := range b.outcomes {
			if o.Class != protocol.Delivered {
				out = append(out, o)
			}
		}
		return out
	}
	rest := outcomeOf(err)
	for f := range b.Frames {
		for n := range b.Frames[f].Ends {
			o := rest
			o.Position, o.Row = b.Frames[f].Position, n
			if i, ok := b.said[place{f, n}]; ok {
				o = b.outcomes[i]
			}
			if o.Class != protocol.Delivered {
				out = append(out, o)
			}
		}
	}
	return out
}

func outcomeOf(err error) Outcome {
	e := classify(err)
	return Outcome{Class: e.Class, Code: e.Code, Message: err.Error(), RetryAfter: e.RetryAfter}
}
