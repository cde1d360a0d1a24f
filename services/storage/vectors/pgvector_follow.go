package vectors

import (
	"context"
	"database/sql"
	"fmt"
	"math/rand/v2"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/rivergate/rivergate/services/platform/database"
)

// How the index is built and measured. Twice as much care as usual when it is built; with less care in a search, more is left to it.
const (
	pgvectorBuild   = "m = 16, ef_construction = 128"
	pgvectorQueries = 24   // to measure with: half of them vectors of the collection, half between two of them
	pgvectorRecall  = 0.97 // that must be measured, on average, of the best 10 and of the best 100; 0.95 is promised
)

// follow brings the table of a collection up to date beside what goes on.
func (p *pgvector) follow(id int64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if _, ok := p.following[id]; ok {
		p.following[id] = true
		return
	}
	if until, ok := p.left[id]; p.closed || ok && time.Now().Before(until) {
		return
	}
	delete(p.left, id)
	p.following[id] = false
	p.followers.Add(1)
	go func() {
		defer p.followers.Done()
		select {
		case p.places <- struct{}{}:
			defer func() { <-p.places }()
		case <-p.ctx.Done():
			return
		}
		for p.goOn(id) {
		}
	}()
}

// goOn takes one step, and tells whether there is another one.
func (p *pgvector) goOn(id int64) bool {
	more, err := p.step(p.ctx, id)
	p.mu.Lock()
	defer p.mu.Unlock()
	switch {
	case p.closed:
	case err != nil:
		p.left[id] = time.Now().Add(pgvectorPause)
		p.log.Warn("an index could not be brought up to date: the collection is searched row by row where it is too far behind; next try in a minute", "collection", id, "error", err)
	case more:
		return true
	case p.following[id]:
		p.following[id] = false
		return true
	}
	delete(p.following, id)
	return false
}

// step does one piece of what there is to do for a collection, in one transaction: make or drop its table, bring a page of rows into it,
// or build, measure or drop its index. more tells that there is something left; not when another host is at it.
func (p *pgvector) step(ctx context.Context, id int64) (more bool, err error) {
	err = p.db.Write(ctx, func(tx *database.Tx) error {
		more = false
		h, err := headOf(ctx, tx, id)
		if err != nil {
			return fmt.Errorf("read the collection: %w", err)
		}
		s, err := p.state(ctx, tx, id, true)
		if err != nil {
			return fmt.Errorf("read the state: %w", err)
		}
		switch {
		case s == nil:
			if p.takes(&h) {
				more, err = p.begin(ctx, tx, &h)
			}
			return err
		case h.vectors < int64(p.exactBelow):
			return p.drop(ctx, tx, &h)
		}
		if more, err = p.bring(ctx, tx, &h, s); err == nil && !more {
			more, err = p.tend(ctx, tx, &h, s)
		}
		if err != nil {
			return err
		}
		return p.save(ctx, tx, id, s)
	})
	return more, err
}

// begin makes the table, unless another host has just done so.
func (p *pgvector) begin(ctx context.Context, tx *database.Tx, h *head) (done bool, err error) {
	made, err := tx.ExecContext(ctx, `INSERT INTO pgvector_collections (collection_id, version, row_id, cleaned, trained, changed, ef)
		VALUES (?, 0, 0, ?, 0, 0, 0) ON CONFLICT DO NOTHING`, h.id, h.purged)
	if err != nil {
		return false, err
	}
	if n, err := made.RowsAffected(); err != nil || n == 0 {
		return false, err
	}
	_, err = tx.ExecContext(ctx, fmt.Sprintf("CREATE TABLE %s (row_id BIGINT PRIMARY KEY, version BIGINT NOT NULL, embedding vector(%d) NOT NULL)",
		pgvectorTable(h.id), h.dimensions))
	return true, err
}

