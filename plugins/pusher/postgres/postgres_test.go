package main

import (
	"context"
	"crypto/rand"
	"fmt"
	"net/url"
	"os"
	"strings"
	"sync"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/rivergate/rivergate/sdk"
	"github.com/rivergate/rivergate/sdk/plugintest"
	"github.com/rivergate/rivergate/sdk/protocol"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// server gives the DSN of a real server. Without one the test is skipped, and fails where CI=true.
func server(t testing.TB, variable string) string {
	t.Helper()
	dsn := os.Getenv(variable)
	if dsn == "" {
		const how = "%s is not set: needs a real PostgreSQL (and PgBouncer); deploy/services run postgres pgbouncer -- go test ./plugins/pusher/postgres"
		if os.Getenv("CI") == "true" {
			t.Fatalf(how, variable)
		}
		t.Skipf(how, variable)
	}
	return dsn
}

// database is a connection of the test's own and a schema that goes with the test.
type database struct {
	*pgx.Conn
	t      testing.TB
	dsn    string
	schema string
}

func newDatabase(t testing.TB) *database {
	t.Helper()
	dsn := server(t, "RIVERGATE_TEST_POSTGRES_DSN")
	conn, err := pgx.Connect(context.Background(), dsn)
	require.NoError(t, err)
	d := &database{Conn: conn, t: t, dsn: dsn, schema: "t_" + strings.ToLower(rand.Text()[:12])}
	d.exec("CREATE SCHEMA " + d.schema)
	t.Cleanup(func() {
		d.exec("DROP SCHEMA " + d.schema + " CASCADE")
		require.NoError(t, conn.Close(context.Background()))
	})
	return d
}

func (d *database) exec(sql string) {
	d.t.Helper()
	_, err := d.Exec(context.Background(), sql)
	require.NoError(d.t, err)
}

// table makes "rows" in the schema with the bookkeeping columns and more.
func (d *database) table(more string) string {
	d.t.Helper()
	d.exec("CREATE TABLE " + d.schema + `.rows (position bigint PRIMARY KEY, org_id bigint NOT NULL, uuid text NOT NULL, index integer, received_at timestamptz NOT NULL, ` + more + `)`)
	return d.schema + ".rows"
}

func (d *database) column(sql string) []string {
	d.t.Helper()
	rows, err := d.Query(context.Background(), sql)
	require.NoError(d.t, err)
	texts, err := pgx.CollectRows(rows, pgx.RowTo[string])
	require.NoError(d.t, err)
	return texts
}

func (d *database) positions(table string) []int64 {
	d.t.Helper()
	rows, err := d.Query(context.Background(), "SELECT position FROM "+table+" ORDER BY position")
	require.NoError(d.t, err)
	positions, err := pgx.CollectRows(rows, pgx.RowTo[int64])
	require.NoError(d.t, err)
	return positions
}

func (d *database) start(config map[string]any) *plugintest.Harness {
	d.t.Helper()
	if config["dsn"] == nil {
		config["dsn"] = d.dsn
	}
	return plugintest.Start(d.t, plugin, config)
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
	d := newDatabase(t)
	table := d.schema + ".made"
	h := d.start(map[string]any{"table": table, "create_table": true, "json": "json"})
	data := []string{`{"b": 1.50,"a":1e400,"b":"\u0041\\ \" \n \t é\u0000"}`, "{\n\t\"tab\":\r\n 1}", `{}`}
	frame := plugintest.Indexed(frameAt(1<<52, data...), 0, protocol.NoIndex, 95)
	frame.OrgID, frame.UUID = 42, "we\\ird\t\"uuid\"\n"
	require.Empty(t, h.Deliver(frame))
	require.Equal(t, data, d.column("SELECT data::text FROM "+table+" ORDER BY position"))
	require.Equal(t, []int64{1 << 52, 1<<52 + 1, 1<<52 + 2}, d.positions(table))
	require.Equal(t, []string{"0", "none", "95"}, d.column("SELECT coalesce(index::text,'none') FROM "+table+" ORDER BY position"))
	require.Equal(t, []string{"42 " + frame.UUID + " 2026-01-02T03:04:05.678000Z"},
		d.column("SELECT DISTINCT org_id || ' ' || uuid || ' ' || to_char(received_at AT TIME ZONE 'UTC', 'YYYY-MM-DD\"T\"HH24:MI:SS.US\"Z\"') FROM "+table))
}

func TestATableWithOtherTypesIsFilledAsText(t *testing.T) {
	d := newDatabase(t)
	d.exec("CREATE TABLE " + d.schema + ".rows (position numeric PRIMARY KEY, org_id integer, uuid varchar(64), index bigint, received_at timestamp, data jsonb)")
	h := d.start(map[string]any{"table": d.schema + ".rows"})
	require.Empty(t, h.Deliver(frameAt(100, numbered(3)...)))
	require.Equal(t, []string{"100", "101", "102"}, d.column("SELECT position::text FROM "+d.schema+".rows ORDER BY position"))
}

func TestATableThatIsChangedWhileRowsComeRejectsNone(t *testing.T) {
	d := newDatabase(t)
	table := d.table("data jsonb")
	h := d.start(map[string]any{"table": table})
	require.Empty(t, h.Deliver(frameAt(100, numbered(3)...))) // in binary
	d.exec("ALTER TABLE " + table + " ALTER COLUMN index TYPE bigint, ALTER COLUMN received_at TYPE text")
	frame := plugintest.Indexed(frameAt(200, numbered(3)...), 0, 1, 2)
	for _, o := range h.Deliver(frame) {
		require.Equal(t, protocol.Retry, o.Class)
	}
	require.Empty(t, h.Deliver(frame)) // as text
	require.Equal(t, []int64{100, 101, 102, 200, 201, 202}, d.positions(table))
}

func TestARowThatComesAgainIsThereOnce(t *testing.T) {
	d := newDatabase(t)
	table := d.table("data jsonb")
	h := d.start(map[string]any{"table": table})
	require.Empty(t, h.Deliver(frameAt(10, numbered(3)...)))
	h.Reopen()
	outcomes := plugintest.ByPosition(h.Deliver(frameAt(8, numbered(7)...)))
	require.Len(t, outcomes, 3)
	for p := uint64(10); p < 13; p++ {
		require.Equal(t, sdk.Duplicate, outcomes[p].Class)
	}
	require.Equal(t, []int64{8, 9, 10, 11, 12, 13, 14}, d.positions(table))
	require.Equal(t, "0", d.column("SELECT data->>'n' FROM " + table + " WHERE position = 10")[0], "the first one stays")
}

func TestTwoProcessesDeliverEachRowOnce(t *testing.T) {
	d := newDatabase(t)
	table := d.table("data jsonb")
	a, b := d.start(map[string]any{"table": table}), d.start(map[string]any{"table": table})
	var done sync.WaitGroup
	for _, h := range []*plugintest.Harness{a, b} {
		done.Go(func() {
			for i := range uint64(20) {
				outcomes, err := h.TryDeliver(frameAt(i*50, numbered(100)...))
				if err != nil {
					t.Error(err)
				}
				for _, o := range outcomes {
					if o.Class != sdk.Duplicate && o.Class != sdk.Retry { // two transactions may wait for each other
						t.Errorf("%+v", o)
					}
				}
			}
		})
	}
	done.Wait()
	for i := range uint64(20) { // what a deadlock took back
		a.Deliver(frameAt(i*50, numbered(100)...))
	}
	require.Len(t, d.positions(table), 19*50+100)
}

func TestOnlyTheGuiltyRowIsRejected(t *testing.T) {
	for name, c := range map[string]struct {
		more, setup, bad, code string
	}{
		"bad JSON value for jsonb": {"data jsonb", "", `{"n":"\u0000"}`, "22P05"},
		"check":                    {"data jsonb CHECK (NOT data ? 'bad')", "", `{"bad":1}`, "23514"},
		"other unique key":         {"data jsonb, UNIQUE (data)", "INSERT INTO $TABLE VALUES (-1,1,'',0,now(),'{\"taken\":1}')", `{"taken":1}`, "23505"},
		"trigger": {"data jsonb", `CREATE FUNCTION $SCHEMA.no() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN IF NEW.data ? 'bad' THEN RAISE 'not this one'; END IF; RETURN NEW; END $$;
			CREATE TRIGGER no BEFORE INSERT ON $TABLE FOR EACH ROW EXECUTE FUNCTION $SCHEMA.no()`, `{"bad":1}`, "P0001"},
		"deferred trigger, which names no line": {"data jsonb", `CREATE FUNCTION $SCHEMA.no() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN IF NEW.data ? 'bad' THEN RAISE 'not this one'; END IF; RETURN NULL; END $$;
			CREATE CONSTRAINT TRIGGER no AFTER INSERT ON $TABLE DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION $SCHEMA.no()`, `{"bad":1}`, "P0001"},
	} {
		for _, known := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s, some rows known: %v", name, known), func(t *testing.T) {
				d := newDatabase(t)
				table := d.table(c.more)
				d.exec(strings.NewReplacer("$TABLE", table, "$SCHEMA", d.schema).Replace(c.setup))
				h := d.start(map[string]any{"table": table})
				if known {
					require.Empty(t, h.Deliver(frameAt(150, `{"n":50}`)))
				}
				rows := numbered(100)
				rows[37], rows[93] = c.bad, c.bad
				outcomes := plugintest.ByPosition(h.Deliver(frameAt(100, rows...)))
				require.Equal(t, sdk.Rejected, outcomes[137].Class, "%+v", outcomes)
				require.Equal(t, c.code, outcomes[137].Code)
				require.Contains(t, outcomes[137].Message, "SQLSTATE "+c.code)
				require.Equal(t, sdk.Rejected, outcomes[193].Class)
				want := 98
				for p, o := range outcomes {
					if p != 137 && p != 193 {
						require.Equal(t, sdk.Duplicate, o.Class, "%+v", o)
					}
				}
				require.Equal(t, []string{fmt.Sprint(want)}, d.column("SELECT count(*)::text FROM "+table+" WHERE position >= 100"))
			})
		}
	}
}

