package seal

import (
	"bytes"
	"context"
	"errors"
	"io"
	"math/rand/v2"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/rivergate/rivergate/services/platform/database"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func master(t testing.TB) Master {
	t.Helper()
	m, err := NewMaster()
	require.NoError(t, err)
	return m
}

// openKeys opens the keys of a fresh SQLite database.
func openKeys(t testing.TB) *Keys {
	t.Helper()
	db, err := database.Open(t.Context(), filepath.Join(t.TempDir(), "a.db"))
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, db.Close()) })
	k, err := Open(t.Context(), db, Given(master(t)), Options{})
	require.NoError(t, err)
	return k
}

// noise is n bytes that do not repeat.
func noise(n int) []byte {
	b := make([]byte, n)
	_, _ = rand.NewChaCha8([32]byte{1}).Read(b)
	return b
}

// sealed seals all of plain.
func sealed(t testing.TB, k *Keys, org uint64, plain []byte) (stored []byte, keyID string) {
	t.Helper()
	r, keyID, err := k.Seal(t.Context(), org, bytes.NewReader(plain))
	require.NoError(t, err)
	stored, err = io.ReadAll(r)
	require.NoError(t, err)
	return stored, keyID
}

// from fetches ranges of stored, as a backend does.
func from(stored []byte) Fetch {
	return func(_ context.Context, from, length int64) (io.ReadCloser, error) {
		if from > int64(len(stored)) {
			return nil, errors.New("the range lies beyond the end")
		}
		if length < 0 || length > int64(len(stored))-from {
			length = int64(len(stored)) - from
		}
		return io.NopCloser(bytes.NewReader(stored[from : from+length])), nil
	}
}

// opened reads a range.
func opened(ctx context.Context, k *Keys, org uint64, keyID string, size, at, length int64, fetch Fetch) ([]byte, error) {
	r, err := k.Open(ctx, org, keyID, size, at, length, fetch)
	if err != nil {
		return nil, err
	}
	plain, err := io.ReadAll(r)
	return plain, errors.Join(err, r.Close())
}
