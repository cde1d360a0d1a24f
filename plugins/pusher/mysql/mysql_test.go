package main

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/go-sql-driver/mysql"
	"github.com/stretchr/testify/require"

	"github.com/rivergate/rivergate/plugins/internal/trouble"
	"github.com/rivergate/rivergate/sdk"
	"github.com/rivergate/rivergate/sdk/plugintest"
	"github.com/rivergate/rivergate/sdk/protocol"
)

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
	h := d.start("create_table", true)
	data := []string{`{"b": 1.50,"a":1e400,"b":"\u0041\\ \" ' ? \n 😀 é\u0000"}`, "{\n\t\"tab\":\r\n 1}", `{}`}
	frame := plugintest.Indexed(frameAt(1<<62, data...), 0, protocol.NoIndex, 95)
	frame.OrgID, frame.UUID = 42, "we\\ird\t\"uuid\"'?\n😀\x00"
	require.Empty(t, h.Deliver(frame))
	require.Equal(t, data, d.column("SELECT data FROM rows_here ORDER BY position"))
	require.Equal(t, []string{"4611686018427387904", "4611686018427387905", "4611686018427387906"}, d.positions())
	require.Equal(t, []string{"0", "none", "95"}, d.column("SELECT coalesce(`index`,'none') FROM rows_here ORDER BY position"))
	require.Equal(t, []string{"42 " + frame.UUID + " 2026-01-02 03:04:05.678000"}, d.column("SELECT DISTINCT concat_ws(' ', org_id, uuid, received_at) FROM rows_here"))
}

func TestARowThatComesAgainIsThereOnce(t *testing.T) {
	d := newDatabase(t)
	d.table("data json")
	h := d.start()
	require.Empty(t, h.Deliver(frameAt(10, numbered(3)...)))
	h.Reopen()
	outcomes := plugintest.ByPosition(h.Deliver(frameAt(8, numbered(7)...)))
	require.Len(t, outcomes, 3)
	for p := uint64(10); p < 13; p++ {
		require.Equal(t, sdk.Duplicate, outcomes[p].Class)
	}
	require.Equal(t, []string{"8", "9", "10", "11", "12", "13", "14"}, d.positions())
	require.Equal(t, []string{`{"n":0}`}, d.column("SELECT data FROM rows_here WHERE position = 10"), "the first one stays")
}

func TestTwoProcessesDeliverEachRowOnce(t *testing.T) {
	d := newDatabase(t)
	d.table("data json")
	a, b := d.start(), d.start()
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
	require.Equal(t, "1050", d.count())
}

