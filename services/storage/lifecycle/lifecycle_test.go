package lifecycle

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/rivergate/rivergate/sdk/protocol"
	"github.com/rivergate/rivergate/services/storage/ledger"
	"github.com/rivergate/rivergate/services/storage/storagetest"
)

const name = "organizations/1/internal/temp/a.bin"

func TestAFileIsReadableAtEveryInstantOfItsMoves(t *testing.T) {
	each(t, func(t *testing.T, r *rig) {
		ctx := t.Context()
		const count, rounds = 4, 12
		var list []ledger.File
		total := int64(0)
		for i := range count {
			content := noise(i, 100_000*i+i) // an empty one, too
			list = append(list, r.put(1, fmt.Sprint(name, i), content, time.Time{}))
			total += int64(len(content))
		}
		moving, stop := context.WithCancel(ctx)
		var readers, movers sync.WaitGroup
		failed := make(chan error, 100)
		reads := make([]int, 3)
		for i := range reads {
			readers.Go(func() {
				for moving.Err() == nil || reads[i] == 0 {
					for n := range count {
						if _, err := r.read(ctx, 1, fmt.Sprint(name, n)); err != nil {
							failed <- err
							return
						}
					}
					reads[i]++
				}
			})
		}
		readers.Go(func() { // purges what moves leave behind
			for moving.Err() == nil {
				if err := r.store.Sweep(ctx); err != nil {
					failed <- err
					return
				}
			}
		})
		for host := range 2 { // two hosts move the same files
			movers.Go(func() {
				for round := range rounds {
					tier := []protocol.Tier{protocol.TierCold, protocol.TierHot, protocol.TierWarm}[(round+host)%3]
					for _, f := range list {
						now, err := r.books.ByID(ctx, 1, f.ID)
						if err == nil {
							_, err = r.Move(ctx, now, tier)
						}
						if err != nil && !errors.Is(err, errThere) && !errors.Is(err, ledger.ErrChanged) {
							failed <- err
							return
						}
					}
				}
			})
		}
		movers.Wait()
		stop()
		readers.Wait()
		select {
		case err := <-failed:
			require.NoError(t, err)
		default:
		}
		usage, err := r.books.Usage(ctx, 1)
		require.NoError(t, err)
		require.Equal(t, []int64{total, 0}, []int64{usage.Used, usage.Reserved}, "moves change no sum")
		var inTiers int64
		for _, part := range usage.Tiers {
			inTiers += part.Bytes
		}
		require.Equal(t, total, inTiers)
		for i := range count {
			f, err := r.books.Find(ctx, 1, fmt.Sprint(name, i))
			require.NoError(t, err)
			r.holds(1, f.ObjectName, noise(i, 100_000*i+i), f.Tier)
		}
		r.exact(count)
	})
}

var errFault = errors.New("the disk is gone")

func TestAFaultBetweenTheStepsLeavesTheFileWhereItWas(t *testing.T) {
	each(t, func(t *testing.T, r *rig) {
		content := noise(1, 300_000)
		f := r.put(1, name, content, time.Time{})
		for _, step := range []string{"copy", "put", "put.read", "put.end", "put.done", "get", "get.read"} {
			hit := false
			r.dir.Fail(func(op storagetest.Op) error {
				if op.Name == step {
					hit = true
					return errFault
				}
				return nil
			})
			_, err := r.Move(t.Context(), f, protocol.TierCold)
			require.ErrorIs(t, err, errFault, step)
			require.True(t, hit, step)
			r.dir.Fail(nil)
			require.Equal(t, f, r.holds(1, name, content, protocol.TierHot), step)
			r.exact(1)
		}
		// The process goes away in the middle of the copy.
		ctx, cancel := context.WithCancel(t.Context())
		r.dir.Fail(func(op storagetest.Op) error {
			if op.Name == "put.end" {
				cancel()
			}
			return nil
		})
		_, err := r.Move(ctx, f, protocol.TierCold)
		require.ErrorIs(t, err, context.Canceled)
		r.dir.Fail(nil)
		r.holds(1, name, content, protocol.TierHot)
		r.exact(1)
		moved, err := r.Move(t.Context(), f, protocol.TierCold)
		require.NoError(t, err)
		require.Equal(t, moved, r.holds(1, name, content, protocol.TierCold))
		require.NotEqual(t, f.Key, moved.Key)
		require.False(t, moved.TierChanged.IsZero())
		r.exact(1)
	})
}

