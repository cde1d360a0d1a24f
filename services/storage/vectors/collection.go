package vectors

import (
	"context"
	"sync"
	"sync/atomic"
)

// collection is the rows of one collection in memory, at a version.
type collection struct {
	id         int64
	dimensions int
	metric     Metric
	exactBelow int
	used       atomic.Int64 // the clock of Vectors when it was searched last

	catching chan struct{} // holds a token while somebody reads what others wrote

	mu       sync.RWMutex
	version  int64 // every row up to it is here; 0: nothing was read
	matrix   matrix
	ids      []string // by slot
	metadata []string
	slots    map[string]uint32
	live     set
	free     []uint32
	texts    int64 // bytes of ids and metadata
	columns  map[string]*column
	index    *index // nil: small, or not built yet
	building bool
	held     []uint32 // freed while an index is being built: not written again until it is
}

func newCollection(h *head, exactBelow int) *collection {
	c := &collection{id: h.id, dimensions: h.dimensions, metric: h.metric, exactBelow: exactBelow, catching: make(chan struct{}, 1)}
	c.reset()
	return c
}

// reset forgets everything.
func (c *collection) reset() {
	c.version, c.matrix, c.ids, c.metadata, c.slots = 0, matrix{dimensions: c.dimensions}, nil, nil, make(map[string]uint32)
	c.live, c.free, c.texts, c.columns, c.index, c.held = nil, nil, 0, nil, nil, nil
	c.building = false // one that is under way finds another matrix and is dropped
}

// perVector is what a vector takes beside its numbers, its bits, its id and its metadata: map, slices, factors.
const perVector = 128

// footprint estimates the bytes of n vectors.
func footprint(n int64, dimensions int) int64 {
	return n * (int64(dimensions)*4 + int64(dimensions+unit)/4 + perVector)
}

func (c *collection) bytes() int64 {
	c.mu.RLock()
	defer c.mu.RUnlock()
	n := footprint(int64(len(c.ids)), c.dimensions) + c.texts
	for _, col := range c.columns {
		n += int64(len(col.kinds)) * 9
	}
	return n
}

// apply makes the rows part of the collection; mu is held.
func (c *collection) apply(rows []row) {
	for i := range rows {
		r := &rows[i]
		c.remove(r.id)
		if !r.deleted {
			c.insert(r)
		}
	}
	if len(c.slots) < c.exactBelow/2 {
		c.index = nil
	}
	for field, col := range c.columns {
		if len(col.texts) > 2*len(c.ids)+1024 { // mostly of rows that are gone
			delete(c.columns, field)
		}
	}
}

func (c *collection) remove(id string) {
	slot, ok := c.slots[id]
	if !ok {
		return
	}
	delete(c.slots, id)
	c.live.remove(slot)
	c.texts -= int64(len(c.ids[slot]) + len(c.metadata[slot]))
	c.ids[slot], c.metadata[slot] = "", ""
	if c.index != nil {
		c.index.remove(slot)
	}
	if c.building {
		c.held = append(c.held, slot)
	} else {
		c.free = append(c.free, slot)
	}
}

func (c *collection) insert(r *row) {
	var slot uint32
	if n := len(c.free); n > 0 {
		slot, c.free = c.free[n-1], c.free[:n-1]
	} else {
		slot = c.matrix.grow()
		c.ids, c.metadata = append(c.ids, ""), append(c.metadata, "")
		if int(slot)%64 == 0 {
			c.live = append(c.live, 0)
		}
	}
	copy(c.matrix.at(slot), r.values)
	c.matrix.inverse[slot] = c.metric.inverse(r.values)
	c.ids[slot], c.metadata[slot] = r.id, r.metadata
	c.texts += int64(len(r.id) + len(r.metadata))
	c.slots[r.id] = slot
	c.live.add(slot)
	for _, col := range c.columns {
		col.set(slot, r.metadata)
	}
	if c.index != nil {
		c.index.add(slot, c.matrix.at(slot), c.matrix.inverse[slot])
	}
}

// wantsIndex tells whether an index should be built now: there is none, or it was made for a collection of another size.
func (c *collection) wantsIndex() bool {
	n := len(c.slots)
	if c.building || n < c.exactBelow {
		return false
	}
	return c.index == nil || n > 2*c.index.trained || n < c.index.trained/4
}

// build makes an index beside the searches and puts it in place. begun under mu by setting building.
func (c *collection) build(ctx context.Context) error {
	c.mu.RLock()
	m, first := c.matrix, c.firstBlock()
	slots := make([]uint32, 0, len(c.slots))
	c.live.each(func(slot uint32) { slots = append(slots, slot) })
	c.mu.RUnlock()
	x, err := c.indexOf(ctx, &m, slots)

	c.mu.Lock()
	defer c.mu.Unlock()
	if first == nil || c.firstBlock() != first {
		return nil // it was read anew meanwhile
	}
	c.building = false
	c.free, c.held = append(c.free, c.held...), nil
	if err != nil {
		return err
	}
	for _, slot := range slots {
		if !c.live.has(slot) {
			x.remove(slot)
		}
	}
	c.live.each(func(slot uint32) {
		if !x.has(slot) {
			x.add(slot, c.matrix.at(slot), c.matrix.inverse[slot])
		}
	})
	c.index = x
	return nil
}

