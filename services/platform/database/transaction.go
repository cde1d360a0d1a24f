package database

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"errors"
	"fmt"
)

// once runs fn in a transaction. loose, with SQLite: without the wait for the disk at the commit. A later commit that does wait brings
// this one to the disk, too, as both lie in the same log; until then a power cut undoes it, and nothing else does.
func (db *DB) once(ctx context.Context, loose bool, fn func(tx *Tx) error) error {
	if db.dialect == SQLite {
		return db.onceHere(ctx, loose, fn)
	}
	tx, err := db.writer.BeginTx(ctx, nil)
	if err != nil {
		return fmt.Errorf("begin: %w", err)
	}
	if err := fn(db.tx(tx)); err != nil {
		if undo := tx.Rollback(); undo != nil && !errors.Is(undo, sql.ErrTxDone) && !lost(err) {
			err = errors.Join(err, undo)
		}
		return err
	}
	if err := tx.Commit(); err != nil {
		return fmt.Errorf("commit: %w", db.commitFailed(err))
	}
	return nil
}

// onConn runs fn on a connection of its own. One that is not clean afterwards is closed: nobody else may get it as it is, and what is
// open in it is undone. What becomes of it says nothing of the transaction.
func onConn(ctx context.Context, pool *sql.DB, fn func(conn *sql.Conn) (clean bool, err error)) error {
	conn, err := pool.Conn(ctx)
	if err != nil {
		return fmt.Errorf("begin: %w", err)
	}
	clean := false
	defer func() { // also when fn panics
		if !clean {
			_ = conn.Raw(func(any) error { return driver.ErrBadConn })
		}
		_ = conn.Close()
	}()
	clean, err = fn(conn)
	return err
}

// onceHere is once with SQLite. A sql.Tx starts a goroutine of its own and one for each query in it, to watch for the end of its
// context; each wakes a thread, which together takes as long as what the statements do.
func (db *DB) onceHere(ctx context.Context, loose bool, fn func(tx *Tx) error) error {
	return onConn(ctx, db.writer, func(conn *sql.Conn) (clean bool, err error) {
		if loose {
			if err := setSynchronous(conn, "NORMAL"); err != nil {
				return false, fmt.Errorf("begin: %w", err)
			}
		}
		if clean, err = transact(ctx, conn, func() error { return fn(db.tx(conn)) }); err == nil {
			db.checkpoints.committed()
		}
		if clean && loose {
			clean = setSynchronous(conn, "FULL") == nil
		}
		return clean, err
	})
}

// transact runs fn between the begin and the commit of a transaction that writes, which are not broken off themselves.
func transact(ctx context.Context, conn *sql.Conn, fn func() error) (clean bool, err error) {
	whole := context.WithoutCancel(ctx)
	if _, err := conn.ExecContext(whole, "BEGIN IMMEDIATE"); err != nil {
		return true, fmt.Errorf("begin: %w", err)
	}
	if err = fn(); err == nil {
		err = ctx.Err() // as sql.Tx has it: nothing is committed for who has gone
	}
	if err == nil {
		if _, err = conn.ExecContext(whole, "COMMIT"); err == nil {
			return true, nil
		}
		err = fmt.Errorf("commit: %w", err)
	}
	// SQLite has ended it already after some errors; then this fails, and a new connection is made.
	_, undo := conn.ExecContext(whole, "ROLLBACK")
	return undo == nil, err
}

// snapshotHere is Snapshot with SQLite, without sql.Tx as well. A statement that was begun is not broken off.
func (db *DB) snapshotHere(ctx context.Context, fn func(tx *Tx) error) error {
	return onConn(ctx, db.reader, func(conn *sql.Conn) (clean bool, err error) {
		whole := context.WithoutCancel(ctx)
		if _, err := conn.ExecContext(whole, "BEGIN"); err != nil {
			return false, fmt.Errorf("begin: %w", err)
		}
		err = fn(db.tx(unwatched{conn}))
		_, undo := conn.ExecContext(whole, "ROLLBACK")
		return undo == nil, err
	})
}

// unwatched begins no statement when ctx has ended, and does not look at it afterwards.
type unwatched struct{ *sql.Conn }

func (u unwatched) QueryContext(ctx context.Context, query string, args ...any) (*sql.Rows, error) {
	if ctx.Err() != nil {
		return nil, ctx.Err()
	}
	return u.Conn.QueryContext(context.WithoutCancel(ctx), query, args...)
}

func (u unwatched) QueryRowContext(ctx context.Context, query string, args ...any) *sql.Row {
	if ctx.Err() == nil {
		ctx = context.WithoutCancel(ctx)
	}
	return u.Conn.QueryRowContext(ctx, query, args...)
}

// setSynchronous changes it for what the connection does next. It is no statement like others: it has its effect when it is
// compiled, and would have none the next time, out of those that are kept.
func setSynchronous(conn *sql.Conn, level string) error {
	return conn.Raw(func(c any) error {
		k, ok := c.(*keeping)
		if !ok {
			return fmt.Errorf("the connection is a %T", c)
		}
		s, err := k.Prepare("PRAGMA synchronous=" + level)
		if err != nil {
			return err
		}
		_, err = s.Exec(nil) //nolint:staticcheck // what replaces it takes a context, and there is nothing to cancel
		return errors.Join(err, s.Close())
	})
}
