package vectors

import (
	"context"
	"fmt"
	"math/rand/v2"
	"net/url"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/hashicorp/go-hclog"
	"github.com/stretchr/testify/require"

	"github.com/rivergate/rivergate/services/platform/database"
	"github.com/rivergate/rivergate/services/platform/database/databasetest"
)

// tiny is a memory that no collection fits into.
const tiny = 1

// eachWithPgvector runs a test with an empty database that may have the extension: on PostgreSQL itself, and behind PgBouncer.
func eachWithPgvector(t *testing.T, run func(t *testing.T, place databasetest.Place)) {
	t.Run("postgres", func(t *testing.T) { run(t, withPgvector(t, databasetest.PostgresDSN)) })
	t.Run("pgbouncer", func(t *testing.T) { run(t, withPgvector(t, databasetest.PgBouncerDSN)) })
}

// withPgvector is an empty database with the extension. Where the server does not have it, the test is skipped; on a build server it fails.
func withPgvector(t *testing.T, variable string) databasetest.Place {
	place := databasetest.Postgres(t, variable)
	db, err := place.Open(t.Context())
	require.NoError(t, err)
	defer db.Close()
	there, err := findPgvector(t.Context(), db, hclog.NewNullLogger())
	require.NoError(t, err)
	if !there {
		require.NotEqual(t, "true", os.Getenv("CI"), "the server has no pgvector: deploy/services run … pgvector installs it")
		t.Skip("the server has no pgvector: deploy/services run … pgvector installs it")
	}
	return place
}

func openPlace(t *testing.T, place databasetest.Place, o Options) *Vectors {
	db, err := place.Open(t.Context())
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, db.Close()) })
	return open(t, db, o)
}

// put stores n vectors with the ids from..from+n-1, past the host: nobody follows.
func put(t *testing.T, v *Vectors, r *rand.Rand, d, from, n int) {
	t.Helper()
	for ; n > 0; n -= MaxVectors {
		u := &Upsert{Collection: "c", Metric: L2}
		for range min(n, MaxVectors) {
			u.Vectors = append(u.Vectors, Vector{ID: fmt.Sprint(from), Values: gauss(r, d, 1), Metadata: fmt.Sprintf(`{"n":%d}`, from)})
			from++
		}
		_, _, err := v.store.upsert(t.Context(), 1, u)
		require.NoError(t, err)
	}
}

// ask searches until the collection has been followed to its end, and once more. That may take a while: others may be at it, or a dead
// host's transaction may not have ended, and PostgreSQL does not use a new index before older transactions have ended.
func ask(t *testing.T, v *Vectors, q *Query) *Result {
	t.Helper()
	for deadline := time.Now().Add(time.Minute); ; {
		r, err := v.Search(t.Context(), 1, q)
		require.NoError(t, err)
		v.settle()
		if v.pgvector == nil {
			return r
		}
		h, err := v.store.head(t.Context(), 1, q.Collection)
		require.NoError(t, err)
		s, err := v.pgvector.state(t.Context(), v.store.db.Reader(), h.id, false)
		require.NoError(t, err)
		if s == nil || s.at.version >= h.version && s.trained > 0 && s.ef != 0 {
			break
		}
		require.True(t, time.Now().Before(deadline), "it is not followed: %+v", s)
	}
	r, err := v.Search(t.Context(), 1, q)
	require.NoError(t, err)
	return r
}

func filter(t *testing.T, text string) Filter {
	t.Helper()
	f, err := ParseFilter([]byte(text))
	require.NoError(t, err)
	return f
}

func tableExists(t *testing.T, db *database.DB) (there bool) {
	t.Helper()
	require.NoError(t, db.Reader().QueryRowContext(t.Context(), "SELECT to_regclass('pgvector_1') IS NOT NULL").Scan(&there))
	return there
}

func TestPgvectorSeesWritesAtOnceAndHasItsRecall(t *testing.T) {
	eachWithPgvector(t, func(t *testing.T, place databasetest.Place) {
		twoHostsWriteAndSearch(t, place, Options{ExactBelow: 600, Memory: tiny})
	})
}

