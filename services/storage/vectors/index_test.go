package vectors

import (
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/rivergate/rivergate/services/platform/embed"
)

type shape struct {
	name string
	make func(r *rand.Rand, n, d int) [][]float32
}

func gauss(r *rand.Rand, d int, scale float64) []float32 {
	v := make([]float32, d)
	for i := range v {
		v[i] = float32(r.NormFloat64() * scale)
	}
	return v
}

func clustered(clusters int, noise float64) func(r *rand.Rand, n, d int) [][]float32 {
	return func(r *rand.Rand, n, d int) [][]float32 {
		centres := make([][]float32, clusters)
		for i := range centres {
			centres[i] = gauss(r, d, 1)
		}
		all := make([][]float32, n)
		for i := range all {
			all[i] = gauss(r, d, noise)
			for j, c := range centres[r.IntN(clusters)] {
				all[i][j] += c
			}
		}
		return all
	}
}

var shapes = []shape{
	{"gaussian", func(r *rand.Rand, n, d int) [][]float32 {
		all := make([][]float32, n)
		for i := range all {
			all[i] = gauss(r, d, 1)
		}
		return all
	}},
	{"3 tight clusters", clustered(3, 0.01)},
	{"10 tight clusters", clustered(10, 0.05)},
	{"1000 clusters", clustered(1000, 0.3)},
	{"cone", clustered(1, 0.1)},
	{"low rank", func(r *rand.Rand, n, d int) [][]float32 {
		basis := make([][]float32, 8)
		for i := range basis {
			basis[i] = gauss(r, d, 1)
		}
		all := make([][]float32, n)
		for i := range all {
			all[i] = make([]float32, d)
			for _, b := range basis {
				f := float32(r.NormFloat64())
				for j := range b {
					all[i][j] += f * b[j]
				}
			}
		}
		return all
	}},
	{"sparse", func(r *rand.Rand, n, d int) [][]float32 {
		all := make([][]float32, n)
		for i := range all {
			all[i] = make([]float32, d)
			for range 6 {
				all[i][r.IntN(d)] = float32(1 + r.IntN(3))
			}
		}
		return all
	}},
	{"duplicates", func(r *rand.Rand, n, d int) [][]float32 {
		some := make([][]float32, 50)
		for i := range some {
			some[i] = gauss(r, d, 1)
		}
		all := make([][]float32, n)
		for i := range all {
			all[i] = some[r.IntN(len(some))]
		}
		return all
	}},
	{"uneven lengths", func(r *rand.Rand, n, d int) [][]float32 {
		all := make([][]float32, n)
		for i := range all {
			all[i] = gauss(r, d, math.Exp(r.NormFloat64()))
		}
		return all
	}},
	{"texts", func(r *rand.Rand, n, _ int) [][]float32 { // what the default embedder makes of short ones
		all := make([][]float32, n)
		for i := range all {
			var text strings.Builder
			for range 3 + r.IntN(5) {
				fmt.Fprintf(&text, "%s%s ", []string{"cust", "ord", "temp", "plate", "well", "sens"}[r.IntN(6)], []string{"omer", "er", "erature", "s", "_id", "or"}[r.IntN(6)])
			}
			fmt.Fprintf(&text, "%d", r.IntN(500))
			all[i] = embed.Text(text.String())
		}
		return all
	}},
	{"positive", func(r *rand.Rand, n, d int) [][]float32 {
		all := make([][]float32, n)
		for i := range all {
			all[i] = gauss(r, d, 1)
			for j, x := range all[i] {
				all[i][j] = float32(math.Abs(float64(x)))
			}
		}
		return all
	}},
}

// fill makes a matrix of vectors, and their index.
func fill(t testing.TB, metric Metric, vectors [][]float32) (*matrix, *index) {
	t.Helper()
	m := &matrix{dimensions: len(vectors[0])}
	var slots []uint32
	for _, v := range vectors {
		slot := m.grow()
		copy(m.at(slot), v)
		m.inverse[slot] = metric.inverse(v)
		slots = append(slots, slot)
	}
	x, err := train(t.Context(), metric, m, slots)
	require.NoError(t, err)
	for _, slot := range slots {
		x.add(slot, m.at(slot), m.inverse[slot])
	}
	return m, x
}

