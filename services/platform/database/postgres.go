package database

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/url"
	"strconv"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/stdlib"
)

const (
	postgresConns   = 16 // at most, of one host
	postgresIdle    = 4  // kept open
	postgresConnect = 10 * time.Second
)

// OpenURL connects to the PostgreSQL database that url (postgres://USER:PASSWORD@HOST:PORT/NAME?sslmode=…) names. It may be
// behind PgBouncer in transaction pooling mode: no statement is prepared under a name, and nothing is kept in a session.
// No error holds the password.
func OpenURL(ctx context.Context, address string) (*DB, error) {
	config, err := parse(address)
	if err != nil {
		return nil, err
	}
	config.DefaultQueryExecMode = pgx.QueryExecModeExec
	config.StatementCacheCapacity, config.DescriptionCacheCapacity = 0, 0
	if config.ConnectTimeout == 0 {
		config.ConnectTimeout = postgresConnect
	}
	pool := stdlib.OpenDB(*config)
	pool.SetMaxOpenConns(postgresConns)
	pool.SetMaxIdleConns(postgresIdle)
	pool.SetConnMaxIdleTime(5 * time.Minute)
	pool.SetConnMaxLifetime(time.Hour)
	if err := pool.PingContext(ctx); err != nil {
		at := net.JoinHostPort(config.Host, strconv.Itoa(int(config.Port)))
		return nil, errors.Join(fmt.Errorf("connect to PostgreSQL at %s, database %q, as %q (check RIVERGATE_DATABASE_URL and that the server runs): %w",
			at, config.Database, config.User, err), pool.Close())
	}
	return &DB{dialect: Postgres, writer: pool, reader: pool}, nil
}

// CheckURL tells why address cannot be that of a PostgreSQL database, without the password; nil when it can. It connects to nothing.
func CheckURL(address string) error {
	_, err := parse(address)
	return err
}

func parse(address string) (*pgx.ConnConfig, error) {
	at, err := url.Parse(address)
	if err != nil { // the error holds the address as it is
		return nil, errors.New("the address of the database is no URL; it looks like postgres://USER:PASSWORD@HOST:5432/NAME, with a special character in the password as %XX")
	}
	if at.Scheme != "postgres" && at.Scheme != "postgresql" {
		return nil, fmt.Errorf("the address of the database begins with %q; this version takes postgres:// (without an address it uses a SQLite file in the data folder)", at.Scheme+"://")
	}
	config, err := pgx.ParseConfig(address)
	if err != nil {
		return nil, fmt.Errorf("the address of the database, %s: %w", at.Redacted(), cause(err))
	}
	return config, nil
}

// cause is what is wrong with an address, without the address.
func cause(err error) error {
	if inner := errors.Unwrap(err); inner != nil {
		return inner
	}
	return errors.New("not understood")
}
