package delivery

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/hashicorp/go-hclog"
	"github.com/prometheus/client_golang/prometheus"
	"go.opentelemetry.io/otel/trace"

	"github.com/rivergate/rivergate/services/gateway/journal"
	"github.com/rivergate/rivergate/services/platform/database"
)

// Options is what a Delivery needs.
type Options struct {
	Journal  journal.Journal
	DB       *database.DB
	Log      hclog.Logger          // nil: no log
	Registry prometheus.Registerer // nil: no metrics
	Pushers  []Pusher              // those that are enabled
	Tracer   trace.Tracer          // of the attempts at traced requests; nil: no spans
	Triggers Triggers              // for plugins that need them; nil: no such plugin runs

	DeadLettersMaxBytes int64            // of each pusher; 0: no limit
	OrgMaxBacklog       int64            // rows of one org that may wait for a pusher; 0: no limit
	Now                 func() time.Time // for the times that are shown and stored; nil: time.Now
}

// Delivery takes the rows of a journal to all enabled pushers. Make one with Open.
type Delivery struct {
	journal        journal.Journal
	store          *store
	log            hclog.Logger
	tracer         trace.Tracer // nil: no spans
	triggers       Triggers     // nil: none are looked up
	now            func() time.Time
	maxLetterBytes int64
	orgMaxBacklog  int64

	roster  atomic.Pointer[[]*chain] // see chains
	intake  sync.RWMutex             // held to read by Accepted, to write by exchange
	change  chan struct{}            // holds a token while somebody changes which pushers there are
	launch  func(*chain)             // sets a chain going; nil before Run. Guarded by change, as ended
	ended   bool                     // Run ends: nobody comes or goes any more
	tails   tails
	metrics *metrics

	dirty   chan struct{}
	trouble atomic.Pointer[string] // why the store cannot write; nil: it can
	killers sync.WaitGroup         // kills under way
	over    chan struct{}          // closed when Run has ended

	flushing sync.Mutex        // one flush at a time; guards the next two
	leaving  map[string]*chain // not enabled any more, and not everything of them is written
	pruned   time.Time

	releasing sync.Mutex // the journal lets go of nothing while a pusher finds its first position

	mu       sync.Mutex        // taken last, as the mu of a chain
	known    map[string]*known // all pushers with a cursor, enabled or not
	stocks   map[string]*stock
	released uint64
}

// Open loads the cursors and decides where each pusher starts. Nothing is sent before Run.
func Open(ctx context.Context, o Options) (*Delivery, error) {
	d := &Delivery{journal: o.Journal, log: o.Log, tracer: o.Tracer, triggers: o.Triggers, now: o.Now, maxLetterBytes: o.DeadLettersMaxBytes, orgMaxBacklog: o.OrgMaxBacklog,
		dirty: make(chan struct{}, 1), over: make(chan struct{}), change: make(chan struct{}, 1),
		leaving: make(map[string]*chain), stocks: make(map[string]*stock)}
	d.roster.Store(&[]*chain{})
	if d.log == nil {
		d.log = hclog.NewNullLogger()
	}
	if d.now == nil {
		d.now = time.Now
	}
	var err error
	if d.store, err = openStore(ctx, o.DB); err != nil {
		return nil, fmt.Errorf("open delivery: %w", err)
	}
	if d.known, err = d.store.pushers(ctx); err != nil {
		return nil, fmt.Errorf("open delivery: read cursors: %w", err)
	}
	stocks, err := d.store.stocks(ctx)
	if err != nil {
		return nil, fmt.Errorf("open delivery: count dead letters: %w", err)
	}
	for name, r := range stocks {
		d.stockOf(name).add(r.rows, r.bytes)
	}
	d.metrics = newMetrics(d)
	chains, err := d.prepare(o.Pushers)
	if err != nil {
		return nil, fmt.Errorf("open delivery: %w", err)
	}
	for name, c := range chains {
		if err := d.enter(ctx, c, nil); err != nil {
			return nil, fmt.Errorf("open delivery: pusher %s: %w", name, err)
		}
	}
	d.reportDisabled()
	if o.Registry != nil {
		if err := d.metrics.register(o.Registry); err != nil {
			return nil, fmt.Errorf("open delivery: %w", err)
		}
	}
	return d, nil
}