// drop lets a collection go that has become small.
func (p *pgvector) drop(ctx context.Context, tx *database.Tx, h *head) error {
	if _, err := tx.ExecContext(ctx, "DROP TABLE IF EXISTS "+pgvectorTable(h.id)); err != nil {
		return err
	}
	_, err := tx.ExecContext(ctx, "DELETE FROM pgvector_collections WHERE collection_id = ?", h.id)
	return err
}

// bring takes the next page of what was written into the table. more: there are further ones.
func (p *pgvector) bring(ctx context.Context, tx *database.Tx, h *head, s *pgvectorState) (more bool, err error) {
	if s.at.version < h.purged && s.cleaned < h.purged {
		if _, err := tx.ExecContext(ctx, fmt.Sprintf("DELETE FROM %s AS n WHERE NOT EXISTS (SELECT 1 FROM vectors AS v WHERE v.row_id = n.row_id AND v.deleted = 0)",
			pgvectorTable(h.id))); err != nil {
			return false, fmt.Errorf("remove deleted vectors: %w", err)
		}
		s.cleaned = h.purged
	}
	page, err := written(ctx, tx, h, s.at, perPage)
	if err != nil {
		return false, err
	}
	if len(page) == perPage && s.trained > 0 {
		// A new index is built faster than so many rows find their way into the one that is there.
		var behind int64
		if err := tx.QueryRowContext(ctx, `SELECT count(*) FROM (SELECT 1 FROM vectors WHERE collection_id = ? AND (version, row_id) > (?, ?) LIMIT ?) AS n`,
			h.id, s.at.version, s.at.rowID, s.trained/2).Scan(&behind); err != nil {
			return false, err
		}
		if behind == s.trained/2 {
			return true, p.forget(ctx, tx, h, s)
		}
	}
	for rest := page; len(rest) > 0; {
		n := min(perStatement, len(rest))
		if err := p.put(ctx, tx, h, rest[:n]); err != nil {
			return false, err
		}
		rest = rest[n:]
	}
	s.changed += int64(len(page))
	if len(page) > 0 {
		s.at = mark{page[len(page)-1].version, page[len(page)-1].rowID}
	}
	if len(page) == perPage {
		return true, nil
	}
	// Nothing is missing up to the version that h had before the page was read.
	if s.at.version <= h.version {
		s.at = whole(h.version)
	}
	return false, nil
}

// put writes rows into the table, and removes those that are deleted.
func (p *pgvector) put(ctx context.Context, tx *database.Tx, h *head, rows []row) error {
	var live, gone []string
	var args []any
	for i := range rows {
		r := &rows[i]
		number := strconv.FormatInt(r.rowID, 10)
		if r.deleted {
			gone = append(gone, number)
			continue
		}
		live = append(live, "("+number+", "+strconv.FormatInt(r.version, 10)+", ?::vector)")
		args = append(args, pgvectorText(scaled(nil, r.values, h.metric.inverse(r.values))))
	}
	if len(gone) > 0 {
		if _, err := tx.ExecContext(ctx, "DELETE FROM "+pgvectorTable(h.id)+" WHERE row_id IN ("+strings.Join(gone, ", ")+")"); err != nil {
			return fmt.Errorf("remove deleted vectors: %w", err)
		}
	}
	if len(live) > 0 {
		if _, err := tx.ExecContext(ctx, "INSERT INTO "+pgvectorTable(h.id)+" (row_id, version, embedding) VALUES "+strings.Join(live, ", ")+
			" ON CONFLICT (row_id) DO UPDATE SET version = excluded.version, embedding = excluded.embedding", args...); err != nil {
			return fmt.Errorf("take over vectors: %w", err)
		}
	}
	return nil
}

// tend sees to the index of a table that is up to date.
func (p *pgvector) tend(ctx context.Context, tx *database.Tx, h *head, s *pgvectorState) (more bool, err error) {
	switch {
	case s.trained > 0 && s.changed > s.trained:
		// In a transaction of its own: searches wait while a table's index is dropped.
		return true, p.forget(ctx, tx, h, s)
	case s.trained == 0:
		return true, p.build(ctx, tx, h, s)
	case s.ef == 0:
		return false, p.measure(ctx, tx, h, s)
	}
	return false, nil
}

