package main

import (
	"context"
	"database/sql"
	"fmt"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	goplugin "github.com/hashicorp/go-plugin"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/rivergate/rivergate/plugins/internal/trouble"
	"github.com/rivergate/rivergate/sdk"
	"github.com/rivergate/rivergate/sdk/plugintest"
	"github.com/rivergate/rivergate/sdk/protocol"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// file is a database of the test's own, and a connection to it.
type file struct {
	*sql.DB
	t    *testing.T
	path string
}

func newFile(t *testing.T) *file {
	t.Helper()
	path := filepath.Join(t.TempDir(), "a folder? with #signs%20", "rows.sqlite")
	require.NoError(t, os.Mkdir(filepath.Dir(path), 0o755))
	f := &file{t: t, path: path}
	f.DB = open(t, path)
	return f
}

func open(t *testing.T, path string) *sql.DB {
	t.Helper()
	db, err := sql.Open("sqlite", (&url.URL{Scheme: "file", Path: path}).String())
	require.NoError(t, err)
	db.SetMaxOpenConns(1)
	t.Cleanup(func() { require.NoError(t, db.Close()) })
	return db
}

func (f *file) exec(text string) {
	f.t.Helper()
	_, err := f.ExecContext(context.Background(), text)
	require.NoError(f.t, err)
}

func (f *file) column(text string) []string {
	f.t.Helper()
	found, err := f.QueryContext(context.Background(), text)
	require.NoError(f.t, err)
	defer found.Close()
	var all []string
	for found.Next() {
		var s string
		require.NoError(f.t, found.Scan(&s))
		all = append(all, s)
	}
	require.NoError(f.t, found.Err())
	return all
}

func (f *file) positions() []string {
	f.t.Helper()
	return f.column("SELECT position FROM rivergate_rows ORDER BY position")
}

func (f *file) start(more ...any) *plugintest.Harness {
	f.t.Helper()
	config := map[string]any{"path": f.path}
	for i := 0; i < len(more); i += 2 {
		config[more[i].(string)] = more[i+1]
	}
	return plugintest.Start(f.t, plugin, config)
}

func frameAt(position uint64, rows ...string) protocol.Frame {
	return plugintest.FrameAt(position, "a1b2", rows...)
}

func numbered(n int) []string {
	rows := make([]string, n)
	for i := range rows {
		rows[i] = fmt.Sprintf(`{"n":%d}`, i)
	}
	return rows
}

func TestRowsArriveAsTheyWereSent(t *testing.T) {
	f := newFile(t)
	h := f.start()
	data := []string{`{"b": 1.50,"a":1e400,"b":"\u0041\\ \" ' ? 😀 é\u0000"}`, "{\n\t\"tab\":\r\n 1}", `{}`}
	frame := plugintest.Indexed(frameAt(1<<62, data...), 0, protocol.NoIndex, 95)
	frame.OrgID, frame.UUID = 42, "we\\ird\t\"uuid\"'?\n😀"
	require.Empty(t, h.Deliver(frame))
	require.Equal(t, data, f.column("SELECT data FROM rivergate_rows ORDER BY position"))
	require.Equal(t, []string{"4611686018427387904", "4611686018427387905", "4611686018427387906"}, f.positions())
	require.Equal(t, []string{"0", "none", "95"}, f.column(`SELECT coalesce("index",'none') FROM rivergate_rows ORDER BY position`))
	require.Equal(t, []string{"42 " + frame.UUID + " 2026-01-02T03:04:05.678000Z"}, f.column("SELECT DISTINCT org_id || ' ' || uuid || ' ' || received_at FROM rivergate_rows"))
	require.Equal(t, []string{"wal"}, f.column("PRAGMA journal_mode"))
}

func TestARowThatComesAgainIsThereOnce(t *testing.T) {
	f := newFile(t)
	h := f.start()
	require.Empty(t, h.Deliver(frameAt(10, numbered(3)...)))
	h.Reopen()
	outcomes := h.Deliver(frameAt(8, numbered(7)...))
	plugintest.RequireAll(t, outcomes, 3, sdk.Duplicate, "duplicate")
	require.Equal(t, 2, outcomes[0].Row)
	require.Equal(t, []string{"8", "9", "10", "11", "12", "13", "14"}, f.positions())
	require.Equal(t, []string{`{"n":0}`}, f.column("SELECT data FROM rivergate_rows WHERE position = 10"), "the first one stays")
}

func TestOnlyTheGuiltyRowIsRejected(t *testing.T) {
	for name, c := range map[string]struct{ setup, columns, bad, says string }{
		"check":            {"data TEXT CHECK (data NOT LIKE '%bad%')", "", `{"bad":1}`, "CHECK"},
		"other unique key": {"data TEXT UNIQUE", "", `{"n":1}`, "UNIQUE"},
		"not null":         {"n INTEGER NOT NULL", "n=n:integer", `{}`, "NOT NULL"},
		"no number":        {"n INTEGER", "n=n:integer", `{"n":"a few"}`, "cannot store TEXT value"},
	} {
		t.Run(name, func(t *testing.T) {
			f := newFile(t)
			f.exec(`CREATE TABLE rivergate_rows (position INTEGER PRIMARY KEY, org_id INTEGER, uuid TEXT, "index" INTEGER, received_at TEXT, ` + c.setup + `) STRICT`)
			h := f.start("columns", c.columns)
			rows := numbered(100)
			rows[37], rows[93] = c.bad, c.bad
			outcomes := h.Deliver(frameAt(100, rows...))
			o := plugintest.RequireAll(t, outcomes, 2, sdk.Rejected, "SQLITE_CONSTRAINT")
			require.Equal(t, []int{37, 93}, []int{outcomes[0].Row, outcomes[1].Row})
			require.Contains(t, o.Message, c.says)
			require.Equal(t, []string{"98"}, f.column("SELECT count(*) FROM rivergate_rows"))
		})
	}
}

func TestMappedColumnsTakeTheirMembers(t *testing.T) {
	f := newFile(t)
	h := f.start("empty_as_null", true, "columns", "time=timeElapsed:real, od = odMeasured, n=n:integer, ok=flag:integer, said=flag, nested=inner:json, raw=*:json")
	rows := []string{
		`{"timeElapsed":"1.5","odMeasured":0.10,"n":12,"flag":true,"inner":{"b":1, "a":"x"}}`,
		`{"timeElapsed":"","odMeasured":"","flag":null,"error":"relay"}`,
		`{"odMeasured":"first","odMeasured":"last","inner":"text","flag":false}`,
		`{"timeElapsed":"not a number"}`,
	}
	outcomes := h.Deliver(frameAt(1, rows...))
	plugintest.RequireAll(t, outcomes, 1, sdk.Rejected, "SQLITE_CONSTRAINT")
	require.Equal(t, []string{
		`1.5|0.10|12|1|true|{"b":1, "a":"x"}`,
		`-||-|-|-|-`,
		`-|last|-|0|false|"text"`,
	}, f.column(`SELECT coalesce(time,'-')||'|'||coalesce(od,'-')||'|'||coalesce(n,'-')||'|'||coalesce(ok,'-')||'|'||coalesce(said,'-')||'|'||coalesce(nested,'-') FROM rivergate_rows ORDER BY position`))
	require.Equal(t, rows[:3], f.column("SELECT raw FROM rivergate_rows ORDER BY position"))
}

func TestAFullDatabaseHoldsTheRowsAndTakesThemWhenThereIsRoom(t *testing.T) {
	f := newFile(t)
	h := f.start("max_size", "64KiB")
	rows := make([]string, 100)
	for i := range rows {
		rows[i] = `{"text":"` + strings.Repeat("x", 100) + `"}`
	}
	var at uint64
	var outcomes []protocol.Outcome
	for at = 0; len(outcomes) == 0 && at < 10_000; at += 100 {
		outcomes = h.Deliver(frameAt(at, rows...))
	}
	o := plugintest.RequireAll(t, outcomes, 100, sdk.Retry, "SQLITE_FULL")
	require.Contains(t, o.Message, f.path)
	require.Equal(t, []string{fmt.Sprint(at - 100)}, f.column("SELECT count(*) FROM rivergate_rows"), "nothing of the batch is left")
	f.exec("DELETE FROM rivergate_rows")
	require.Empty(t, h.Deliver(frameAt(at-100, rows...)))
}

func TestALockedFileDelaysAndBlocksNothingAfterwards(t *testing.T) {
	f := newFile(t)
	h := f.start("statement_timeout", "200ms")
	require.Empty(t, h.Deliver(frameAt(1, `{}`)))
	f.exec("BEGIN IMMEDIATE")
	begun := time.Now()
	o := plugintest.RequireAll(t, h.Deliver(frameAt(2, numbered(2)...)), 2, sdk.Retry, "SQLITE_BUSY")
	require.Less(t, time.Since(begun), 5*time.Second)
	require.Contains(t, o.Message, "locked")
	f.exec("COMMIT")
	require.Empty(t, h.Deliver(frameAt(2, numbered(2)...)))
}

func TestAReaderStopsNobody(t *testing.T) {
	f := newFile(t)
	h := f.start()
	require.Empty(t, h.Deliver(frameAt(1, `{}`)))
	f.exec("BEGIN")
	require.Len(t, f.positions(), 1)
	require.Empty(t, h.Deliver(frameAt(2, `{}`)))
	require.Len(t, f.positions(), 1, "the reader has its own view")
	f.exec("COMMIT")
	require.Len(t, f.positions(), 2)
}

func TestATableThatDoesNotFitHoldsTheRows(t *testing.T) {
	f := newFile(t)
	h := f.start("create_table", false)
	o := plugintest.RequireAll(t, h.Deliver(frameAt(1, `{}`)), 1, sdk.Retry, "SQLITE_ERROR")
	require.Contains(t, o.Message, "no such table")
	require.Contains(t, o.Message, "CREATE_TABLE")
	f.exec(`CREATE TABLE rivergate_rows (position INTEGER, org_id INTEGER, uuid TEXT, "index" INTEGER, received_at TEXT, data TEXT)`)
	o = plugintest.RequireAll(t, h.Deliver(frameAt(1, `{}`)), 1, sdk.Retry, "SQLITE_ERROR")
	require.Contains(t, o.Message, "UNIQUE", "a table that would take a row twice")
	f.exec("CREATE UNIQUE INDEX k ON rivergate_rows (position)")
	require.Empty(t, h.Deliver(frameAt(1, `{}`)))
}

func TestAFileThatIsNoDatabaseHoldsTheRows(t *testing.T) {
	path := filepath.Join(t.TempDir(), "rows.sqlite")
	require.NoError(t, os.WriteFile(path, []byte(strings.Repeat("no database at all\n", 100)), 0o600))
	h := plugintest.Start(t, plugin, map[string]any{"path": path})
	o := plugintest.RequireAll(t, h.Deliver(frameAt(1, `{}`)), 1, sdk.Retry, "SQLITE_NOTADB")
	require.Contains(t, o.Message, path)
	require.Error(t, h.Health())
	require.NoError(t, os.Remove(path))
	require.Empty(t, h.Deliver(frameAt(1, `{}`)))
}

// Root may write everywhere, so the plugin runs as nobody where this test runs as root.
func TestAFileThatMayNotBeWrittenHoldsTheRows(t *testing.T) {
	dir, err := os.MkdirTemp("", "rivergate-sqlite.")
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, os.RemoveAll(dir)) })
	require.NoError(t, os.Chmod(dir, 0o755)) //nolint:gosec // another user looks into it
	binary := filepath.Join(dir, "plugin")
	built, err := exec.CommandContext(t.Context(), "go", "build", "-o", binary, ".").CombinedOutput() //nolint:gosec // our own code
	require.NoError(t, err, string(built))
	path := filepath.Join(dir, "rows.sqlite")
	require.NoError(t, open(t, path).Ping())
	f := &file{t: t, path: path, DB: open(t, path)}
	f.exec("PRAGMA journal_mode = DELETE")
	f.exec("VACUUM")
	require.NoError(t, os.Chmod(path, 0o444)) //nolint:gosec // that is the point
	sockets := filepath.Join(dir, "s")
	require.NoError(t, os.Mkdir(sockets, 0o700))
	command := exec.Command(binary) //nolint:gosec // what was just built
	command.Env = []string{goplugin.EnvUnixSocketDir + "=" + sockets}
	if os.Geteuid() == 0 {
		require.NoError(t, os.Chown(sockets, 65534, 65534))
		command.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 65534, Gid: 65534}}
	}
	h := plugintest.Connect(t, command)
	require.Empty(t, h.Configure(map[string]any{"path": path}))
	h.Reopen()
	o := plugintest.RequireAll(t, h.Deliver(frameAt(1, `{}`)), 1, sdk.Retry, "SQLITE_READONLY")
	require.Contains(t, o.Message, "PATH")
}

func TestBadSettingsAreNamed(t *testing.T) {
	path := filepath.Join(t.TempDir(), "rows.sqlite")
	for field, configs := range map[string][]map[string]any{
		"path":    {{"path": t.TempDir()}, {"path": "out/"}, {"path": ":memory:"}, {"path": "file:x"}},
		"table":   {{"path": path, "table": "sqlite_master"}},
		"columns": {{"path": path, "columns": "a"}, {"path": path, "columns": "position=x"}, {"path": path, "columns": "a=x:datetime"}},
	} {
		for _, config := range configs {
			problems := plugintest.Connect(t, plugin).Configure(config)
			require.Len(t, problems, 1, "%v", config)
			require.Equal(t, field, problems[0].Field)
		}
	}
}

func TestRowsAreThereOnceAfterManyKillNines(t *testing.T) {
	f := newFile(t)
	last := trouble.KnownOnce(t, map[string]any{"path": f.path})
	require.Equal(t, []string{fmt.Sprintf("%d 1 %d", last, last)}, f.column("SELECT count(*) || ' ' || min(position) || ' ' || max(position) FROM rivergate_rows"))
	require.Equal(t, []string{"ok"}, f.column("PRAGMA integrity_check"))
}
