package delivery

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/hashicorp/go-hclog"
	"github.com/prometheus/client_golang/prometheus"

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

	DeadLettersMaxBytes int64            // of each pusher; 0: no limit
	OrgMaxBacklog       int64            // rows of one org that may wait for a pusher; 0: no limit
	Now                 func() time.Time // for the times that are shown and stored; nil: time.Now
}

// Delivery takes the rows of a journal to all enabled pushers. Make one with Open.
type Delivery struct {
	journal        journal.Journal
	store          *store
	log            hclog.Logger
	now            func() time.Time
	maxLetterBytes int64
	orgMaxBacklog  int64

	chains  []*chain // sorted by name
	tails   tails
	metrics *metrics

	dirty   chan struct{}
	trouble atomic.Pointer[string] // why the store cannot write; nil: it can
	killers sync.WaitGroup         // kills under way
	over    chan struct{}          // closed when Run has ended
	pruned  time.Time

	mu       sync.Mutex
	known    map[string]*known // all pushers with a cursor, enabled or not
	stocks   map[string]*stock
	released uint64
}

// Open loads the cursors and decides where each pusher starts. Nothing is sent before Run.
func Open(ctx context.Context, o Options) (*Delivery, error) {
	d := &Delivery{journal: o.Journal, log: o.Log, now: o.Now, maxLetterBytes: o.DeadLettersMaxBytes, orgMaxBacklog: o.OrgMaxBacklog,
		dirty: make(chan struct{}, 1), over: make(chan struct{}), stocks: make(map[string]*stock)}
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
	for _, p := range o.Pushers {
		c, err := newChain(d, p)
		if err != nil {
			return nil, fmt.Errorf("open delivery: %w", err)
		}
		if d.chain(p.Name) != nil {
			return nil, fmt.Errorf("open delivery: two pushers are called %s", p.Name)
		}
		if err := d.load(ctx, c); err != nil {
			return nil, fmt.Errorf("open delivery: pusher %s: %w", p.Name, err)
		}
		d.chains = append(d.chains, c)
	}
	slices.SortFunc(d.chains, func(a, b *chain) int { return strings.Compare(a.Name, b.Name) })
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
	oldest, next := d.journal.Bounds()
	k := d.known[c.Name]
	back := false
	switch {
	case k == nil:
		k = &known{name: c.Name, start: next, cursor: next}
		if c.Start == StartOldest {
			k.start, k.cursor = oldest, oldest
		}
		// Durable now: "the rows that come after it" must not change its meaning when the host is restarted.
		if err := d.store.putPusher(ctx, k); err != nil {
			return fmt.Errorf("write the first cursor: %w", err)
		}
		d.known[c.Name] = k
	case k.cursor < oldest:
		c.log.Error("the journal no longer holds the rows that wait for this pusher (was the data folder changed?); going on with the oldest kept row",
			"cursor", k.cursor, "oldest", oldest, "missing", oldest-k.cursor)
		c.metrics.missing.Add(float64(oldest - k.cursor))
		k.cursor = oldest
		if err := d.store.putPusher(ctx, k); err != nil {
			return fmt.Errorf("move the cursor: %w", err)
		}
	case k.cursor > next:
		c.log.Error("the cursor lies beyond the end of the journal (was an old copy of the data folder restored?); going on with the next row",
			"cursor", k.cursor, "next", next)
		k.start, k.cursor = min(k.start, next), next
		back = true
		if err := d.store.putPusher(ctx, k); err != nil {
			return fmt.Errorf("move the cursor: %w", err)
		}
	}
	c.start, c.next, c.settled.cursor, c.paused, c.totals = k.start, k.cursor, k.cursor, k.paused, k.totals
	if !back {
		if err := d.loadSettled(ctx, c, next); err != nil {
			return err
		}
	}
	waiting, err := d.journal.OrgRows(ctx, k.cursor, next)
	if err != nil {
		return fmt.Errorf("count the rows that wait: %w", err)
	}
	for org, rows := range waiting {
		if !c.takes(org) {
			continue
		}
		c.backlog.Add(int64(rows))
		if n := c.orgCount(org, true); n != nil {
			n.Add(int64(rows))
		}
	}
	return nil
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
	var chains, keeper sync.WaitGroup
	keeper.Go(func() { d.keepStore(store) })
	for _, c := range d.chains {
		chains.Go(func() { c.run(ctx) })
	}
	chains.Wait()
	if len(d.chains) == 0 {
		<-ctx.Done()
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

// chain returns the enabled pusher of this name, or nil.
func (d *Delivery) chain(name string) *chain {
	for _, c := range d.chains {
		if c.Name == name {
			return c
		}
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
	for _, c := range d.chains {
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
	names := make([]string, 0, len(d.chains))
	for _, c := range d.chains {
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
