package database

import (
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// fill makes rows of one page each, in one transaction.
func fill(t *testing.T, db *DB, rows int) {
	require.NoError(t, db.Write(t.Context(), func(tx *Tx) error {
		for range rows {
			if _, err := tx.ExecContext(t.Context(), "INSERT INTO pages VALUES (zeroblob(4000))"); err != nil {
				return err
			}
		}
		return nil
	}))
}

func pages(t *testing.T) (db *DB, path string) {
	path = filepath.Join(t.TempDir(), "a.db")
	db, err := Open(t.Context(), path)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, db.Close()) })
	require.NoError(t, db.Write(t.Context(), func(tx *Tx) error {
		_, err := tx.ExecContext(t.Context(), "CREATE TABLE pages (page BLOB)")
		return err
	}))
	return db, path
}

func TestTheLogIsCopiedBesideCommits(t *testing.T) {
	db, _ := pages(t)
	fill(t, db, checkpointAt+checkpointAt/2) // less than would make a commit do it
	var busy, logged, copied int
	require.Eventually(t, func() bool {
		require.NoError(t, db.Reader().QueryRowContext(t.Context(), "PRAGMA wal_checkpoint(NOOP)").Scan(&busy, &logged, &copied))
		return logged-copied < checkpointAt
	}, 10*time.Second, time.Millisecond)
	require.Greater(t, logged, checkpointAt)

	fill(t, db, 1) // begins the log again
	require.NoError(t, db.Reader().QueryRowContext(t.Context(), "PRAGMA wal_checkpoint(NOOP)").Scan(&busy, &logged, &copied))
	require.Less(t, logged, 100)
	var rows int
	require.NoError(t, db.Reader().QueryRowContext(t.Context(), "SELECT count(*) FROM pages").Scan(&rows))
	require.Equal(t, checkpointAt+checkpointAt/2+1, rows)
}

func TestTheLogStaysShortThoughCommitsNeverPause(t *testing.T) {
	db, path := pages(t)
	var most int
	_, err := fmt.Sscan(longLog, &most)
	require.NoError(t, err)
	const rows = 10
	for range 3 * most / rows {
		fill(t, db, rows)
		info, err := os.Stat(path + "-wal")
		require.NoError(t, err)
		require.Less(t, info.Size(), int64(most)*4120, "no commit had to do it")
	}
	var count int
	require.NoError(t, db.Reader().QueryRowContext(t.Context(), "SELECT count(*) FROM pages").Scan(&count))
	require.Equal(t, 3*most/rows*rows, count)
}
