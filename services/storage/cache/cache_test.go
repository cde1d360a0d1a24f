package cache

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"
)

func TestAValueComesBackByteForByte(t *testing.T) {
	each(t, Options{}, func(t *testing.T, r *rig) {
		for i, value := range []string{
			`null`, `true`, `""`, `0`, `-0`, `1.0`, `1e400`, `12345678901234567890.000`, `{ "b" : 1,  "a":[ ] }`, `{"a":1,"a":2}`,
			`"<&>\u003c\/ é \ud83d\ude00"`, "[\n\t1\r\n]", `"\u0000"`, `"` + strings.Repeat("x", MaxValue-2) + `"`,
		} {
			key := fmt.Sprint("k", i)
			r.put(1, key, value)
			require.Equal(t, value, r.value(1, key))
		}
		for _, key := range []string{"a", "A", "a/b:c", "/", ":", "a/", "é", "\x00", "value:a", "tag:a", strings.Repeat("ü", MaxKey)} {
			r.put(1, key, `"`+strings.Repeat("k", len(key))+`"`)
		}
		require.Equal(t, `"kkkkk"`, r.value(1, "a/b:c"))
		require.Equal(t, `"k"`, r.value(1, "A"))
	})
}

func TestWhatIsOutOfBoundsIsRefused(t *testing.T) {
	each(t, Options{OrgBytes: 20 << 20}, func(t *testing.T, r *rig) {
		many := make([]string, MaxTags+1)
		for i := range many {
			many[i] = fmt.Sprint(i)
		}
		for _, c := range []struct {
			field, key, value string
			keep              Keep
		}{
			{"key", "", `1`, Keep{}}, {"key", strings.Repeat("k", MaxKey+1), `1`, Keep{}}, {"key", "\xff", `1`, Keep{}},
			{"value", "k", ``, Keep{}}, {"value", "k", `{`, Keep{}}, {"value", "k", "\"\xff\"", Keep{}},
			{"value", "k", `"` + strings.Repeat("x", MaxValue) + `"`, Keep{}},
			{"ttl_seconds", "k", `1`, Keep{TTL: time.Millisecond}}, {"ttl_seconds", "k", `1`, Keep{TTL: MaxTTL + 1}},
			{"tags", "k", `1`, Keep{Tags: many}}, {"tags", "k", `1`, Keep{Tags: []string{""}}},
			{"tags", "k", `1`, Keep{Tags: []string{strings.Repeat("t", MaxTag+1)}}},
		} {
			_, err := r.Set(context.Background(), 1, c.key, json.RawMessage(c.value), c.keep)
			var bound *BoundError
			require.ErrorAs(t, err, &bound, "%+v", c)
			require.Equal(t, c.field, bound.Field)
		}
		require.Zero(t, r.Stats().Entries)
	})
	each(t, Options{OrgBytes: 1000}, func(t *testing.T, r *rig) {
		_, err := r.Set(context.Background(), 1, "k", json.RawMessage(`"`+strings.Repeat("x", 1000)+`"`), Keep{})
		var bound *BoundError
		require.ErrorAs(t, err, &bound)
		require.True(t, bound.TooLarge)
	})
}

func TestTheLargestEntryFitsIntoTheLeastShare(t *testing.T) {
	each(t, Options{OrgBytes: LeastBytes}, func(t *testing.T, r *rig) {
		keep := Keep{}
		for i := range MaxTags {
			keep.Tags = append(keep.Tags, strings.Repeat("🦊", MaxTag-3)+fmt.Sprintf("%03d", i))
		}
		value := `"` + strings.Repeat("x", MaxValue-2) + `"`
		for range 2 {
			r.put(1, strings.Repeat("🦊", MaxKey), value, keep)
			require.Equal(t, value, r.value(1, strings.Repeat("🦊", MaxKey)))
		}
	})
}

