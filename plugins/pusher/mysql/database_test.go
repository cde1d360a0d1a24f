package main

import (
	"context"
	"crypto/rand"
	"database/sql"
	"os"
	"strings"
	"testing"

	"github.com/go-sql-driver/mysql"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/rivergate/rivergate/sdk/plugintest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// database is a database of the test's own on the real server, which goes with the test, and one connection to it.
type database struct {
	*sql.Conn
	t    testing.TB
	dsn  string
	name string
}

// newDatabase skips the test without a server, and fails it where CI=true.
func newDatabase(t testing.TB) *database {
	t.Helper()
	dsn := os.Getenv("RIVERGATE_TEST_MYSQL_DSN")
	if dsn == "" {
		const how = "RIVERGATE_TEST_MYSQL_DSN is not set: needs a real MariaDB; deploy/services run mysql -- go test ./plugins/pusher/mysql"
		if os.Getenv("CI") == "true" {
			t.Fatal(how)
		}
		t.Skip(how)
	}
	d := open(t, dsn)
	t.Cleanup(func() { d.exec("DROP DATABASE " + d.name) })
	return d
}

func open(t testing.TB, dsn string) *database {
	t.Helper()
	db, err := sql.Open("mysql", dsn)
	require.NoError(t, err)
	conn, err := db.Conn(context.Background())
	require.NoError(t, err)
	t.Cleanup(func() {
		_ = conn.Close() // perhaps of a server that was killed
		require.NoError(t, db.Close())
	})
	d := &database{Conn: conn, t: t, name: "t_" + strings.ToLower(rand.Text()[:12])}
	d.exec("CREATE DATABASE " + d.name)
	d.exec("USE " + d.name)
	d.dsn = d.changed(dsn, func(c *mysql.Config) { c.DBName = d.name })
	return d
}

func (d *database) changed(dsn string, change func(*mysql.Config)) string {
	d.t.Helper()
	config, err := mysql.ParseDSN(dsn)
	require.NoError(d.t, err)
	change(config)
	return config.FormatDSN()
}

func (d *database) exec(text string) {
	d.t.Helper()
	_, err := d.ExecContext(context.Background(), text)
	require.NoError(d.t, err)
}

// table makes "rows_here" with the bookkeeping columns and more.
func (d *database) table(more string) {
	d.t.Helper()
	d.exec("CREATE TABLE rows_here (position bigint unsigned PRIMARY KEY, org_id bigint unsigned NOT NULL, uuid varchar(128) NOT NULL, `index` int, received_at datetime(6) NOT NULL, " + more + ")")
}

func (d *database) column(text string) []string {
	d.t.Helper()
	found, err := d.QueryContext(context.Background(), text)
	require.NoError(d.t, err)
	defer found.Close()
	all := []string{}
	for found.Next() {
		var s string
		require.NoError(d.t, found.Scan(&s))
		all = append(all, s)
	}
	require.NoError(d.t, found.Err())
	return all
}

func (d *database) positions() []string {
	d.t.Helper()
	return d.column("SELECT position FROM rows_here ORDER BY position")
}

func (d *database) count() string {
	d.t.Helper()
	return d.column("SELECT count(*) FROM rows_here")[0]
}

func (d *database) start(more ...any) *plugintest.Harness {
	d.t.Helper()
	config := map[string]any{"dsn": d.dsn, "table": "rows_here"}
	for i := 0; i < len(more); i += 2 {
		config[more[i].(string)] = more[i+1]
	}
	return plugintest.Start(d.t, plugin, config)
}
