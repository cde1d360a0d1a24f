package ledger_test

import (
	"cmp"
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/rivergate/rivergate/sdk/protocol"
	"github.com/rivergate/rivergate/services/storage/ledger"
)

// TestEachPageHasWhatASortedListWouldHave: the sequence has holes, several users and categories, and spans many pieces.
func TestEachPageHasWhatASortedListWouldHave(t *testing.T) {
	each(t, func(r *rig) {
		ctx := r.Context()
		// Sequences up to 2^19, over many pieces of both levels: some pieces are full, some empty.
		r.exec(`INSERT INTO ledger_files (org, usr, workspace, kind, category, purpose, object_name, file_name, key, size, stored_size, content_type, sha256, tier, key_id, free,
			columns, metadata, data_source, sequence, created, accessed, tier_changed, expires)
			WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 3000)
			SELECT 1, 7 + i % 2, 0, CASE WHEN i % 50 = 0 THEN 'internal' ELSE 'file' END, CASE WHEN i % 3 = 0 THEN 'a' ELSE 'b' END, '', CAST(i AS TEXT), CAST(i * 7919 % 1000 AS TEXT), 'k' || i,
			i * 31 % 97, 1, '', '', 'hot', '', 0, '', '', 0, CASE WHEN i < 1000 THEN i ELSE i * 177 END, i, 1, 0, 0 FROM n`)
		r.exec("UPDATE ledger_files SET sequence = 0 WHERE kind = 'internal'")
		r.exec("INSERT INTO ledger_orgs (org, sequence) VALUES (1, 600000)")
		_, err := r.Reconcile(ctx, anything{}, ledger.ReconcileOptions{Fix: true})
		require.NoError(r, err)
		require.NoError(r, r.SetLimit(ctx, 1, ledger.Unlimited))

		var theirs []ledger.File // of user 7
		for i := 2; i <= 3000; i += 2 {
			if f := r.must(r.Find(ctx, 1, fmt.Sprint(i))); f.Kind == ledger.KindFile {
				theirs = append(theirs, f)
			}
		}
		require.Len(r, theirs, 1500-60)
		for _, category := range []string{"", "a", "none"} {
			want := slices.DeleteFunc(slices.Clone(theirs), func(f ledger.File) bool { return category != "" && f.Category != category })
			for _, sort := range []ledger.Sort{ledger.SortCreated, ledger.SortName, ledger.SortSize} {
				slices.SortStableFunc(want, func(a, b ledger.File) int {
					older := a.Created.Compare(b.Created)
					switch sort {
					case ledger.SortName:
						return cmp.Or(cmp.Compare(a.FileName, b.FileName), older)
					case ledger.SortSize:
						return cmp.Or(cmp.Compare(a.Size, b.Size), older)
					}
					return older
				})
				for _, ascending := range []bool{true, false} {
					sorted := slices.Clone(want)
					if !ascending {
						slices.Reverse(sorted)
					}
					for range 15 {
						offset := rand.IntN(len(sorted) + 20)
						got, total, err := r.List(ctx, ledger.Query{Org: 1, User: 7, Category: category, Sort: sort, Ascending: ascending, Offset: int64(offset), Limit: 20})
						require.NoError(r, err)
						require.EqualValues(r, len(sorted), total)
						require.Equal(r, append([]ledger.File(nil), sorted[min(offset, len(sorted)):min(offset+20, len(sorted))]...), got, "%s %s %v %d", category, sort, ascending, offset)
					}
				}
			}
		}
		_, _, err = r.List(ctx, ledger.Query{Org: 1, User: 7, Sort: ledger.SortName, Offset: ledger.MaxSortedOffset + 1, Limit: 1})
		require.ErrorIs(r, err, ledger.ErrDeep)
	})
}

// anything is a backend in which every key is, though its list is empty: Reconcile has nothing to say about it.
type anything struct{ ledger.Objects }

func (anything) List(context.Context, string, string, int) ([]protocol.Object, bool, error) {
	return nil, false, nil
}
func (anything) Stat(context.Context, string) (protocol.Object, error) { return protocol.Object{}, nil }
