package cache

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"sync"
	"unicode/utf8"
)

// Load makes a value that is not there, as JSON. Its context ends when nobody waits for the value any more.
type Load func(ctx context.Context) (json.RawMessage, error)

// flights are the loads under way.
type flights struct {
	mu      sync.Mutex
	all     map[flightKey]*flight // those that can be joined
	running map[*flight]struct{}  // those, and stale ones
	closed  bool
	busy    sync.WaitGroup
}

type flightKey struct {
	org uint64
	key string
}

// flight is one load, for all who wait for it.
type flight struct {
	tags    []string
	cancel  context.CancelFunc
	waiting int           // guarded by flights.mu
	done    chan struct{} // closed when value and err are set
	value   json.RawMessage
	err     error

	// storing is held while the value is put into the store, so that who forgets the flight knows: it has been put there before,
	// and can be removed, or never will be.
	storing sync.Mutex
	stale   bool // guarded by storing
}

// GetOrLoad returns the value of a key, or has load make it and keeps that. Who asks for a key that is being loaded waits for
// that load, with whatever load it brought itself. When the entry is thrown out or set meanwhile (Delete, InvalidateTag, Set; in
// this process), those who wait get what was loaded, and it is not kept. When the store cannot be reached, the value is loaded
// and not kept. Errors: that of load, that of ctx, *BoundError.
func (c *Cache) GetOrLoad(ctx context.Context, org uint64, key string, keep Keep, load Load) (json.RawMessage, error) {
	if _, err := c.entry(key, nil, keep); err != nil {
		return nil, err
	}
	if e, ok, err := c.Get(ctx, org, key); err == nil && ok {
		return e.Value, nil
	}
	at := flightKey{org, key}
	f, err := c.flights.board(ctx, at, keep.Tags, func(ctx context.Context, f *flight) {
		// Another load may have ended between our look and this.
		if e, err := c.store.get(ctx, org, key, c.now()); err == nil && e != nil {
			f.value = e.Value
			return
		}
		if f.value, f.err = c.load(ctx, load); f.err == nil {
			c.keep(ctx, at, f, keep)
		}
	})
	if err != nil {
		return nil, err
	}
	select {
	case <-f.done:
		return f.value, f.err
	case <-ctx.Done():
		c.flights.leave(at, f)
		return nil, ctx.Err()
	}
}

// load calls load. A panic becomes an error: it would take the process with it, since it is not in the goroutine of a request.
func (c *Cache) load(ctx context.Context, load Load) (value json.RawMessage, err error) {
	defer func() {
		if broken := recover(); broken != nil {
			value, err = nil, fmt.Errorf("panic while a value of the cache was made: %v", broken)
		}
	}()
	c.metrics.loads.Add(1)
	value, err = load(ctx)
	if err == nil && (!json.Valid(value) || !utf8.Valid(value)) {
		return nil, &BoundError{Field: "value", Reason: "must be JSON in UTF-8"}
	}
	return value, err
}

// keep puts a loaded value into the store, unless it is stale or too large. It was made all the same.
func (c *Cache) keep(ctx context.Context, at flightKey, f *flight, keep Keep) {
	e, err := c.entry(at.key, f.value, keep)
	if err != nil {
		return
	}
	f.storing.Lock()
	defer f.storing.Unlock()
	if f.stale {
		return
	}
	if err := c.put(ctx, at.org, e, true); err != nil && ctx.Err() == nil {
		c.log.Debug("a value that was made is not kept", "error", err)
	}
}

// board finds the load of a key, or starts one. The caller waits for it, or leaves.
func (fs *flights) board(ctx context.Context, at flightKey, tags []string, fly func(context.Context, *flight)) (*flight, error) {
	fs.mu.Lock()
	defer fs.mu.Unlock()
	if fs.closed {
		return nil, errClosed
	}
	if f := fs.all[at]; f != nil {
		f.waiting++
		return f, nil
	}
	f := &flight{tags: slices.Clone(tags), waiting: 1, done: make(chan struct{})}
	ctx, f.cancel = context.WithCancel(context.WithoutCancel(ctx))
	if fs.all == nil {
		fs.all, fs.running = map[flightKey]*flight{}, map[*flight]struct{}{}
	}
	fs.all[at], fs.running[f] = f, struct{}{}
	fs.busy.Go(func() {
		defer f.cancel()
		fly(ctx, f)
		fs.mu.Lock()
		fs.detach(at, f)
		delete(fs.running, f)
		fs.mu.Unlock()
		close(f.done)
	})
	return f, nil
}

// detach lets who comes later start a load of their own.
func (fs *flights) detach(at flightKey, f *flight) {
	if fs.all[at] == f {
		delete(fs.all, at)
	}
}

// leave is for who does not wait any longer. The last one ends the load.
func (fs *flights) leave(at flightKey, f *flight) {
	fs.mu.Lock()
	defer fs.mu.Unlock()
	if f.waiting--; f.waiting == 0 {
		fs.detach(at, f)
		f.cancel()
	}
}

// forget makes the load of a key stale. When it returns, the value has been stored or never will be.
func (fs *flights) forget(at flightKey) {
	fs.mu.Lock()
	f := fs.all[at]
	delete(fs.all, at)
	fs.mu.Unlock()
	if f != nil {
		f.expire()
	}
}

// forgetTag does that to all loads of an org that would have the tag.
func (fs *flights) forgetTag(org uint64, tag string) {
	var stale []*flight
	fs.mu.Lock()
	for at, f := range fs.all {
		if at.org == org && slices.Contains(f.tags, tag) {
			stale = append(stale, f)
			delete(fs.all, at)
		}
	}
	fs.mu.Unlock()
	for _, f := range stale {
		f.expire()
	}
}

func (f *flight) expire() {
	f.storing.Lock()
	f.stale = true
	f.storing.Unlock()
}

// close ends all loads and waits for them.
func (fs *flights) close() {
	fs.mu.Lock()
	fs.closed = true
	for f := range fs.running {
		f.cancel()
	}
	fs.mu.Unlock()
	fs.busy.Wait()
}
