package ledger_test

import (
	"context"
	"fmt"
	"path/filepath"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/rivergate/rivergate/services/platform/database"
	"github.com/rivergate/rivergate/services/storage/ledger"
	"github.com/rivergate/rivergate/services/storage/storagetest"
)

// million opens a ledger on SQLite whose org 1 has a million files.
func million(b *testing.B) *ledger.Ledger {
	b.Helper()
	ctx := b.Context()
	db, err := database.Open(ctx, filepath.Join(b.TempDir(), "a.db"))
	require.NoError(b, err)
	b.Cleanup(func() { require.NoError(b, db.Close()) })
	l, err := ledger.Open(ctx, db, ledger.Options{DefaultLimit: ledger.Unlimited})
	require.NoError(b, err)
	b.Cleanup(func() { require.NoError(b, l.Close()) })
	require.NoError(b, l.SetLimit(ctx, 1, ledger.Unlimited))
	require.NoError(b, storagetest.Million(ctx, db, 1, 7))
	wrong, err := l.Differences(ctx, 1)
	require.NoError(b, err)
	require.Empty(b, wrong)
	return l
}

// BenchmarkMillion measures what routes ask of an org with a million files, with the median as p50.
func BenchmarkMillion(b *testing.B) {
	l := million(b)
	list := func(page, size int64, category string) func(context.Context) error {
		return func(ctx context.Context) error {
			files, total, err := l.List(ctx, ledger.Query{Org: 1, User: 7, Category: category, Offset: (page - 1) * size, Limit: int(size)})
			if err == nil && (int64(len(files)) != size || total < 300_000) {
				err = fmt.Errorf("%d files of %d", len(files), total)
			}
			return err
		}
	}
	for _, c := range []struct {
		name string
		ask  func(context.Context) error
	}{
		{"page=1", list(1, 20, "")},
		{"page=1000", list(1000, 20, "")},
		{"page=25000", list(25000, 20, "")},
		{"page=50000", list(50000, 20, "")},
		{"category/page=1", list(1, 20, "general")},
		{"category/page=1000", list(1000, 20, "general")},
		{"size=100/page=1", list(1, 100, "")},
		{"size=100/page=1000", list(1000, 100, "")},
		{"usage", func(ctx context.Context) error { _, err := l.Usage(ctx, 1); return err }},
		{"find", func(ctx context.Context) error {
			_, err := l.Find(ctx, 1, "organizations/1/files/7/measurements_20260101_000000_0007a120.csv")
			return err
		}},
	} {
		b.Run(c.name, func(b *testing.B) {
			var took []time.Duration
			for b.Loop() {
				begin := time.Now()
				if err := c.ask(b.Context()); err != nil {
					b.Fatal(err)
				}
				took = append(took, time.Since(begin))
			}
			slices.Sort(took)
			b.ReportMetric(float64(took[len(took)/2].Microseconds()), "p50-µs")
			b.ReportMetric(float64(took[len(took)*99/100].Microseconds()), "p99-µs")
		})
	}
}

// BenchmarkUploads measures reservation and commit, with so many clients at once; an upload is both.
func BenchmarkUploads(b *testing.B) {
	for _, clients := range []int{1, 10, 200} {
		b.Run(fmt.Sprint("clients=", clients), func(b *testing.B) {
			db, err := database.Open(b.Context(), filepath.Join(b.TempDir(), "a.db"))
			require.NoError(b, err)
			defer db.Close()
			l, err := ledger.Open(b.Context(), db, ledger.Options{DefaultLimit: ledger.Unlimited})
			require.NoError(b, err)
			defer l.Close()
			turns := make(chan int)
			var all sync.WaitGroup
			for range clients {
				all.Go(func() {
					for i := range turns {
						h, err := l.Reserve(b.Context(), ledger.Reservation{Org: 1, ObjectName: name(i), Kind: ledger.KindFile, Bytes: 10, Fresh: true})
						if err == nil {
							_, _, err = h.Commit(b.Context(), ledger.File{Size: 10}, ledger.Create)
						}
						if err != nil {
							b.Error(err)
						}
					}
				})
			}
			for i := 0; b.Loop(); i++ {
				turns <- i
			}
			close(turns)
			all.Wait()
			b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "uploads/s")
		})
	}
}