// HighestPosition is one past the highest position that any pusher has settled, 0 when there is none. A journal whose folder
// was lost must not give a position below it again: the rows would hide behind cursors that have passed them.
func HighestPosition(ctx context.Context, db *database.DB) (uint64, error) {
	s, err := openStore(ctx, db)
	if err != nil {
		return 0, fmt.Errorf("read the highest position: %w", err)
	}
	highest, err := s.highest(ctx)
	if err != nil {
		return 0, fmt.Errorf("read the highest position: %w", err)
	}
	return highest, nil
}

// load sets a chain to its cursor, or to its start.
func (d *Delivery) load(ctx context.Context, c *chain) error {
	k, oldest, next := d.place(c)
	back := false
	switch {
	case k.fresh:
		// Durable now: "the rows that come after it" must not change its meaning when the host is restarted.
		if err := d.store.putPusher(ctx, k); err != nil {
			d.mu.Lock()
			delete(d.known, c.Name)
			d.mu.Unlock()
			return fmt.Errorf("write the first cursor: %w", err)
		}
		d.mu.Lock()
		k.fresh = false
		d.mu.Unlock()
	case k.cursor < oldest:
		c.log.Error("the journal no longer holds the rows that wait for this pusher (was the data folder changed?); going on with the oldest kept row",
			"cursor", k.cursor, "oldest", oldest, "missing", oldest-k.cursor)
		c.metrics.missing.Add(float64(oldest - k.cursor))
		d.mu.Lock()
		k.cursor = oldest
		d.mu.Unlock()
		if err := d.store.putPusher(ctx, k); err != nil {
			return fmt.Errorf("move the cursor: %w", err)
		}
	case k.cursor > next:
		c.log.Error("the cursor lies beyond the end of the journal (was an old copy of the data folder restored?); going on with the next row",
			"cursor", k.cursor, "next", next)
		d.mu.Lock()
		k.start, k.cursor = min(k.start, next), next
		d.mu.Unlock()
		back = true
		if err := d.store.putPusher(ctx, k); err != nil {
			return fmt.Errorf("move the cursor: %w", err)
		}
	}
	c.start, c.next, c.settled.cursor, c.totals = k.start, k.cursor, k.cursor, k.totals
	if !back {
		if err := d.loadSettled(ctx, c, next); err != nil {
			return err
		}
	}
	return nil
}

// place finds the cursor of a pusher, or gives it one, within the bounds of the journal. From here on the journal keeps what
// lies behind it.
func (d *Delivery) place(c *chain) (k *known, oldest, next uint64) {
	d.releasing.Lock()
	defer d.releasing.Unlock()
	d.mu.Lock()
	defer d.mu.Unlock()
	oldest, next = d.journal.Bounds()
	if k = d.known[c.Name]; k == nil {
		k = &known{name: c.Name, start: next, cursor: next, fresh: true}
		if c.Start == StartOldest {
			k.start, k.cursor = oldest, oldest
		}
		d.known[c.Name] = k
	}
	return k, oldest, next
}

// loadSettled takes the rows beyond the cursor that are known to be settled: above all dead letters, which must not come
// a second time.
func (d *Delivery) loadSettled(ctx context.Context, c *chain, next uint64) error {
	notes, err := d.store.notes(ctx, c.Name, c.next, next)
	if err != nil {
		return fmt.Errorf("read notes: %w", err)
	}
	// As spans beyond a cursor that does not move: the reader passes them when it comes there.
	for _, n := range notes {
		if from, to := max(n.from, c.next), min(n.to, next); from < to {
			c.redo = max(c.redo, to)
			c.settled.add(from, to)
		}
	}
	return nil
}