func TestWhatPgvectorHasNotGotYetIsComparedBesideIt(t *testing.T) {
	eachWithPgvector(t, func(t *testing.T, place databasetest.Place) {
		v, r := openPlace(t, place, Options{ExactBelow: 500, Memory: tiny}), rand.New(rand.NewPCG(1, 2))
		put(t, v, r, 16, 0, 2000)
		q := &Query{Collection: "c", Vector: gauss(r, 16, 1), TopK: 20, IncludeValues: true}
		found := ask(t, v, q)
		require.False(t, found.Exact)
		require.Len(t, found.Matches, 20)

		// The best goes far away, the second is deleted, another one comes to its place: past the host, so nobody follows.
		far, gone := found.Matches[0].ID, found.Matches[1].ID
		_, _, err := v.store.upsert(t.Context(), 1, &Upsert{Collection: "c", Vectors: []Vector{
			{ID: far, Values: make([]float32, 16)}, {ID: "new", Values: q.Vector},
		}})
		require.NoError(t, err)
		_, _, err = v.store.delete(t.Context(), 1, &Delete{Collection: "c", IDs: []string{gone}})
		require.NoError(t, err)
		v.pgvector.close() // and nobody will
		again, err := v.Search(t.Context(), 1, q)
		require.NoError(t, err)
		require.False(t, again.Exact)
		require.Equal(t, 2000, again.Total)
		require.Len(t, again.Matches, 20)
		require.Equal(t, "new", again.Matches[0].ID)
		require.InDelta(t, 1, again.Matches[0].Score, 1e-9)
		require.Equal(t, found.Matches[2:19], again.Matches[1:18])
		for _, m := range again.Matches {
			require.NotEqual(t, gone, m.ID)
			require.True(t, m.ID != far || m.Values[0] == 0, "in its old place")
		}

		put(t, v, r, 16, 5000, 500) // more than are worth it beside an index
		late, err := v.Search(t.Context(), 1, q)
		require.NoError(t, err)
		require.True(t, late.Exact)
		require.Equal(t, 2500, late.Total)
	})
}

func TestAFilterOnPgvectorFindsAsManyAsThereAre(t *testing.T) {
	eachWithPgvector(t, func(t *testing.T, place databasetest.Place) {
		v, r := openPlace(t, place, Options{ExactBelow: 300, Memory: tiny}), rand.New(rand.NewPCG(3, 4))
		put(t, v, r, 16, 0, 3000)
		whole := openPlace(t, place, Options{})
		for _, text := range []string{`{"n":{"$lt":0}}`, `{"n":7}`, `{"n":{"$lt":299}}`, `{"n":{"$lt":301}}`, `{"n":{"$gte":2000}}`} {
			q := &Query{Collection: "c", Vector: gauss(r, 16, 1), TopK: 100, Filter: filter(t, text)}
			want, err := whole.Search(t.Context(), 1, q)
			require.NoError(t, err)
			got := ask(t, v, q)
			require.Equal(t, want.Total, got.Total, text)
			require.Equal(t, want.Total < 300, got.Exact, text)
			require.Len(t, got.Matches, min(100, want.Total), text)
			hits := 0
			for _, m := range got.Matches {
				if m.Score >= want.Matches[len(want.Matches)-1].Score-1e-9 {
					hits++
				}
			}
			require.GreaterOrEqual(t, float64(hits), 0.95*float64(len(got.Matches)), text)
		}
		q := &Query{Collection: "c", Vector: gauss(r, 16, 1), TopK: 3, Exact: true}
		require.True(t, ask(t, v, q).Exact, "as it was asked to")
	})
}

