package journal

import (
	"context"
	"fmt"
	"math"
	"math/rand/v2"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/stretchr/testify/require"

	"github.com/rivergate/rivergate/sdk/protocol"
)

func TestManyAppendersAndReadersAgree(t *testing.T) {
	f := open(t, Options{Dir: t.TempDir(), SegmentBytes: 64 << 10})
	const appenders, each, readers = 8, 400, 4
	_, start := f.Bounds()
	var wg sync.WaitGroup
	var mu sync.Mutex
	want := map[uint64]string{}
	for a := range appenders {
		wg.Go(func() {
			last := uint64(0)
			for i := range each {
				r := record(uint64(a+1), fmt.Sprint("u", a), fmt.Sprintf(`{"a":%d,"i":%d}`, a, i), `{"and":"one more"}`)
				p, err := f.Append(context.Background(), r)
				if err != nil || p <= last {
					t.Errorf("position %d after %d: %v", p, last, err)
					return
				}
				last = p
				mu.Lock()
				want[p] = string(r.Row(0))
				mu.Unlock()
			}
		})
	}
	got := make([][]protocol.Frame, readers)
	for i := range readers {
		wg.Go(func() {
			r := f.Read(start)
			defer r.Close()
			for rows := 0; rows < appenders*each*2; {
				fr, err := r.Next(t.Context())
				if err != nil {
					t.Error(err)
					return
				}
				rows += fr.Len()
				got[i] = append(got[i], fr)
			}
		})
	}
	wg.Wait()
	for _, frames := range got {
		next := start
		require.Len(t, frames, appenders*each)
		order := map[string]int{}
		for _, fr := range frames {
			require.Equal(t, next, fr.Position, "no gap")
			next += uint64(fr.Len())
			require.Equal(t, want[fr.Position], string(fr.Row(0)))
			require.Contains(t, string(fr.Row(0)), fmt.Sprintf(`"i":%d}`, order[fr.UUID]), "order of one client")
			order[fr.UUID]++
		}
	}
}

func TestAReaderSleepsUntilThereIsSomethingNew(t *testing.T) {
	f := open(t, Options{Dir: t.TempDir()})
	r := f.Read(0)
	defer r.Close()
	got := make(chan protocol.Frame)
	go func() {
		for {
			fr, err := r.Next(context.Background())
			if err != nil {
				close(got)
				return
			}
			got <- fr
		}
	}()
	for i := range 50 {
		rec := padded(i, 10)
		appendOne(t, f, rec)
		require.Equal(t, rec.Frame, <-got)
	}
	require.NoError(t, f.Close())
	_, open := <-got
	require.False(t, open)
	_, err := r.Next(t.Context())
	require.ErrorIs(t, err, ErrClosed)
	_, err = f.Append(t.Context(), padded(1, 1))
	require.ErrorIs(t, err, ErrClosed)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_, err = f.Append(ctx, padded(1, 1))
	require.ErrorIs(t, err, context.Canceled)
}

func TestAReaderOnAReleasedSegmentReadsOn(t *testing.T) {
	f := open(t, Options{Dir: t.TempDir(), SegmentBytes: 8 << 10})
	var frames []protocol.Frame
	for i := range 100 {
		r := padded(i, 400)
		appendOne(t, f, r)
		frames = append(frames, r.Frame)
	}
	r := f.Read(0)
	defer r.Close()
	fr, err := r.Next(t.Context())
	require.NoError(t, err)
	require.Equal(t, frames[0], fr)
	before := f.Stats()
	require.NoError(t, f.Release(frames[90].Position))
	after := f.Stats()
	require.Less(t, after.Segments, before.Segments)
	require.Less(t, after.Bytes, before.Bytes)
	require.Less(t, after.Rows, before.Rows)
	oldest, _ := f.Bounds()
	require.LessOrEqual(t, oldest, frames[90].Position)
	// What is left of the open segment, and then the first kept row.
	last, jumped := frames[0].Position, 0
	for range 99 {
		fr, ok, err := r.TryNext()
		require.NoError(t, err)
		if !ok {
			break
		}
		if fr.Position != last+1 {
			require.Equal(t, oldest, fr.Position)
			jumped++
		}
		last = fr.Position
	}
	require.Equal(t, frames[99].Position, last)
	require.Equal(t, 1, jumped)
	_, err = f.Lookup(t.Context(), frames[3].Position)
	require.ErrorIs(t, err, ErrGone)
	_, err = f.Lookup(t.Context(), frames[99].Position+1)
	require.ErrorIs(t, err, ErrNotFound)
	_, err = f.Lookup(t.Context(), 5)
	require.ErrorIs(t, err, ErrNotFound)
	require.Len(t, segmentFiles(t, f.opts.Dir), after.Segments)
}