// forget drops the index, which is built anew when the table is up to date.
func (p *pgvector) forget(ctx context.Context, tx *database.Tx, h *head, s *pgvectorState) error {
	s.trained, s.ef = 0, 0
	_, err := tx.ExecContext(ctx, "DROP INDEX IF EXISTS "+pgvectorIndex(h.id))
	return err
}

func (p *pgvector) build(ctx context.Context, tx *database.Tx, h *head, s *pgvectorState) error {
	begun := time.Now()
	// A host that has gone does not want its index any more. PostgreSQL 13 does not know the setting.
	if _, err := tx.ExecContext(ctx, "SELECT set_config(name, '2s', true) FROM pg_settings WHERE name = 'client_connection_check_interval'"); err != nil {
		return fmt.Errorf("change settings: %w", err)
	}
	_, class := pgvectorOperator(h.metric)
	if _, err := tx.ExecContext(ctx, fmt.Sprintf("CREATE INDEX %s ON %s USING hnsw (embedding %s) WITH (%s)",
		pgvectorIndex(h.id), pgvectorTable(h.id), class, pgvectorBuild)); err != nil {
		return fmt.Errorf("build the index: %w", err)
	}
	if _, err := tx.ExecContext(ctx, "ANALYZE "+pgvectorTable(h.id)); err != nil {
		return fmt.Errorf("analyze the table: %w", err)
	}
	s.trained, s.changed, s.ef = max(1, h.vectors), 0, 0
	p.log.Info("index built", "collection", h.id, "vectors", h.vectors, "took", time.Since(begun).Round(time.Millisecond))
	return nil
}

// measure finds the least effort with which the index finds enough of what there is.
func (p *pgvector) measure(ctx context.Context, tx *database.Tx, h *head, s *pgvectorState) error {
	queries, err := p.queries(ctx, tx, h)
	if err != nil {
		return fmt.Errorf("choose queries: %w", err)
	}
	const k = MaxTopK
	if err := configure(ctx, tx, indexed(k)...); err != nil {
		return err
	}
	if used, err := p.uses(ctx, tx, h, queries[0], k); err != nil || !used {
		return err // PostgreSQL does not use a new index before older transactions have ended: next time
	}
	truth := make([][]float64, len(queries))
	if err := configure(ctx, tx, "enable_indexscan", "off", "enable_seqscan", "on", "enable_sort", "on"); err != nil {
		return err
	}
	for i, query := range queries {
		if truth[i], err = p.distances(ctx, tx, h, query, k); err != nil {
			return fmt.Errorf("compare: %w", err)
		}
	}
	s.ef = -1
	for _, ef := range p.effort {
		if err := configure(ctx, tx, append(indexed(ef), "enable_indexscan", "on")...); err != nil {
			return err
		}
		var ten, all float64
		for i, query := range queries {
			found, err := p.distances(ctx, tx, h, query, k)
			if err != nil {
				return fmt.Errorf("ask the index: %w", err)
			}
			ten += recall(found, truth[i], 10)
			all += recall(found, truth[i], k)
		}
		n := float64(len(queries))
		p.log.Debug("index measured", "collection", h.id, "effort", ef, "recall_of_10", ten/n, "recall_of_100", all/n)
		if min(ten, all)/n >= pgvectorRecall {
			s.ef = ef
			return nil
		}
	}
	p.log.Warn("the index finds too little of this collection, which is searched row by row", "collection", h.id)
	_, err = tx.ExecContext(ctx, "DROP INDEX IF EXISTS "+pgvectorIndex(h.id))
	return err
}