func TestOnlyTheGuiltyRowIsRejected(t *testing.T) {
	for name, c := range map[string]struct {
		more, columns, setup, bad, code string
	}{
		"check":                      {"data json, CHECK (json_extract(data, '$.bad') IS NULL)", "", "", `{"bad":1}`, "4025"},
		"other unique key":           {"data varchar(100), UNIQUE (data)", "", "INSERT INTO rows_here VALUES (1,1,'',0,now(),'{\"taken\":1}')", `{"taken":1}`, "1062"},
		"trigger":                    {"data json", "", "CREATE TRIGGER no BEFORE INSERT ON rows_here FOR EACH ROW IF json_extract(NEW.data, '$.bad') THEN SIGNAL SQLSTATE '45000' SET MESSAGE_TEXT = 'not this one'; END IF", `{"bad":1}`, "1644"},
		"too long, which names it":   {"data varchar(20)", "", "", `{"text":"longer than twenty"}`, "1406"},
		"no number, which names it":  {"n int", "n=n:int", "", `{"n":"a few"}`, "1366"},
		"out of range":               {"n tinyint", "n=n:tinyint", "", `{"n":128}`, "1264"},
		"no date":                    {"n datetime, m int", "n=d:datetime,m=n:int", "", `{"d":"yesterday"}`, "1292"},
		"not null, in every version": {"n int NOT NULL", "n=n:int", "", `{"n":null}`, "1048"},
		"a foreign key":              {"n int, FOREIGN KEY (n) REFERENCES small (n)", "n=n:int", "", `{"n":1000}`, "1452"},
	} {
		for _, known := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s, some rows known: %v", name, known), func(t *testing.T) {
				d := newDatabase(t)
				d.exec("CREATE TABLE small (n int PRIMARY KEY)")
				for n := range 100 {
					d.exec(fmt.Sprintf("INSERT INTO small VALUES (%d)", n))
				}
				d.table(c.more)
				if c.setup != "" {
					d.exec(c.setup)
				}
				h := d.start("columns", c.columns)
				if known {
					require.Empty(t, h.Deliver(frameAt(150, `{"n":50}`)))
				}
				rows := numbered(100)
				rows[37], rows[93] = c.bad, c.bad
				outcomes := plugintest.ByPosition(h.Deliver(frameAt(100, rows...)))
				for _, p := range []uint64{137, 193} {
					require.Equal(t, sdk.Rejected, outcomes[p].Class, "%+v", outcomes)
					require.Equal(t, c.code, outcomes[p].Code, outcomes[p].Message)
					require.Contains(t, outcomes[p].Message, "error "+c.code)
				}
				for p, o := range outcomes {
					if p != 137 && p != 193 {
						require.Equal(t, sdk.Duplicate, o.Class, "%+v", o)
						require.True(t, known)
					}
				}
				require.Equal(t, []string{"98"}, d.column("SELECT count(*) FROM rows_here WHERE position >= 100"))
			})
		}
	}
}

func TestABatchOfGuiltyRowsEndsInTime(t *testing.T) {
	d := newDatabase(t)
	d.table("n int")
	h := d.start("columns", "n=n:int")
	rows := make([]string, 500)
	for i := range rows {
		rows[i] = `{"n":"none"}`
	}
	plugintest.RequireAll(t, h.Deliver(frameAt(0, rows...)), 500, sdk.Rejected, "1366")
}

func TestARowThatIsTooLargeIsRejectedAlone(t *testing.T) {
	d := newDatabase(t)
	d.table("data longtext")
	h := d.start()
	rows := numbered(5)
	rows[1] = `{"large":"` + strings.Repeat("x", 12<<20) + `"}` // two statements in one transaction
	rows[3] = `{"large":"` + strings.Repeat("x", 17<<20) + `"}`
	require.Equal(t, []string{fmt.Sprint(16 << 20)}, d.column("SELECT @@max_allowed_packet"), "the server's default, which the test relies on")
	outcomes := plugintest.ByPosition(h.Deliver(frameAt(1, rows...)))
	require.Len(t, outcomes, 1)
	require.Equal(t, sdk.Rejected, outcomes[4].Class, outcomes[4].Message)
	require.Contains(t, outcomes[4].Message, "max_allowed_packet")
	require.Equal(t, []string{"1", "2", "3", "5"}, d.positions())
}

func TestATableThatIsMissingHoldsTheRows(t *testing.T) {
	d := newDatabase(t)
	h := d.start()
	o := plugintest.RequireAll(t, h.Deliver(frameAt(1, numbered(3)...)), 3, sdk.Retry, "1146")
	require.Contains(t, o.Message, "CREATE_TABLE")
	d.table("other json")
	plugintest.RequireAll(t, h.Deliver(frameAt(1, `{}`)), 1, sdk.Retry, "1054")
	d.exec("ALTER TABLE rows_here ADD data json, ADD demanded int NOT NULL")
	plugintest.RequireAll(t, h.Deliver(frameAt(1, `{}`)), 1, sdk.Retry, "1364")
	d.exec("ALTER TABLE rows_here DROP demanded")
	require.Empty(t, h.Deliver(frameAt(1, numbered(3)...)))
}

