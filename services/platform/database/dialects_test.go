package database_test

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"net/url"
	"os"
	osexec "os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"testing/fstest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/rivergate/rivergate/services/platform/database"
	"github.com/rivergate/rivergate/services/platform/database/databasetest"
)

var shared = fstest.MapFS{
	"00001_things.sql":          {Data: []byte("CREATE TABLE things (id {id}, name {text} NOT NULL UNIQUE, n {int} NOT NULL, part {real} NOT NULL, data {blob}) {strict};\nCREATE INDEX things_n ON things (n);\n")},
	"00002_kind.sqlite.sql":     {Data: []byte("CREATE TABLE kind (name TEXT) STRICT; INSERT INTO kind VALUES ('sqlite')")},
	"00002_kind.postgres.sql":   {Data: []byte("CREATE TABLE kind (name TEXT); INSERT INTO kind VALUES ('postgres')")},
	"00010_more.sql":            {Data: []byte("ALTER TABLE things ADD COLUMN more {int} NOT NULL DEFAULT 7")},
	"not a migration, as it is": {Data: []byte("nonsense")},
}

func exec(ctx context.Context, tx *database.Tx, query string, args ...any) error {
	_, err := tx.ExecContext(ctx, query, args...)
	return err
}

func TestOneStatementMeansTheSameOnBoth(t *testing.T) {
	databasetest.Each(t, func(t *testing.T, db *database.DB) {
		ctx := t.Context()
		require.NoError(t, db.Migrate(ctx, "things", shared))
		type word string
		big := int64(1) << 62
		require.NoError(t, db.Write(ctx, func(tx *database.Tx) error {
			insert, err := tx.PrepareContext(ctx, "INSERT INTO things (name, n, part, data) VALUES (?, ?, ?, ?) RETURNING id")
			require.NoError(t, err)
			defer insert.Close()
			var first, second int64
			require.NoError(t, insert.QueryRowContext(ctx, word("it's ?"), big, 0.1, []byte{0, 255}).Scan(&first))
			require.NoError(t, insert.QueryRowContext(ctx, "Ä", true, -1.5, nil).Scan(&second))
			require.Greater(t, second, first)
			return nil
		}))
		var said string
		require.NoError(t, db.Reader().QueryRowContext(ctx, "SELECT '?1' || name || ?2 || ? || ?4 || ?10 || ? || ?1 || ?9 || ?8 || ?7 || ?6 || ?5 FROM things WHERE name = ?1",
			"Ä", "b", "c", "d", "e", "f", "g", "h", "i", "j", "k").Scan(&said))
		require.Equal(t, "?1ÄbcdjkÄihgfe", said)
		var kind string
		require.NoError(t, db.Reader().QueryRowContext(ctx, "SELECT name FROM kind").Scan(&kind))
		require.Equal(t, string(db.Dialect()), kind)

		var name string
		var n, more int64
		var part float64
		var data []byte
		require.NoError(t, db.Reader().QueryRowContext(ctx, "SELECT name, n, part, data, more FROM things WHERE name <> 'why ?' AND name = ?", "it's ?").
			Scan(&name, &n, &part, &data, &more))
		require.Equal(t, []any{"it's ?", big, 0.1, []byte{0, 255}, int64(7)}, []any{name, n, part, data, more})
		require.ErrorIs(t, db.Reader().QueryRowContext(ctx, "SELECT name FROM things WHERE n = ?", 2).Scan(&name), sql.ErrNoRows)

		var names []string
		require.NoError(t, database.Each(ctx, db.Reader(), func(rows *sql.Rows) error {
			names = append(names, "")
			return rows.Scan(&names[len(names)-1])
		}, "SELECT name FROM things UNION ALL SELECT 'a' UNION ALL SELECT 'B' ORDER BY name"))
		require.Equal(t, []string{"B", "a", "it's ?", "Ä"}, names, "the order is that of the bytes")

		require.ErrorContains(t, db.Reader().QueryRowContext(ctx, "SELECT ?", uint64(1)<<63).Scan(&n), "argument 1")
	})
}

func TestTheSameFailedTransactionLeavesNothingOnBoth(t *testing.T) {
	databasetest.Each(t, func(t *testing.T, db *database.DB) {
		ctx := t.Context()
		require.NoError(t, db.Migrate(ctx, "things", shared))
		sick := errors.New("sick")
		require.ErrorIs(t, db.Write(ctx, func(tx *database.Tx) error {
			return errors.Join(exec(ctx, tx, "INSERT INTO things (name, n, part) VALUES ('a', 1, 1)"), sick)
		}), sick)
		require.Zero(t, count(t, db))
	})
}