func TestReleaseAndReadAtTheSameTimeDisturbNobody(t *testing.T) {
	f := open(t, Options{Dir: t.TempDir(), SegmentBytes: 8 << 10})
	_, start := f.Bounds()
	const rows = 3000
	var wg sync.WaitGroup
	passed := make(chan uint64, rows)
	wg.Go(func() {
		for i := range rows {
			if _, err := f.Append(context.Background(), padded(i, 100)); err != nil {
				t.Error(err)
				return
			}
		}
	})
	wg.Go(func() {
		defer close(passed)
		r := f.Read(start)
		defer r.Close()
		for i := range rows {
			fr, err := r.Next(context.Background())
			if err != nil || fr.Position != start+uint64(i) {
				t.Errorf("row %d at %d: %v", i, fr.Position, err)
				return
			}
			passed <- fr.Position + 1
		}
	})
	wg.Go(func() {
		for p := range passed {
			if p%50 != 0 {
				continue
			}
			if err := f.Release(p); err != nil {
				t.Error(err)
			}
			if _, err := f.OrgRows(context.Background(), p-40, math.MaxUint64); err != nil {
				t.Error(err)
			}
			f.Span(p - 40)
		}
	})
	wg.Wait()
	require.Less(t, f.Stats().Segments, 4)
}

func TestOrgRowsAndSpanAreExactFromAnyPosition(t *testing.T) {
	now := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	o := onFault(newFaultFS())
	o.MaxBytes, o.SegmentBytes = 64<<20, 256<<10
	o.Now = func() time.Time { return now }
	f := open(t, o)
	rng := rand.New(rand.NewPCG(3, 4))
	var frames []protocol.Frame
	for i := range 3000 {
		r := record(uint64(rng.IntN(4)+1), "u")
		for range rng.IntN(3) + 1 {
			r.Data = append(r.Data, padded(i, rng.IntN(200)).Data...)
			r.Ends = append(r.Ends, uint32(len(r.Data)))
		}
		now = now.Add(time.Second)
		appendOne(t, f, r)
		frames = append(frames, r.Frame)
	}
	for range 2 {
		require.Greater(t, f.Stats().Segments, 3)
		total, oldest := f.Span(0)
		require.Equal(t, frames[0].ReceivedAt, oldest)
		require.InDelta(t, f.Stats().Bytes, total, float64(100*f.Stats().Segments+16<<10))
		for range 200 {
			i := rng.IntN(len(frames))
			p := frames[i].Position + uint64(rng.IntN(frames[i].Len()))
			want := map[uint64]uint64{}
			for _, fr := range frames[i:] {
				want[fr.OrgID] += uint64(fr.Len())
			}
			want[frames[i].OrgID] -= p - frames[i].Position
			if want[frames[i].OrgID] == 0 {
				delete(want, frames[i].OrgID)
			}
			got, err := f.OrgRows(t.Context(), p, math.MaxUint64)
			require.NoError(t, err)
			require.Equal(t, want, got)
			// Up to a position, wherever it lies: what was there before and what comes after it.
			j := i + rng.IntN(len(frames)-i)
			to := frames[j].Position + uint64(rng.IntN(frames[j].Len()))
			head, err := f.OrgRows(t.Context(), p, max(p, to))
			require.NoError(t, err)
			rest, err := f.OrgRows(t.Context(), max(p, to), math.MaxUint64)
			require.NoError(t, err)
			for org, rows := range rest {
				head[org] += rows
			}
			require.Equal(t, want, head)
			bytes, at := f.Span(p)
			require.Equal(t, frames[i].ReceivedAt, at)
			data := int64(0)
			for _, fr := range frames[i:] {
				data += int64(len(fr.Data))
			}
			require.Greater(t, bytes, data)
			require.Less(t, bytes, data+int64(len(frames)-i)*80)
		}
		_, next := f.Bounds()
		bytes, at := f.Span(next)
		require.Zero(t, bytes)
		require.True(t, at.IsZero())
		orgs, err := f.OrgRows(t.Context(), next, math.MaxUint64)
		require.NoError(t, err)
		require.Empty(t, orgs)
		require.NoError(t, f.Close())
		f = open(t, o)
	}
}

