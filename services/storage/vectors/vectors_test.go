package vectors

import (
	"cmp"
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/rivergate/rivergate/services/platform/database"
	"github.com/rivergate/rivergate/services/platform/database/databasetest"
	"github.com/rivergate/rivergate/services/platform/embed"
)

func textVector(text string) []float32 { return embed.Text(text) }

// model is what a collection should hold.
type model map[string]Vector

// nearest is brute force over the model.
func (m model) nearest(metric Metric, query []float32, f Filter) (ranks []float64, total int) {
	if metric == Cosine {
		query = scaled(nil, query, metric.inverse(query))
	}
	for _, v := range m {
		if f == nil || f.matches(v.Metadata) {
			ranks = append(ranks, metric.score(metric.rank(query, v.Values, metric.inverse(v.Values))))
		}
	}
	slices.SortFunc(ranks, func(a, b float64) int { return cmp.Compare(b, a) })
	return ranks, len(ranks)
}

// Two hosts on one database write, delete and search in turn. Every search sees all that was answered before it, finds as
// many as there are, and has the recall that is promised, above and below the threshold.
func TestTwoHostsSeeEachOthersWritesAtOnce(t *testing.T) {
	databasetest.EachPlace(t, func(t *testing.T, place databasetest.Place) {
		twoHostsWriteAndSearch(t, place, Options{ExactBelow: 600})
	})
}

func twoHostsWriteAndSearch(t *testing.T, place databasetest.Place, o Options) {
	var hosts []*Vectors
	for range 2 {
		hosts = append(hosts, openPlace(t, place, o))
	}
	const d = 24
	for _, metric := range []Metric{Cosine, Dot, L2} {
		r := rand.New(rand.NewPCG(7, uint64(len(metric))))
		name, m := string(metric), model{}
		hits, wanted, indexed := 0, 0, 0
		for step := range 60 {
			host := hosts[r.IntN(2)]
			switch n := r.IntN(10); {
			case n < 6 || step == 0:
				u := &Upsert{Collection: name, Metric: metric}
				for range 1 + r.IntN(150) {
					id := fmt.Sprint(r.IntN(2500))
					if slices.ContainsFunc(u.Vectors, func(v Vector) bool { return v.ID == id }) {
						continue
					}
					u.Vectors = append(u.Vectors, Vector{ID: id, Values: gauss(r, d, 1), Metadata: fmt.Sprintf(`{"group":%d,"name":"n%d"}`, r.IntN(10), r.IntN(3))})
				}
				inserted := 0
				for _, v := range u.Vectors {
					if _, ok := m[v.ID]; !ok {
						inserted++
					}
					m[v.ID] = v
				}
				done, err := host.Upsert(t.Context(), 1, u)
				require.NoError(t, err)
				require.Equal(t, Upserted{Inserted: inserted, Updated: len(u.Vectors) - inserted, Dimensions: d}, *done)
			case n < 8:
				var ids []string
				there := 0
				for range 1 + r.IntN(60) {
					id := fmt.Sprint(r.IntN(2500))
					if _, ok := m[id]; ok {
						there++
						delete(m, id)
					}
					ids = append(ids, id)
				}
				gone, err := host.Delete(t.Context(), 1, &Delete{Collection: name, IDs: ids})
				require.NoError(t, err)
				require.Equal(t, there, gone)
			case n == 8:
				f, err := ParseFilter([]byte(fmt.Sprintf(`{"group":%d,"name":{"$in":["n0","n1"]}}`, r.IntN(10))))
				require.NoError(t, err)
				there := 0
				for id, v := range m {
					if f.matches(v.Metadata) {
						there++
						delete(m, id)
					}
				}
				gone, err := host.Delete(t.Context(), 1, &Delete{Collection: name, Filter: f})
				require.NoError(t, err)
				require.Equal(t, there, gone)
			case step%20 == 19:
				gone, err := host.Delete(t.Context(), 1, &Delete{Collection: name, All: true})
				require.NoError(t, err)
				require.Equal(t, len(m), gone)
				clear(m)
			}
			for i, host := range hosts {
				host.settle() // so that the index answers wherever it may
				q := &Query{Collection: name, Vector: gauss(r, d, 1), TopK: 10, IncludeValues: true, Exact: r.IntN(4) == 0}
				if r.IntN(2) == 0 {
					f, err := ParseFilter([]byte(fmt.Sprintf(`{"group":{"$gte":%d,"$lt":%d}}`, r.IntN(5), 3+r.IntN(8))))
					require.NoError(t, err)
					q.Filter = f
				}
				got, err := host.Search(t.Context(), 1, q)
				require.NoError(t, err)
				truth, total := m.nearest(metric, q.Vector, q.Filter)
				require.Equal(t, total, got.Total, "host %d", i)
				require.Len(t, got.Matches, min(10, total))
				require.True(t, slices.IsSortedFunc(got.Matches, func(a, b Match) int { return cmp.Compare(b.Score, a.Score) }))
				for k, match := range got.Matches {
					v, ok := m[match.ID]
					require.True(t, ok, "%s is gone", match.ID)
					require.Equal(t, v.Values, match.Values)
					require.Equal(t, v.Metadata, match.Metadata)
					require.True(t, q.Filter == nil || q.Filter.matches(match.Metadata))
					if got.Exact {
						require.InDelta(t, truth[k], match.Score, 1e-5)
					} else {
						wanted++
						if match.Score >= truth[min(9, total-1)]-1e-6 {
							hits++
						}
					}
				}
				if !got.Exact {
					indexed++
				}
			}
		}
		require.Positive(t, indexed, "the index was used")
		require.GreaterOrEqual(t, float64(hits), 0.95*float64(wanted), "%s", metric)
	}
}