func count(t *testing.T, db *database.DB) (n int) {
	t.Helper()
	require.NoError(t, db.Reader().QueryRowContext(t.Context(), "SELECT count(*) FROM things").Scan(&n))
	return n
}

func TestEightHostsThatStartAtOnceMigrateOnce(t *testing.T) {
	databasetest.EachPlace(t, func(t *testing.T, place databasetest.Place) {
		var all sync.WaitGroup
		errs := make([]error, 8)
		for i := range errs {
			all.Go(func() {
				db, err := place.Open(t.Context())
				if err != nil {
					errs[i] = err
					return
				}
				errs[i] = errors.Join(db.Migrate(t.Context(), "things", shared), db.Migrate(t.Context(), "words", tables), db.Close())
			})
		}
		all.Wait()
		require.NoError(t, errors.Join(errs...))
		db, err := place.Open(t.Context())
		require.NoError(t, err)
		defer db.Close()
		var steps int
		require.NoError(t, db.Reader().QueryRowContext(t.Context(), "SELECT count(*) FROM things_version").Scan(&steps))
		require.Equal(t, 3, steps)
	})
}

func TestTablesOfANewerVersionAreRefused(t *testing.T) {
	databasetest.Each(t, func(t *testing.T, db *database.DB) {
		require.NoError(t, db.Migrate(t.Context(), "things", shared))
		older := fstest.MapFS{"00001_things.sql": shared["00001_things.sql"]}
		require.ErrorContains(t, db.Migrate(t.Context(), "things", older), "form 10")
	})
}

func TestAStepThatFailsLeavesNothing(t *testing.T) {
	databasetest.Each(t, func(t *testing.T, db *database.DB) {
		bad := fstest.MapFS{"00001_things.sql": shared["00001_things.sql"], "00002_bad.sql": {Data: []byte("CREATE TABLE b (n {int}); NONSENSE")}}
		require.ErrorContains(t, db.Migrate(t.Context(), "things", bad), "00002_bad.sql")
		require.NoError(t, db.Migrate(t.Context(), "things", shared))
		require.Zero(t, count(t, db))
	})
}

func TestMigrationsOfTheEarlierFormGoOn(t *testing.T) {
	databasetest.Each(t, func(t *testing.T, db *database.DB) {
		if db.Dialect() != database.SQLite {
			return // earlier versions had no other
		}
		require.NoError(t, db.Write(t.Context(), func(tx *database.Tx) error {
			return exec(t.Context(), tx, `CREATE TABLE dictionary_version (id INTEGER PRIMARY KEY AUTOINCREMENT, version_id INTEGER NOT NULL, is_applied INTEGER NOT NULL,
				tstamp TIMESTAMP DEFAULT (datetime('now'))); INSERT INTO dictionary_version (version_id, is_applied) VALUES (0, 1), (1, 1);
				CREATE TABLE words (word TEXT NOT NULL); INSERT INTO words VALUES ('kept')`)
		}))
		next := fstest.MapFS{"001_words.sql": tables["001_words.sql"], "002_more.sql": {Data: []byte("ALTER TABLE words ADD COLUMN n {int}")}}
		require.NoError(t, db.Migrate(t.Context(), "dictionary", next))
		require.NoError(t, db.Migrate(t.Context(), "dictionary", next))
		require.Equal(t, 1, words(t, db))
	})
}

func TestMigrationsThatCannotBeOrderedAreRefused(t *testing.T) {
	db := open(t, t.TempDir()+"/a.db")
	for _, files := range []fstest.MapFS{
		{},
		{"a.sql": {}},
		{"00001_a.sql": {}, "1_b.sql": {}},
		{"00001_a.postgres.sql": {}},
	} {
		require.ErrorContains(t, db.Migrate(t.Context(), "bad", files), "migrations of bad")
	}
}

func TestChangesOfAGroupStandOrFallAlone(t *testing.T) {
	databasetest.Each(t, func(t *testing.T, db *database.DB) {
		ctx := t.Context()
		require.NoError(t, db.Migrate(ctx, "things", shared))
		const many = 300
		sick := errors.New("sick")
		var all sync.WaitGroup
		for i := range many {
			all.Go(func() {
				err := db.Group(ctx, fmt.Sprint(i%3), func(ctx context.Context, tx *database.Tx) error {
					if err := exec(ctx, tx, "INSERT INTO things (name, n, part) VALUES (?, ?, 0)", fmt.Sprint(i), i); err != nil {
						return err
					}
					switch i % 10 {
					case 3:
						return sick
					case 7:
						return exec(ctx, tx, "INSERT INTO things (name, n, part) VALUES (?, 0, 0)", fmt.Sprint(i)) // twice the same name
					}
					return nil
				})
				switch i % 10 {
				case 3:
					require.ErrorIs(t, err, sick)
				case 7:
					require.Error(t, err)
				default:
					require.NoError(t, err)
				}
			})
		}
		all.Wait()
		require.Equal(t, many*8/10, count(t, db))
	})
}