func TestATableThatWouldTakeARowTwiceIsRefused(t *testing.T) {
	d := newDatabase(t)
	d.table("data json")
	d.exec("ALTER TABLE rows_here DROP PRIMARY KEY, ADD PRIMARY KEY (position, org_id)")
	h := d.start()
	o := plugintest.RequireAll(t, h.Deliver(frameAt(1, `{}`)), 1, sdk.Retry, "no_key")
	require.Contains(t, o.Message, "unique key")
	require.ErrorContains(t, h.Health(), "unique key")
	d.exec("ALTER TABLE rows_here ADD UNIQUE (position)")
	require.Empty(t, h.Deliver(frameAt(1, `{}`)))
}

func TestNamesAreQuoted(t *testing.T) {
	d := newDatabase(t)
	h := d.start("table", d.name+".Rows`; DROP TABLE x", "create_table", true, "columns", "we`ird col=n:int")
	require.Empty(t, h.Deliver(frameAt(1, `{"n":7}`)))
	require.Len(t, h.Deliver(frameAt(1, `{"n":7}`)), 1)
	require.Equal(t, []string{"7"}, d.column("SELECT `we``ird col` FROM `Rows``; DROP TABLE x`"))
}

func TestMappedColumnsTakeTheirMembers(t *testing.T) {
	d := newDatabase(t)
	h := d.start("create_table", true, "empty_as_null", true,
		"columns", "time=timeElapsed:double, od = odMeasured, exact=big:decimal(40,3), ok=flag:boolean, said=flag, nested=inner:json, raw=*:json")
	rows := []string{
		`{"timeElapsed":"1.5","odMeasured":0.10,"big":12345678901234567890.5,"flag":true,"inner":{"b":1, "a":"x"},"unused":"\u0000"}`,
		`{"timeElapsed":"","odMeasured":"","flag":null,"error":"relay"}`,
		`{"odMeasured":"a\tb\\c\nd","odMeasured":"last","inner":"text","flag":false}`,
		`{"timeElapsed":"not a number"}`,
	}
	outcomes := h.Deliver(frameAt(1, rows...))
	require.Len(t, outcomes, 1)
	require.Equal(t, sdk.Rejected, outcomes[0].Class)
	require.Equal(t, []string{
		`1.5|0.10|12345678901234567890.500|1|true|{"b":1, "a":"x"}`,
		`-||-|-|-|-`,
		`-|last|-|0|false|"text"`,
	}, d.column(`SELECT concat_ws('|', coalesce(time,'-'), coalesce(od,'-'), coalesce(exact,'-'), coalesce(ok,'-'), coalesce(said,'-'), coalesce(nested,'-')) FROM rows_here ORDER BY position`))
	require.Equal(t, rows[:3], d.column("SELECT raw FROM rows_here ORDER BY position"))
}

func TestAConnectionThatEndsIsReplaced(t *testing.T) {
	d := newDatabase(t)
	d.table("data json")
	h := d.start()
	require.Empty(t, h.Deliver(frameAt(1, `{}`)))
	require.NoError(t, h.Health())
	ids := d.column("SELECT id FROM information_schema.processlist WHERE db = '" + d.name + "' AND id <> connection_id()")
	require.Len(t, ids, 1)
	d.exec("KILL " + ids[0])
	h.Deliver(frameAt(2, `{}`)) // the driver may notice before it writes, or after
	h.Deliver(frameAt(2, `{}`))
	require.Equal(t, []string{"1", "2"}, d.positions())
}

func TestALockedTableDelaysAndBlocksNothingAfterwards(t *testing.T) {
	d := newDatabase(t)
	d.table("data json")
	h := d.start("statement_timeout", "1s")
	require.Empty(t, h.Deliver(frameAt(1, `{}`)))
	d.exec("LOCK TABLES rows_here WRITE")
	begun := time.Now()
	plugintest.RequireAll(t, h.Deliver(frameAt(2, numbered(2)...)), 2, sdk.Retry, "1205")
	require.Less(t, time.Since(begun), 5*time.Second)
	require.Equal(t, []string{"0"}, d.column("SELECT count(*) FROM information_schema.processlist WHERE db = '"+d.name+"' AND info LIKE 'INSERT%'"), "the server has given up, too")
	d.exec("UNLOCK TABLES")
	require.Empty(t, h.Deliver(frameAt(2, numbered(2)...)))
}