func TestABatchOfGuiltyRowsEndsInTime(t *testing.T) {
	d := newDatabase(t)
	table := d.table("data jsonb")
	h := d.start(map[string]any{"table": table})
	rows := make([]string, 500)
	for i := range rows {
		rows[i] = `{"n":"\u0000"}`
	}
	outcomes := h.Deliver(frameAt(0, rows...))
	require.Len(t, outcomes, 500)
	for _, o := range outcomes {
		require.Equal(t, sdk.Rejected, o.Class)
	}
}

func TestARowCannotPointAtAnother(t *testing.T) {
	d := newDatabase(t)
	table := d.table("data jsonb CHECK (NOT data ? 'bad')")
	h := d.start(map[string]any{"table": table})
	liar := frameAt(2, `{"bad":1}`)
	liar.UUID = "x\nCOPY rows, line 1\nCOPY rows, line 3"
	outcomes := plugintest.ByPosition(h.Deliver(frameAt(1, `{}`), liar, frameAt(3, `{}`)))
	require.Len(t, outcomes, 1)
	require.Equal(t, sdk.Rejected, outcomes[2].Class)
	require.Equal(t, []int64{1, 3}, d.positions(table))
}

func TestATableThatIsMissingHoldsTheRows(t *testing.T) {
	d := newDatabase(t)
	h := d.start(map[string]any{"table": d.schema + ".rows"})
	outcomes := h.Deliver(frameAt(1, numbered(3)...))
	require.Len(t, outcomes, 3)
	require.Equal(t, sdk.Retry, outcomes[0].Class)
	require.Equal(t, "42P01", outcomes[0].Code)
	require.Contains(t, outcomes[0].Message, "CREATE_TABLE")
	d.table("other jsonb")
	outcomes = h.Deliver(frameAt(1, `{}`))
	require.Equal(t, sdk.Retry, outcomes[0].Class)
	require.Equal(t, "42703", outcomes[0].Code)
	d.exec("ALTER TABLE " + d.schema + ".rows ADD data jsonb")
	require.Empty(t, h.Deliver(frameAt(1, numbered(3)...)))
}

