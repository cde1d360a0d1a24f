// Package database is the metadata store: one SQLite file, or a PostgreSQL database, behind one type.
//
// SQL is written once. Its placeholders are `?`; its types are whole numbers, floating point, TEXT and blobs, which is what both
// have. Booleans are 0 and 1, times whole microseconds in UTC, JSON is TEXT. ON CONFLICT, RETURNING and partial indexes exist in both.
//
// Each owner of tables brings its migrations and its own version table, so that no package knows another's tables.
package database

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
)

// Dialect is which of the two it is, for the rare statement that cannot be shared.
type Dialect string

// The dialects. The words also end the names of migrations that are for one alone.
const (
	SQLite   Dialect = "sqlite"
	Postgres Dialect = "postgres"
)

// DB is an open metadata store. With SQLite, writes stand in line for one connection and reads do not wait for them; with
// PostgreSQL, both share a pool.
type DB struct {
	dialect     Dialect
	writer      *sql.DB
	reader      *sql.DB
	lanes       lanes
	checkpoints *checkpoints // with SQLite
}

// Dialect tells the two apart.
func (db *DB) Dialect() Dialect { return db.dialect }

// Write runs fn in a transaction and commits it. When fn or the commit fails, nothing of it stays; but see ErrUnknown.
//
// With PostgreSQL, fn runs again from the start when the transaction lost against another one, or when the connection was lost
// before the commit: it must give the same result then.
func (db *DB) Write(ctx context.Context, fn func(tx *Tx) error) error {
	return db.again(ctx, func() error { return db.once(ctx, false, fn) })
}

// Snapshot runs fn, which only reads, on one state of the database. Keep it short: SQLite's log does not shrink meanwhile.
func (db *DB) Snapshot(ctx context.Context, fn func(tx *Tx) error) error {
	if db.dialect == SQLite {
		return db.snapshotHere(ctx, fn)
	}
	options := &sql.TxOptions{ReadOnly: true, Isolation: sql.LevelRepeatableRead}
	return db.again(ctx, func() error {
		tx, err := db.reader.BeginTx(ctx, options)
		if err != nil {
			return fmt.Errorf("begin: %w", err)
		}
		err = fn(db.tx(tx))
		if undo := tx.Rollback(); err == nil && undo != nil && !errors.Is(undo, sql.ErrTxDone) {
			err = undo
		}
		return err
	})
}

// Reader is for queries; that of SQLite refuses to write. Read page by page: a query that stays open keeps SQLite's log from
// shrinking, and occupies a connection.
func (db *DB) Reader() *Reader {
	r := &Reader{querier: querier{db.reader, db.dialect}}
	if db.dialect == SQLite {
		r.pool = db.reader
	}
	return r
}

// Close closes it; all queries must have ended.
func (db *DB) Close() error {
	if db.reader == db.writer {
		return db.writer.Close()
	}
	var err error
	if db.checkpoints != nil {
		err = db.checkpoints.close()
	}
	return errors.Join(err, db.reader.Close(), db.writer.Close())
}