// lying is a backend whose copies are something else.
type lying struct{ *storagetest.Dir }

func (l lying) Copy(ctx context.Context, from string, to protocol.Put) (protocol.Object, error) {
	object, err := l.Stat(ctx, from)
	if err != nil {
		return object, err
	}
	return l.Put(ctx, to, strings.NewReader(strings.Repeat("x", int(object.Size))))
}

func TestACopyThatIsSomethingElseIsNotUsed(t *testing.T) {
	each(t, func(t *testing.T, r *rig) {
		content := noise(1, 1000)
		f := r.put(1, name, content, time.Time{})
		l := r.another(func(o *Options) { o.Objects = lying{r.dir} })
		_, err := l.Move(t.Context(), f, protocol.TierCold)
		require.Error(t, err)
		r.holds(1, name, content, protocol.TierHot)
		r.exact(1)
	})
}

func TestWhatIsOverwrittenWhileItMovesIsNotLost(t *testing.T) {
	each(t, func(t *testing.T, r *rig) {
		f := r.put(1, name, noise(1, 1000), time.Time{})
		fresh, written := noise(2, 2000), false
		r.dir.Fail(func(op storagetest.Op) error {
			if op.Name == "put.done" && !written {
				written = true
				_, err := r.putIn(context.Background(), 1, name, fresh, time.Time{})
				return err
			}
			return nil
		})
		_, err := r.Move(t.Context(), f, protocol.TierCold)
		require.NoError(t, err, "the new version is moved")
		require.True(t, written)
		r.dir.Fail(nil)
		r.holds(1, name, fresh, protocol.TierCold)
		r.exact(1)

		now, err := r.books.Find(t.Context(), 1, name)
		require.NoError(t, err)
		_, err = r.books.Delete(t.Context(), 1, name)
		require.NoError(t, err)
		_, err = r.Move(t.Context(), now, protocol.TierHot)
		require.ErrorIs(t, err, ledger.ErrNotFound)
		r.exact(0)
	})
}

func TestThePolicyMovesWhatNobodyReads(t *testing.T) {
	each(t, func(t *testing.T, r *rig) {
		ctx := t.Context()
		at := func(kind string, i int) string { return fmt.Sprintf("organizations/1/internal/temp/%s-%d", kind, i) }
		content := noise(1, 1000)
		for i := range 3 {
			r.put(1, at("old", i), content, time.Time{})
		}
		other := r.put(2, "organizations/2/internal/temp/old", content, time.Time{})
		r.pass(60 * day)
		for i := range 4 {
			r.put(1, at("idle", i), content, time.Time{})
		}
		r.put(1, at("over", 0), content, r.clock().Add(time.Hour))
		r.pass(40 * day)
		r.put(1, at("new", 0), content, time.Time{})

		run := Run{Org: 1, Policy: Policy{30, 90}, Limit: 100, DryRun: true}
		want := Done{Scanned: 8, ToWarm: 4, ToCold: 3, Deleted: 1, BytesMoved: 7000}
		keys := r.dir.Keys()
		done, err := r.Apply(ctx, run)
		require.NoError(t, err)
		require.Equal(t, want, done)
		require.Equal(t, keys, r.dir.Keys(), "a dry run changes nothing")
		last, err := r.lastRun(ctx, 1)
		require.NoError(t, err)
		require.True(t, last.IsZero())

		run.DryRun, run.Limit = false, 3
		done, err = r.Apply(ctx, run)
		require.NoError(t, err)
		require.Equal(t, Done{Scanned: 3, ToCold: 2, Deleted: 1, BytesMoved: 2000}, done)
		run.Limit = 100
		done, err = r.Apply(ctx, run)
		require.NoError(t, err)
		require.Equal(t, Done{Scanned: 5, ToWarm: 4, ToCold: 1, BytesMoved: 5000}, done)
		done, err = r.Apply(ctx, run)
		require.NoError(t, err)
		require.Equal(t, Done{}, done, "all is where it belongs")
		for i := range 3 {
			r.holds(1, at("old", i), content, protocol.TierCold)
		}
		for i := range 4 {
			r.holds(1, at("idle", i), content, protocol.TierWarm)
		}
		r.holds(1, at("new", 0), content, protocol.TierHot)
		require.Equal(t, other, r.holds(2, other.ObjectName, content, protocol.TierHot), "another org's")
		_, err = r.books.Find(ctx, 1, at("over", 0))
		require.ErrorIs(t, err, ledger.ErrNotFound)
		r.exact(9)
	})
}