func TestNamesAreQuoted(t *testing.T) {
	d := newDatabase(t)
	d.exec("ALTER SCHEMA " + d.schema + ` RENAME TO "` + d.schema + `_We""ird"`)
	d.schema = `"` + d.schema + `_We""ird"`
	name := strings.ReplaceAll(strings.Trim(d.schema, `"`), `""`, `"`)
	h := d.start(map[string]any{"table": name + `.Rows"; DROP TABLE x`, "create_table": true, "columns": `we"ird col=n:integer`})
	require.Empty(t, h.Deliver(frameAt(1, `{"n":7}`)))
	require.Len(t, h.Deliver(frameAt(1, `{"n":7}`)), 1)
	require.Equal(t, []string{"7"}, d.column(`SELECT "we""ird col"::text FROM `+d.schema+`."Rows""; DROP TABLE x"`))
}

func TestMappedColumnsTakeTheirMembers(t *testing.T) {
	d := newDatabase(t)
	table := d.schema + ".wide"
	h := d.start(map[string]any{"table": table, "create_table": true, "empty_as_null": true,
		"columns": "time=timeElapsed:double precision, od = odMeasured, exact=big:numeric(40,3), ok=flag:boolean, nested=inner:json, raw=*:json"})
	rows := []string{
		`{"timeElapsed":"1.5","odMeasured":0.10,"big":12345678901234567890.5,"flag":true,"inner":{"b":1, "a":"x"},"unused":"\u0000"}`,
		`{"timeElapsed":"","odMeasured":"","flag":null,"error":"relay"}`,
		`{"odMeasured":"a\tb\\c\nd","odMeasured":"last","inner":"text"}`,
		`{"timeElapsed":"not a number"}`,
		`{"odMeasured":"\u0000"}`,
	}
	outcomes := plugintest.ByPosition(h.Deliver(frameAt(1, rows...)))
	require.Len(t, outcomes, 2)
	require.Equal(t, "22P02", outcomes[4].Code)
	require.Equal(t, sdk.Rejected, outcomes[4].Class)
	require.Equal(t, sdk.Rejected, outcomes[5].Class)
	require.Contains(t, outcomes[5].Message, "odMeasured")
	require.Equal(t, []string{
		`1.5|0.10|12345678901234567890.500|t|{"b":1, "a":"x"}`,
		`-||-|-|-`,
		`-|last|-|-|"text"`,
	}, d.column(`SELECT concat_ws('|', coalesce(time::text,'-'), coalesce(od,'-'), coalesce(exact::text,'-'), coalesce(left(ok::text,1),'-'), coalesce(nested::text,'-')) FROM `+table+` ORDER BY position`))
	require.Equal(t, rows[:3], d.column("SELECT raw::text FROM "+table+" ORDER BY position"))
}

