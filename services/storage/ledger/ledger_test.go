package ledger_test

import (
	"encoding/json"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/rivergate/rivergate/sdk/protocol"
	"github.com/rivergate/rivergate/services/storage/ledger"
)

func TestAFileIsFoundAsItWasCommitted(t *testing.T) {
	each(t, func(r *rig) {
		ctx := r.Context()
		h, err := r.Reserve(ctx, ledger.Reservation{Org: 1, ObjectName: name(1), Kind: ledger.KindFile, Bytes: 10, Fresh: true})
		require.NoError(r, err)
		require.Equal(r, name(1), h.Key(), "a name that never comes again is its own key")
		r.uses(1, 0, 10)
		want := ledger.File{
			User: 7, Workspace: 8, Category: "data_source", Purpose: "why", FileName: "Ünïcode 'name'?.csv", Size: 9, StoredSize: 11, ContentType: "text/csv",
			SHA256: strings.Repeat("ab", 32), KeyID: "k1", Columns: []string{"a", "b\"c"}, Metadata: json.RawMessage(`{"a":[1,"?"]}`), DataSourceID: 5,
			Expires: r.now().Add(time.Hour).UTC().Truncate(time.Microsecond), Tier: protocol.TierWarm,
		}
		f, replaced, err := h.Commit(ctx, want, ledger.Create)
		require.NoError(r, err)
		require.Nil(r, replaced)
		require.NoError(r, h.Release(ctx), "ended: it does nothing")
		want.ID, want.Org, want.Kind, want.ObjectName, want.Key, want.Created, want.Accessed = f.ID, 1, ledger.KindFile, name(1), name(1), f.Created, f.Created
		require.Equal(r, want, f)
		require.WithinDuration(r, r.now(), f.Created, time.Minute)

		require.Equal(r, f, r.must(r.Find(ctx, 1, name(1))))
		require.Equal(r, f, r.must(r.ByID(ctx, 1, f.ID)))
		for _, org := range []uint64{2, 1 << 62} {
			_, err = r.Find(ctx, org, name(1))
			require.ErrorIs(r, err, ledger.ErrNotFound)
			_, err = r.ByID(ctx, org, f.ID)
			require.ErrorIs(r, err, ledger.ErrNotFound)
			_, err = r.Delete(ctx, org, name(1))
			require.ErrorIs(r, err, ledger.ErrNotFound)
		}
		list, total, err := r.List(ctx, ledger.Query{Org: 1, User: 7, Limit: 10})
		require.NoError(r, err)
		require.EqualValues(r, 1, total)
		shown := f
		shown.Columns, shown.Metadata = nil, nil
		require.Equal(r, []ledger.File{shown}, list)

		require.NoError(r, r.SetDataSource(ctx, 1, f.ID, 99))
		require.ErrorIs(r, r.SetDataSource(ctx, 2, f.ID, 99), ledger.ErrNotFound)
		require.EqualValues(r, 99, r.must(r.ByID(ctx, 1, f.ID)).DataSourceID)
	})
}