func TestOrgsDoNotSeeEachOther(t *testing.T) {
	each(t, Options{}, func(t *testing.T, r *rig) {
		orgs := []uint64{1, 11, 1<<53 - 1}
		for _, org := range orgs {
			r.put(org, "k", fmt.Sprint(org), Keep{Tags: []string{"t"}})
		}
		for _, org := range orgs {
			require.Equal(t, fmt.Sprint(org), r.value(org, "k"))
		}
		require.Empty(t, r.value(2, "k"))
		require.False(t, r.deleted(2, "k"))
		require.Zero(t, r.invalidated(2, "t"))
		require.True(t, r.deleted(1, "k"))
		require.Equal(t, 1, r.invalidated(11, "t"))
		require.Equal(t, "9007199254740991", r.value(1<<53-1, "k"))
	})
}

func TestAnEntryIsServedUntilItsExpiryAndNoLonger(t *testing.T) {
	each(t, byHand, func(t *testing.T, r *rig) {
		ctx := context.Background()
		e := r.put(1, "k", `1`, Keep{TTL: 2 * time.Second, Tags: []string{"t"}})
		require.Equal(t, r.clock.now().Add(2*time.Second).Truncate(time.Millisecond).UTC(), e.Expires)
		r.clock.set(e.Expires.Add(-time.Millisecond))
		got, ok, err := r.Get(ctx, 1, "k")
		require.NoError(t, err)
		require.True(t, ok)
		require.Equal(t, e, got)
		r.clock.set(e.Expires)
		require.Empty(t, r.value(1, "k"))
		require.False(t, r.deleted(1, "k"), "it was gone already")
		require.Zero(t, r.invalidated(1, "t"))

		r.put(1, "k", `2`, Keep{TTL: time.Second})
		r.put(1, "k", `3`, Keep{TTL: MaxTTL})
		r.clock.advance(MaxTTL - time.Second)
		require.Equal(t, `3`, r.value(1, "k"), "the last set counts")
		r.clock.advance(time.Second)
		require.Empty(t, r.value(1, "k"))
	})
}

func TestNothingIsServedLateInRealTime(t *testing.T) {
	each(t, Options{}, func(t *testing.T, r *rig) {
		e := r.put(1, "k", `1`, Keep{TTL: time.Second})
		hits := 0
		require.Eventually(t, func() bool {
			before := time.Now()
			_, ok, err := r.Get(context.Background(), 1, "k")
			require.NoError(t, err)
			if ok {
				hits++
				require.True(t, before.Before(e.Expires))
			}
			return !ok
		}, 30*time.Second, 5*time.Millisecond)
		require.Positive(t, hits)
		require.False(t, time.Now().Before(e.Expires), "gone before its time")
	})
}

func TestWhatHasExpiredTakesNoRoom(t *testing.T) {
	o := byHand
	o.OrgBytes = 64 << 10
	each(t, o, func(t *testing.T, r *rig) {
		for i := range 50 {
			r.put(1, fmt.Sprint("short", i), `"`+strings.Repeat("x", 900)+`"`, Keep{TTL: time.Second, Tags: []string{"t"}})
		}
		r.clock.advance(time.Second)
		for i := range 50 { // each would have to evict, were the others still counted
			r.put(1, fmt.Sprint("long", i), `"`+strings.Repeat("x", 900)+`"`)
		}
		for i := range 50 {
			require.NotEmpty(t, r.value(1, fmt.Sprint("long", i)))
		}
		require.Zero(t, r.metrics.evicted.Load())
		require.EqualValues(t, 50, r.Stats().Entries)
		r.clock.advance(DefaultTTL + 2*time.Second)
		r.swept()
		require.Equal(t, Stats{Hits: 50}, r.Stats())
	})
}

func TestAGreedyOrgEvictsOnlyItsOwnEntries(t *testing.T) {
	const share = 64 << 10
	each(t, Options{OrgBytes: share}, func(t *testing.T, r *rig) {
		for i := range 5 {
			r.put(1, fmt.Sprint(i), `"mine"`)
		}
		weights := map[string]int64{}
		for i := range 600 {
			key, value := fmt.Sprint("greedy", rand.IntN(300)), `"`+strings.Repeat("x", rand.IntN(share/4))+`"`
			e := r.put(2, key, value, Keep{Tags: []string{fmt.Sprint(i % 3)}})
			weights[key] = e.weight()
			require.Equal(t, value, r.value(2, key), "what was set is there")
		}
		var kept, n int64
		for key, weight := range weights {
			if r.value(2, key) != "" {
				kept += weight
				n++
			}
		}
		require.LessOrEqual(t, kept, int64(share))
		require.Greater(t, kept, int64(share/2), "the share is used")
		for i := range 5 {
			require.Equal(t, `"mine"`, r.value(1, fmt.Sprint(i)))
		}
		require.Equal(t, n+5, r.Stats().Entries)
		require.Positive(t, r.metrics.evicted.Load())
	})
}