func TestWhoLeavesAGroupBeforeItBeginsChangesNothing(t *testing.T) {
	databasetest.Each(t, func(t *testing.T, db *database.DB) {
		require.NoError(t, db.Migrate(t.Context(), "things", shared))
		inside, free := make(chan struct{}), make(chan struct{})
		var all sync.WaitGroup
		all.Go(func() {
			require.NoError(t, db.Group(t.Context(), "a", func(context.Context, *database.Tx) error { close(inside); <-free; return nil }))
		})
		<-inside
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		require.ErrorIs(t, db.Group(ctx, "a", func(ctx context.Context, tx *database.Tx) error {
			return exec(ctx, tx, "INSERT INTO things (name, n, part) VALUES ('a', 1, 1)")
		}), context.Canceled)
		close(free)
		all.Wait()
		require.Zero(t, count(t, db))
		require.NoError(t, db.Group(t.Context(), "a", func(ctx context.Context, tx *database.Tx) error {
			return exec(ctx, tx, "INSERT INTO things (name, n, part) VALUES ('a', 1, 1)")
		}))
		require.Equal(t, 1, count(t, db))
	})
}

func TestASnapshotSeesOneState(t *testing.T) {
	databasetest.Each(t, func(t *testing.T, db *database.DB) {
		ctx := t.Context()
		require.NoError(t, db.Migrate(ctx, "things", shared))
		require.NoError(t, db.Snapshot(ctx, func(tx *database.Tx) error {
			var before, after int
			require.NoError(t, tx.QueryRowContext(ctx, "SELECT count(*) FROM things").Scan(&before))
			require.NoError(t, db.Write(ctx, func(tx *database.Tx) error {
				return exec(ctx, tx, "INSERT INTO things (name, n, part) VALUES ('a', 1, 1)")
			}))
			require.NoError(t, tx.QueryRowContext(ctx, "SELECT count(*) FROM things").Scan(&after))
			require.Equal(t, before, after)
			return nil
		}))
		require.Equal(t, 1, count(t, db))
	})
}

func TestADeadlockIsTriedAgain(t *testing.T) {
	databasetest.Each(t, func(t *testing.T, db *database.DB) {
		ctx := t.Context()
		require.NoError(t, db.Migrate(ctx, "things", shared))
		require.NoError(t, db.Write(ctx, func(tx *database.Tx) error {
			return exec(ctx, tx, "INSERT INTO things (name, n, part) VALUES ('a', 0, 0), ('b', 0, 0)")
		}))
		var all sync.WaitGroup
		var first sync.WaitGroup // both have locked one row
		if db.Dialect() == database.Postgres {
			first.Add(2)
		}
		for _, order := range [][]string{{"a", "b"}, {"b", "a"}} {
			all.Go(func() {
				var once sync.Once
				require.NoError(t, db.Write(ctx, func(tx *database.Tx) error {
					if err := exec(ctx, tx, "UPDATE things SET n = n + 1 WHERE name = ?", order[0]); err != nil {
						return err
					}
					if db.Dialect() == database.Postgres {
						once.Do(func() { first.Done(); first.Wait() })
					}
					return exec(ctx, tx, "UPDATE things SET n = n + 1 WHERE name = ?", order[1])
				}))
			})
		}
		all.Wait()
		var sum int
		require.NoError(t, db.Reader().QueryRowContext(ctx, "SELECT sum(n) FROM things").Scan(&sum))
		require.Equal(t, 4, sum)
	})
}

func TestAWrongAddressIsAnErrorWithTheAddressAndWithoutThePassword(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	for name, c := range map[string]struct{ url, says string }{
		"nobody listens": {"postgres://me:sesame@127.0.0.1:1/books?sslmode=disable", "127.0.0.1:1"},
		"no such host":   {"postgres://me:sesame@host.invalid:5432/books", "host.invalid:5432"},
		"no URL":         {"postgres://me:ses%ame@127.0.0.1/books", "postgres://USER"},
		"another scheme": {"mysql://me:sesame@127.0.0.1/books", "mysql://"},
		"a bad option":   {"postgres://me:sesame@127.0.0.1:5432/books?sslmode=perhaps", "127.0.0.1:5432"},
		"no port":        {"postgres://me:sesame@127.0.0.1:99999/books", "127.0.0.1:99999"},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := database.OpenURL(ctx, c.url)
			require.ErrorContains(t, err, c.says)
			require.NotContains(t, err.Error(), "sesame")
			require.NotContains(t, err.Error(), "ses%ame")
		})
	}
}

