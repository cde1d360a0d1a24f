// Package databasetest runs a test on each database that the metadata store can be: SQLite, PostgreSQL, and PostgreSQL behind PgBouncer in
// transaction pooling mode, as `deploy/services run postgres pgbouncer -- go test …` starts them.
package databasetest

import (
	"context"
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"github.com/rivergate/rivergate/services/platform/database"
)

// The variables of deploy/services.
const (
	PostgresDSN  = "RIVERGATE_TEST_POSTGRES_DSN"
	PgBouncerDSN = "RIVERGATE_TEST_PGBOUNCER_DSN"
)

// Place is where a database can be opened, by several at once.
type Place struct {
	Path string // of a SQLite file; empty: PostgreSQL
	URL  string // of a PostgreSQL database
}

// Open opens it.
func (p Place) Open(ctx context.Context) (*database.DB, error) {
	if p.Path != "" {
		return database.Open(ctx, p.Path)
	}
	return database.OpenURL(ctx, p.URL)
}

// Each runs a test with an empty database of each kind.
func Each(t *testing.T, run func(t *testing.T, db *database.DB)) {
	t.Helper()
	EachPlace(t, func(t *testing.T, p Place) {
		t.Helper()
		db, err := p.Open(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() {
			if err := db.Close(); err != nil {
				t.Error(err)
			}
		})
		run(t, db)
	})
}

// EachPlace runs a test with a place for an empty database of each kind.
func EachPlace(t *testing.T, run func(t *testing.T, p Place)) {
	t.Helper()
	t.Run("sqlite", func(t *testing.T) { run(t, Place{Path: filepath.Join(t.TempDir(), "a.db")}) })
	t.Run("postgres", func(t *testing.T) { run(t, Postgres(t, PostgresDSN)) })
	t.Run("pgbouncer", func(t *testing.T) { run(t, Postgres(t, PgBouncerDSN)) })
}

var made atomic.Int64 // databases of this process

// Postgres makes an empty database on the server that a variable names, and drops it after the test. Without the variable, the test is
// skipped; on a build server, which must have it, it fails.
func Postgres(t *testing.T, variable string) Place {
	t.Helper()
	dsn := os.Getenv(variable)
	if dsn == "" {
		if os.Getenv("CI") == "true" {
			t.Fatalf("%s is not set; run deploy/services run postgres pgbouncer -- go test …", variable)
		}
		t.Skipf("needs %s: deploy/services run postgres pgbouncer -- go test …", variable)
	}
	name := fmt.Sprintf("test_%d_%s", made.Add(1), strings.ReplaceAll(uuid.NewString(), "-", "")[:12])
	admin(t, dsn, "CREATE DATABASE "+name)
	t.Cleanup(func() { admin(t, dsn, "DROP DATABASE IF EXISTS "+name+" WITH (FORCE)") })
	at, err := url.Parse(dsn)
	if err != nil {
		t.Fatalf("%s is no URL", variable)
	}
	at.Path = "/" + name
	return Place{URL: at.String()}
}

func admin(t *testing.T, dsn, statement string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute) // t.Context has ended in a cleanup
	defer cancel()
	config, err := pgx.ParseConfig(dsn)
	if err != nil {
		t.Fatal(err)
	}
	config.DefaultQueryExecMode = pgx.QueryExecModeExec
	conn, err := pgx.ConnectConfig(ctx, config)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(ctx)
	if _, err := conn.Exec(ctx, statement); err != nil {
		t.Fatalf("%s: %v", statement, err)
	}
}