func TestWhatIsUsedStays(t *testing.T) {
	each(t, Options{OrgBytes: 64 << 10}, func(t *testing.T, r *rig) {
		r.put(1, "hot", `"used"`)
		for i := range 500 {
			r.put(1, fmt.Sprint("cold", i), `"`+strings.Repeat("x", 1000)+`"`)
			require.Equal(t, `"used"`, r.value(1, "hot"))
		}
	})
}

func TestAReplacedEntryIsNotCountedTwice(t *testing.T) {
	each(t, Options{OrgBytes: 4000}, func(t *testing.T, r *rig) {
		r.put(1, "other", `"o"`)
		for i := range 200 {
			r.put(1, "k", `"`+strings.Repeat("x", 1000+i)+`"`, Keep{Tags: []string{fmt.Sprint(i)}})
		}
		require.Equal(t, `"o"`, r.value(1, "other"))
		require.EqualValues(t, 2, r.Stats().Entries)
		require.Zero(t, r.invalidated(1, "198"), "a tag of the entry before")
		require.Equal(t, 1, r.invalidated(1, "199"))
		require.True(t, r.deleted(1, "other"))
		stats := r.Stats()
		require.Zero(t, stats.Entries)
		require.Zero(t, stats.Bytes)
	})
}

func TestATagThrowsOutWhatHasIt(t *testing.T) {
	each(t, Options{}, func(t *testing.T, r *rig) {
		for i := range 20 {
			tags := []string{"all", "all"}
			if i%2 == 0 {
				tags = append(tags, "even <&> ü \x00")
			}
			r.put(1, fmt.Sprint(i), `1`, Keep{Tags: tags})
		}
		require.Equal(t, 10, r.invalidated(1, "even <&> ü \x00"))
		for i := range 20 {
			require.Equal(t, i%2 == 1, r.value(1, fmt.Sprint(i)) != "")
		}
		e, ok, err := r.Get(context.Background(), 1, "1")
		require.NoError(t, err)
		require.True(t, ok)
		require.Equal(t, []string{"all"}, e.Tags)
		require.Equal(t, 10, r.invalidated(1, "all"))
		require.Zero(t, r.invalidated(1, "all"))
	})
}

func TestBothStoresDoWhatAMapWouldDo(t *testing.T) {
	o := byHand
	each(t, o, func(t *testing.T, r *rig) {
		round := uint64(0)
		rapid.Check(t, func(t *rapid.T) {
			round++
			type kept struct {
				value string
				tag   string
				ends  time.Time
			}
			model := map[string]kept{}
			good := func(key string) bool { k, ok := model[key]; return ok && r.clock.now().Before(k.ends) }
			org := func(key string) uint64 { return round<<8 | uint64(key[0]) } // two orgs, of this round alone
			key := rapid.SampledFrom([]string{"a1", "a2", "a3", "b1", "b2"})
			t.Repeat(map[string]func(*rapid.T){
				"set": func(t *rapid.T) {
					k := kept{value: fmt.Sprint(rapid.IntRange(0, 99).Draw(t, "value")), tag: rapid.SampledFrom([]string{"x", "y"}).Draw(t, "tag")}
					at, ttl := key.Draw(t, "key"), time.Duration(rapid.IntRange(1, 10).Draw(t, "ttl"))*time.Second
					e, err := r.Set(context.Background(), org(at), at, json.RawMessage(k.value), Keep{TTL: ttl, Tags: []string{k.tag}})
					require.NoError(t, err)
					k.ends = e.Expires
					model[at] = k
				},
				"get": func(t *rapid.T) {
					at := key.Draw(t, "key")
					e, ok, err := r.Get(context.Background(), org(at), at)
					require.NoError(t, err)
					require.Equal(t, good(at), ok)
					if ok {
						require.Equal(t, model[at].value, string(e.Value))
					}
				},
				"delete": func(t *rapid.T) {
					at := key.Draw(t, "key")
					there, err := r.Delete(context.Background(), org(at), at)
					require.NoError(t, err)
					require.Equal(t, good(at), there)
					delete(model, at)
				},
				"invalidate": func(t *rapid.T) {
					first, tag := rapid.SampledFrom([]string{"a", "b"}).Draw(t, "org"), rapid.SampledFrom([]string{"x", "y"}).Draw(t, "tag")
					want := 0
					for at, k := range model {
						if at[:1] == first && k.tag == tag {
							if good(at) {
								want++
							}
							delete(model, at)
						}
					}
					n, err := r.InvalidateTag(context.Background(), org(first), tag)
					require.NoError(t, err)
					require.Equal(t, want, n)
				},
				"wait": func(t *rapid.T) {
					r.clock.advance(time.Duration(rapid.IntRange(1, 3000).Draw(t, "ms")) * time.Millisecond)
				},
				"sweep": func(t *rapid.T) { require.NoError(t, r.store.sweep(context.Background(), r.now())) },
			})
		})
	})
}