// A scan of the index ends after 20 000 rows: an index that gives up must not be taken for one that has found all.
func TestWherePgvectorGivesUpEveryRowIsCompared(t *testing.T) {
	place := withPgvector(t, databasetest.PostgresDSN) // whose settings new connections have; PgBouncer keeps old ones
	v, r := openPlace(t, place, Options{ExactBelow: 100, Memory: tiny}), rand.New(rand.NewPCG(5, 6))
	put(t, v, r, 4, 0, 2000)
	u := &Upsert{Collection: "c"}
	for i := range 200 {
		u.Vectors = append(u.Vectors, Vector{ID: fmt.Sprint("far", i), Values: []float32{1e6, 0, 0, float32(i)}, Metadata: `{"far":true}`})
	}
	_, _, err := v.store.upsert(t.Context(), 1, u)
	require.NoError(t, err)
	q := &Query{Collection: "c", Vector: []float32{-1, 0, 0, 0}, TopK: 50, Filter: filter(t, `{"far":true}`)}
	got := ask(t, v, q)
	require.False(t, got.Exact)
	require.Len(t, got.Matches, 50)

	at, err := url.Parse(place.URL)
	require.NoError(t, err)
	require.NoError(t, v.store.db.Write(t.Context(), func(tx *database.Tx) error {
		_, err := tx.ExecContext(t.Context(), "ALTER DATABASE "+strings.TrimPrefix(at.Path, "/")+" SET hnsw.max_scan_tuples = 100")
		return err
	}))
	other := openPlace(t, place, Options{ExactBelow: 100, Memory: tiny})
	got, err = other.Search(t.Context(), 1, q)
	require.NoError(t, err)
	require.True(t, got.Exact)
	require.Equal(t, 200, got.Total)
	require.Len(t, got.Matches, 50)
}

func TestAnIndexThatFindsTooLittleIsNotUsed(t *testing.T) {
	eachWithPgvector(t, func(t *testing.T, place databasetest.Place) {
		v, r := openPlace(t, place, Options{ExactBelow: 500, Memory: tiny}), rand.New(rand.NewPCG(7, 8))
		v.pgvector.effort = []int64{1}
		put(t, v, r, 64, 0, 3000)
		require.True(t, ask(t, v, &Query{Collection: "c", Vector: gauss(r, 64, 1), TopK: 10}).Exact)
		s, err := v.pgvector.state(t.Context(), v.store.db.Reader(), 1, false)
		require.NoError(t, err)
		require.Equal(t, pgvectorState{at: whole(3), trained: 3000, ef: -1}, *s)

		// It is tried anew when the collection has become another one.
		v.pgvector.effort = []int64{200}
		put(t, v, r, 64, 0, 3000)
		put(t, v, r, 64, 3000, 100)
		require.False(t, ask(t, v, &Query{Collection: "c", Vector: gauss(r, 64, 1), TopK: 10}).Exact)
	})
}

func TestPgvectorFollowsManyWritesAndMassDeletes(t *testing.T) {
	eachWithPgvector(t, func(t *testing.T, place databasetest.Place) {
		v, r := openPlace(t, place, Options{ExactBelow: 400, Memory: tiny}), rand.New(rand.NewPCG(9, 10))
		q := &Query{Collection: "c", Vector: gauss(r, 4, 1), TopK: 10}
		put(t, v, r, 4, 0, 1000)
		require.False(t, ask(t, v, q).Exact)
		put(t, v, r, 4, 1000, massDelete+1000) // several times as many as the index was made for
		require.False(t, ask(t, v, q).Exact)
		s, err := v.pgvector.state(t.Context(), v.store.db.Reader(), 1, false)
		require.NoError(t, err)
		require.EqualValues(t, massDelete+2000, s.trained)

		gone, err := v.Delete(t.Context(), 1, &Delete{Collection: "c", Filter: filter(t, fmt.Sprintf(`{"n":{"$lt":%d}}`, massDelete+1000))})
		require.NoError(t, err)
		require.Equal(t, massDelete+1000, gone)
		found, err := v.Search(t.Context(), 1, q) // before and after the follower
		require.NoError(t, err)
		require.Equal(t, 1000, found.Total)
		require.Len(t, found.Matches, 10)
		found = ask(t, v, q)
		require.Len(t, found.Matches, 10)
		var rows int
		require.NoError(t, v.store.db.Reader().QueryRowContext(t.Context(), "SELECT count(*) FROM pgvector_1").Scan(&rows))
		require.Equal(t, 1000, rows)

		_, err = v.Delete(t.Context(), 1, &Delete{Collection: "c", Filter: filter(t, fmt.Sprintf(`{"n":{"$lt":%d}}`, massDelete+1700))})
		require.NoError(t, err)
		v.settle()
		require.False(t, tableExists(t, v.store.db), "a small collection has no table")
		require.Equal(t, 300, ask(t, v, q).Total)
	})
}

