package delivery

import (
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/rivergate/rivergate/sdk/protocol"
)

// shaped is a pusher that drops each third row, and renames n.
func shaped(f *fake) Pusher {
	p := pusher("http", f)
	p.Filter, p.Rename = "row.n % 3 != 0", map[string]string{"n": "number"}
	return p
}

func TestATransformDropsAndChangesRowsForItsPusherAlone(t *testing.T) {
	in(t, func(t *testing.T) {
		f, plain := newFake(nil), newFake(nil)
		r := newRig(t, shaped(f), pusher("file", plain))
		r.start()
		frame := r.post("u", 10)
		progress := r.settledAll(frame)
		require.Equal(t, Progress{Name: "http", State: StateDelivered, Delivered: 6, Skipped: 4, Attempts: 1}, progress[1])
		require.Equal(t, Progress{Name: "file", State: StateDelivered, Delivered: 10, Attempts: 1}, progress[0])
		for i := range 10 {
			at := frame.Position + uint64(i)
			require.Equal(t, fmt.Sprintf(`{"n": %d}`, i), plain.data[at])
			if i%3 == 0 {
				require.Zero(t, f.times(at))
			} else {
				require.Equal(t, fmt.Sprintf(`{"number": %d}`, i), f.data[at])
			}
		}
		require.EqualValues(t, 4, r.status("http").SkippedTotal)
		none := r.post("v", 1)
		require.Equal(t, 1, r.settledAll(none)[1].Skipped, "a request of which nothing is left is settled")
		after(time.Second)
		require.Equal(t, none.Position+1, r.storedCursor("http"))
		require.Zero(t, r.chain("http").backlog.Load())
		require.Zero(t, r.chain("http").ahead.bytes.Load())
	})
}

func TestARowThatCannotBeTransformedIsADeadLetterWithItsOwnBytes(t *testing.T) {
	in(t, func(t *testing.T) {
		f := newFake(nil)
		p := pusher("http", f)
		p.Filter, p.Select, p.Rename = "row.n != 2 or row.none > 1", []string{"n"}, map[string]string{"n": "number"}
		r := newRig(t, p)
		r.start()
		frame := r.post("u", 5)
		require.Equal(t, Progress{Name: "http", State: StatePartlyDead, Delivered: 4, Dead: 1, Attempts: 1, LastError: r.settledAll(frame)[0].LastError}, r.settledAll(frame)[0])
		after(time.Second)
		letters := r.letters()
		require.Len(t, letters, 1)
		l := letters[0]
		require.Equal(t, []string{"rejected", "transform_failed", `{"n": 2}`}, []string{l.Class, l.Code, string(l.Data)})
		require.Contains(t, l.Message, "FILTER, line 1, column 24: ")

		_, err := r.Replay(t.Context(), Filter{Org: 1}, "", 0)
		require.NoError(t, err)
		after(time.Minute)
		require.Equal(t, "transform_failed", r.letters()[0].Code, "a replay transforms again, and fails again")

		p.Filter = ""
		changes, err := r.Apply(t.Context(), []Pusher{p})
		require.NoError(t, err)
		require.Equal(t, []string{"http"}, changes.Changed)
		_, err = r.Replay(t.Context(), Filter{Org: 1}, "", 0)
		require.NoError(t, err)
		after(time.Minute)
		require.Empty(t, r.letters())
		require.Equal(t, `{"number":2}`, f.data[frame.Position+2])
	})
}

func TestAReplayedRowThatIsDroppedLeavesTheDeadLetters(t *testing.T) {
	in(t, func(t *testing.T) {
		f := newFake(func(_ *process, b *protocol.Batch) reaction {
			return reaction{outcomes: outcome(b, protocol.Rejected, nil)}
		})
		p := pusher("http", f)
		r := newRig(t, p)
		r.start()
		r.settledAll(r.post("u", 3))
		after(time.Second)
		require.Len(t, r.letters(), 3)
		p.Filter = "row.n == 1"
		_, err := r.Apply(t.Context(), []Pusher{p})
		require.NoError(t, err)
		_, err = r.Replay(t.Context(), Filter{Org: 1}, "", 0)
		require.NoError(t, err)
		after(time.Minute)
		letters := r.letters()
		require.Len(t, letters, 1)
		require.Equal(t, `{"n": 1}`, string(letters[0].Data))
		require.EqualValues(t, 2, r.status("http").SkippedTotal)
	})
}

func TestWithoutATransformRowsAreTheBytesOfTheJournal(t *testing.T) {
	in(t, func(t *testing.T) {
		var same bool
		f := newFake(nil)
		r := newRig(t, pusher("http", f))
		r.start()
		var frame *protocol.Frame
		f.behave = func(_ *process, b *protocol.Batch) reaction {
			same = string(b.Frames[0].Data) == string(frame.Data) && b.Frames[0].Len() == frame.Len()
			return reaction{}
		}
		rec := rows(1, "u", 5)
		frame = &rec
		r.settledAll(r.postFrame(rec))
		require.True(t, same)
	})
}

func TestAPusherWithABrokenTransformIsRefused(t *testing.T) {
	p := pusher("http", newFake(nil))
	p.Filter = "row.n >"
	_, err := newChain(&Delivery{stocks: map[string]*stock{}}, p)
	require.ErrorContains(t, err, "pusher http: filter: line 1, column 7")
}

func TestNewNamesThatMakeRowsLargerKeepTheLimitsOfThePlugin(t *testing.T) {
	in(t, func(t *testing.T) {
		largest := 0
		f := newFake(func(_ *process, b *protocol.Batch) reaction {
			size := 0
			for i := range b.Frames {
				size += len(b.Frames[i].Data)
			}
			largest = max(largest, size)
			return reaction{}
		})
		f.limits = protocol.Limits{MaxBatchBytes: 2000}
		p := pusher("http", f)
		p.BatchRows, p.Rename = 1000, map[string]string{"n": "a name of two hundred bytes" + fmt.Sprintf("%0173d", 0)}
		r := newRig(t, p)
		r.start()
		require.Equal(t, 100, r.settledAll(r.post("u", 100))[0].Delivered)
		require.LessOrEqual(t, largest, 2000)
		require.Greater(t, largest, 1000)
	})
}

func BenchmarkTransformOnTheWay(b *testing.B) {
	f := rows(1, "u", 1000)
	p := pusher("http", newFake(nil))
	p.Filter, p.Rename = "row.n % 3 != 0", map[string]string{"n": "number"}
	shape, err := newShape(&p)
	require.NoError(b, err)
	var scratch []byte
	b.ReportAllocs()
	for b.Loop() {
		_, scratch = sift(shape, &f, scratch)
	}
	b.ReportMetric(float64(b.N)*1000/b.Elapsed().Seconds(), "rows/s")
}
