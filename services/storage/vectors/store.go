package vectors

import (
	"context"
	"database/sql"
	"embed"
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"math"
	"strconv"
	"strings"

	"github.com/rivergate/rivergate/services/platform/database"
)

//go:embed migrations
var migrations embed.FS

// store is the SQL of this package. Orgs are below 2^63.
type store struct{ db *database.DB }

const (
	perStatement = 100 // rows in one statement
	perPage      = 1000
	// tombstonesFor is for how many writes a tombstone is kept, at least.
	tombstonesFor = 1000
	// massDelete leaves no tombstones: hosts that have the collection in memory read what is left again.
	massDelete = 10_000
)

// head is a collection's row.
type head struct {
	id         int64
	dimensions int
	metric     Metric
	model      string
	version    int64
	purged     int64
	vectors    int64
}

const headColumns = "collection_id, dimensions, metric, model, version, purged, vectors"

func (h *head) scan(row *database.Row) error {
	return row.Scan(&h.id, &h.dimensions, &h.metric, &h.model, &h.version, &h.purged, &h.vectors)
}

// row is a vector, or what is left of one.
type row struct {
	rowID    int64
	version  int64
	deleted  bool
	id       string
	metadata string
	values   []float32
}

func (s *store) migrate(ctx context.Context) error {
	files, err := fs.Sub(migrations, "migrations")
	if err != nil {
		return err
	}
	return s.db.Migrate(ctx, "vectors", files)
}

// head finds a collection. ErrNoCollection.
func (s *store) head(ctx context.Context, org uint64, name string) (h head, err error) {
	err = h.scan(s.db.Reader().QueryRowContext(ctx, "SELECT "+headColumns+" FROM vector_collections WHERE org = ? AND name = ?", int64(org), name))
	if errors.Is(err, sql.ErrNoRows) {
		return h, ErrNoCollection
	}
	return h, err
}

// next makes the collection's next version and locks its row until the transaction ends, so that versions become visible in
// their order. ErrNoCollection.
func next(ctx context.Context, tx *database.Tx, org uint64, name string) (h head, err error) {
	err = h.scan(tx.QueryRowContext(ctx, "UPDATE vector_collections SET version = version + 1 WHERE org = ? AND name = ? RETURNING "+headColumns, int64(org), name))
	if errors.Is(err, sql.ErrNoRows) {
		return h, ErrNoCollection
	}
	return h, err
}

// upsert writes all vectors or, with an error, none. The collection is made when there is none.
func (s *store) upsert(ctx context.Context, org uint64, u *Upsert) (h head, inserted int, err error) {
	err = s.db.Write(ctx, func(tx *database.Tx) error {
		inserted = 0
		if h, err = next(ctx, tx, org, u.Collection); errors.Is(err, ErrNoCollection) {
			metric := u.Metric
			if metric == "" {
				metric = Cosine
			}
			if _, err := tx.ExecContext(ctx, `INSERT INTO vector_collections (org, name, dimensions, metric, model, version, purged, vectors)
				VALUES (?, ?, ?, ?, ?, 0, 0, 0) ON CONFLICT (org, name) DO NOTHING`, int64(org), u.Collection, u.dimensions(), string(metric), u.Model); err != nil {
				return err
			}
			h, err = next(ctx, tx, org, u.Collection)
		}
		if err != nil {
			return err
		}
		if err := u.fits(&h); err != nil {
			return err
		}
		if inserted, err = s.put(ctx, tx, &h, u.Vectors); err != nil {
			return err
		}
		h.vectors += int64(inserted)
		return s.settle(ctx, tx, &h)
	})
	return h, inserted, err
}

func (s *store) put(ctx context.Context, tx *database.Tx, h *head, vectors []Vector) (inserted int, err error) {
	inserted = len(vectors)
	var blob []byte
	for len(vectors) > 0 {
		n := min(perStatement, len(vectors))
		args := make([]any, 0, n*4)
		args = append(args, h.id)
		for i := range vectors[:n] {
			args = append(args, vectors[i].ID)
		}
		there := 0
		if err := tx.QueryRowContext(ctx, "SELECT count(*) FROM vectors WHERE collection_id = ? AND deleted = 0 AND id IN (?"+
			strings.Repeat(", ?", n-1)+")", args...).Scan(&there); err != nil {
			return 0, fmt.Errorf("look for vectors: %w", err)
		}
		inserted -= there
		const values = "(?1, ?2, 0, ?, ?, ?, ?)" // one text for all: it stays compiled
		args, blob = make([]any, 0, 2+n*4), make([]byte, 0, n*h.dimensions*4)
		args = append(args, h.id, h.version)
		for i := range vectors[:n] {
			v := &vectors[i]
			from := len(blob)
			for _, f := range v.Values {
				blob = binary.LittleEndian.AppendUint32(blob, math.Float32bits(f))
			}
			args = append(args, v.ID, v.Metadata, v.Text, blob[from:])
		}
		if _, err := tx.ExecContext(ctx, "INSERT INTO vectors (collection_id, version, deleted, id, metadata, content, vector) VALUES "+
			values+strings.Repeat(", "+values, n-1)+` ON CONFLICT (collection_id, id) DO UPDATE SET
			version = excluded.version, deleted = 0, metadata = excluded.metadata, content = excluded.content, vector = excluded.vector`, args...); err != nil {
			return 0, fmt.Errorf("write vectors: %w", err)
		}
		vectors = vectors[n:]
	}
	return inserted, nil
}