func TestEqualityWithTheLimitPassesAndAByteMoreDoesNot(t *testing.T) {
	each(t, func(r *rig) {
		ctx := r.Context()
		r.must(r.put(1, name(1), 600, ledger.Create))
		h, err := r.Reserve(ctx, ledger.Reservation{Org: 1, ObjectName: name(2), Bytes: 300})
		require.NoError(r, err)
		_, err = r.put(1, name(3), 101, ledger.Create)
		var quota *ledger.QuotaError
		require.ErrorAs(r, err, &quota)
		require.Equal(r, ledger.QuotaError{Limit: limit, Used: 600, Reserved: 300, Requested: 101}, *quota)
		require.ErrorAs(r, h.Grow(ctx, 101), &quota)
		require.EqualValues(r, 300, h.Bytes())
		require.NoError(r, h.Grow(ctx, 100))
		r.uses(1, 600, 400)
		_, err = r.put(1, name(3), 1, ledger.Create)
		require.ErrorAs(r, err, &quota)
		r.must(r.put(1, name(3), 0, ledger.Create))
		r.must(r.put(2, name(1), limit, ledger.Create)) // another org
		require.NoError(r, h.Release(ctx))
		require.NoError(r, h.Release(ctx))
		r.uses(1, 600, 0)
		r.uses(2, limit, 0)

		require.NoError(r, r.SetLimit(ctx, 1, 500))
		_, err = r.put(1, name(4), 0, ledger.Create)
		require.ErrorAs(r, err, &quota, "over a limit that was lowered, nothing comes in")
		r.must(r.put(1, name(1), 599, ledger.Replace)) // but less may take the place of more
		require.NoError(r, r.SetLimit(ctx, 1, ledger.Unlimited))
		h, err = r.Reserve(ctx, ledger.Reservation{Org: 1, ObjectName: name(5), Bytes: 1 << 59})
		require.NoError(r, err)
		require.NoError(r, h.Release(ctx))
		_, err = r.Reserve(ctx, ledger.Reservation{Org: 1, ObjectName: name(5), Bytes: 1<<63 - 1})
		require.ErrorAs(r, err, &quota)
		require.NoError(r, r.ClearLimit(ctx, 1))
		u, err := r.Usage(ctx, 1)
		require.NoError(r, err)
		require.EqualValues(r, limit, u.Limit)
		require.False(r, u.Own)
		require.Error(r, r.SetLimit(ctx, 1, -2))
		_, err = r.Reserve(ctx, ledger.Reservation{Org: 1, ObjectName: name(5), Bytes: -1})
		require.Error(r, err)
		require.Error(r, h.Grow(ctx, -1))
		r.exact()
	})
}

func TestWhatIsCommittedIsChargedNotWhatWasReserved(t *testing.T) {
	each(t, func(r *rig) {
		ctx := r.Context()
		commit := func(reserved, size int64) error {
			h, err := r.Reserve(ctx, ledger.Reservation{Org: 1, ObjectName: name(int(size)), Kind: ledger.KindInternal, Bytes: reserved})
			require.NoError(r, err)
			_, _, err = h.Commit(ctx, ledger.File{Size: size}, ledger.Create)
			require.NoError(r, h.Release(ctx))
			return err
		}
		require.NoError(r, commit(1000, 10))
		require.NoError(r, commit(0, 500))
		var quota *ledger.QuotaError
		require.ErrorAs(r, commit(100, 491), &quota)
		require.NoError(r, commit(100, 490))
		u, err := r.Usage(ctx, 1)
		require.NoError(r, err)
		require.Equal(r, []int64{1000, 0}, []int64{u.Used, u.Reserved})
	})
}

func TestAnOverwriteChargesTheDifference(t *testing.T) {
	each(t, func(r *rig) {
		ctx := r.Context()
		first := r.must(r.put(1, name(1), 900, ledger.Create))
		_, err := r.put(1, name(1), 50, ledger.Create)
		require.ErrorIs(r, err, ledger.ErrExists)
		h, err := r.Reserve(ctx, ledger.Reservation{Org: 1, ObjectName: name(1), Kind: ledger.KindFile, Bytes: 10})
		require.NoError(r, err)
		_, _, err = h.Commit(ctx, ledger.File{Size: 500}, ledger.Create)
		require.ErrorIs(r, err, ledger.ErrExists, "this comes first, though it would not fit either")
		require.NoError(r, h.Release(ctx))
		r.uses(1, 900, 0)
		require.Equal(r, first, r.must(r.Find(ctx, 1, name(1))), "a failed one leaves the former version")

		second := r.must(r.put(1, name(1), limit, ledger.Replace)) // 100 more, though both are there for a while
		r.uses(1, limit, 0)
		require.Equal(r, first.ID, second.ID)
		require.NotEqual(r, first.Key, second.Key)
		_, err = r.put(1, name(1), limit+1, ledger.Replace)
		var quota *ledger.QuotaError
		require.ErrorAs(r, err, &quota)
		require.EqualValues(r, 1, quota.Requested)
		r.must(r.put(1, name(1), 10, ledger.Replace))
		r.uses(1, 10, 0)

		// Two at once count on the same former file; the second pays the rest when it is committed.
		hold := func(bytes int64) *ledger.Hold {
			h, err := r.Reserve(ctx, ledger.Reservation{Org: 1, ObjectName: name(1), Kind: ledger.KindFile, Bytes: bytes, Overwrite: true})
			require.NoError(r, err)
			require.EqualValues(r, bytes-10, h.Bytes())
			return h
		}
		small, large := hold(20), hold(30)
		_, _, err = small.Commit(ctx, ledger.File{Size: 20}, ledger.Replace)
		require.NoError(r, err)
		_, replaced, err := large.Commit(ctx, ledger.File{Size: 30}, ledger.Replace)
		require.NoError(r, err)
		require.EqualValues(r, 20, replaced.Size)

		// The former file goes meanwhile: its bytes are not there any more.
		h, err = r.Reserve(ctx, ledger.Reservation{Org: 1, ObjectName: name(1), Kind: ledger.KindFile, Bytes: 40, Overwrite: true})
		require.NoError(r, err)
		_, err = r.Delete(ctx, 1, name(1))
		require.NoError(r, err)
		r.must(r.put(1, name(2), limit-10-20, ledger.Create))
		_, _, err = h.Commit(ctx, ledger.File{Size: 40}, ledger.Replace)
		require.ErrorAs(r, err, &quota)
		require.NoError(r, h.Release(ctx))
		_, graves := r.sweep()
		require.Positive(r, graves)
		require.Len(r, r.keys(), 1)
		r.uses(1, limit-30, 0)
	})
}