// Run delivers until ctx ends; then it takes the acknowledgements of what is in flight, writes the cursors, and leaves no
// goroutine behind. It is called once. The error is that of the last flush: rows that it covers are sent again.
func (d *Delivery) Run(ctx context.Context) error {
	defer close(d.over)
	store, stopStore := context.WithCancel(context.WithoutCancel(ctx))
	var keeper sync.WaitGroup
	keeper.Go(func() { d.keepStore(store) })
	d.change <- struct{}{}
	d.launch = func(c *chain) {
		var work context.Context
		work, c.cancel = context.WithCancel(ctx)
		c.ended = make(chan struct{})
		go func() {
			c.run(work)
			c.cancel()
			close(c.ended) // not deferred: a panic must end the host
		}()
	}
	for _, c := range d.chains() {
		d.launch(c)
	}
	<-d.change
	<-ctx.Done()
	d.change <- struct{}{}
	d.ended = true
	<-d.change
	for _, c := range d.chains() {
		<-c.ended
	}
	d.killers.Wait()
	stopStore()
	keeper.Wait()
	last, cancel := context.WithTimeout(context.WithoutCancel(ctx), lastFlush)
	defer cancel()
	if err := d.flush(last); err != nil {
		return fmt.Errorf("write cursors: %w", err)
	}
	return nil
}

func (d *Delivery) stockOf(name string) *stock {
	d.mu.Lock()
	defer d.mu.Unlock()
	s := d.stocks[name]
	if s == nil {
		s = &stock{}
		d.stocks[name] = s
	}
	return s
}

func (d *Delivery) kickAll() {
	for _, c := range d.chains() {
		c.kick()
	}
}

// reportDisabled names the pushers that keep rows and take none.
func (d *Delivery) reportDisabled() {
	oldest, next := d.journal.Bounds()
	for name, k := range d.known {
		if d.chain(name) == nil {
			d.log.Warn(fmt.Sprintf("pusher %s is not enabled: %d rows kept for it; `rivergate pushers forget %s` lets them go",
				name, next-min(max(k.cursor, oldest), next), name))
		}
	}
}

// Names lists the enabled pushers that take rows of this org, sorted.
func (d *Delivery) Names(org uint64) []string {
	chains := d.chains()
	names := make([]string, 0, len(chains))
	for _, c := range chains {
		if c.takes(org) {
			names = append(names, c.Name)
		}
	}
	return names
}

// Pause stops sending to a pusher, durably; what is in flight is finished, and rows wait. Pausing twice is once.
func (d *Delivery) Pause(ctx context.Context, name string) error { return d.setPaused(ctx, name, true) }

// Resume is the inverse of Pause. It also ends a wait after failures at once.
func (d *Delivery) Resume(ctx context.Context, name string) error {
	return d.setPaused(ctx, name, false)
}

func (d *Delivery) setPaused(ctx context.Context, name string, paused bool) error {
	d.mu.Lock()
	k := d.known[name]
	d.mu.Unlock()
	if k == nil {
		return fmt.Errorf("%w: %s", ErrUnknownPusher, name)
	}
	if err := d.store.setPaused(ctx, name, paused); err != nil {
		return fmt.Errorf("pause or resume %s: %w", name, err)
	}
	d.mu.Lock()
	k.paused = paused
	d.mu.Unlock()
	if c := d.chain(name); c != nil {
		c.mu.Lock()
		c.paused = paused
		if now := time.Now(); !paused {
			c.hold.until = now
			for l := range c.allLanes() {
				l.hurry(now)
			}
		}
		c.mu.Unlock()
		c.kick()
	}
	return nil
}

// Forget gives up the cursor of a pusher that is not enabled, so that the journal lets its rows go. Its dead letters stay.
func (d *Delivery) Forget(ctx context.Context, name string) error {
	select { // it must not come back meanwhile
	case d.change <- struct{}{}:
		defer func() { <-d.change }()
	case <-ctx.Done():
		return fmt.Errorf("forget %s: %w", name, ctx.Err())
	}
	if err := d.flush(ctx); err != nil { // it may have ended with something unwritten
		return fmt.Errorf("forget %s: %w", name, err)
	}
	d.mu.Lock()
	k := d.known[name]
	d.mu.Unlock()
	switch {
	case k == nil:
		return fmt.Errorf("%w: %s", ErrUnknownPusher, name)
	case d.chain(name) != nil:
		return fmt.Errorf("%w: %s", ErrStillEnabled, name)
	}
	if err := d.store.forget(ctx, name); err != nil {
		return fmt.Errorf("forget %s: %w", name, err)
	}
	d.mu.Lock()
	delete(d.known, name)
	d.mu.Unlock()
	d.touch() // the store's goroutine releases the journal
	return nil
}
