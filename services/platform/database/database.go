// Package database opens the embedded metadata store: one SQLite file with one writer and a few readers.
//
// Each owner of tables brings its migrations and its own version table, so that no package knows another's tables.
package database

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io/fs"
	"net/url"
	"path/filepath"

	"github.com/pressly/goose/v3"
	_ "modernc.org/sqlite" // the driver "sqlite"
)

// readers is how many queries may read at once; each has a page cache of its own.
const readers = 3

// DB is one open file. Writes stand in line for one connection; reads do not wait for them.
type DB struct {
	writer *sql.DB
	reader *sql.DB
}

// Open opens or creates the file at path. A commit is on the disk when it returns (WAL, synchronous=FULL).
func Open(ctx context.Context, path string) (*DB, error) {
	abs, err := filepath.Abs(path)
	if err != nil {
		return nil, fmt.Errorf("open database %s: %w", path, err)
	}
	db := &DB{}
	if db.writer, err = connect(ctx, abs, 1, "journal_mode(WAL)", "synchronous(FULL)", "journal_size_limit(16777216)"); err != nil {
		return nil, fmt.Errorf("open database %s: %w", path, err)
	}
	if db.reader, err = connect(ctx, abs, readers, "query_only(1)"); err != nil {
		return nil, errors.Join(fmt.Errorf("open database %s: %w", path, err), db.writer.Close())
	}
	return db, nil
}

// connect makes a pool of at most n connections. The busy timeout is for other processes (a person with a SQLite shell);
// the page cache of 1 MiB keeps memory small.
func connect(ctx context.Context, path string, n int, pragmas ...string) (*sql.DB, error) {
	q := url.Values{"_txlock": {"immediate"}, "_pragma": append([]string{"busy_timeout(5000)", "cache_size(-1024)", "foreign_keys(1)"}, pragmas...)}
	dsn := url.URL{Scheme: "file", Path: path, RawQuery: q.Encode()}
	pool, err := sql.Open("sqlite", dsn.String())
	if err != nil {
		return nil, err
	}
	pool.SetMaxOpenConns(n)
	pool.SetMaxIdleConns(n)
	if err := pool.PingContext(ctx); err != nil {
		return nil, errors.Join(err, pool.Close())
	}
	return pool, nil
}

// Migrate brings the tables of owner to their newest form. files holds goose SQL migrations; the versions are kept in
// the table <owner>_version.
func (db *DB) Migrate(ctx context.Context, owner string, files fs.FS) error {
	p, err := goose.NewProvider(goose.DialectSQLite3, db.writer, files,
		goose.WithTableName(owner+"_version"), goose.WithDisableGlobalRegistry(true))
	if err != nil {
		return fmt.Errorf("migrations of %s: %w", owner, err)
	}
	if _, err := p.Up(ctx); err != nil {
		return fmt.Errorf("migrate tables of %s: %w", owner, err)
	}
	return nil
}

// Write runs fn in a transaction and commits it. When fn or the commit fails, nothing of it stays.
func (db *DB) Write(ctx context.Context, fn func(tx *sql.Tx) error) error {
	tx, err := db.writer.BeginTx(ctx, nil)
	if err != nil {
		return fmt.Errorf("begin: %w", err)
	}
	if err := fn(tx); err != nil {
		if undo := tx.Rollback(); undo != nil && !errors.Is(undo, sql.ErrTxDone) {
			err = errors.Join(err, undo)
		}
		return err
	}
	if err := tx.Commit(); err != nil {
		return fmt.Errorf("commit: %w", err)
	}
	return nil
}

// Reader is for queries; it refuses to write. Read page by page: a query that stays open keeps the WAL from shrinking.
func (db *DB) Reader() *sql.DB { return db.reader }

// Close closes the file; all queries must have ended.
func (db *DB) Close() error {
	return errors.Join(db.reader.Close(), db.writer.Close())
}