func TestAWrongPasswordIsAnErrorWithoutIt(t *testing.T) {
	for _, variable := range []string{databasetest.PostgresDSN, databasetest.PgBouncerDSN} {
		at, err := url.Parse(databasetest.Postgres(t, variable).URL)
		require.NoError(t, err)
		at.User = url.UserPassword("rivergate", "sesame")
		_, err = database.OpenURL(t.Context(), at.String())
		require.ErrorContains(t, err, at.Host)
		require.NotContains(t, err.Error(), "sesame")
	}
}

// TestTheDatabaseIsThereAgainAfterItsServerRestarted kills PostgreSQL, then PgBouncer, while writers go on: what was committed is there
// once, what was refused is not.
func TestTheDatabaseIsThereAgainAfterItsServerRestarted(t *testing.T) {
	own := startServers(t)
	for _, variable := range []string{databasetest.PostgresDSN, databasetest.PgBouncerDSN} {
		t.Run(variable, func(t *testing.T) {
			t.Setenv(variable, own.variables[variable])
			db, err := databasetest.Postgres(t, variable).Open(t.Context())
			require.NoError(t, err)
			defer db.Close()
			require.NoError(t, db.Migrate(t.Context(), "things", shared))
			servers := []string{"postgres"}
			if variable == databasetest.PgBouncerDSN {
				servers = append(servers, "pgbouncer")
			}
			ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
			defer cancel()
			var mu sync.Mutex
			outcomes := map[string]error{}
			committed := make(chan struct{}, 1)
			stop := make(chan struct{})
			var all sync.WaitGroup
			for i := range 8 {
				all.Go(func() {
					for j := 0; ; j++ {
						select {
						case <-stop:
							return
						default:
						}
						name := fmt.Sprint(i, " ", j)
						err := db.Write(ctx, func(tx *database.Tx) error {
							return exec(ctx, tx, "INSERT INTO things (name, n, part) VALUES (?, 0, 0)", name)
						})
						mu.Lock()
						outcomes[name] = err
						mu.Unlock()
						if err == nil {
							select {
							case committed <- struct{}{}:
							default:
							}
						}
					}
				})
			}
			some := func() {
				t.Helper()
				select { // one that was committed before now
				case <-committed:
				default:
				}
				select {
				case <-committed:
				case <-ctx.Done():
					t.Error("nothing is written any more")
				}
			}
			some()
			for _, server := range servers {
				for _, command := range []string{"kill", "revive"} {
					own.call(t, command, server)
				}
				some()
			}
			close(stop)
			all.Wait()
			there := map[string]bool{}
			require.NoError(t, database.Each(ctx, db.Reader(), func(rows *sql.Rows) error {
				var name string
				err := rows.Scan(&name)
				there[name] = true
				return err
			}, "SELECT name FROM things"))
			refused, unknown := 0, 0
			for name, err := range outcomes {
				switch {
				case err == nil:
					require.True(t, there[name], "what was committed is there: %s", name)
				case errors.Is(err, database.ErrUnknown):
					unknown++
				default:
					refused++
					require.False(t, there[name], "what failed is not there: %s: %v", name, err)
				}
			}
			t.Logf("%d committed, %d refused, %d not known", len(outcomes)-refused-unknown, refused, unknown)
		})
	}
}

// servers are of one test alone, which may kill them: those of the run serve the tests of other packages at the same time.
type servers struct {
	dir       string
	variables map[string]string
}

func startServers(t *testing.T) *servers {
	t.Helper()
	databasetest.Postgres(t, databasetest.PostgresDSN) // skips where no servers are wanted
	dir, err := os.MkdirTemp("", "rivergate-database")
	require.NoError(t, err)
	require.NoError(t, os.Chmod(dir, 0o711)) //nolint:gosec // the servers run as another user
	s := &servers{dir, map[string]string{}}
	t.Cleanup(func() { s.call(t, "stop") })
	s.call(t, "start", "postgres", "pgbouncer")
	env, err := os.ReadFile(filepath.Join(dir, "env"))
	require.NoError(t, err)
	for line := range strings.Lines(string(env)) {
		name, value, _ := strings.Cut(strings.TrimSpace(line), "=")
		s.variables[name] = value
	}
	return s
}

func (s *servers) call(t *testing.T, command string, names ...string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute) // also in a cleanup
	defer cancel()
	out, err := osexec.CommandContext(ctx, "../../../deploy/services", append([]string{command, "--dir", s.dir}, names...)...).CombinedOutput()
	require.NoError(t, err, "deploy/services %s: %s", command, out)
}
