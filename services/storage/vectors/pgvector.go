package vectors

import (
	"context"
	"database/sql"
	"embed"
	"errors"
	"fmt"
	"io/fs"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/hashicorp/go-hclog"

	"github.com/rivergate/rivergate/services/platform/database"
)

//go:embed pgvector
var pgvectorMigrations embed.FS

const (
	// oldestPgvector is the first that goes on searching where rows that do not count leave too few.
	oldestPgvector = "0.8.0"
	// pgvectorDimensions is what its index takes of the type vector; larger collections are compared row by row.
	pgvectorDimensions = 2000
	// pgvectorFollowers is how many collections are followed at once: each needs a connection.
	pgvectorFollowers = 2
	// pgvectorPause is how long a collection that could not be followed is left alone.
	pgvectorPause = time.Minute
)

// pgvector searches collections that are larger than the host's memory with PostgreSQL's extension of that name.
//
// Its index is never what a write waits for. The vectors of a collection are once more in a table of its own, with the index; a follower
// brings what was written into that table, in the order of versions. A search asks the index for what the table has, compares every row
// behind that itself, and passes over what the table has in an older version: it sees each write that was answered before it. Several
// hosts follow in turn, whoever gets the lock of the collection's row in pgvector_collections. Everything is inside of transactions, as
// PgBouncer wants it.
type pgvector struct {
	db         *database.DB
	log        hclog.Logger
	memory     int64
	exactBelow int
	effort     []int64       // values of hnsw.ef_search that are tried
	places     chan struct{} // a token for each follower at work
	ctx        context.Context
	stop       context.CancelFunc
	followers  sync.WaitGroup

	mu        sync.Mutex
	closed    bool
	following map[int64]bool      // true: once more when it is done
	left      map[int64]time.Time // until when a collection that failed is left alone
}

// openPgvector returns nil where the extension is not, which is no error.
func openPgvector(ctx context.Context, db *database.DB, o Options, log hclog.Logger) (*pgvector, error) {
	if db.Dialect() != database.Postgres {
		return nil, nil //nolint:nilnil // see above
	}
	log = log.Named("pgvector")
	there, err := findPgvector(ctx, db, log)
	if err != nil {
		return nil, fmt.Errorf("look for the extension vector: %w", err)
	}
	if !there {
		return nil, nil //nolint:nilnil // see above
	}
	files, err := fs.Sub(pgvectorMigrations, "pgvector")
	if err != nil {
		return nil, err
	}
	if err := db.Migrate(ctx, "pgvector", files); err != nil {
		return nil, err
	}
	p := &pgvector{
		db: db, log: log, memory: o.Memory, exactBelow: o.ExactBelow, effort: []int64{100, 200, 400, 1000}, places: make(chan struct{}, pgvectorFollowers),
		following: make(map[int64]bool), left: make(map[int64]time.Time),
	}
	p.ctx, p.stop = context.WithCancel(context.Background())
	return p, nil
}

// findPgvector makes the extension where it can be made.
func findPgvector(ctx context.Context, db *database.DB, log hclog.Logger) (bool, error) {
	var available, installed sql.NullString
	look := func() error {
		err := db.Reader().QueryRowContext(ctx, "SELECT default_version, installed_version FROM pg_available_extensions WHERE name = 'vector'").Scan(&available, &installed)
		if errors.Is(err, sql.ErrNoRows) {
			return nil
		}
		return err
	}
	if err := look(); err != nil || !available.Valid {
		return false, err
	}
	if !installed.Valid && atLeast(available.String, oldestPgvector) {
		made := db.Write(ctx, func(tx *database.Tx) error {
			_, err := tx.ExecContext(ctx, "CREATE EXTENSION IF NOT EXISTS vector")
			return err
		})
		if err := look(); err != nil { // another host may have made it in the same moment
			return false, err
		}
		if !installed.Valid {
			log.Info("the extension vector is there and could not be made in this database: as a user who may, run CREATE EXTENSION vector; until the host starts again, collections that are larger than RIVERGATE_VECTORS_MEMORY are searched row by row", "error", made)
			return false, nil
		}
	}
	if version := installed.String; !atLeast(version, oldestPgvector) {
		if !installed.Valid {
			version = available.String
		}
		log.Info("the extension vector is too old: collections that are larger than RIVERGATE_VECTORS_MEMORY are searched row by row", "version", version, "needed", oldestPgvector)
		return false, nil
	}
	var visible bool
	if err := db.Reader().QueryRowContext(ctx, "SELECT to_regtype('vector') IS NOT NULL").Scan(&visible); err != nil {
		return false, err
	}
	if !visible {
		log.Info("the extension vector is in a schema that is not in this user's search_path: collections that are larger than RIVERGATE_VECTORS_MEMORY are searched row by row")
	}
	return visible, nil
}

