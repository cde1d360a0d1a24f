package vectors

import (
	"context"
	"database/sql"
	"fmt"

	"github.com/rivergate/rivergate/services/platform/database"
)

// comparison keeps the best of rows that are compared one by one.
type comparison struct {
	of      *head
	q       *Query
	query   []float32 // of length 1 under cosine
	best    top
	kept    map[uint32]Match
	matched int // rows under the filter
	values  []float32
}

func compareWith(h *head, q *Query, query []float32) *comparison {
	if h.metric == Cosine {
		query = scaled(nil, query, h.metric.inverse(query))
	}
	return &comparison{of: h, q: q, query: query, best: top{k: q.TopK}, kept: make(map[uint32]Match)}
}

// offer compares a row that is under the filter.
func (c *comparison) offer(id, metadata string, values []float32) {
	c.matched++
	rank := c.of.metric.rank(c.query, values, c.of.metric.inverse(values))
	if bar, full := c.best.bar(); full && rank <= bar {
		return
	} else if full {
		delete(c.kept, c.best.heap[0].slot)
	}
	slot := uint32(c.matched) //nolint:gosec // a collection does not have so many
	c.best.offer(slot, rank)
	m := Match{ID: id, Metadata: metadata, Score: c.of.metric.score(rank)}
	if c.q.IncludeValues {
		m.Values = append([]float32(nil), values...)
	}
	c.kept[slot] = m
}

// each offers the rows of a query for id, metadata and vector that are under the filter, and counts all of them.
func (c *comparison) each(ctx context.Context, on database.Querier, query string, args ...any) (read int, err error) {
	err = database.Each(ctx, on, func(rows *sql.Rows) error {
		var id, metadata string
		var blob sql.RawBytes
		if err := rows.Scan(&id, &metadata, &blob); err != nil {
			return err
		}
		read++
		if c.q.Filter != nil && !c.q.Filter.matches(metadata) {
			return nil
		}
		var err error
		if c.values, err = decoded(c.values, id, blob, c.of.dimensions); err != nil {
			return err
		}
		c.offer(id, metadata, c.values)
		return nil
	}, query, args...)
	return read, err
}

// matches are the best, best first.
func (c *comparison) matches() (found []Match) {
	for _, f := range c.best.best() {
		found = append(found, c.kept[f.slot])
	}
	return found
}

// scan compares every vector in the database.
func (v *Vectors) scan(ctx context.Context, h *head, q *Query, query []float32) (*Result, error) {
	c := compareWith(h, q, query)
	_, err := c.each(ctx, v.store.db.Reader(), "SELECT id, metadata, vector FROM vectors WHERE collection_id = ? AND deleted = 0", h.id)
	if err != nil {
		return nil, fmt.Errorf("search in the database: %w", err)
	}
	return &Result{Matches: c.matches(), Total: c.matched, Exact: true}, nil
}
