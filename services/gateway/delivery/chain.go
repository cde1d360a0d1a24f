package delivery

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/hashicorp/go-hclog"

	"github.com/rivergate/rivergate/sdk/protocol"
	"github.com/rivergate/rivergate/services/gateway/transform"
)

// drainGrace is how long a stop waits for acknowledgements of what is in flight.
const drainGrace = 5 * time.Second

// chain is the way from the journal to one destination. One goroutine, run, moves it; it holds mu whenever it does, and
// never while it waits, so that others may look at any time. Nothing done under mu waits for a disk or a plugin.
type chain struct {
	Pusher
	given Pusher // as it was asked for

	d       *Delivery
	log     hclog.Logger
	noise   *noise
	metrics *pusherMetrics
	orgs    map[uint64]struct{} // nil: all
	shape   *transform.Transform
	start   uint64 // first position that was meant for this pusher
	stock   *stock // dead letters kept

	leave  chan struct{}      // closed by finish: end in good order
	cancel context.CancelFunc // as when Run ends; set by launch, as ended
	ended  chan struct{}      // closed when run has ended; nil: it never began
	gone   chan struct{}      // closed when another chain has its place, or none

	counted uint64       // rows from here on are counted by Accepted, those before by enter
	backlog atomic.Int64 // rows accepted and not settled
	perOrg  sync.Map     // org → *atomic.Int64, the same; only when there is a limit per org
	ahead   ahead        // rows read and not settled

	wake     chan struct{}   // something changed outside
	chunks   chan []incoming // from the reader
	sessions chan *session   // from the connector
	events   chan event      // from the session's receiver and sender
	replays  chan struct{}   // there may be rows to replay
	replayed chan struct{}   // a round of replays is over

	mu        sync.Mutex
	next      uint64 // position that the reader brings next
	redo      uint64 // below this, some rows beyond the cursor are settled already
	origin    span   // the request in which reading started
	lanes     []*lane
	turn      int // lane to look at first
	replay    *lane
	settled   settled
	inflight  []*batch // in the order of seq
	suspects  []*suspect
	session   *session
	hold      hold
	look      lookups
	epoch     uint64 // rows that the destination has settled
	stopping  bool
	leaving   bool // stopping while the host runs on
	paused    bool
	stuck     string // why its last process was killed as wedged, until it gets on
	pace      pace
	lastErr   string
	gaveUp    gaveUp
	rate      rate
	waiters   []*waiter
	totals    totals
	pending   changes  // what the store does not have yet
	full      []letter // rows that the dead letters have no room for
	replaying int      // rows of this round of replays
}

// ahead counts what was read and is not settled, so that memory is bounded whatever the backlog.
type ahead struct {
	rows, bytes       atomic.Int64
	maxRows, maxBytes int64
	room              chan struct{}
}

func (a *ahead) full() bool { return a.rows.Load() >= a.maxRows || a.bytes.Load() >= a.maxBytes }

func (a *ahead) add(rows int, bytes int) {
	a.rows.Add(int64(rows))
	a.bytes.Add(int64(bytes))
	if rows < 0 && !a.full() {
		select {
		case a.room <- struct{}{}:
		default:
		}
	}
}

func newChain(d *Delivery, p Pusher) (*chain, error) {
	switch {
	case p.Name == "":
		return nil, errors.New("a pusher has no name")
	case p.Destination == nil:
		return nil, fmt.Errorf("pusher %s has no destination", p.Name)
	case p.BatchRows < 1, p.BatchBytes < 1, p.Window < 1, p.Timeout <= 0, p.RetryMin <= 0, p.RetryMax <= 0:
		return nil, fmt.Errorf("pusher %s: batch rows, batch bytes, window, timeout and backoffs must be above zero", p.Name)
	case p.Order != OrderKey && p.Order != OrderNone:
		return nil, fmt.Errorf("pusher %s: order %q is neither %q nor %q", p.Name, p.Order, OrderKey, OrderNone)
	case p.Start != StartNew && p.Start != StartOldest:
		return nil, fmt.Errorf("pusher %s: start %q is neither %q nor %q", p.Name, p.Start, StartNew, StartOldest)
	}
	shape, err := newShape(&p)
	if err != nil {
		return nil, err
	}
	given := p
	p.RetryMin = min(p.RetryMin, p.RetryMax)
	c := &chain{
		Pusher: p, given: given, shape: shape, leave: make(chan struct{}), gone: make(chan struct{}), d: d, log: d.log.With("pusher", p.Name), noise: newNoise(),
		wake: make(chan struct{}, 1), chunks: make(chan []incoming, 1), sessions: make(chan *session),
		events: make(chan event, 16), replays: make(chan struct{}, 1), replayed: make(chan struct{}, 1),
		replay: &lane{kind: laneReplay}, stock: d.stockOf(p.Name), look: lookups{more: make(chan struct{}, 1), found: make(chan finding)},
	}
	c.ahead = ahead{maxRows: int64(p.Window+2) * int64(p.BatchRows), maxBytes: int64(p.Window+2) * int64(p.BatchBytes), room: make(chan struct{}, 1)}
	for _, text := range p.Orgs {
		org, err := strconv.ParseUint(text, 10, 64)
		if err != nil || org == 0 {
			return nil, fmt.Errorf("pusher %s: %q is not the number of an organisation", p.Name, text)
		}
		if c.orgs == nil {
			c.orgs = make(map[uint64]struct{})
		}
		c.orgs[org] = struct{}{}
	}
	if p.Order == OrderNone {
		c.lanes = []*lane{{kind: laneFree}}
	} else {
		for range p.Window {
			c.lanes = append(c.lanes, &lane{kind: laneKeyed})
		}
	}
	return c, nil
}