// atLeast compares versions of numbers and dots.
func atLeast(version, least string) bool {
	have, want := strings.Split(version, "."), strings.Split(least, ".")
	for i, w := range want {
		if i >= len(have) {
			return false
		}
		h, err := strconv.Atoi(have[i])
		if err != nil {
			return false
		}
		if n, _ := strconv.Atoi(w); h != n {
			return h > n
		}
	}
	return true
}

func (p *pgvector) close() {
	p.mu.Lock()
	p.closed = true
	p.mu.Unlock()
	p.stop()
	p.followers.Wait()
}

// takes tells whether a collection is one for the index.
func (p *pgvector) takes(h *head) bool {
	return h.dimensions <= pgvectorDimensions && h.vectors >= int64(p.exactBelow) && footprint(h.vectors, h.dimensions) > p.memory
}

// pgvectorState is a row of pgvector_collections.
type pgvectorState struct {
	at                            mark
	cleaned, trained, changed, ef int64
}

// state reads what is known of a collection; nil: nothing. lock, for one who follows: nil as well while somebody else does.
func (p *pgvector) state(ctx context.Context, on database.Querier, id int64, lock bool) (*pgvectorState, error) {
	query := "SELECT version, row_id, cleaned, trained, changed, ef FROM pgvector_collections WHERE collection_id = ?"
	if lock {
		query += " FOR UPDATE SKIP LOCKED"
	}
	s := &pgvectorState{}
	err := on.QueryRowContext(ctx, query, id).Scan(&s.at.version, &s.at.rowID, &s.cleaned, &s.trained, &s.changed, &s.ef)
	if errors.Is(err, sql.ErrNoRows) {
		return nil, nil //nolint:nilnil // see above
	}
	return s, err
}

func (p *pgvector) save(ctx context.Context, tx *database.Tx, id int64, s *pgvectorState) error {
	_, err := tx.ExecContext(ctx, "UPDATE pgvector_collections SET version = ?, row_id = ?, cleaned = ?, trained = ?, changed = ?, ef = ? WHERE collection_id = ?",
		s.at.version, s.at.rowID, s.cleaned, s.trained, s.changed, s.ef, id)
	return err
}

// headOf reads a collection's row by its number.
func headOf(ctx context.Context, on database.Querier, id int64) (h head, err error) {
	err = h.scan(on.QueryRowContext(ctx, "SELECT "+headColumns+" FROM vector_collections WHERE collection_id = ?", id))
	return h, err
}

func pgvectorTable(id int64) string { return "pgvector_" + strconv.FormatInt(id, 10) }
func pgvectorIndex(id int64) string { return pgvectorTable(id) + "_hnsw" }

// pgvectorOperator is the distance of a metric, and its class of index. Under cosine the table holds vectors of length 1, for which the inner
// product is the cosine.
func pgvectorOperator(m Metric) (operator, class string) {
	if m == L2 {
		return "<->", "vector_l2_ops"
	}
	return "<#>", "vector_ip_ops"
}

// pgvectorText is how the extension reads a vector.
func pgvectorText(values []float32) string {
	b := make([]byte, 0, 12*len(values)+2)
	b = append(b, '[')
	for i, f := range values {
		if i > 0 {
			b = append(b, ',')
		}
		b = strconv.AppendFloat(b, float64(f), 'g', -1, 32)
	}
	return string(append(b, ']'))
}
