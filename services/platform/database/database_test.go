package database_test

import (
	"errors"
	"path/filepath"
	"testing"
	"testing/fstest"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/rivergate/rivergate/services/platform/database"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

var tables = fstest.MapFS{"001_words.sql": {Data: []byte("CREATE TABLE words (word TEXT NOT NULL);\n")}}

func open(t *testing.T, path string) *database.DB {
	t.Helper()
	db, err := database.Open(t.Context(), path)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, db.Close()) })
	require.NoError(t, db.Migrate(t.Context(), "dictionary", tables))
	return db
}

func words(t *testing.T, db *database.DB) (n int) {
	t.Helper()
	require.NoError(t, db.Reader().QueryRowContext(t.Context(), "SELECT count(*) FROM words").Scan(&n))
	return n
}

func TestAFailedTransactionLeavesNothing(t *testing.T) {
	db := open(t, filepath.Join(t.TempDir(), "a.db"))
	sick := errors.New("sick")
	err := db.Write(t.Context(), func(tx *database.Tx) error {
		_, err := tx.ExecContext(t.Context(), "INSERT INTO words VALUES ('one')")
		return errors.Join(err, sick)
	})
	require.ErrorIs(t, err, sick)
	require.Zero(t, words(t, db))
}

func TestCommittedRowsAreThereAfterReopening(t *testing.T) {
	path := filepath.Join(t.TempDir(), "odd #name%20?.db") // a path is a path, whatever is in it
	db, err := database.Open(t.Context(), path)
	require.NoError(t, err)
	require.NoError(t, db.Migrate(t.Context(), "dictionary", tables))
	require.NoError(t, db.Write(t.Context(), func(tx *database.Tx) error {
		_, err := tx.ExecContext(t.Context(), "INSERT INTO words VALUES ('one')")
		return err
	}))
	require.NoError(t, db.Close())
	require.FileExists(t, path)
	require.Equal(t, 1, words(t, open(t, path)))
}

func TestCommitsAreSyncedToDisk(t *testing.T) {
	db := open(t, filepath.Join(t.TempDir(), "a.db"))
	require.NoError(t, db.Write(t.Context(), func(tx *database.Tx) error {
		var mode string
		var synchronous int
		require.NoError(t, tx.QueryRowContext(t.Context(), "PRAGMA journal_mode").Scan(&mode))
		require.NoError(t, tx.QueryRowContext(t.Context(), "PRAGMA synchronous").Scan(&synchronous))
		require.Equal(t, "wal", mode)
		require.Equal(t, 2, synchronous) // FULL
		return nil
	}))
}

func TestReadersCannotWrite(t *testing.T) {
	db := open(t, filepath.Join(t.TempDir(), "a.db"))
	rows, err := db.Reader().QueryContext(t.Context(), "INSERT INTO words VALUES ('one') RETURNING word")
	if err == nil {
		defer rows.Close()
		err = rows.Err()
	}
	require.ErrorContains(t, err, "readonly")
}

func TestAReaderDoesNotWaitForTheWriter(t *testing.T) {
	db := open(t, filepath.Join(t.TempDir(), "a.db"))
	require.NoError(t, db.Write(t.Context(), func(tx *database.Tx) error {
		_, err := tx.ExecContext(t.Context(), "INSERT INTO words VALUES ('one')")
		require.Zero(t, words(t, db), "the row is not committed yet")
		return err
	}))
	require.Equal(t, 1, words(t, db))
}

func TestAFolderThatIsNotThereIsAnErrorWithThePath(t *testing.T) {
	_, err := database.Open(t.Context(), filepath.Join(t.TempDir(), "no", "such", "a.db"))
	require.ErrorContains(t, err, "a.db")
}