// takes tells whether rows of this org go to the pusher.
func (c *chain) takes(org uint64) bool {
	if c.orgs == nil {
		return true
	}
	_, ok := c.orgs[org]
	return ok
}

// kick makes run look again.
func (c *chain) kick() {
	select {
	case c.wake <- struct{}{}:
	default:
	}
}

// run moves the chain until ctx ends or it is told to leave, then takes the remaining acknowledgements and leaves no
// goroutine behind.
func (c *chain) run(ctx context.Context) {
	// Streams outlive ctx by the drain; work does not outlive run.
	work, cancel := context.WithCancel(context.WithoutCancel(ctx))
	var wg sync.WaitGroup
	wg.Go(func() { c.read(work) })
	wg.Go(func() { c.connect(work) })
	wg.Go(func() { c.replayRounds(work) })
	if c.d.triggers != nil {
		wg.Go(func() { c.lookUp(work) })
	}
	timer := time.NewTimer(time.Hour)
	defer timer.Stop()
	stop, leave := ctx.Done(), c.leave
	for {
		c.mu.Lock()
		wait := c.step(time.Now())
		done := c.stopping && c.session == nil
		chunks := c.chunks
		if c.stopping {
			chunks = nil
		}
		var retired <-chan struct{}
		if c.session != nil && !c.session.closing {
			retired = c.session.Retired()
		}
		c.mu.Unlock()
		if done {
			cancel()
			wg.Wait() // not deferred: a panic must end the host, not wait here
			return
		}
		timer.Reset(wait)
		select {
		case <-stop:
			stop = nil
			c.locked(func(now time.Time) {
				c.stopping = true
				c.leaving = false
				c.retire(now, min(drainGrace, c.Timeout))
			})
		case <-leave:
			leave = nil
			c.locked(func(now time.Time) {
				c.leaving = !c.stopping
				c.stopping = true
				if s := c.session; c.leaving && s != nil {
					c.close(s, time.Time{}) // as long as it gets on: its rows must not go out again while it is at work on them
				}
			})
		case chunk := <-chunks:
			c.locked(func(now time.Time) { c.accept(chunk, now) })
		case s := <-c.sessions:
			c.locked(func(now time.Time) { c.opened(s, now) })
		case e := <-c.events:
			c.locked(func(now time.Time) { c.event(e, now) })
		case f := <-c.look.found:
			c.locked(func(now time.Time) { c.looked(f, now) })
		case <-retired:
			c.locked(func(now time.Time) { c.retire(now, c.Timeout) })
		case <-c.wake:
		case <-timer.C:
		}
	}
}

func (c *chain) locked(fn func(now time.Time)) {
	c.mu.Lock()
	defer c.mu.Unlock()
	fn(time.Now())
}

// step does what is due and returns how long nothing will be.
func (c *chain) step(now time.Time) time.Duration {
	if s := c.session; s != nil {
		switch {
		case !s.deadline.IsZero() && !now.Before(s.deadline):
			c.end(event{session: s, err: errors.New("the stream did not end in time")}, now)
		case c.watched(s) && c.overdue(s, now):
			c.wedged(now)
		}
	}
	c.buryFull()
	c.pump(now)
	if c.stopping && c.session != nil && len(c.inflight) == 0 {
		c.end(event{session: c.session}, now) // nothing is in flight: no need to wait for the plugin's goodbye
	}
	return c.quiet(now)
}