func TestABackendThatIsDownEndsARun(t *testing.T) {
	each(t, func(t *testing.T, r *rig) {
		for i := range 20 {
			r.put(1, fmt.Sprint(name, i), noise(i, 100), time.Time{})
		}
		r.pass(100 * day)
		r.dir.Fail(func(op storagetest.Op) error {
			if op.Name == "copy" {
				return errFault
			}
			return nil
		})
		done, err := r.Apply(t.Context(), Run{Policy: Policy{30, 90}, Limit: 100})
		require.ErrorIs(t, err, errFault)
		require.Equal(t, giveUp, done.Failed)
		r.dir.Fail(nil)
		done, err = r.Apply(t.Context(), Run{Policy: Policy{30, 90}, Limit: 100})
		require.NoError(t, err)
		require.Equal(t, 20, done.ToCold)
		r.exact(20)
	})
}

func TestOneHostAtATimeRunsTheSchedule(t *testing.T) {
	each(t, func(t *testing.T, r *rig) {
		ctx := t.Context()
		r.put(1, name, noise(1, 1000), time.Time{})
		r.put(2, "organizations/2/internal/temp/a", noise(2, 1000), time.Time{})
		r.pass(100 * day)
		hourly := func(l *Lifecycle) *Lifecycle { l.every = time.Hour; return l }
		one, two := hourly(r.another()), hourly(r.another())
		mine, err := one.acquire(ctx, r.clock())
		require.NoError(t, err)
		require.True(t, mine)
		mine, err = two.acquire(ctx, r.clock())
		require.NoError(t, err)
		require.False(t, mine, "the other one has it")
		require.NoError(t, one.renew(ctx))
		r.pass(lease + time.Second) // one has died
		require.NoError(t, two.due(ctx))
		require.ErrorIs(t, one.renew(ctx), errTaken)
		r.holds(1, name, noise(1, 1000), protocol.TierCold)
		r.holds(2, "organizations/2/internal/temp/a", noise(2, 1000), protocol.TierCold)

		f := r.put(1, "organizations/1/internal/temp/b", noise(3, 10), r.clock().Add(time.Minute))
		r.pass(30 * time.Minute)
		require.NoError(t, one.due(ctx))
		_, err = r.books.ByID(ctx, 1, f.ID)
		require.NoError(t, err, "it is not time yet")
		r.pass(time.Hour)
		require.NoError(t, one.due(ctx))
		_, err = r.books.ByID(ctx, 1, f.ID)
		require.ErrorIs(t, err, ledger.ErrNotFound)
		r.exact(2)
	})
}

func TestTheScheduleRunsByItselfAndEnds(t *testing.T) {
	each(t, func(t *testing.T, r *rig) {
		r.put(1, name, noise(1, 1000), time.Time{})
		r.pass(40 * day)
		r.another(func(o *Options) { o.Every = time.Hour })
		require.Eventually(t, func() bool {
			f, err := r.books.Find(t.Context(), 1, name)
			return err == nil && f.Tier == protocol.TierWarm
		}, time.Minute, 5*time.Millisecond)
	})
}