// settle writes the number of vectors, and lets old tombstones go from time to time.
func (s *store) settle(ctx context.Context, tx *database.Tx, h *head) error {
	if h.version%tombstonesFor == 0 && h.version-tombstonesFor > h.purged {
		h.purged = h.version - tombstonesFor
		if _, err := tx.ExecContext(ctx, "DELETE FROM vectors WHERE collection_id = ? AND version <= ? AND deleted = 1", h.id, h.purged); err != nil {
			return fmt.Errorf("let tombstones go: %w", err)
		}
	}
	_, err := tx.ExecContext(ctx, "UPDATE vector_collections SET vectors = ?, purged = ? WHERE collection_id = ?", h.vectors, h.purged, h.id)
	return err
}

// delete deletes what d says.
func (s *store) delete(ctx context.Context, org uint64, d *Delete) (h head, deleted int, err error) {
	err = s.db.Write(ctx, func(tx *database.Tx) error {
		deleted = 0
		if h, err = next(ctx, tx, org, d.Collection); err != nil {
			return err
		}
		if d.All {
			deleted, h.vectors, h.purged = int(h.vectors), 0, h.version
			if _, err := tx.ExecContext(ctx, "DELETE FROM vectors WHERE collection_id = ?", h.id); err != nil {
				return fmt.Errorf("delete all vectors: %w", err)
			}
			return s.settle(ctx, tx, &h)
		}
		ids := d.IDs
		if d.Filter != nil {
			if ids, err = s.matching(ctx, tx, &h, d.Filter); err != nil {
				return err
			}
		}
		statement := "UPDATE vectors SET deleted = 1, version = " + strconv.FormatInt(h.version, 10) + ", metadata = '', content = '', vector = ? WHERE"
		first := []any{[]byte{}}
		if len(ids) > massDelete {
			statement, first, h.purged = "DELETE FROM vectors WHERE", nil, h.version
		}
		for len(ids) > 0 {
			n := min(perStatement, len(ids))
			args := append(first[:len(first):len(first)], h.id)
			for _, id := range ids[:n] {
				args = append(args, id)
			}
			result, err := tx.ExecContext(ctx, statement+" collection_id = ? AND deleted = 0 AND id IN (?"+strings.Repeat(", ?", n-1)+")", args...)
			if err != nil {
				return fmt.Errorf("delete vectors: %w", err)
			}
			gone, err := result.RowsAffected()
			if err != nil {
				return err
			}
			deleted, ids = deleted+int(gone), ids[n:]
		}
		h.vectors -= int64(deleted)
		return s.settle(ctx, tx, &h)
	})
	return h, deleted, err
}

// matching reads the ids under a filter.
func (s *store) matching(ctx context.Context, tx *database.Tx, h *head, f Filter) (ids []string, err error) {
	err = database.Each(ctx, tx, func(rows *sql.Rows) error {
		var id, metadata string
		if err := rows.Scan(&id, &metadata); err != nil {
			return err
		}
		if f.matches(metadata) {
			ids = append(ids, id)
		}
		return nil
	}, "SELECT id, metadata FROM vectors WHERE collection_id = ? AND deleted = 0", h.id)
	if err != nil {
		return nil, fmt.Errorf("read metadata: %w", err)
	}
	return ids, nil
}

// mark is a place in the order in which rows were written: behind the row of that version and number.
type mark struct{ version, rowID int64 }

// whole is the mark behind all rows up to a version.
func whole(version int64) mark { return mark{version, math.MaxInt64} }

// changes calls fn with pages of what was written after a version, oldest first, tombstones included.
func (s *store) changes(ctx context.Context, h *head, after int64, fn func([]row) error) error {
	at := whole(after)
	for {
		page, err := written(ctx, s.db.Reader(), h, at, perPage)
		if err != nil {
			return err
		}
		if err := fn(page); err != nil {
			return err
		}
		if len(page) < perPage {
			return nil
		}
		at = mark{page[perPage-1].version, page[perPage-1].rowID}
	}
}

// written reads at most limit rows behind a mark, oldest first, tombstones included.
func written(ctx context.Context, q database.Querier, h *head, at mark, limit int) (page []row, err error) {
	err = database.Each(ctx, q, func(rows *sql.Rows) error {
		var r row
		var blob sql.RawBytes
		if err := rows.Scan(&r.rowID, &r.version, &r.deleted, &r.id, &r.metadata, &blob); err != nil {
			return err
		}
		if !r.deleted {
			r.values, err = decoded(nil, r.id, blob, h.dimensions)
		}
		page = append(page, r)
		return err
	}, `SELECT row_id, version, deleted, id, metadata, vector FROM vectors
		WHERE collection_id = ? AND (version, row_id) > (?, ?) ORDER BY version, row_id LIMIT ?`, h.id, at.version, at.rowID, limit)
	if err != nil {
		return nil, fmt.Errorf("read vectors: %w", err)
	}
	return page, nil
}

// decoded reads the numbers of a vector as it is stored, into values when there is room.
func decoded(values []float32, id string, blob []byte, dimensions int) ([]float32, error) {
	if len(blob) != 4*dimensions {
		return nil, fmt.Errorf("vector %q has %d bytes, not %d", id, len(blob), 4*dimensions)
	}
	values = values[:0]
	for ; len(blob) > 0; blob = blob[4:] {
		values = append(values, math.Float32frombits(binary.LittleEndian.Uint32(blob)))
	}
	return values, nil
}