func TestAHostThatStopsWhileItFollowsLeavesTheRestToOthers(t *testing.T) {
	eachWithPgvector(t, func(t *testing.T, place databasetest.Place) {
		r := rand.New(rand.NewPCG(11, 12))
		first, second := openPlace(t, place, Options{ExactBelow: 100, Memory: tiny}), openPlace(t, place, Options{ExactBelow: 100, Memory: tiny})
		put(t, first, r, 32, 0, 6000)
		q := &Query{Collection: "c", Vector: gauss(r, 32, 1), TopK: 10}
		_, err := first.Search(t.Context(), 1, q)
		require.NoError(t, err)
		require.Eventually(t, func() bool {
			s, err := first.pgvector.state(t.Context(), first.store.db.Reader(), 1, false)
			return err == nil && s != nil && s.at.version > 0
		}, time.Minute, time.Millisecond)
		first.pgvector.close()
		require.False(t, ask(t, second, q).Exact)
	})
}

func TestABrokenIndexHarmsNoSearch(t *testing.T) {
	eachWithPgvector(t, func(t *testing.T, place databasetest.Place) {
		v, r := openPlace(t, place, Options{ExactBelow: 100, Memory: tiny}), rand.New(rand.NewPCG(13, 14))
		put(t, v, r, 8, 0, 500)
		q := &Query{Collection: "c", Vector: gauss(r, 8, 1), TopK: 10}
		require.False(t, ask(t, v, q).Exact)
		require.NoError(t, v.store.db.Write(t.Context(), func(tx *database.Tx) error {
			_, err := tx.ExecContext(t.Context(), "DROP EXTENSION vector CASCADE")
			return err
		}))
		got, err := v.Search(t.Context(), 1, q)
		require.NoError(t, err)
		require.True(t, got.Exact)
		require.Len(t, got.Matches, 10)
	})
}

// Who may not make the extension has the search that PostgreSQL without it has.
func TestWithoutPgvectorLargeCollectionsAreCompared(t *testing.T) {
	place := databasetest.Postgres(t, databasetest.PostgresDSN)
	db, err := place.Open(t.Context())
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, db.Close()) })
	at, err := url.Parse(place.URL)
	require.NoError(t, err)
	role := "plain_" + strings.TrimPrefix(at.Path, "/")
	do := func(ctx context.Context, statements ...string) {
		for _, statement := range statements {
			require.NoError(t, db.Write(ctx, func(tx *database.Tx) error {
				_, err := tx.ExecContext(ctx, statement)
				return err
			}))
		}
	}
	do(t.Context(), "CREATE ROLE "+role+" LOGIN PASSWORD 'x'", "GRANT ALL ON SCHEMA public TO "+role)
	t.Cleanup(func() { do(context.Background(), "DROP OWNED BY "+role, "DROP ROLE "+role) })
	at.User = url.UserPassword(role, "x")

	var said strings.Builder
	v := openPlace(t, databasetest.Place{URL: at.String()}, Options{ExactBelow: 100, Memory: tiny, Log: hclog.New(&hclog.LoggerOptions{Output: &said})})
	require.Nil(t, v.pgvector)
	if there, err := findPgvector(t.Context(), db, hclog.NewNullLogger()); err == nil && there {
		require.Contains(t, said.String(), "run CREATE EXTENSION vector")
	}
	r := rand.New(rand.NewPCG(1, 2))
	put(t, v, r, 8, 0, 500)
	require.True(t, ask(t, v, &Query{Collection: "c", Vector: gauss(r, 8, 1), TopK: 10}).Exact)
}

func TestVersionsOfPgvector(t *testing.T) {
	for version, enough := range map[string]bool{"0.8.0": true, "0.8.5": true, "0.10": true, "1.0": true, "0.7.4": false, "0.8": false, "": false, "x.9.0": false} {
		require.Equal(t, enough, atLeast(version, "0.8.0"), "%q", version)
	}
}
