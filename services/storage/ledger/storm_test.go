package ledger_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/rivergate/rivergate/services/storage/ledger"
)

// TestOfManyUploadsAtTheEdgeExactlyThoseThatFitAreTaken: 300 at once, room for 100.
func TestOfManyUploadsAtTheEdgeExactlyThoseThatFitAreTaken(t *testing.T) {
	each(t, func(r *rig) {
		other := r.another(ledger.Options{}) // two hosts
		var taken, refused atomic.Int64
		errs := make(chan error, 300)
		var all sync.WaitGroup
		for i := range cap(errs) {
			all.Go(func() {
				l := []*ledger.Ledger{r.Ledger, other}[i%2]
				h, err := l.Reserve(r.Context(), ledger.Reservation{Org: 1, ObjectName: name(i), Kind: ledger.KindFile, Bytes: limit / 100})
				var quota *ledger.QuotaError
				if errors.As(err, &quota) {
					refused.Add(1)
					return
				}
				if err == nil {
					_, _, err = h.Commit(r.Context(), ledger.File{User: 7, Size: limit / 100}, ledger.Create)
					taken.Add(1)
				}
				errs <- err
			})
		}
		all.Wait()
		close(errs)
		for err := range errs {
			require.NoError(r, err)
		}
		require.Equal(r, []int64{100, 200}, []int64{taken.Load(), refused.Load()})
		u, err := r.Usage(r.Context(), 1)
		require.NoError(r, err)
		require.Equal(r, []int64{limit, 0, 100}, []int64{u.Used, u.Reserved, u.Files})
		r.booksAreRight(1)
	})
}

// TestOfManyCreationsOfOneNameOneWins, and the others leave nothing.
func TestOfManyCreationsOfOneNameOneWins(t *testing.T) {
	each(t, func(r *rig) {
		var won atomic.Int64
		errs := make(chan error, 50)
		var all sync.WaitGroup
		for range cap(errs) {
			all.Go(func() {
				h, err := r.Reserve(r.Context(), ledger.Reservation{Org: 1, ObjectName: name(1), Kind: ledger.KindFile, Bytes: 1})
				if err == nil {
					if _, _, err = h.Commit(r.Context(), ledger.File{Size: 1}, ledger.Create); err == nil {
						won.Add(1)
					} else if errors.Is(err, ledger.ErrExists) {
						err = h.Release(r.Context())
					}
				}
				errs <- err
			})
		}
		all.Wait()
		close(errs)
		for err := range errs {
			require.NoError(r, err)
		}
		require.EqualValues(r, 1, won.Load())
		u, err := r.Usage(r.Context(), 1)
		require.NoError(r, err)
		require.Equal(r, []int64{1, 0, 1}, []int64{u.Used, u.Reserved, u.Files})
		r.booksAreRight(1)
	})
}

// TestAStormOfEverythingLeavesExactBooks: all operations at once on a few names of a few orgs, from two hosts, with callers that go away
// in the middle.
func TestAStormOfEverythingLeavesExactBooks(t *testing.T) {
	each(t, func(r *rig) {
		other := r.another(ledger.Options{})
		errs := make(chan error, 400)
		var all sync.WaitGroup
		for i := range cap(errs) {
			all.Go(func() {
				dice := rand.New(rand.NewPCG(1, uint64(i)))
				errs <- storm(r.Context(), []*ledger.Ledger{r.Ledger, other}[i%2], dice)
			})
		}
		all.Wait()
		close(errs)
		for err := range errs {
			require.NoError(r, err)
		}
		for org := range uint64(3) {
			u, err := r.Usage(r.Context(), org+1)
			require.NoError(r, err)
			require.Zero(r, u.Reserved)
			require.LessOrEqual(r, u.Used, int64(limit))
			r.booksAreRight(org + 1)
		}
	})
}

// storm is one client: it takes what the ledger may refuse for granted, and returns other errors.
func storm(ctx context.Context, l *ledger.Ledger, dice *rand.Rand) error {
	org := uint64(1 + dice.IntN(3))
	object := fmt.Sprint("file ", dice.IntN(8))
	if dice.IntN(4) == 0 {
		_, err := l.Delete(ctx, org, object)
		return allowed(err)
	}
	bytes := dice.Int64N(limit / 3)
	h, err := l.Reserve(ctx, ledger.Reservation{Org: org, ObjectName: object, Kind: ledger.KindFile, Bytes: bytes, Overwrite: dice.IntN(2) == 0})
	if err != nil {
		return allowed(err)
	}
	leaving, leave := context.WithCancel(ctx)
	defer leave()
	if dice.IntN(5) == 0 {
		leave() // the client goes away
	}
	if dice.IntN(3) == 0 {
		more := dice.Int64N(limit / 10)
		if err := h.Grow(leaving, more); err == nil {
			bytes += more
		} else if allowed(err) != nil {
			return err
		}
	}
	if dice.IntN(3) > 0 {
		_, _, err = h.Commit(leaving, ledger.File{User: uint64(dice.IntN(2)), Size: bytes, Category: "general"}, ledger.Mode(dice.IntN(2)))
	}
	return errors.Join(allowed(err), h.Release(leaving))
}

func allowed(err error) error {
	var quota *ledger.QuotaError
	if errors.As(err, &quota) || errors.Is(err, ledger.ErrExists) || errors.Is(err, ledger.ErrNotFound) || errors.Is(err, context.Canceled) {
		return nil
	}
	return err
}

func (r *rig) booksAreRight(org uint64) {
	r.Helper()
	wrong, err := r.Differences(r.Context(), org)
	require.NoError(r, err)
	require.Empty(r, wrong)
}