func TestARowLockDelaysAndDoublesNothing(t *testing.T) {
	d := newDatabase(t)
	d.table("data json")
	h := d.start("statement_timeout", "1s")
	d.exec("BEGIN")
	d.exec("INSERT INTO rows_here VALUES (2, 1, '', NULL, now(), '{}')")
	plugintest.RequireAll(t, h.Deliver(frameAt(1, numbered(3)...)), 3, sdk.Retry, "1205")
	d.exec("COMMIT")
	require.Len(t, h.Deliver(frameAt(1, numbered(3)...)), 1)
	require.Equal(t, []string{"1", "2", "3"}, d.positions())
}

// A MEMORY table has a limit of its own, and gives the error that a full disk or tablespace gives.
func TestAFullTableHoldsTheRowsAndTakesThemWhenThereIsRoom(t *testing.T) {
	d := newDatabase(t)
	d.exec("SET max_heap_table_size = 1048576")
	d.exec("CREATE TABLE rows_here (position bigint unsigned PRIMARY KEY, org_id bigint unsigned, uuid varchar(128), `index` int, received_at datetime(6), data varchar(1000)) ENGINE=MEMORY")
	h := d.start()
	var taken uint64
	var outcomes []protocol.Outcome
	for taken = 0; len(outcomes) == 0 && taken < 10_000; taken += 100 {
		outcomes = h.Deliver(frameAt(taken, numbered(100)...))
	}
	o := plugintest.RequireAll(t, outcomes, 100, sdk.Retry, "1114")
	require.Contains(t, o.Message, "full")
	d.exec("DELETE FROM rows_here")
	require.Empty(t, h.Deliver(frameAt(taken-100, numbered(100)...)))
}

func TestWrongCredentialsHoldTheDestination(t *testing.T) {
	d := newDatabase(t)
	d.table("data json")
	wrong := d.start("dsn", d.changed(d.dsn, func(c *mysql.Config) { c.Passwd = "wrong-hunter2" }))
	o := plugintest.RequireAll(t, wrong.Deliver(frameAt(1, `{}`)), 1, sdk.Unauthenticated, "1045")
	require.NotContains(t, o.Message, "hunter2")
	require.Error(t, wrong.Health())

	d.exec("CREATE USER '" + d.name + "'@'%' IDENTIFIED BY 'hunter2'")
	defer d.exec("DROP USER '" + d.name + "'@'%'")
	reader := d.changed(d.dsn, func(c *mysql.Config) { c.User, c.Passwd = d.name, "hunter2" })
	o = plugintest.RequireAll(t, d.start("dsn", reader).Deliver(frameAt(1, `{}`)), 1, sdk.Unauthenticated, "1044")
	require.NotContains(t, o.Message, "hunter2")
	d.exec("GRANT SELECT ON " + d.name + ".* TO '" + d.name + "'@'%'")
	o = plugintest.RequireAll(t, d.start("dsn", reader).Deliver(frameAt(1, `{}`)), 1, sdk.Unauthenticated, "1142")
	require.Contains(t, o.Message, "INSERT and SELECT")
	d.exec("GRANT INSERT ON " + d.name + ".* TO '" + d.name + "'@'%'")
	h := d.start("dsn", reader)
	require.Empty(t, h.Deliver(frameAt(1, `{}`)))
	require.Len(t, h.Deliver(frameAt(1, numbered(2)...)), 1, "what the message lists is enough")
}

func TestAServerThatIsDownIsNoConfigurationProblem(t *testing.T) {
	h := plugintest.Start(t, plugin, map[string]any{"dsn": "u:hunter2@tcp(127.0.0.1:1)/x", "create_table": true})
	o := plugintest.RequireAll(t, h.Deliver(frameAt(1, numbered(2)...)), 2, sdk.Retry, "connection")
	require.Contains(t, o.Message, "127.0.0.1:1")
	require.NotContains(t, o.Message, "hunter2")
	require.Error(t, h.Health())
}

