package database

import (
	"context"
	"database/sql/driver"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"strings"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
)

// ErrUnknown: the connection was lost while a transaction was being committed, and nobody told whether it was. Look before
// undoing anything outside the database that belongs to it.
var ErrUnknown = errors.New("the connection to the database was lost during the commit: it may have happened or not")

// attempts at a transaction that another one, or a restart of the server, got in the way of; about 1.5 s in all.
const attempts = 7

// again calls fn until it succeeds, fails for good, or has failed often enough.
func (db *DB) again(ctx context.Context, fn func() error) error {
	for try := 1; ; try++ {
		err := fn()
		if err == nil || db.dialect != Postgres || try == attempts || errors.Is(err, ErrUnknown) || ctx.Err() != nil || !passing(err) {
			return err
		}
		pause := time.NewTimer(time.Duration(1<<try) * time.Duration(5+rand.IntN(10)) * time.Millisecond)
		select {
		case <-ctx.Done():
			pause.Stop()
			return err
		case <-pause.C:
		}
	}
}

// passing: nothing of it was committed, and it may work now.
func passing(err error) bool {
	var refused *pgconn.PgError
	if errors.As(err, &refused) {
		return refused.Code == "40001" || refused.Code == "40P01" || goneCode(refused.Code) // serialization failure, deadlock
	}
	return lost(err)
}

// lost: the connection is gone.
func lost(err error) bool {
	if errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded) {
		return false
	}
	var refused *pgconn.PgError
	if errors.As(err, &refused) {
		return goneCode(refused.Code)
	}
	var network net.Error
	return errors.Is(err, driver.ErrBadConn) || errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, net.ErrClosed) ||
		errors.As(err, &network) || pgconn.SafeToRetry(err) || strings.Contains(err.Error(), "conn closed")
}

// goneCode: the server, or PgBouncer, shuts down, starts up or lost the other.
func goneCode(code string) bool {
	switch code {
	case "57P01", "57P02", "57P03", "53300":
		return true
	}
	return strings.HasPrefix(code, "08")
}

// commitFailed: with PostgreSQL, a commit whose answer never came may have happened.
func (db *DB) commitFailed(err error) error {
	var refused *pgconn.PgError
	if db.dialect != Postgres || errors.As(err, &refused) && !goneCode(refused.Code) {
		return err
	}
	return fmt.Errorf("%w: %w", ErrUnknown, err)
}