func (c *collection) firstBlock() *float32 {
	if len(c.matrix.blocks) == 0 {
		return nil
	}
	return &c.matrix.blocks[0][0]
}

func (c *collection) indexOf(ctx context.Context, m *matrix, slots []uint32) (*index, error) {
	x, err := train(ctx, c.metric, m, slots)
	if err != nil {
		return nil, err
	}
	for i, slot := range slots {
		if i%1024 == 0 && ctx.Err() != nil {
			return nil, ctx.Err()
		}
		x.add(slot, m.at(slot), m.inverse[slot])
	}
	return x, nil
}

// catchUp reads what was written since the version that is here, and tells whether there was any. h is the collection as it
// is now.
func (c *collection) catchUp(ctx context.Context, s *store, h *head) (read bool, err error) {
	if c.current(h) {
		return false, nil
	}
	select {
	case c.catching <- struct{}{}:
	case <-ctx.Done():
		return false, ctx.Err()
	}
	defer func() { <-c.catching }()
	if c.current(h) {
		return false, nil
	}
	c.mu.Lock()
	if c.version < h.purged || c.version == 0 {
		c.reset()
	}
	after := c.version
	c.mu.Unlock()
	err = s.changes(ctx, h, after, func(page []row) error {
		c.mu.Lock()
		defer c.mu.Unlock()
		c.apply(page)
		return nil
	})
	if err != nil {
		return true, err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.version = h.version
	return true, nil
}

func (c *collection) current(h *head) bool {
	c.mu.RLock()
	defer c.mu.RUnlock()
	return c.version >= h.version
}

// wrote makes what this host has just written part of the collection, when nothing is missing before it. Otherwise the next
// search reads it, and false is returned.
func (c *collection) wrote(h *head, vectors []Vector) bool {
	select {
	case c.catching <- struct{}{}:
	default:
		return false
	}
	defer func() { <-c.catching }()
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.version == 0 || c.version != h.version-1 {
		return false
	}
	rows := make([]row, len(vectors))
	for i := range vectors {
		v := &vectors[i]
		rows[i] = row{id: v.ID, metadata: v.Metadata, values: v.Values}
	}
	c.apply(rows)
	c.version = h.version
	return true
}

// search answers from memory. query is of the collection's dimensions.
func (c *collection) search(q *Query, query []float32) *Result {
	if q.Filter != nil {
		c.readColumns(q.Filter)
	}
	if c.metric == Cosine {
		query = scaled(nil, query, c.metric.inverse(query))
	}
	c.mu.RLock()
	defer c.mu.RUnlock()
	var allowed set
	r := &Result{Total: len(c.slots)}
	if q.Filter != nil {
		allowed = c.under(q.Filter)
		r.Total = allowed.count()
	}
	best := &top{k: min(q.TopK, r.Total)}
	if r.Exact = q.Exact || c.index == nil || r.Total < c.exactBelow; r.Exact {
		candidates := allowed
		if candidates == nil {
			candidates = c.live
		}
		candidates.each(func(slot uint32) {
			best.offer(slot, c.metric.rank(query, c.matrix.at(slot), c.matrix.inverse[slot]))
		})
	} else {
		c.index.search(&c.matrix, query, allowed, best)
	}
	for _, f := range best.best() {
		m := Match{ID: c.ids[f.slot], Score: c.metric.score(f.rank), Metadata: c.metadata[f.slot]}
		if q.IncludeValues {
			m.Values = append([]float32(nil), c.matrix.at(f.slot)...)
		}
		r.Matches = append(r.Matches, m)
	}
	return r
}

// under is the set of slots under a filter.
func (c *collection) under(f Filter) set {
	s := append(set(nil), c.live...)
	for i := range f {
		col := c.columns[f[i].field]
		if col == nil { // pushed out by another filter meanwhile
			s.each(func(slot uint32) {
				if !f[i].holds(member(c.metadata[slot], f[i].field)) {
					s.remove(slot)
				}
			})
			continue
		}
		col.keep(s, &f[i])
	}
	return s
}

// readColumns reads the fields of a filter that no filter had before.
func (c *collection) readColumns(f Filter) {
	c.mu.RLock()
	missing := false
	for i := range f {
		missing = missing || c.columns[f[i].field] == nil
	}
	c.mu.RUnlock()
	if !missing {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.columns == nil || len(c.columns)+len(f) > maxColumns {
		c.columns = make(map[string]*column)
	}
	for i := range f {
		field := f[i].field
		if c.columns[field] != nil {
			continue
		}
		col := &column{field: field, known: make(map[string]uint64)}
		c.live.each(func(slot uint32) { col.set(slot, c.metadata[slot]) })
		c.columns[field] = col
	}
}
