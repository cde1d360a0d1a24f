package ledger_test

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/rivergate/rivergate/sdk/protocol"
	"github.com/rivergate/rivergate/services/platform/database"
	"github.com/rivergate/rivergate/services/storage/ledger"
)

func (r *rig) exec(statement string) {
	r.Helper()
	require.NoError(r, r.db.Write(r.Context(), func(tx *database.Tx) error {
		_, err := tx.ExecContext(r.Context(), statement)
		return err
	}))
}

func (r *rig) object(key string, size int) {
	r.Helper()
	_, err := r.objects.Put(r.Context(), protocol.Put{Key: key, Size: int64(size)}, strings.NewReader(strings.Repeat("x", size)))
	require.NoError(r, err)
}

func TestReconcileFindsAndRepairsWhatIsWrong(t *testing.T) {
	each(t, func(r *rig) {
		ctx := r.Context()
		var all []ledger.File
		for i := range 6 {
			all = append(all, r.must(r.put(1, fmt.Sprint("ours/", i), 10+i, ledger.Create)))
		}
		r.must(r.put(2, "ours/2/x", 5, ledger.Create))
		r.exact()

		r.object("ours/0", 3)       // before all
		r.object("ours/zzz", 4)     // after all
		r.object("somebody's", 100) // beside the prefix
		require.NoError(r, r.objects.Delete(ctx, all[2].Key))
		r.object(all[3].Key, 1)
		r.exec("UPDATE ledger_orgs SET used = used + 7, reserved = 3 WHERE org = 1")
		r.exec("UPDATE ledger_counts SET files = files + 1 WHERE org = 1 AND level = 1")
		r.exec("DELETE FROM ledger_parts WHERE org = 2")
		r.exec("DELETE FROM ledger_orgs WHERE org = 2")
		grave := all[5]
		_, err := r.Delete(ctx, 1, grave.ObjectName)
		require.NoError(r, err)
		h, err := r.Reserve(ctx, ledger.Reservation{Org: 3, ObjectName: "ours/held", Bytes: 9, Lease: time.Minute})
		require.NoError(r, err)
		r.object(h.Key(), 9)
		r.pass(20 * time.Minute)

		options := ledger.ReconcileOptions{Prefix: "ours/"}
		found, err := r.Reconcile(ctx, r.objects, options)
		require.NoError(r, err)
		require.Equal(r, ledger.Report{
			Orgs: 3, Files: 6, Objects: 9,
			Books: []ledger.Difference{
				{Org: 1, What: "used", Written: 67, Right: 60}, {Org: 1, What: "reserved", Written: 3}, {Org: 1, What: "counts", Written: 2},
				{Org: 2, What: "used", Right: 5}, {Org: 2, What: "parts", Written: 1},
			},
			Orphans:     ledger.Finding{Count: 2, Bytes: 7, Keys: []string{"ours/0", "ours/zzz"}},
			Missing:     ledger.Finding{Count: 1, Bytes: 12, Keys: []string{all[2].Key}},
			Sizes:       ledger.Finding{Count: 1, Bytes: -12, Keys: []string{all[3].Key}},
			StaleHolds:  ledger.Finding{Count: 1, Bytes: 9, Keys: []string{h.Key()}},
			StaleGraves: ledger.Finding{Count: 1, Keys: []string{grave.Key}},
		}, found)
		require.False(r, found.Empty())

		options.Fix = true
		fixed, err := r.Reconcile(ctx, r.objects, options)
		require.NoError(r, err)
		require.Equal(r, found.Missing, fixed.Missing)
		require.Equal(r, found.Orphans, fixed.Orphans)
		r.object(all[3].Key, 13) // what a person has to do
		fixed, err = r.Reconcile(ctx, r.objects, ledger.ReconcileOptions{Prefix: "ours/"})
		require.NoError(r, err)
		require.True(r, fixed.Empty(), "%+v", fixed)
		require.ElementsMatch(r, []string{"somebody's", all[0].Key, all[1].Key, all[3].Key, all[4].Key, "ours/2/x" + r.must(r.Find(ctx, 2, "ours/2/x")).Key[len("ours/2/x"):]}, r.keys())
		u, err := r.Usage(ctx, 1)
		require.NoError(r, err)
		require.Equal(r, []int64{10 + 11 + 13 + 14, 0, 4}, []int64{u.Used, u.Reserved, u.Files})
	})
}

func TestReconcileGoesThroughPages(t *testing.T) {
	each(t, func(r *rig) {
		const many = 2500
		r.exec(fmt.Sprintf(`INSERT INTO ledger_files (org, usr, workspace, kind, category, purpose, object_name, file_name, key, size, stored_size, content_type, sha256, tier, key_id, free,
			columns, metadata, data_source, sequence, created, accessed, tier_changed, expires)
			WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < %d)
			SELECT 1, 7, 0, 'file', '', '', CAST(i AS TEXT), '', 'k' || i, 1, 1, '', '', 'hot', '', 0, '', '', 0, i, 1, 1, 0, 0 FROM n`, many))
		stored := keySet{}
		for i := range many {
			if i%100 > 0 {
				stored[fmt.Sprint("k", i+1)] = true
			}
			stored[fmt.Sprint("m", i)] = true
		}
		report, err := r.Reconcile(r.Context(), stored, ledger.ReconcileOptions{Fix: true})
		require.NoError(r, err)
		require.Equal(r, []int64{many, 2*many - many/100, many / 100, many}, []int64{report.Files, report.Objects, report.Missing.Count, report.Orphans.Count})
		require.Len(r, report.Orphans.Keys, 1000)
		report, err = r.Reconcile(r.Context(), stored, ledger.ReconcileOptions{})
		require.NoError(r, err)
		require.True(r, report.Empty(), "%+v", report)
		u, err := r.Usage(r.Context(), 1)
		require.NoError(r, err)
		require.EqualValues(r, many-many/100, u.Used)
	})
}

// keySet is a backend in memory with objects of one byte.
type keySet map[string]bool

func (s keySet) List(_ context.Context, _, after string, limit int) (page []protocol.Object, more bool, err error) {
	for _, key := range slices.Sorted(maps.Keys(s)) {
		if key > after && len(page) == limit {
			return page, true, nil
		}
		if key > after {
			page = append(page, protocol.Object{Key: key, Size: 1})
		}
	}
	return page, false, nil
}

func (s keySet) Stat(_ context.Context, key string) (protocol.Object, error) {
	if !s[key] {
		return protocol.Object{}, protocol.ErrNotFound
	}
	return protocol.Object{Key: key, Size: 1}, nil
}

func (s keySet) Delete(_ context.Context, key string) error {
	delete(s, key)
	return nil
}

func TestAReportIsEmptyWhileUploadsAreUnderWay(t *testing.T) {
	each(t, func(r *rig) {
		done := make(chan struct{})
		go func() {
			defer close(done)
			for i := range 40 {
				if _, err := r.put(1, name(i%5), 10, ledger.Replace); err != nil {
					r.Errorf("put: %v", err)
				}
				if i%3 == 0 {
					if _, err := r.Delete(r.Context(), 1, name(i%5)); err != nil {
						r.Errorf("delete: %v", err)
					}
				}
				r.sweep()
			}
		}()
		for looking := true; looking; {
			select {
			case <-done:
				looking = false
			default:
			}
			r.exact()
		}
		<-done
	})
}
