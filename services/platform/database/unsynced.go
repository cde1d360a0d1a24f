package database

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"errors"
	"fmt"
)

// onceUnsynced is once without the wait for the disk at the commit, on SQLite. A later commit that does wait brings this one to the
// disk, too, as both lie in the same log; until then a power cut undoes it, and nothing else does.
func (db *DB) onceUnsynced(ctx context.Context, fn func(tx *Tx) error) error {
	conn, err := db.writer.Conn(ctx)
	if err != nil {
		return fmt.Errorf("begin: %w", err)
	}
	defer func() { // what becomes of the connection says nothing of the transaction
		if setSynchronous(conn, "FULL") != nil { // nobody else may get it as it is
			_ = conn.Raw(func(any) error { return driver.ErrBadConn })
		}
		_ = conn.Close()
	}()
	if err := setSynchronous(conn, "NORMAL"); err != nil {
		return fmt.Errorf("begin: %w", err)
	}
	return db.once(ctx, conn, fn)
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