func TestADeletedFileIsPaidBackOnceAndItsKeyNeverComesAgain(t *testing.T) {
	each(t, func(r *rig) {
		ctx := r.Context()
		f := r.must(r.put(1, name(1), 10, ledger.Create))
		gone, err := r.Delete(ctx, 1, name(1))
		require.NoError(r, err)
		require.Equal(r, f, gone)
		_, err = r.Delete(ctx, 1, name(1))
		require.ErrorIs(r, err, ledger.ErrNotFound)
		r.uses(1, 0, 0)
		again := r.must(r.put(1, name(1), 10, ledger.Create))
		require.NotEqual(r, f.Key, again.Key)
		require.NotEqual(r, f.ID, again.ID)

		_, err = r.DeleteVersion(ctx, f)
		require.ErrorIs(r, err, ledger.ErrNotFound)
		newer := r.must(r.put(1, name(1), 20, ledger.Replace))
		_, err = r.DeleteVersion(ctx, again)
		require.ErrorIs(r, err, ledger.ErrChanged)
		_, err = r.DeleteVersion(ctx, newer)
		require.NoError(r, err)

		// The key of a fresh name is refused while anything has it.
		fresh := ledger.Reservation{Org: 1, ObjectName: "organizations/1/models/m/v1/a", Kind: ledger.KindModel, Fresh: true}
		h, err := r.Reserve(ctx, fresh)
		require.NoError(r, err)
		_, err = r.Reserve(ctx, fresh)
		require.ErrorIs(r, err, ledger.ErrExists)
		require.NoError(r, h.Release(ctx))
		_, err = r.Reserve(ctx, fresh)
		require.ErrorIs(r, err, ledger.ErrExists)
		r.sweep()
		r.exact()
	})
}

func TestFreeFilesCostNothing(t *testing.T) {
	each(t, func(r *rig) {
		ctx := r.Context()
		h, err := r.Reserve(ctx, ledger.Reservation{Org: 1, ObjectName: name(1), Kind: ledger.KindInternal, Bytes: 10 * limit, Free: true})
		require.NoError(r, err)
		require.NoError(r, h.Grow(ctx, limit))
		f, _, err := h.Commit(ctx, ledger.File{Size: 11 * limit}, ledger.Create)
		require.NoError(r, err)
		require.True(r, f.Free)
		r.must(r.put(1, name(2), limit, ledger.Create))
		u, err := r.Usage(ctx, 1)
		require.NoError(r, err)
		require.Equal(r, ledger.Usage{
			Limit: limit, Used: limit, Files: 1, Categories: map[string]ledger.Part{"general": {Files: 1, Bytes: limit}},
			Tiers: map[protocol.Tier]ledger.Part{protocol.TierHot: {Files: 2, Bytes: 12 * limit}},
		}, u)
		_, err = r.Delete(ctx, 1, name(1))
		require.NoError(r, err)
		u, err = r.Usage(ctx, 1)
		require.NoError(r, err)
		require.EqualValues(r, limit, u.Used)
	})
}

