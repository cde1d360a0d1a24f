// Package vectors keeps collections of vectors and finds the nearest ones: exactly in small collections and whenever it is
// asked to, through an index in large ones.
//
// The rows are in the metadata database. A collection that is searched is read into memory, as far as Options.Memory goes;
// the one that was not searched for longest leaves it. Every write makes the collection's next version, every search asks
// for the version and reads what is new, so that a search sees each write that was answered before it, on whichever host
// it was made. A collection that is too large for the memory is searched in the database: by an index of pgvector where
// PostgreSQL has that extension, else row by row.
//
// A filter is exact, and a search finds top_k vectors whenever so many are under it: in memory it is applied first; what the
// index of pgvector finds is filtered while it goes on searching, and where it ends too early, every row is compared.
package vectors

import (
	"cmp"
	"context"
	"fmt"
	"sync"
	"time"
	"unicode/utf8"

	"github.com/hashicorp/go-hclog"

	"github.com/rivergate/rivergate/services/platform/database"
	"github.com/rivergate/rivergate/services/platform/embed"
)

// Limits of a request.
const (
	MaxVectors    = 1000
	MaxDimensions = 4096
	MaxTopK       = 100
	DefaultTopK   = 10
	MaxName       = 128      // bytes of a collection's or a model's name
	MaxID         = 512      // bytes
	MaxMetadata   = 32 << 10 // bytes of JSON
	MaxText       = 64 << 10 // bytes
	MaxBody       = 64 << 20
)

const (
	usualMemory     = 256 << 20
	usualExactBelow = 20_000
	usualTimeout    = 30 * time.Second
	// decoding is how many large bodies are in memory at once; others wait.
	decoding = 4
)

// Options of Open.
type Options struct {
	Memory     int64         // bytes of collections in memory; 0: 256 MiB
	ExactBelow int           // vectors; smaller collections are searched exactly. 0: 20 000
	Timeout    time.Duration // of a request; 0: 30 s
	Log        hclog.Logger  // nil: none
}

// Vectors answers the routes. It may be used by many at once.
type Vectors struct {
	store    *store
	pgvector *pgvector // nil: not there
	options  Options
	log      hclog.Logger
	decoding chan struct{}
	ctx      context.Context // of the indexes that are being built
	stop     context.CancelFunc
	builders sync.WaitGroup

	mu          sync.Mutex
	closed      bool
	clock       int64
	collections map[int64]*collection
}

// Open makes the tables. Close it before the database.
func Open(ctx context.Context, db *database.DB, o Options) (*Vectors, error) {
	v := &Vectors{store: &store{db}, log: o.Log, decoding: make(chan struct{}, decoding), collections: make(map[int64]*collection)}
	v.options = Options{
		Memory: cmp.Or(o.Memory, usualMemory), ExactBelow: cmp.Or(o.ExactBelow, usualExactBelow), Timeout: cmp.Or(o.Timeout, usualTimeout),
	}
	if v.log == nil {
		v.log = hclog.NewNullLogger()
	}
	if err := v.store.migrate(ctx); err != nil {
		return nil, err
	}
	var err error
	if v.pgvector, err = openPgvector(ctx, db, v.options, v.log); err != nil {
		return nil, err
	}
	v.ctx, v.stop = context.WithCancel(context.Background())
	return v, nil
}

// Close waits for what is being built, which it ends.
func (v *Vectors) Close() {
	v.mu.Lock()
	v.closed = true
	v.mu.Unlock()
	v.stop()
	v.builders.Wait()
	if v.pgvector != nil {
		v.pgvector.close()
	}
}

// Vector is one vector to store.
type Vector struct {
	ID       string
	Values   []float32
	Metadata string // a JSON object, or empty
	Text     string // kept with it
}

// Upsert stores vectors: all of them or, with an error, none.
type Upsert struct {
	Collection string
	Dimensions int    // 0: as many as the vectors have
	Metric     Metric // empty: the collection's, or cosine
	Model      string // empty: whatever it is
	Vectors    []Vector
}

// Upserted is what became of an Upsert.
type Upserted struct {
	Inserted, Updated, Dimensions int
	Model                         string
}

func (u *Upsert) dimensions() int {
	if u.Dimensions > 0 {
		return u.Dimensions
	}
	return len(u.Vectors[0].Values)
}