func TestAServerThatIsKilledAndComesBackHasEachRowOnce(t *testing.T) {
	newDatabase(t) // or skip
	services := servicesOfItsOwn(t)
	d := open(t, services.dsn)
	d.table("data json")
	h := d.start()
	require.Empty(t, h.Deliver(frameAt(1, numbered(100)...)))
	services.call("kill")
	plugintest.RequireAll(t, h.Deliver(frameAt(50, numbered(100)...)), 100, sdk.Retry, "connection")
	services.call("revive")
	require.Len(t, h.Deliver(frameAt(50, numbered(100)...)), 51)
	require.Equal(t, []string{"149"}, open(t, services.dsn).column("SELECT count(*) FROM "+d.name+".rows_here"))
}

func TestBadSettingsAreNamed(t *testing.T) {
	const dsn = "u:hunter2@tcp(127.0.0.1:1)/x"
	for field, configs := range map[string][]map[string]any{
		"dsn":     {{"dsn": "mysql://u:hunter2@host/x"}, {"dsn": "u:hunter2@tcp(h)/"}, {"dsn": dsn + "?tls=hunter2"}},
		"table":   {{"dsn": dsn, "table": "a.b.c"}, {"dsn": dsn, "table": "a."}, {"dsn": dsn, "table": strings.Repeat("x", 65)}},
		"columns": {{"dsn": dsn, "columns": "a"}, {"dsn": dsn, "columns": "position=x"}, {"dsn": dsn, "columns": "a=x:int; DROP TABLE y"}, {"dsn": dsn, "columns": "a?=x"}},
	} {
		for _, config := range configs {
			problems := plugintest.Connect(t, plugin).Configure(config)
			require.Len(t, problems, 1, "%v", config)
			require.Equal(t, field, problems[0].Field)
			require.NotContains(t, problems[0].Reason, "hunter2")
		}
	}
}

func TestRowsAreThereOnceAfterManyKillNines(t *testing.T) {
	d := newDatabase(t)
	d.table("data json")
	last := trouble.KnownOnce(t, map[string]any{"dsn": d.dsn, "table": "rows_here"})
	require.Equal(t, []string{fmt.Sprintf("%d 1 %d", last, last)}, d.column("SELECT concat_ws(' ', count(*), min(position), max(position)) FROM rows_here"))
}

// ownServices is a server that one test may kill.
type ownServices struct {
	t   *testing.T
	dir string
	dsn string
}

const servicesScript = "../../../deploy/services"

func servicesOfItsOwn(t *testing.T) *ownServices {
	t.Helper()
	dir, err := os.MkdirTemp("", "rivergate-services.")
	require.NoError(t, err)
	require.NoError(t, os.Chmod(dir, 0o711)) //nolint:gosec // the server runs as another user
	s := &ownServices{t: t, dir: dir}
	t.Cleanup(func() {
		s.run("stop", "--dir", dir)
		require.NoError(t, os.RemoveAll(dir))
	})
	for line := range strings.Lines(s.run("start", "--dir", dir, "mysql")) {
		if value, found := strings.CutPrefix(strings.TrimSpace(line), "RIVERGATE_TEST_MYSQL_DSN="); found {
			s.dsn = value
		}
	}
	require.NotEmpty(t, s.dsn)
	return s
}

// call kills or revives the server.
func (s *ownServices) call(what string) { s.run(what, "--dir", s.dir, "mysql") }

func (s *ownServices) run(args ...string) string {
	s.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
	defer cancel()
	command := exec.CommandContext(ctx, servicesScript, args...)
	command.Stderr = os.Stderr
	out, err := command.Output()
	require.NoError(s.t, err, "deploy/services %v", args)
	return string(out)
}