func TestAMovedFileIsReadableAtEveryInstant(t *testing.T) {
	each(t, func(r *rig) {
		ctx := r.Context()
		f := r.must(r.put(1, name(1), 10, ledger.Create))
		move := func(f ledger.File) (ledger.File, error) {
			h, err := r.Reserve(ctx, ledger.Reservation{Org: 1, ObjectName: f.ObjectName, Kind: f.Kind, Free: true})
			require.NoError(r, err)
			defer func() { require.NoError(r, h.Release(ctx)) }()
			_, err = r.objects.Copy(ctx, f.Key, protocol.Put{Key: h.Key(), Tier: protocol.TierCold})
			require.NoError(r, err)
			return h.Move(ctx, f, protocol.TierCold, 10, "k2")
		}
		moved := r.must(move(f))
		require.Equal(r, moved, r.must(r.Find(ctx, 1, name(1))))
		require.Equal(r, []any{protocol.TierCold, "k2", f.ID, f.Created}, []any{moved.Tier, moved.KeyID, moved.ID, moved.Created})
		require.False(r, moved.TierChanged.IsZero())
		_, err := move(f) // what was read before it moved
		require.ErrorIs(r, err, ledger.ErrChanged)
		r.sweep()
		require.Equal(r, []string{moved.Key}, r.keys())
		r.uses(1, 10, 0)

		warm := r.must(r.SetTier(ctx, moved, protocol.TierWarm))
		require.Equal(r, warm, r.must(r.Find(ctx, 1, name(1))))
		_, err = r.SetTier(ctx, moved, protocol.TierHot)
		require.ErrorIs(r, err, ledger.ErrChanged)
		u, err := r.Usage(ctx, 1)
		require.NoError(r, err)
		require.EqualValues(r, 10, u.Tiers[protocol.TierWarm].Bytes)
		r.exact()
	})
}

func TestHoldsLiveAsLongAsTheirProcessOrTheirTime(t *testing.T) {
	each(t, func(r *rig) {
		ctx := r.Context()
		reserve := func(l *ledger.Ledger, n int, lease time.Duration) *ledger.Hold {
			h, err := l.Reserve(ctx, ledger.Reservation{Org: 1, ObjectName: name(n), Kind: ledger.KindFile, Bytes: 10, Lease: lease})
			require.NoError(r, err)
			_, err = r.objects.Put(ctx, protocol.Put{Key: h.Key(), Size: 1}, strings.NewReader("x"))
			require.NoError(r, err)
			return h
		}
		dead := r.another(ledger.Options{})
		ours, theirs, timed := reserve(r.Ledger, 1, 0), reserve(dead, 2, 0), reserve(dead, 3, 3*time.Hour)
		holds, _ := r.sweep()
		require.Zero(r, holds)
		r.uses(1, 0, 30)

		again, err := r.Hold(ctx, 1, timed.ID())
		require.NoError(r, err)
		require.Equal(r, []any{timed.Key(), timed.Bytes()}, []any{again.Key(), again.Bytes()})
		for _, h := range []*ledger.Hold{ours, theirs} {
			_, err = r.Hold(ctx, 1, h.ID())
			require.ErrorIs(r, err, ledger.ErrHoldLost, "it belongs to a process")
			require.ErrorIs(r, h.Keep(ctx, time.Hour), ledger.ErrHoldLost)
		}
		_, err = r.Hold(ctx, 2, timed.ID())
		require.ErrorIs(r, err, ledger.ErrHoldLost)

		r.pass(2 * time.Hour)
		alive := r.another(ledger.Options{}) // the rig's own is late now, too
		ours = reserve(alive, 4, 0)
		holds, graves := r.sweep()
		require.Equal(r, []int{2, 0}, []int{holds, graves}, "their objects may still be on their way")
		r.uses(1, 0, 20)
		r.pass(2 * time.Minute)
		_, graves = r.sweep()
		require.Equal(r, 2, graves)
		require.Len(r, r.keys(), 2)
		_, _, err = theirs.Commit(ctx, ledger.File{Size: 1}, ledger.Create)
		require.ErrorIs(r, err, ledger.ErrHoldLost)
		require.ErrorIs(r, theirs.Grow(ctx, 1), ledger.ErrHoldLost)
		require.NoError(r, theirs.Release(ctx))

		require.NoError(r, again.Keep(ctx, 3*time.Hour))
		r.pass(2 * time.Hour)
		holds, _ = r.sweep()
		require.Equal(r, 1, holds, "that of the other process that is late now")
		_, _, err = timed.Commit(ctx, ledger.File{Size: 10, StoredSize: 1}, ledger.Create)
		require.NoError(r, err)
		r.uses(1, 10, 0)
		require.ErrorIs(r, ours.Grow(ctx, 1), ledger.ErrHoldLost)
	})
}