func TestKeysOutliveRestartAndReleaseUntilTheirTimeIsOver(t *testing.T) {
	now := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	m := newFaultFS()
	o := onFault(m)
	o.Now = func() time.Time { return now }
	o.KeyTTL = time.Hour
	f := open(t, o)
	type sent struct {
		key [16]byte
		Accepted
	}
	var all []sent
	add := func(n int) {
		for range n {
			i := len(all)
			r := padded(i, 300)
			r.IdempotencyKey, r.BodyDigest = [16]byte{15: byte(i), 14: byte(i >> 8), 0: 1}, [16]byte{byte(i)}
			p := appendOne(t, f, r)
			all = append(all, sent{r.IdempotencyKey, Accepted{Position: p, Rows: 1, BodyDigest: r.BodyDigest, At: now}})
			now = now.Add(time.Second)
		}
	}
	check := func() {
		for i, s := range all {
			a, ok := f.Repeated(s.key)
			require.Equal(t, now.Before(s.At.Add(o.KeyTTL)), ok, "key %d", i)
			if ok {
				require.Equal(t, s.Accepted, a)
			}
		}
		_, ok := f.Repeated([16]byte{9, 9})
		require.False(t, ok)
	}
	restart := func() {
		require.NoError(t, f.Close())
		f = open(t, o)
		check()
	}
	release := func() {
		_, next := f.Bounds()
		require.NoError(t, f.Release(next))
		check()
	}
	add(100)
	check()
	restart()
	release()
	restart()
	add(100)
	release()
	restart()
	require.Len(t, f.sidecars, 1, "small ones are merged")
	now = all[50].At.Add(o.KeyTTL)
	check()
	restart()
	now = all[len(all)-1].At.Add(2 * o.KeyTTL)
	add(30)
	release()
	require.Len(t, f.sidecars, 1)
	restart()
	now = now.Add(2 * o.KeyTTL)
	release()
	require.Empty(t, f.sidecars)
	for name := range m.names {
		require.NotContains(t, name, keysSuffix)
	}
}

func TestOnlyTheNewestKeysAreKept(t *testing.T) {
	o := onFault(newFaultFS())
	o.MaxKeys, o.SegmentBytes, o.MaxBytes = 5000, 64<<10, 64<<20
	f := open(t, o)
	key := func(i int) [16]byte { return [16]byte{1, byte(i), byte(i >> 8)} }
	for i := range 12_000 {
		r := record(1, "u", `{}`)
		r.IdempotencyKey = key(i)
		appendOne(t, f, r)
	}
	for range 2 {
		for i := range 12_000 {
			_, ok := f.Repeated(key(i))
			require.Equal(t, i >= 7000, ok, "key %d", i)
		}
		require.NoError(t, f.Close())
		f = open(t, o)
	}
}

func TestARecordThatCannotBeReadBackIsRefused(t *testing.T) {
	f := open(t, onFault(newFaultFS()))
	bad := []*Record{
		record(1, "no rows"),
		{Frame: protocol.Frame{Data: []byte("abc"), Ends: []uint32{2}}},
		{Frame: protocol.Frame{Data: []byte("abc"), Ends: []uint32{2, 1, 3}}},
		{Frame: protocol.Frame{Data: []byte("abc"), Ends: []uint32{1, 3}, Index: []int32{1}}},
		{Frame: protocol.Frame{Data: []byte("{}"), Ends: []uint32{2}, TraceParent: strings.Repeat("0", 256)}},
	}
	for _, r := range bad {
		_, err := f.Append(t.Context(), r)
		require.Error(t, err)
	}
	require.Zero(t, f.Stats().Rows)
}

func TestMetricsShowWhatTheJournalDoes(t *testing.T) {
	registry := prometheus.NewRegistry()
	o := onFault(newFaultFS())
	o.Registry = registry
	f := open(t, o)
	appendOne(t, f, padded(1, 10))
	values := map[string]float64{}
	families, err := registry.Gather()
	require.NoError(t, err)
	for _, family := range families {
		m := family.GetMetric()[0]
		switch {
		case m.GetHistogram() != nil:
			values[family.GetName()] = float64(m.GetHistogram().GetSampleCount())
		case m.GetCounter() != nil:
			values[family.GetName()] = m.GetCounter().GetValue()
		default:
			values[family.GetName()] = m.GetGauge().GetValue()
		}
	}
	require.Equal(t, 1.0, values["rivergate_journal_appended_rows_total"])
	require.Equal(t, 1.0, values["rivergate_journal_fdatasync_seconds"])
	require.Equal(t, 1.0, values["rivergate_journal_group_records"])
	require.Equal(t, 1.0, values["rivergate_journal_segments"])
	require.Equal(t, 1.0, values["rivergate_journal_writable"])
	require.Equal(t, float64(f.Stats().Bytes), values["rivergate_journal_bytes"])
	require.Positive(t, values["rivergate_journal_appended_bytes_total"])
	require.NoError(t, f.Close())
	open(t, o) // the names are free again
}
