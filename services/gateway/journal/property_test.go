package journal

import (
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/rivergate/rivergate/sdk/protocol"
)

// TestTheJournalBehavesLikeAList compares random use, with restarts, kills and power cuts, to a slice of records.
func TestTheJournalBehavesLikeAList(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		now := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
		o := onFault(newFaultFS())
		o.Now = func() time.Time { return now }
		o.SegmentBytes = rapid.SampledFrom([]int64{4 << 10, 16 << 10}).Draw(rt, "segment")
		f, err := Open(o)
		require.NoError(rt, err)
		defer func() { require.NoError(rt, f.Close()) }()
		var model []*Record
		_, next := f.Bounds()
		n := 0

		from := func(position uint64) []protocol.Frame {
			var frames []protocol.Frame
			oldest, _ := f.Bounds()
			for _, r := range model {
				end := r.Position + uint64(r.Len())
				if r.Position < oldest || end <= position {
					continue
				}
				fr := r.Frame
				if fr.Position < position {
					fr = fr.Slice(int(position-fr.Position), fr.Len())
				}
				frames = append(frames, fr)
			}
			return frames
		}
		anywhere := func() uint64 {
			if len(model) == 0 {
				return 0
			}
			return rapid.Uint64Range(model[0].Position-1, next+2).Draw(rt, "position")
		}
		reopen := func() {
			require.NoError(rt, f.Close())
			f, err = Open(o)
			require.NoError(rt, err)
		}
		rt.Repeat(map[string]func(*rapid.T){
			"append": func(rt *rapid.T) {
				n++
				r := record(rapid.Uint64Range(1, 3).Draw(rt, "org"), rapid.StringN(0, 20, -1).Draw(rt, "uuid"))
				r.UserID = rapid.Uint64().Draw(rt, "user")
				for i := range rapid.IntRange(1, 40).Draw(rt, "rows") {
					r.Data = fmt.Appendf(r.Data, `{"n":%d,"i":%d,"p":%q}`, n, i, rapid.StringN(0, 60, -1).Draw(rt, "data"))
					r.Ends = append(r.Ends, uint32(len(r.Data)))
					if n%3 == 0 {
						r.Index = append(r.Index, rapid.Int32Min(-1).Draw(rt, "index"))
					}
				}
				if n%2 == 0 {
					r.IdempotencyKey = [16]byte{1, byte(n), byte(n >> 8)}
					r.BodyDigest = [16]byte{byte(n)}
				}
				if n%5 == 0 {
					r.TraceParent = fmt.Sprintf("00-%032x-%016x-01", n, n)
				}
				now = now.Add(time.Duration(rapid.Int64Range(-1e6, 1e9).Draw(rt, "elapsed")))
				p, err := f.Append(t.Context(), r)
				require.NoError(rt, err)
				require.Equal(rt, next, p)
				next += uint64(r.Len())
				model = append(model, r)
			},
			"read": func(rt *rapid.T) {
				p := anywhere()
				require.Equal(rt, from(p), drain(t, f, p))
			},
			"lookup": func(rt *rapid.T) {
				p := anywhere()
				got, err := f.Lookup(t.Context(), p)
				oldest, _ := f.Bounds()
				i := slices.IndexFunc(model, func(r *Record) bool { return p >= r.Position && p < r.Position+uint64(r.Len()) })
				switch {
				case i < 0:
					require.ErrorIs(rt, err, ErrNotFound)
				case p < oldest:
					require.ErrorIs(rt, err, ErrGone)
				default:
					require.NoError(rt, err)
					require.Equal(rt, model[i], got)
				}
			},
			"count": func(rt *rapid.T) {
				p := anywhere()
				want, rows := map[uint64]uint64{}, uint64(0)
				for _, fr := range from(p) {
					want[fr.OrgID] += uint64(fr.Len())
				}
				for _, fr := range from(0) {
					rows += uint64(fr.Len())
				}
				got, err := f.OrgRows(t.Context(), p, math.MaxUint64)
				require.NoError(rt, err)
				require.Equal(rt, want, got)
				require.Equal(rt, rows, f.Stats().Rows)
				_, at := f.Span(p)
				if frames := from(p); len(frames) > 0 {
					require.Equal(rt, frames[0].ReceivedAt, at)
				} else {
					require.True(rt, at.IsZero())
				}
			},
			"release": func(rt *rapid.T) {
				p := anywhere()
				before, _ := f.Bounds()
				require.NoError(rt, f.Release(p))
				oldest, _ := f.Bounds()
				require.LessOrEqual(rt, oldest, max(p, before), "no more than was asked for")
				require.GreaterOrEqual(rt, oldest, before)
			},
			"restart": func(*rapid.T) { reopen() },
			"kill":    func(*rapid.T) { o.fs = o.fs.(*faultFS).kill(); reopen() },
			"power cut": func(rt *rapid.T) {
				var torn *rand.Rand
				if rapid.Bool().Draw(rt, "torn") {
					torn = rand.New(rand.NewPCG(rapid.Uint64().Draw(rt, "seed"), 1))
				}
				o.fs = o.fs.(*faultFS).powerCut(torn)
				reopen()
			},
			"": func(rt *rapid.T) {
				for i, r := range model {
					if r.IdempotencyKey == [16]byte{} || i%7 != n%7 {
						continue
					}
					a, ok := f.Repeated(r.IdempotencyKey)
					require.True(rt, ok)
					require.Equal(rt, Accepted{Position: r.Position, Rows: r.Len(), BodyDigest: r.BodyDigest, At: r.ReceivedAt}, a)
				}
				_, got := f.Bounds()
				require.Equal(rt, next, got)
				require.Zero(rt, f.Stats().Quarantined)
			},
		})
	})
}