func TestTheSameHostTakesOverWhatItHeldBefore(t *testing.T) {
	each(t, func(r *rig) {
		ctx := r.Context()
		first := r.another(ledger.Options{Host: "a"})
		other := r.another(ledger.Options{Host: "a0"}) // not the same name
		for i, l := range []*ledger.Ledger{first, other} {
			_, err := l.Reserve(ctx, ledger.Reservation{Org: 1, ObjectName: name(i), Bytes: 10})
			require.NoError(r, err)
		}
		r.another(ledger.Options{Host: "a"})
		holds, _ := r.sweep()
		require.Equal(r, 1, holds)
		r.uses(1, 0, 10)
		_, err := ledger.Open(ctx, r.db, ledger.Options{Host: "a/b"})
		require.ErrorContains(r, err, "slash")
	})
}

func TestTombstonesGoToOneCallerAtATime(t *testing.T) {
	each(t, func(r *rig) {
		ctx := r.Context()
		for i := range 5 {
			r.must(r.put(1, name(i), 1, ledger.Create))
			_, err := r.Delete(ctx, 1, name(i))
			require.NoError(r, err)
			r.pass(time.Second)
		}
		first, err := r.Tombstones(ctx, 3)
		require.NoError(r, err)
		rest, err := r.Tombstones(ctx, 3)
		require.NoError(r, err)
		require.Equal(r, []int{3, 2}, []int{len(first), len(rest)})
		for _, g := range first {
			require.NoError(r, r.objects.Delete(ctx, g.Key))
			require.NoError(r, r.Purged(ctx, g.Key))
		}
		r.pass(2 * time.Minute) // the other caller died
		again, err := r.Tombstones(ctx, 10)
		require.NoError(r, err)
		require.ElementsMatch(r, rest, again)
	})
}

func TestExpiredAndIdleFiles(t *testing.T) {
	each(t, func(r *rig) {
		ctx := r.Context()
		var all []ledger.File
		for i := range 4 {
			h, err := r.Reserve(ctx, ledger.Reservation{Org: 1, ObjectName: name(i), Kind: ledger.KindInternal})
			require.NoError(r, err)
			f := ledger.File{}
			if i > 0 {
				f.Expires = r.now().Add(time.Duration(i) * time.Hour)
			}
			f, _, err = h.Commit(ctx, f, ledger.Create)
			require.NoError(r, err)
			all = append(all, f)
		}
		r.pass(2*time.Hour + time.Minute)
		expired, err := r.Expired(ctx, 0, 10)
		require.NoError(r, err)
		require.Equal(r, all[1:3], expired)

		r.Touch(all[0])
		other := r.another(ledger.Options{Lease: 4 * time.Millisecond})
		other.Touch(all[3])
		require.Eventually(r, func() bool { return r.must(r.ByID(ctx, 1, all[3].ID)).Accessed.After(all[3].Accessed) }, time.Minute, time.Millisecond)
		var idle []ledger.File
		for after := (ledger.File{}); ; {
			page, err := r.Idle(ctx, 0, protocol.TierHot, r.now().Add(-time.Hour), after, 2)
			require.NoError(r, err)
			if len(page) == 0 {
				break
			}
			idle, after = append(idle, page...), page[len(page)-1]
		}
		require.Equal(r, all[:3], idle)
	})
}
