// Package cache keeps JSON values for a while: by default in the process, or in Redis for several hosts (RIVERGATE_CACHE).
// Both do the same.
//
//   - Nothing of an org is seen by another one: org and key together name an entry.
//   - The entries of an org take at most Options.OrgBytes. What is set last is kept; what that org has used least gives way. In the
//     process all orgs together have Options.TotalBytes, and the org that takes the most gives way, so that a small one never
//     suffers from a greedy one.
//   - An entry is never served at or after its expiry. A value comes back byte for byte.
//   - Of one key, one load is under way at a time in a process, whoever asks (GetOrLoad).
//
// The cache is not counted by the quota, and nothing in it survives by promise: every entry may be gone at any time.
package cache

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"time"
	"unicode/utf8"

	"github.com/hashicorp/go-hclog"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/rivergate/rivergate/sdk/settings"
)

// Bounds of an entry.
const (
	MaxKey     = 512      // characters
	MaxValue   = 10 << 20 // bytes
	MaxTags    = 64
	MaxTag     = 256 // characters
	MinTTL     = time.Second
	MaxTTL     = 24 * time.Hour
	DefaultTTL = 5 * time.Minute

	// LeastBytes is the least that an org can be given: any entry within the bounds above fits.
	LeastBytes = 11 << 20
)

// How often what has expired is taken out of the account. It is not served before that either, and Redis frees its memory.
const (
	sweepMemory = 5 * time.Second
	sweepRedis  = time.Minute
)

// Options is what a Cache needs.
type Options struct {
	URL        settings.Secret       // redis://…, rediss://… or unix://…; empty: in the process
	OrgBytes   int64                 // of the entries of one org
	TotalBytes int64                 // of all entries, in the process only: a Redis server has its own limit
	Log        hclog.Logger          // nil: none
	Registry   prometheus.Registerer // nil: no metrics

	now func() time.Time // of the tests
}

// Entry is one value that is kept.
type Entry struct {
	Key     string
	Value   json.RawMessage // not to be changed
	Tags    []string
	Expires time.Time // UTC, whole milliseconds
}

// Keep says how long a value is kept, and what it can be thrown out by.
type Keep struct {
	TTL  time.Duration // MinTTL to MaxTTL; 0: DefaultTTL
	Tags []string      // see InvalidateTag
}

// store is where entries are. Times are those of the caller's clock.
type store interface {
	// get returns nil when there is none that is still good.
	get(ctx context.Context, org uint64, key string, now time.Time) (*Entry, error)
	// set replaces, or, when absent is true, does nothing where there is one that is still good. evicted tells how many others
	// gave way.
	set(ctx context.Context, org uint64, e *Entry, absent bool, now time.Time) (evicted int, err error)
	// remove tells whether there was one that was still good.
	remove(ctx context.Context, org uint64, key string, now time.Time) (bool, error)
	removeTag(ctx context.Context, org uint64, tag string, now time.Time) (int, error)
	total(ctx context.Context) (size, error)
	// sweep takes out what has expired.
	sweep(ctx context.Context, now time.Time) error
	close() error
}

type size struct{ Entries, Bytes int64 }

// Cache is safe for concurrent use. Make one with Open; Close it.
type Cache struct {
	store   store
	flights flights
	metrics *metrics
	log     hclog.Logger
	now     func() time.Time
	last    atomic.Pointer[size] // what total answered last

	ctx    context.Context // ends with Close
	cancel context.CancelFunc
	busy   sync.WaitGroup
}

// CheckURL tells what is wrong with the address of a cache; empty: nothing. It never quotes the address, which may hold a password.
func CheckURL(address string) string {
	if _, err := parseURL(address); err != nil {
		return err.Error()
	}
	return ""
}

// Open makes a cache. A Redis that does not answer is no error: the cache works once it does.
func Open(ctx context.Context, o Options) (*Cache, error) {
	c := &Cache{log: o.Log, now: o.now}
	if c.log == nil {
		c.log = hclog.NewNullLogger()
	}
	if c.now == nil {
		c.now = time.Now
	}
	c.metrics = newMetrics(c)
	every := sweepRedis
	var err error
	if o.URL == "" {
		c.store, every = newMemory(o.OrgBytes, o.TotalBytes, c.now), sweepMemory
	} else if c.store, err = newRedis(o.URL.Reveal(), o.OrgBytes, c.log); err != nil {
		return nil, fmt.Errorf("open the cache: its address %w", err)
	}
	if o.Registry != nil {
		if err := c.metrics.register(o.Registry); err != nil {
			return nil, errors.Join(fmt.Errorf("register the metrics of the cache: %w", err), c.store.close())
		}
	}
	c.ctx, c.cancel = context.WithCancel(context.WithoutCancel(ctx))
	c.busy.Go(func() { c.sweeps(every) })
	return c, nil
}

// Close ends loads under way and waits for them.
func (c *Cache) Close() error {
	c.flights.close()
	c.cancel()
	c.busy.Wait()
	return c.store.close()
}

func (c *Cache) sweeps(every time.Duration) {
	ticker := time.NewTicker(every)
	defer ticker.Stop()
	for {
		select {
		case <-c.ctx.Done():
			return
		case <-ticker.C:
		}
		ctx, cancel := context.WithTimeout(c.ctx, every)
		if err := c.store.sweep(ctx, c.now()); err != nil && c.ctx.Err() == nil {
			c.log.Debug("expired entries of the cache are still there", "error", err)
		}
		cancel()
	}
}