// recall is how many of the k nearest were found: those no farther than the k-th nearest is.
func recall(found, truth []float64, k int) float64 {
	if k = min(k, len(truth)); k == 0 {
		return 1
	}
	n := 0
	for _, distance := range found {
		if distance <= truth[k-1] {
			n++
		}
	}
	return float64(min(n, k)) / float64(k)
}

// queries are vectors to measure with, as the extension reads them.
func (p *pgvector) queries(ctx context.Context, tx *database.Tx, h *head) ([]string, error) {
	var first, last int64
	if err := tx.QueryRowContext(ctx, "SELECT min(row_id), max(row_id) FROM "+pgvectorTable(h.id)).Scan(&first, &last); err != nil {
		return nil, err
	}
	sample := make([][]float32, 0, pgvectorQueries+1)
	for range cap(sample) {
		var id string
		var blob []byte
		if err := tx.QueryRowContext(ctx, "SELECT v.id, v.vector FROM "+pgvectorTable(h.id)+` AS n JOIN vectors AS v ON v.row_id = n.row_id
			WHERE n.row_id >= ? AND v.deleted = 0 ORDER BY n.row_id LIMIT 1`, first+rand.Int64N(last-first+1)).Scan(&id, &blob); err != nil {
			return nil, err
		}
		values, err := decoded(nil, id, blob, h.dimensions)
		if err != nil {
			return nil, err
		}
		sample = append(sample, scaled(nil, values, h.metric.inverse(values)))
	}
	queries := make([]string, 0, pgvectorQueries)
	for i, values := range sample[:pgvectorQueries] {
		if i%2 == 1 {
			values = slices.Clone(values)
			for j, f := range sample[i+1] {
				values[j] = values[j]/2 + f/2
			}
		}
		queries = append(queries, pgvectorText(values))
	}
	return queries, nil
}

// nearest is the statement that measure runs, for the k nearest rows of the table.
func (p *pgvector) nearest(h *head, k int) string {
	operator, _ := pgvectorOperator(h.metric)
	return fmt.Sprintf("SELECT embedding %[1]s ?1::vector FROM %[2]s ORDER BY embedding %[1]s ?1::vector LIMIT %[3]d", operator, pgvectorTable(h.id), k)
}

// distances are those of the k nearest rows of the table, nearest first.
func (p *pgvector) distances(ctx context.Context, tx *database.Tx, h *head, query string, k int) (found []float64, err error) {
	err = database.Each(ctx, tx, func(rows *sql.Rows) error {
		var distance float64
		err := rows.Scan(&distance)
		found = append(found, distance)
		return err
	}, p.nearest(h, k), query)
	return found, err
}

// uses tells whether the index answers.
func (p *pgvector) uses(ctx context.Context, tx *database.Tx, h *head, query string, k int) (used bool, err error) {
	err = database.Each(ctx, tx, func(rows *sql.Rows) error {
		var line string
		err := rows.Scan(&line)
		used = used || strings.Contains(line, pgvectorIndex(h.id)+" ")
		return err
	}, "EXPLAIN "+p.nearest(h, k), query)
	if err != nil {
		return false, fmt.Errorf("explain: %w", err)
	}
	return used, nil
}

// indexed are the settings with which the index is asked.
func indexed(ef int64) []string {
	return []string{
		"hnsw.ef_search", strconv.FormatInt(ef, 10), "hnsw.iterative_scan", "strict_order", "jit", "off",
		"enable_seqscan", "off", "enable_sort", "off", "enable_hashjoin", "off", "enable_mergejoin", "off",
	}
}

// configure changes settings, in pairs of name and value, until the transaction ends.
func configure(ctx context.Context, tx *database.Tx, settings ...string) error {
	var calls []string
	for pair := range slices.Chunk(settings, 2) {
		calls = append(calls, fmt.Sprintf("set_config('%s', '%s', true)", pair[0], pair[1]))
	}
	if _, err := tx.ExecContext(ctx, "SELECT "+strings.Join(calls, ", ")); err != nil {
		return fmt.Errorf("change settings: %w", err)
	}
	return nil
}
