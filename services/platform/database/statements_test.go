package database

import (
	"database/sql"
	"fmt"
	"path/filepath"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"
)

func keepingDB(t *testing.T) *DB {
	t.Helper()
	db, err := Open(t.Context(), filepath.Join(t.TempDir(), "a.db"))
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, db.Close()) })
	require.NoError(t, db.Write(t.Context(), func(tx *Tx) error {
		_, err := tx.ExecContext(t.Context(), "CREATE TABLE numbers (n INTEGER PRIMARY KEY); INSERT INTO numbers VALUES (1), (2), (3)")
		return err
	}))
	return db
}

func numbers(t *testing.T, q Querier, each func(n int)) {
	t.Helper()
	require.NoError(t, Each(t.Context(), q, func(rows *sql.Rows) error {
		var n int
		if err := rows.Scan(&n); err != nil {
			return err
		}
		each(n)
		return nil
	}, "SELECT n FROM numbers WHERE n >= ? ORDER BY n", 0))
}

func TestAStatementMayRunWithinItself(t *testing.T) {
	db := keepingDB(t)
	require.NoError(t, db.Write(t.Context(), func(tx *Tx) error {
		var got []string
		for range 3 {
			got = nil
			numbers(t, tx, func(a int) {
				numbers(t, tx, func(b int) { got = append(got, fmt.Sprint(a, b)) })
			})
		}
		require.Equal(t, []string{"1 1", "1 2", "1 3", "2 1", "2 2", "2 3", "3 1", "3 2", "3 3"}, got)
		return nil
	}))
}

func TestAKeptStatementSeesWhatHasBecomeOfItsTable(t *testing.T) {
	db := keepingDB(t)
	read := func() (n int) {
		require.NoError(t, db.Reader().QueryRowContext(t.Context(), "SELECT count(*) FROM numbers").Scan(&n))
		return n
	}
	change := func(text string) {
		require.NoError(t, db.Write(t.Context(), func(tx *Tx) error {
			_, err := tx.ExecContext(t.Context(), text)
			return err
		}))
	}
	require.Equal(t, 3, read())
	change("INSERT INTO numbers VALUES (4)")
	require.Equal(t, 4, read())
	change("DROP TABLE numbers")
	require.Error(t, db.Reader().QueryRowContext(t.Context(), "SELECT count(*) FROM numbers").Scan(new(int)))
	change("CREATE TABLE numbers (other TEXT, n INTEGER)")
	require.Equal(t, 0, read())
	change("INSERT INTO numbers (n) VALUES (9)")
	require.Equal(t, 1, read())
}

func TestAStatementThatFailedWorksTheNextTime(t *testing.T) {
	db := keepingDB(t)
	insert := func(n int) error {
		return db.Write(t.Context(), func(tx *Tx) error {
			_, err := tx.ExecContext(t.Context(), "INSERT INTO numbers VALUES (?)", n)
			return err
		})
	}
	for n := 4; n < 8; n++ {
		require.ErrorContains(t, insert(1), "UNIQUE")
		require.NoError(t, insert(n))
	}
	var got []int
	numbers(t, db.Reader(), func(n int) { got = append(got, n) })
	require.Equal(t, []int{1, 2, 3, 4, 5, 6, 7}, got)
}

// More texts than are kept, from many sides at once.
func TestAnyNumberOfStatementsWorks(t *testing.T) {
	db := keepingDB(t)
	var all sync.WaitGroup
	for side := range 8 {
		all.Go(func() {
			for i := range 4 * kept {
				var n int
				err := db.Reader().QueryRowContext(t.Context(), fmt.Sprintf("SELECT n + %d FROM numbers WHERE n = ?", i%(kept+side)), 2).Scan(&n)
				if err != nil || n != 2+i%(kept+side) {
					t.Error(n, err)
				}
			}
		})
	}
	all.Wait()
	conn, err := db.reader.Conn(t.Context())
	require.NoError(t, err)
	defer conn.Close()
	require.NoError(t, conn.Raw(func(driver any) error {
		require.LessOrEqual(t, len(driver.(*keeping).ready), kept)
		require.NotEmpty(t, driver.(*keeping).ready)
		return nil
	}))
}