// Get returns an entry; ok is false when there is none. Error: ErrUnavailable.
func (c *Cache) Get(ctx context.Context, org uint64, key string) (e Entry, ok bool, err error) {
	now := c.now()
	found, err := c.store.get(ctx, org, key, now)
	switch {
	case err != nil:
		c.metrics.errors.Add(1)
		return Entry{}, false, err
	case found == nil || !now.Before(found.Expires):
		c.metrics.misses.Add(1)
		return Entry{}, false, nil
	}
	c.metrics.hits.Add(1)
	return *found, true, nil
}

// Set keeps a value, in place of the one that was there. A load of this key that is under way will not replace it. Errors:
// *BoundError, ErrUnavailable.
func (c *Cache) Set(ctx context.Context, org uint64, key string, value json.RawMessage, keep Keep) (Entry, error) {
	if !json.Valid(value) || !utf8.Valid(value) {
		return Entry{}, &BoundError{Field: "value", Reason: "must be JSON in UTF-8"}
	}
	return c.set(ctx, org, key, value, keep)
}

// set is Set of a value that is known to be JSON.
func (c *Cache) set(ctx context.Context, org uint64, key string, value json.RawMessage, keep Keep) (Entry, error) {
	e, err := c.entry(key, value, keep)
	if err != nil {
		return Entry{}, err
	}
	return *e, c.put(ctx, org, e, false)
}

func (c *Cache) put(ctx context.Context, org uint64, e *Entry, absent bool) error {
	evicted, err := c.store.set(ctx, org, e, absent, c.now())
	c.metrics.evicted.Add(int64(evicted))
	if err != nil {
		c.metrics.errors.Add(1)
	}
	return err
}

// entry checks the bounds.
func (c *Cache) entry(key string, value json.RawMessage, keep Keep) (*Entry, error) {
	if err := checkKey(key); err != nil {
		return nil, err
	}
	if len(value) > MaxValue {
		return nil, &BoundError{Field: "value", Reason: fmt.Sprintf("has %d bytes, %d are allowed", len(value), MaxValue), TooLarge: true}
	}
	if keep.TTL == 0 {
		keep.TTL = DefaultTTL
	}
	if keep.TTL < MinTTL || keep.TTL > MaxTTL {
		return nil, &BoundError{Field: "ttl_seconds", Reason: fmt.Sprintf("must be from %d to %d", int(MinTTL.Seconds()), int(MaxTTL.Seconds()))}
	}
	tags := slices.Clone(keep.Tags)
	slices.Sort(tags)
	if tags = slices.Compact(tags); len(tags) > MaxTags {
		return nil, &BoundError{Field: "tags", Reason: fmt.Sprintf("are %d, %d are allowed", len(tags), MaxTags)}
	}
	for _, tag := range tags {
		if n := utf8.RuneCountInString(tag); n == 0 || n > MaxTag || !utf8.ValidString(tag) {
			return nil, &BoundError{Field: "tags", Reason: fmt.Sprintf("must each have 1 to %d characters", MaxTag)}
		}
	}
	return &Entry{Key: key, Value: value, Tags: tags, Expires: c.now().UTC().Add(keep.TTL).Truncate(time.Millisecond)}, nil
}

func checkKey(key string) error {
	if n := utf8.RuneCountInString(key); n == 0 || n > MaxKey || !utf8.ValidString(key) {
		return &BoundError{Field: "key", Reason: fmt.Sprintf("must have 1 to %d characters", MaxKey)}
	}
	return nil
}

// Delete throws an entry out; deleted tells whether there was one. What a load brings that is under way is not kept. Error:
// ErrUnavailable, then the entry may still be there.
func (c *Cache) Delete(ctx context.Context, org uint64, key string) (deleted bool, err error) {
	c.flights.forget(flightKey{org, key})
	deleted, err = c.store.remove(ctx, org, key, c.now())
	if err != nil {
		c.metrics.errors.Add(1)
	}
	return deleted, err
}

// InvalidateTag throws out every entry of an org that has the tag, and tells how many. What loads bring that are under way, and
// that would have the tag, is not kept. Error: ErrUnavailable, then entries may still be there.
func (c *Cache) InvalidateTag(ctx context.Context, org uint64, tag string) (int, error) {
	c.flights.forgetTag(org, tag)
	n, err := c.store.removeTag(ctx, org, tag, c.now())
	if err != nil {
		c.metrics.errors.Add(1)
	}
	return n, err
}

// Stats is the cache in short. Hits and misses are those of this process; entries are all that are kept.
type Stats struct {
	Entries, Bytes, Hits, Misses int64
}

// statsTime bounds the question how much is kept; the last answer stands in for one that does not come.
const statsTime = 500 * time.Millisecond

// Stats never waits long.
func (c *Cache) Stats() Stats {
	ctx, cancel := context.WithTimeout(c.ctx, statsTime)
	defer cancel()
	now, err := c.store.total(ctx)
	if err == nil {
		c.last.Store(&now)
	} else if last := c.last.Load(); last != nil {
		now = *last
	}
	return Stats{now.Entries, now.Bytes, c.metrics.hits.Load(), c.metrics.misses.Load()}
}

// weight is what an entry takes, the same in both stores.
func (e *Entry) weight() int64 {
	n := len(e.Key) + len(e.Value) + entryOverhead
	for _, tag := range e.Tags {
		n += len(tag) + tagOverhead
	}
	return int64(n)
}

// What the bookkeeping of an entry takes, about.
const (
	entryOverhead = 256
	tagOverhead   = 64
)