func TestAConnectionThatEndsIsReplaced(t *testing.T) {
	d := newDatabase(t)
	table := d.table("data jsonb")
	dsn := d.dsn + "&application_name=" + d.schema
	h := d.start(map[string]any{"table": table, "dsn": dsn})
	require.Empty(t, h.Deliver(frameAt(1, `{}`)))
	require.NoError(t, h.Health())
	require.Equal(t, []string{"true"}, d.column("SELECT pg_terminate_backend(pid, 5000)::text FROM pg_stat_activity WHERE application_name = '"+d.schema+"'"))
	outcomes := h.Deliver(frameAt(2, `{}`))
	require.Len(t, outcomes, 1)
	require.Equal(t, sdk.Retry, outcomes[0].Class)
	require.Empty(t, h.Deliver(frameAt(2, `{}`)))
	require.Equal(t, []int64{1, 2}, d.positions(table))
}

func TestALockedTableDelaysAndBlocksNothingAfterwards(t *testing.T) {
	d := newDatabase(t)
	table := d.table("data jsonb")
	h := d.start(map[string]any{"table": table, "statement_timeout": "200ms", "dsn": d.dsn + "&application_name=" + d.schema})
	d.exec("BEGIN; LOCK TABLE " + table)
	outcomes := h.Deliver(frameAt(1, numbered(2)...))
	require.Len(t, outcomes, 2)
	require.Equal(t, sdk.Retry, outcomes[0].Class)
	require.Equal(t, "57014", outcomes[0].Code, outcomes[0].Message)
	require.Empty(t, d.column("SELECT query FROM pg_stat_activity WHERE state = 'active' AND application_name = '"+d.schema+"'"), "the server has given up, too")
	d.exec("COMMIT")
	require.Empty(t, h.Deliver(frameAt(1, numbered(2)...)))
}