// check looks at what does not depend on the collection.
func (u *Upsert) check() error {
	if err := checkName("collection", u.Collection); err != nil {
		return err
	}
	switch {
	case u.Metric != "" && !u.Metric.known():
		return malformed("metric", "must be cosine, dot or l2")
	case u.Dimensions < 0 || u.Dimensions > MaxDimensions:
		return malformed("dimensions", "must be 1 to %d", MaxDimensions)
	case len(u.Model) > MaxName:
		return malformed("model", "is longer than %d bytes", MaxName)
	case len(u.Vectors) == 0 || len(u.Vectors) > MaxVectors:
		return malformed("vectors", "must be 1 to %d, and are %d", MaxVectors, len(u.Vectors))
	}
	seen := make(map[string]int, len(u.Vectors))
	for i := range u.Vectors {
		x, place := &u.Vectors[i], func(field string) string { return fmt.Sprintf("vectors[%d].%s", i, field) }
		switch {
		case x.ID == "":
			return malformed(place("id"), "is missing")
		case len(x.Values) == 0:
			return malformed(place("values"), "are missing")
		case len(x.ID) > MaxID:
			return refused(place("id"), "is longer than %d bytes", MaxID)
		case len(x.Values) > MaxDimensions:
			return refused(place("values"), "are more than %d", MaxDimensions)
		case len(x.Metadata) > MaxMetadata:
			return refused(place("metadata"), "is longer than %d bytes", MaxMetadata)
		case len(x.Text) > MaxText:
			return refused(place("text"), "is longer than %d bytes", MaxText)
		case !storable(x.ID):
			return refused(place("id"), "holds a character that cannot be stored")
		case !storable(x.Text):
			return refused(place("text"), "holds a character that cannot be stored")
		}
		if first, ok := seen[x.ID]; ok {
			return refused(place("id"), "is the same as that of vectors[%d]", first)
		}
		seen[x.ID] = i
	}
	return nil
}

// fits looks at what the collection demands.
func (u *Upsert) fits(h *head) error {
	switch {
	case u.Dimensions > 0 && u.Dimensions != h.dimensions:
		return refused("dimensions", "is %d, the collection has %d", u.Dimensions, h.dimensions)
	case u.Metric != "" && u.Metric != h.metric:
		return refused("metric", "is %s, the collection has %s", u.Metric, h.metric)
	case u.Model != "" && h.model != "" && u.Model != h.model:
		return refused("model", "is another than that of the collection, %s: its vectors could not be compared", quoted(h.model))
	}
	for i := range u.Vectors {
		values := u.Vectors[i].Values
		if len(values) != h.dimensions {
			return refused(fmt.Sprintf("vectors[%d].values", i), "are %d, the collection has %d dimensions", len(values), h.dimensions)
		}
		if err := h.metric.check(values); err != nil {
			return refused(fmt.Sprintf("vectors[%d].values", i), "%v", err)
		}
	}
	return nil
}

func checkName(field, name string) error {
	switch {
	case name == "":
		return malformed(field, "is missing")
	case len(name) > MaxName:
		return malformed(field, "is longer than %d bytes", MaxName)
	case !storable(name):
		return malformed(field, "holds a character that cannot be stored")
	}
	return nil
}

// storable: PostgreSQL takes neither NUL nor what is not UTF-8.
func storable(s string) bool {
	for i := range len(s) {
		if s[i] == 0 {
			return false
		}
	}
	return utf8.ValidString(s)
}

// Upsert stores vectors. Errors: *MalformedError, *RefusedError.
func (v *Vectors) Upsert(ctx context.Context, org uint64, u *Upsert) (*Upserted, error) {
	if err := u.check(); err != nil {
		return nil, err
	}
	h, inserted, err := v.store.upsert(ctx, org, u)
	if err != nil {
		return nil, err
	}
	if c := v.cached(h.id); c != nil && c.wrote(&h, u.Vectors) {
		v.tend(c)
	}
	if v.pgvector != nil && v.pgvector.takes(&h) {
		v.pgvector.follow(h.id)
	}
	return &Upserted{Inserted: inserted, Updated: len(u.Vectors) - inserted, Dimensions: h.dimensions, Model: h.model}, nil
}

// Query asks for the nearest vectors.
type Query struct {
	Collection    string
	Vector        []float32 // or
	Text          string    // which is made a vector by the default embedder
	TopK          int
	Filter        Filter
	MinScore      *float64
	IncludeValues bool
	Exact         bool
}

// Result is what was found, best first.
type Result struct {
	Matches []Match
	Total   int  // vectors under the filter
	Exact   bool // every vector under the filter was compared
}

// Match is one vector that was found. For Score see the metrics.
type Match struct {
	ID       string
	Score    float64
	Metadata string
	Values   []float32
}