// quiet is how long the chain may sleep when nothing happens outside.
func (c *chain) quiet(now time.Time) time.Duration {
	wait := time.Hour
	until := func(t time.Time) { wait = min(wait, max(t.Sub(now), 0)) }
	s := c.session
	if s == nil {
		return wait
	}
	if !s.deadline.IsZero() {
		until(s.deadline)
	}
	if c.watched(s) {
		until(c.expires(s))
	}
	if !c.maySend() {
		return wait
	}
	if c.hold.kind != holdNone && now.Before(c.hold.until) {
		until(c.hold.until)
		return wait
	}
	if len(c.inflight) >= c.window() || len(c.suspects) > 0 {
		return wait // an acknowledgement comes first
	}
	for l := range c.allLanes() {
		if l.kind != laneFree && l.out > 0 {
			continue
		}
		if len(l.due) > 0 {
			until(l.due[0].due)
		}
		if !l.empty() {
			until(l.front().at.Add(c.BatchWait))
		}
	}
	return wait
}

func (c *chain) allLanes() func(yield func(*lane) bool) {
	return func(yield func(*lane) bool) {
		for i := range c.lanes {
			if !yield(c.lanes[(c.turn+i)%len(c.lanes)]) {
				return
			}
		}
		yield(c.replay)
	}
}

// accept takes frames from the reader into the lanes.
func (c *chain) accept(chunk []incoming, now time.Time) {
	for i := range chunk {
		c.acceptFrame(&chunk[i].Frame, chunk[i].rulings, now)
	}
	c.settleWaiters()
}

func (c *chain) acceptFrame(f *protocol.Frame, rulings []ruling, now time.Time) {
	p := piece{Frame: *f, origin: f.Position, at: now}
	if p.Position >= c.origin.from && p.Position < c.origin.to {
		p.origin = c.origin.from
	}
	if p.end() <= c.next {
		c.ahead.add(-p.Len(), -len(p.Data))
		return
	}
	if p.Position < c.next { // reading started within a request
		rest := p.slice(int(c.next-p.Position), p.Len())
		c.ahead.add(rest.Len()-p.Len(), len(rest.Data)-len(p.Data))
		p = rest
	}
	if p.Position > c.next {
		if c.settled.count(c.next, p.Position) == 0 { // not said yet
			c.log.Error("rows are missing in the journal (damaged on disk, see the journal's report); going on after them",
				"position", c.next, "rows", p.Position-c.next)
			c.metrics.missing.Add(float64(p.Position - c.next))
		}
		c.pass(c.next, p.Position)
	}
	c.next = p.end()
	if !c.takes(p.OrgID) {
		c.ahead.add(-p.Len(), -len(p.Data))
		c.pass(p.Position, p.end())
		return
	}
	if p.Position >= c.redo {
		c.admit(p, rulings, now)
		return
	}
	// Some rows here were settled before the host was restarted: only the others go out again.
	from := p.Position
	for _, done := range append(c.settled.within(p.Position, p.end()), span{p.end(), p.end()}) {
		if done.from > from {
			c.admit(p.slice(int(from-p.Position), int(done.from-p.Position)), rulings, now)
		}
		if done.to > done.from {
			passed := p.slice(int(done.from-p.Position), int(done.to-p.Position))
			c.backlogLeave(passed.OrgID, passed.Len())
			c.ahead.add(-passed.Len(), -len(passed.Data))
		}
		from = done.to
	}
}

func (c *chain) enqueue(p piece) { c.lanes[laneOf(p.OrgID, p.UUID, len(c.lanes))].push(p) }

// pass steps over positions that this pusher has nothing to do with.
func (c *chain) pass(from, to uint64) {
	c.settled.add(from, to)
	c.changed()
}

// leave takes settled rows out of the backlog.
func (c *chain) backlogLeave(org uint64, rows int) {
	c.backlog.Add(-int64(rows))
	if n := c.orgCount(org, false); n != nil {
		n.Add(-int64(rows))
	}
}

// orgCount is the backlog of one org; nil when nobody asks for it.
func (c *chain) orgCount(org uint64, create bool) *atomic.Int64 {
	if c.d.orgMaxBacklog == 0 {
		return nil
	}
	n, ok := c.perOrg.Load(org)
	switch {
	case ok:
	case create:
		n, _ = c.perOrg.LoadOrStore(org, new(atomic.Int64))
	default:
		return nil
	}
	return n.(*atomic.Int64)
}

// changed tells the store's goroutine that there is something to write.
func (c *chain) changed() {
	c.pending.dirty = true
	c.d.touch()
}

// rate counts rows over the last ten seconds.
type rate struct {
	seconds [rateSeconds]struct {
		at int64
		n  uint64
	}
}

const rateSeconds = 10

func (r *rate) add(now time.Time, n int) {
	at := now.Unix()
	s := &r.seconds[at%rateSeconds]
	if s.at != at {
		s.at, s.n = at, 0
	}
	s.n += uint64(n)
}

func (r *rate) perSecond(now time.Time) float64 {
	var sum uint64
	for _, s := range r.seconds {
		if now.Unix()-s.at < rateSeconds {
			sum += s.n
		}
	}
	return float64(sum) / rateSeconds
}