func TestWrongCredentialsHoldTheDestination(t *testing.T) {
	d := newDatabase(t)
	dsn, err := url.Parse(d.dsn)
	require.NoError(t, err)
	dsn.User = url.UserPassword(dsn.User.Username(), "wrong-hunter2")
	h := d.start(map[string]any{"dsn": dsn.String()})
	outcomes := h.Deliver(frameAt(1, `{}`))
	require.Len(t, outcomes, 1)
	require.Equal(t, sdk.Unauthenticated, outcomes[0].Class, outcomes[0].Message)
	require.Equal(t, "28P01", outcomes[0].Code)
	require.NotContains(t, outcomes[0].Message, "hunter2")
	require.Error(t, h.Health())
}

func TestAServerThatIsDownIsNoConfigurationProblem(t *testing.T) {
	h := plugintest.Start(t, plugin, map[string]any{"dsn": "postgres://u:hunter2@127.0.0.1:1/x?sslmode=disable", "create_table": true})
	outcomes := h.Deliver(frameAt(1, numbered(2)...))
	require.Len(t, outcomes, 2)
	require.Equal(t, sdk.Retry, outcomes[0].Class)
	require.NotContains(t, outcomes[0].Message, "hunter2")
	require.Error(t, h.Health())
}

func TestPgBouncerMayStandBetween(t *testing.T) {
	d := newDatabase(t)
	table := d.schema + ".pooled"
	config := map[string]any{"dsn": server(t, "RIVERGATE_TEST_PGBOUNCER_DSN"), "table": table, "create_table": true}
	var done sync.WaitGroup
	for i := range uint64(4) {
		h := d.start(config)
		done.Go(func() {
			for n := range uint64(10) {
				outcomes, err := h.TryDeliver(frameAt(i*1000+n*50, numbered(100)...)) // half of each batch is known
				if err != nil {
					t.Error(err)
				}
				for _, o := range outcomes {
					if o.Class != sdk.Duplicate {
						t.Errorf("%+v", o)
					}
				}
			}
		})
	}
	done.Wait()
	require.Len(t, d.positions(table), 4*550)
	wrong := strings.Replace(config["dsn"].(string), "rivergate:", "rivergate:wrong", 1)
	outcomes := d.start(map[string]any{"dsn": wrong}).Deliver(frameAt(1, `{}`))
	require.Equal(t, sdk.Unauthenticated, outcomes[0].Class, outcomes[0])
}

func TestBadSettingsAreNamed(t *testing.T) {
	const dsn = "postgres://u@127.0.0.1:1/x"
	for field, configs := range map[string][]map[string]any{
		"dsn":     {{"dsn": "postgres://u:hunter2@host:notaport/x"}, {"dsn": "host=x port=hunter2"}},
		"table":   {{"dsn": dsn, "table": "a.b.c"}, {"dsn": dsn, "table": "a."}, {"dsn": dsn, "table": strings.Repeat("x", 64)}},
		"columns": {{"dsn": dsn, "columns": "a"}, {"dsn": dsn, "columns": "position=x"}, {"dsn": dsn, "columns": "a=x,a=y"}, {"dsn": dsn, "columns": "a=x:int; DROP TABLE y"}, {"dsn": dsn, "columns": "a="}},
	} {
		for _, config := range configs {
			problems := plugintest.Connect(t, plugin).Configure(config)
			require.Len(t, problems, 1, "%v", config)
			require.Equal(t, field, problems[0].Field)
			require.NotContains(t, problems[0].Reason, "hunter2")
		}
	}
}
