package vectors

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/jackc/pgx/v5/pgconn"

	"github.com/rivergate/rivergate/services/platform/database"
)

// pgvectorFetch is how many rows are fetched from the index at once when a filter may refuse some of them.
const pgvectorFetch = 500

// search answers from the database where that does not take comparing every vector; otherwise the result is nil.
func (p *pgvector) search(ctx context.Context, id int64, q *Query, query []float32) (r *Result, err error) {
	behind := false
	err = p.db.Snapshot(ctx, func(tx *database.Tx) error {
		r = nil
		h, err := headOf(ctx, tx, id)
		if err != nil {
			return err
		}
		s, err := p.state(ctx, tx, id, false)
		if err != nil {
			return err
		}
		behind = s == nil || s.at.version < h.version || s.trained == 0 || s.ef == 0
		c := compareWith(&h, q, query)
		total := int(h.vectors)
		if q.Filter != nil {
			var few []int64
			if few, total, err = p.under(ctx, tx, &h, q.Filter); err != nil {
				return err
			}
			if total < p.exactBelow {
				r, err = c.among(ctx, tx, few)
				return err
			}
		}
		if q.Exact || s == nil || s.ef <= 0 {
			return nil
		}
		done, err := p.ask(ctx, tx, c, s, total)
		if refused := (*pgconn.PgError)(nil); errors.As(err, &refused) {
			// The table was dropped meanwhile, or the extension is broken: the rows are still there.
			p.log.Warn("the index did not answer, every vector is compared instead", "collection", id, "error", err)
			return nil
		}
		if done {
			r = &Result{Matches: c.matches(), Total: total}
		}
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("search in the database: %w", err)
	}
	if behind {
		p.follow(id)
	}
	return r, nil
}

// under counts what is under a filter, and has its row numbers when they are few.
func (p *pgvector) under(ctx context.Context, tx *database.Tx, h *head, f Filter) (few []int64, total int, err error) {
	err = database.Each(ctx, tx, func(rows *sql.Rows) error {
		var number int64
		var metadata string
		if err := rows.Scan(&number, &metadata); err != nil || !f.matches(metadata) {
			return err
		}
		if total++; total < p.exactBelow {
			few = append(few, number)
		}
		return nil
	}, "SELECT row_id, metadata FROM vectors WHERE collection_id = ? AND deleted = 0", h.id)
	return few, total, err
}

// among compares all of these rows.
func (c *comparison) among(ctx context.Context, tx *database.Tx, numbers []int64) (*Result, error) {
	for some := range slices.Chunk(numbers, perPage) {
		list := make([]string, len(some))
		for i, number := range some {
			list[i] = strconv.FormatInt(number, 10)
		}
		if _, err := c.each(ctx, tx, "SELECT id, metadata, vector FROM vectors WHERE row_id IN ("+strings.Join(list, ", ")+")"); err != nil {
			return nil, err
		}
	}
	return &Result{Matches: c.matches(), Total: c.matched, Exact: true}, nil
}

// ask compares what the table lacks, and then what the index finds nearest, until there are enough under the filter, of which there are
// total. done is false when the index found too few, or the table lacks too many.
func (p *pgvector) ask(ctx context.Context, tx *database.Tx, c *comparison, s *pgvectorState, total int) (done bool, err error) {
	late, err := c.each(ctx, tx, `SELECT id, metadata, vector FROM vectors WHERE collection_id = ? AND (version, row_id) > (?, ?) AND deleted = 0
		ORDER BY version, row_id LIMIT ?`, c.of.id, s.at.version, s.at.rowID, p.exactBelow)
	if err != nil || late == p.exactBelow {
		return false, err
	}
	if err := configure(ctx, tx, indexed(s.ef)...); err != nil {
		return false, err
	}
	operator, _ := pgvectorOperator(c.of.metric)
	if _, err := tx.ExecContext(ctx, fmt.Sprintf(`DECLARE nearest NO SCROLL CURSOR FOR SELECT v.id, v.metadata, v.vector FROM %s AS n
		JOIN vectors AS v ON v.row_id = n.row_id AND v.version = n.version AND v.deleted = 0 ORDER BY n.embedding %s ?::vector`,
		pgvectorTable(c.of.id), operator), pgvectorText(c.query)); err != nil {
		return false, fmt.Errorf("ask the index: %w", err)
	}
	fetch, enough := c.q.TopK, c.matched+c.q.TopK
	if c.q.Filter != nil {
		fetch = pgvectorFetch
	}
	for c.matched < enough {
		fetched, err := c.each(ctx, tx, fmt.Sprintf("FETCH %d FROM nearest", fetch))
		if err != nil {
			return false, fmt.Errorf("ask the index: %w", err)
		}
		if fetched < fetch {
			return c.matched == total, nil
		}
	}
	return true, nil
}