// Search finds the nearest vectors. Errors: ErrNoCollection, *MalformedError, *RefusedError.
func (v *Vectors) Search(ctx context.Context, org uint64, q *Query) (*Result, error) {
	if err := checkName("collection", q.Collection); err != nil {
		return nil, err
	}
	if (q.Vector == nil) == (q.Text == "") {
		return nil, malformed("vector", "or text must be there, and not both")
	}
	if q.TopK < 1 || q.TopK > MaxTopK {
		return nil, malformed("top_k", "must be 1 to %d", MaxTopK)
	}
	h, err := v.store.head(ctx, org, q.Collection)
	if err != nil {
		return nil, err
	}
	query, err := queryVector(&h, q)
	if err != nil {
		return nil, err
	}
	var r *Result
	if footprint(h.vectors, h.dimensions) > v.options.Memory {
		if v.pgvector != nil && v.pgvector.takes(&h) {
			r, err = v.pgvector.search(ctx, h.id, q, query)
		}
		if err == nil && r == nil {
			r, err = v.scan(ctx, &h, q, query)
		}
	} else {
		var c *collection
		if c, err = v.load(ctx, &h); err == nil {
			r = c.search(q, query)
		}
	}
	if err != nil {
		return nil, err
	}
	if q.MinScore != nil {
		for i := range r.Matches {
			if r.Matches[i].Score < *q.MinScore {
				r.Matches = r.Matches[:i]
				break
			}
		}
	}
	return r, nil
}

func queryVector(h *head, q *Query) ([]float32, error) {
	if q.Vector != nil {
		if len(q.Vector) != h.dimensions {
			return nil, refused("vector", "has %d numbers, the collection has %d dimensions", len(q.Vector), h.dimensions)
		}
		if err := h.metric.check(q.Vector); err != nil {
			return nil, refused("vector", "%v", err)
		}
		return q.Vector, nil
	}
	if h.model != "" && h.model != embed.Model {
		return nil, refused("text", "cannot be searched for: the vectors are of model %s, which is not here; send a vector", quoted(h.model))
	}
	if h.dimensions != embed.Dimensions {
		return nil, refused("text", "becomes a vector of %d dimensions, the collection has %d; send a vector", embed.Dimensions, h.dimensions)
	}
	query := embed.Text(q.Text)
	if err := h.metric.check(query); err != nil {
		return nil, refused("text", "holds no letter or digit")
	}
	return query, nil
}

// Delete deletes vectors by id, by filter, or all. One of the three.
type Delete struct {
	Collection string
	IDs        []string
	Filter     Filter
	All        bool
}

// Delete returns how many there were. Errors: ErrNoCollection, *MalformedError.
func (v *Vectors) Delete(ctx context.Context, org uint64, d *Delete) (int, error) {
	if err := checkName("collection", d.Collection); err != nil {
		return 0, err
	}
	h, deleted, err := v.store.delete(ctx, org, d)
	if err == nil && deleted > 0 && v.pgvector != nil {
		v.pgvector.follow(h.id)
	}
	return deleted, err
}

func (v *Vectors) cached(id int64) *collection {
	v.mu.Lock()
	defer v.mu.Unlock()
	return v.collections[id]
}

// load returns the collection as it is in the database.
func (v *Vectors) load(ctx context.Context, h *head) (*collection, error) {
	v.mu.Lock()
	c := v.collections[h.id]
	if c == nil {
		c = newCollection(h, v.options.ExactBelow)
		v.collections[h.id] = c
	}
	v.clock++
	c.used.Store(v.clock)
	v.mu.Unlock()
	read, err := c.catchUp(ctx, v.store, h)
	if read {
		v.tend(c)
	}
	return c, err
}

// tend has an index built where one is wanted, and lets collections go that are too much.
func (v *Vectors) tend(c *collection) {
	c.mu.Lock()
	build := c.wantsIndex()
	c.building = c.building || build
	c.mu.Unlock()
	if build {
		v.build(c)
	}
	v.mu.Lock()
	defer v.mu.Unlock()
	var sum int64
	for _, c := range v.collections {
		sum += c.bytes()
	}
	for sum > v.options.Memory && len(v.collections) > 0 {
		var oldest *collection
		for _, c := range v.collections {
			if oldest == nil || c.used.Load() < oldest.used.Load() {
				oldest = c
			}
		}
		sum -= oldest.bytes()
		delete(v.collections, oldest.id)
	}
}

func (v *Vectors) build(c *collection) {
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.closed {
		return
	}
	v.builders.Add(1)
	go func() {
		defer v.builders.Done()
		begun := time.Now()
		if err := c.build(v.ctx); err != nil {
			return // only by Close
		}
		v.log.Debug("vector index built", "collection", c.id, "took", time.Since(begun))
	}()
}