// Recall against brute force, on data that are made to be difficult, after a third was deleted and a third replaced.
func TestRecallOnHostileData(t *testing.T) {
	const n, queries = 2400, 30
	for _, d := range []int{3, 120, 400} {
		for _, s := range shapes {
			for _, metric := range []Metric{Cosine, Dot, L2} {
				t.Run(fmt.Sprintf("%s %d %s", s.name, d, metric), func(t *testing.T) {
					r := rand.New(rand.NewPCG(uint64(d), 2))
					all := slices.DeleteFunc(s.make(r, n+queries+n/3, d), func(v []float32) bool { return metric.check(v) != nil })
					asked, added := all[:queries], all[queries:queries+n/3]
					m, x := fill(t, metric, all[queries+n/3:])
					live := newLive(len(m.inverse))
					for slot := range uint32(n / 3) { // deleted, and the slot is taken by another vector
						x.remove(slot)
						copy(m.at(slot), added[slot])
						m.inverse[slot] = metric.inverse(added[slot])
						x.add(slot, m.at(slot), m.inverse[slot])
					}
					for slot := uint32(n / 3); slot < 2*n/3; slot++ {
						x.remove(slot)
						live.remove(slot)
					}
					hits, wanted := 0, 0
					for i, q := range asked {
						q = scaled(nil, q, metric.inverse(q))
						allowed := set(nil)
						under := live
						if i%2 == 1 { // a filter that leaves one in seven
							under = append(set(nil), live...)
							under.each(func(slot uint32) {
								if slot%7 != 0 {
									under.remove(slot)
								}
							})
							allowed = under
						}
						got, exact := &top{k: 10}, &top{k: 10}
						x.search(m, q, allowed, got)
						under.each(func(slot uint32) { exact.offer(slot, metric.rank(q, m.at(slot), m.inverse[slot])) })
						best, truth := got.best(), exact.best()
						require.Len(t, best, 10)
						seen := map[uint32]bool{}
						for _, f := range best {
							require.False(t, seen[f.slot], "twice")
							require.True(t, under.has(f.slot), "deleted, or not under the filter")
							seen[f.slot] = true
							if f.rank >= truth[9].rank {
								hits++
							}
						}
						wanted += 10
					}
					require.GreaterOrEqual(t, float64(hits), 0.95*float64(wanted))
				})
			}
		}
	}
}

func newLive(n int) set {
	s := make(set, (n+63)/64)
	for slot := range uint32(n) {
		s.add(slot)
	}
	return s
}

func TestAssemblyAndGoAgree(t *testing.T) {
	r := rand.New(rand.NewPCG(5, 6))
	for n := range 200 {
		a, b := gauss(r, n, 1), gauss(r, n, 1)
		require.InDelta(t, dotGo(a, b), dot(a, b), 1e-4)
		require.InDelta(t, squaredDistanceGo(a, b), squaredDistance(a, b), 1e-3)
	}
	for units := 1; units <= 4; units++ {
		codes, levels := make([]uint64, 7*units*unitWords), make([]uint64, units*unitWords*planes)
		for i := range codes {
			codes[i] = r.Uint64()
		}
		for i := range levels {
			levels[i] = r.Uint64()
		}
		got, want := make([]int32, 7), make([]int32, 7)
		weighAll(codes, levels, got)
		weighGo(codes, levels, want)
		require.Equal(t, want, got)
	}
	weighAll(nil, make([]uint64, unitWords*planes), nil)
}

func TestARotationKeepsLengthsAndAngles(t *testing.T) {
	r := rand.New(rand.NewPCG(5, 6))
	for _, d := range []int{1, 3, 384, 385, 768, 1000, 1536, 4096} {
		rot := newRotation(d)
		a, b := make([]float32, rot.size), make([]float32, rot.size)
		copy(a, gauss(r, d, 1))
		copy(b, gauss(r, d, 1))
		aa, ab := dot(a, a), dot(a, b)
		rot.apply(a)
		rot.apply(b)
		require.InEpsilon(t, aa, dot(a, a), 1e-3)
		require.InDelta(t, ab, dot(a, b), 1e-3*float64(d))
		if d == 1 {
			require.Less(t, slices.Max(a), aa, "one number is spread over all")
		}
	}
}

// BenchmarkSearch100k is the figure of record: run it with GOMAXPROCS=1.
func BenchmarkSearch100k(b *testing.B) {
	const n, queries = 100_000, 200
	for _, name := range []string{"gaussian", "1000 clusters"} {
		s := shapes[slices.IndexFunc(shapes, func(s shape) bool { return s.name == name })]
		b.Run(name, func(b *testing.B) {
			all := s.make(rand.New(rand.NewPCG(1, 2)), n+queries, 384)
			m, x := fill(b, Cosine, all[queries:])
			var took []time.Duration
			compared := 0
			for i := 0; b.Loop(); i++ {
				q := scaled(nil, all[i%queries], Cosine.inverse(all[i%queries]))
				begun := time.Now()
				got := &top{k: 10}
				compared += x.search(m, q, nil, got)
				took = append(took, time.Since(begun))
			}
			slices.Sort(took)
			b.ReportMetric(float64(took[len(took)*99/100].Microseconds())/1000, "p99-ms")
			b.ReportMetric(float64(compared)/float64(len(took)), "compared/op")
		})
	}
}

func BenchmarkAdd(b *testing.B) {
	all := shapes[0].make(rand.New(rand.NewPCG(1, 2)), 20_000, 384)
	m, x := fill(b, Cosine, all)
	for i := 0; b.Loop(); i++ {
		slot := uint32(i % len(all))
		x.remove(slot)
		x.add(slot, m.at(slot), m.inverse[slot])
	}
}