func TestTheAccountIsRightAfterAStorm(t *testing.T) {
	each(t, Options{OrgBytes: 32 << 10, TotalBytes: 64<<10 + 4*orgOverhead}, func(t *testing.T, r *rig) {
		ctx := context.Background()
		var workers sync.WaitGroup
		errs := make(chan error, 8)
		for w := range 8 {
			workers.Go(func() {
				random := rand.New(rand.NewPCG(uint64(w), 1))
				var err error
				for i := 0; i < 300 && err == nil; i++ {
					org, key := 1+random.Uint64N(4), fmt.Sprint(random.IntN(40))
					switch random.IntN(8) {
					case 0:
						_, err = r.Delete(ctx, org, key)
					case 1:
						_, err = r.InvalidateTag(ctx, org, fmt.Sprint(random.IntN(5)))
					case 2, 3:
						_, _, err = r.Get(ctx, org, key)
					case 4:
						_, err = r.GetOrLoad(ctx, org, key, Keep{}, func(context.Context) (json.RawMessage, error) { return []byte(`"loaded"`), nil })
					default:
						value := `"` + strings.Repeat("x", random.IntN(4000)) + `"`
						_, err = r.Set(ctx, org, key, []byte(value), Keep{Tags: []string{fmt.Sprint(random.IntN(5))}})
					}
				}
				errs <- err
			})
		}
		workers.Wait()
		for range 8 {
			require.NoError(t, <-errs)
		}
		var entries, bytes int64
		for org := range uint64(4) {
			share := int64(0)
			for key := range 40 {
				if e, ok, err := r.Get(ctx, org+1, fmt.Sprint(key)); ok && err == nil {
					entries++
					share += e.weight()
				}
			}
			require.LessOrEqual(t, share, int64(32<<10))
			bytes += share
		}
		r.swept()
		stats := r.Stats()
		require.Equal(t, entries, stats.Entries)
		require.Equal(t, bytes, stats.Bytes)
	})
}

func TestMetricsAndStatsCount(t *testing.T) {
	registry := prometheus.NewRegistry()
	r := open(t, Options{OrgBytes: 1 << 20, TotalBytes: 2 << 20, Registry: registry})
	r.put(1, "k", `1`)
	r.value(1, "k")
	r.value(1, "none")
	require.Equal(t, Stats{Entries: 1, Bytes: entryOverhead + 2, Hits: 1, Misses: 1}, r.Stats())
	families, err := registry.Gather()
	require.NoError(t, err)
	got := map[string]float64{}
	for _, f := range families {
		m := f.GetMetric()[0]
		got[f.GetName()] = m.GetCounter().GetValue() + m.GetGauge().GetValue()
	}
	require.Equal(t, map[string]float64{
		"rivergate_cache_hits_total": 1, "rivergate_cache_misses_total": 1, "rivergate_cache_errors_total": 0, "rivergate_cache_loads_total": 0,
		"rivergate_cache_evicted_total": 0, "rivergate_cache_entries": 1, "rivergate_cache_bytes": entryOverhead + 2,
	}, got)
	_, err = Open(context.Background(), Options{Registry: registry})
	require.ErrorContains(t, err, "register the metrics")
}

var errLoad = errors.New("the source is down")
