package database

import (
	"context"
	"errors"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

func TestOnlyAGroupOfUnsyncedChangesIsUnsynced(t *testing.T) {
	db := keepingDB(t)
	const normal, full = 1, 2
	synchronous := func(ctx context.Context, tx *Tx) (level int) {
		require.NoError(t, tx.QueryRowContext(ctx, "PRAGMA synchronous").Scan(&level))
		return level
	}
	expect := func(want int) func(ctx context.Context, tx *Tx) error {
		return func(ctx context.Context, tx *Tx) error {
			require.Equal(t, want, synchronous(ctx, tx))
			_, err := tx.ExecContext(ctx, "INSERT INTO numbers SELECT max(n) + 1 FROM numbers")
			return err
		}
	}
	for range 3 { // in turn: it is set anew each time, also while it fails
		require.NoError(t, db.GroupUnsynced(t.Context(), "", expect(normal)))
		require.NoError(t, db.Group(t.Context(), "", expect(full)))
		sick := errors.New("sick")
		require.ErrorIs(t, db.GroupUnsynced(t.Context(), "", func(context.Context, *Tx) error { return sick }), sick)
		require.NoError(t, db.Write(t.Context(), func(tx *Tx) error { return expect(full)(t.Context(), tx) }))
	}

	// One that is to be synced makes those synced that share its transaction: they wait while the writer is taken.
	var waiting sync.WaitGroup
	inLine := func(n int) {
		require.Eventually(t, func() bool {
			db.lanes.mu.Lock()
			defer db.lanes.mu.Unlock()
			lane := db.lanes.open[""]
			return lane != nil && len(lane.waiting) == n
		}, 10*time.Second, time.Millisecond)
	}
	require.NoError(t, db.Write(t.Context(), func(*Tx) error {
		waiting.Go(func() { require.NoError(t, db.GroupUnsynced(t.Context(), "", expect(full))) })
		inLine(1)
		waiting.Go(func() { require.NoError(t, db.Group(t.Context(), "", expect(full))) })
		inLine(2)
		return nil
	}))
	waiting.Wait()
	n := 0
	numbers(t, db.Reader(), func(int) { n++ })
	require.Equal(t, 3+3*3+2, n)
}

func TestATransactionThatEndsOddlyLeavesAConnectionAsItWas(t *testing.T) {
	sick := errors.New("sick")
	insert := func(ctx context.Context, tx *Tx) error {
		_, err := tx.ExecContext(ctx, "INSERT INTO numbers SELECT max(n) + 1 FROM numbers")
		return err
	}
	for name, odd := range map[string]func(t *testing.T, db *DB){
		"one that SQLite has undone itself": func(t *testing.T, db *DB) {
			require.ErrorIs(t, db.Write(t.Context(), func(tx *Tx) error {
				require.NoError(t, insert(t.Context(), tx))
				_, err := tx.ExecContext(t.Context(), "ROLLBACK")
				return errors.Join(sick, err)
			}), sick)
		},
		"one that panics": func(t *testing.T, db *DB) {
			require.PanicsWithError(t, "sick", func() {
				_ = db.Write(t.Context(), func(tx *Tx) error {
					require.NoError(t, insert(t.Context(), tx))
					panic(sick)
				})
			})
		},
		"one whose caller has gone": func(t *testing.T, db *DB) {
			ctx, leave := context.WithCancel(t.Context())
			require.ErrorIs(t, db.Write(ctx, func(tx *Tx) error {
				defer leave()
				return insert(ctx, tx)
			}), context.Canceled)
		},
		"one that waits for nobody's commit and is undone": func(t *testing.T, db *DB) {
			require.ErrorIs(t, db.GroupUnsynced(t.Context(), "", func(ctx context.Context, tx *Tx) error {
				return errors.Join(insert(ctx, tx), sick)
			}), sick)
		},
	} {
		t.Run(name, func(t *testing.T) {
			db := keepingDB(t)
			odd(t, db)
			level, n := 0, 0
			require.NoError(t, db.Write(t.Context(), func(tx *Tx) error {
				return tx.QueryRowContext(t.Context(), "PRAGMA synchronous").Scan(&level)
			}))
			require.Equal(t, 2, level, "full")
			numbers(t, db.Reader(), func(int) { n++ })
			require.Equal(t, 3, n, "nothing of it stays")
		})
	}
}