func TestACollectionLargerThanTheMemoryIsSearchedInTheDatabase(t *testing.T) {
	databasetest.Each(t, func(t *testing.T, db *database.DB) {
		v, small := open(t, db, Options{}), open(t, db, Options{Memory: 1})
		r := rand.New(rand.NewPCG(3, 4))
		u := &Upsert{Collection: "c", Metric: L2}
		for i := range 500 {
			u.Vectors = append(u.Vectors, Vector{ID: fmt.Sprint(i), Values: gauss(r, 20, 1), Metadata: fmt.Sprintf(`{"odd":%t}`, i%2 == 1)})
		}
		_, err := v.Upsert(t.Context(), 1, u)
		require.NoError(t, err)
		f, err := ParseFilter([]byte(`{"odd":true}`))
		require.NoError(t, err)
		for _, filter := range []Filter{nil, f} {
			q := &Query{Collection: "c", Vector: gauss(r, 20, 1), TopK: 20, IncludeValues: true, Filter: filter}
			want, err := v.Search(t.Context(), 1, q)
			require.NoError(t, err)
			got, err := small.Search(t.Context(), 1, q)
			require.NoError(t, err)
			require.Equal(t, want, got)
		}
		require.Empty(t, small.collections)
	})
}

func TestTheMemoryHoldsTheCollectionsThatWereUsedLast(t *testing.T) {
	v := open(t, openSQLite(t), Options{Memory: 2*footprint(blockVectors, 8) + 1000})
	r := rand.New(rand.NewPCG(3, 4))
	search := func(i int) {
		got, err := v.Search(t.Context(), 1, &Query{Collection: fmt.Sprint(i), Vector: gauss(r, 8, 1), TopK: 10})
		require.NoError(t, err)
		require.Len(t, got.Matches, 10)
	}
	for i := range 6 {
		u := &Upsert{Collection: fmt.Sprint(i)}
		for k := range 200 {
			u.Vectors = append(u.Vectors, Vector{ID: fmt.Sprint(k), Values: gauss(r, 8, 1)})
		}
		_, err := v.Upsert(t.Context(), 1, u)
		require.NoError(t, err)
		search(i)
		search(0)
		require.LessOrEqual(t, len(v.collections), 2)
	}
	require.NotNil(t, v.cached(1), "the one that is used again and again stays")
}

func TestOldTombstonesGoAndWhoMissedThemReadsAllAgain(t *testing.T) {
	db := openSQLite(t)
	here, there := open(t, db, Options{}), open(t, db, Options{})
	put := func(id string) {
		_, err := here.Upsert(t.Context(), 1, &Upsert{Collection: "c", Vectors: []Vector{{ID: id, Values: []float32{1, 2}}}})
		require.NoError(t, err)
	}
	q := &Query{Collection: "c", Vector: []float32{1, 1}, TopK: 10}
	put("gone")
	put("stays")
	got, err := there.Search(t.Context(), 1, q)
	require.NoError(t, err)
	require.Len(t, got.Matches, 2)
	_, err = here.Delete(t.Context(), 1, &Delete{Collection: "c", IDs: []string{"gone"}})
	require.NoError(t, err)
	for range 2 * tombstonesFor {
		put("stays")
	}
	var rows int
	require.NoError(t, db.Reader().QueryRowContext(t.Context(), "SELECT count(*) FROM vectors").Scan(&rows))
	require.Equal(t, 1, rows)
	got, err = there.Search(t.Context(), 1, q)
	require.NoError(t, err)
	require.Len(t, got.Matches, 1)
	require.Equal(t, 1, got.Total)
}
