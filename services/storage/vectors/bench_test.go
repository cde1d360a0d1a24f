package vectors

import (
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"testing"

	"github.com/stretchr/testify/require"
)

// BenchmarkUpsert stores batches of 1000 × 384 as they come over HTTP, into a collection that grows, in SQLite.
func BenchmarkUpsert(b *testing.B) {
	v := open(b, openSQLite(b), Options{})
	r := rand.New(rand.NewPCG(1, 2))
	batch := func(from int) []byte {
		var body UpsertBody
		body.Collection = "c"
		for i := range MaxVectors {
			body.Vectors = append(body.Vectors, VectorBody{ID: fmt.Sprint("vector-", from+i), Values: gauss(r, 384, 1), Metadata: map[string]any{"group": i % 100}})
		}
		raw, err := json.Marshal(body)
		require.NoError(b, err)
		return raw
	}
	n := 0
	for b.Loop() {
		b.StopTimer()
		body := batch(n)
		n += MaxVectors
		b.StartTimer()
		u, err := decodeUpsert(body)
		require.NoError(b, err)
		_, err = v.Upsert(b.Context(), 1, u)
		require.NoError(b, err)
	}
	b.ReportMetric(float64(n)/b.Elapsed().Seconds(), "vectors/s")
}
