package database

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"net/url"
	"path/filepath"

	_ "modernc.org/sqlite" // the driver "sqlite"
)

const (
	// readers is how many queries may read at once; each has a page cache of its own.
	readers = 3
	// writerCache is 4 MiB. What a transaction changes beyond its cache is written to the log twice and read again in between.
	writerCache = "cache_size(-4096)"
)

// Open opens or creates the SQLite file at path. A commit is on the disk when it returns (WAL, synchronous=FULL).
func Open(ctx context.Context, path string) (*DB, error) {
	abs, err := filepath.Abs(path)
	if err != nil {
		return nil, fmt.Errorf("open database %s: %w", path, err)
	}
	db := &DB{dialect: SQLite}
	if db.writer, err = connect(ctx, abs, 1, writerCache, "journal_mode(WAL)", "synchronous(FULL)", "journal_size_limit(16777216)", "wal_autocheckpoint("+longLog+")"); err != nil {
		return nil, fmt.Errorf("open database %s: %w", path, err)
	}
	if db.reader, err = connect(ctx, abs, readers, "query_only(1)"); err != nil {
		return nil, errors.Join(fmt.Errorf("open database %s: %w", path, err), db.writer.Close())
	}
	pool, err := connect(ctx, abs, 1, "synchronous(FULL)")
	if err != nil {
		return nil, errors.Join(fmt.Errorf("open database %s: %w", path, err), db.Close())
	}
	db.checkpoints = startCheckpoints(pool, db.writer)
	return db, nil
}

// connect makes a pool of at most n connections. The busy timeout is for other processes (another host that starts, a person
// with a SQLite shell); a page cache of 1 MiB, if pragmas have no other one, keeps memory small.
func connect(ctx context.Context, path string, n int, pragmas ...string) (*sql.DB, error) {
	q := url.Values{"_txlock": {"immediate"}, "_pragma": append([]string{"busy_timeout(5000)", "cache_size(-1024)", "foreign_keys(1)"}, pragmas...)}
	dsn := url.URL{Scheme: "file", Path: path, RawQuery: q.Encode()}
	pool, err := openKeeping("sqlite", dsn.String())
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
