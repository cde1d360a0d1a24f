package journal

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/rivergate/rivergate/sdk/protocol"
)

// record makes a record of rows with recognisable bytes.
func record(org uint64, uuid string, rows ...string) *Record {
	r := &Record{Frame: protocol.Frame{OrgID: org, UserID: 7, UUID: uuid, RequestID: "req-" + uuid}}
	for _, row := range rows {
		r.Data = append(r.Data, row...)
		r.Ends = append(r.Ends, uint32(len(r.Data)))
	}
	return r
}

func open(t testing.TB, o Options) *Files {
	t.Helper()
	f, err := Open(o)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, f.Close()) })
	return f
}

func appendOne(t testing.TB, f *Files, r *Record) uint64 {
	t.Helper()
	p, err := f.Append(context.Background(), r)
	require.NoError(t, err)
	return p
}

// drain returns every frame from position on that is there now.
func drain(t testing.TB, f *Files, position uint64) []protocol.Frame {
	t.Helper()
	r := f.Read(position)
	defer r.Close()
	var frames []protocol.Frame
	for {
		fr, ok, err := r.TryNext()
		require.NoError(t, err)
		if !ok {
			return frames
		}
		frames = append(frames, fr)
	}
}

func segmentFiles(t testing.TB, dir string) []string {
	t.Helper()
	names, err := filepath.Glob(filepath.Join(dir, "*"+segmentSuffix))
	require.NoError(t, err)
	return names
}

func TestWhatIsAppendedIsReadBackAsItWas(t *testing.T) {
	big := make([]byte, 16<<20)
	for i := range big {
		big[i] = byte('a' + i%26)
	}
	many := record(3, "many")
	for i := range 10_000 {
		many.Data = fmt.Appendf(many.Data, `{"n":%d}`, i)
		many.Ends = append(many.Ends, uint32(len(many.Data)))
		many.Index = append(many.Index, int32(i-1))
	}
	indexed := record(1, "indexed", `{"a":1}`, `{"a":2}`, `{"a":3}`)
	indexed.Index = []int32{protocol.NoIndex, 0, 1<<31 - 1}
	keyed := record(1, "keyed", `{}`)
	keyed.IdempotencyKey, keyed.BodyDigest = [16]byte{1, 2}, [16]byte{3}
	traced := record(1, "traced", `{"a":1}`, `{"a":2}`)
	traced.TraceParent = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
	traced.IdempotencyKey, traced.Index = [16]byte{9}, []int32{4, 5}
	records := []*Record{
		record(1, "one", `{"x":1.50}`),
		indexed,
		record(2, "", "", `{"after":"empty"}`, ""),
		keyed,
		traced,
		many,
		record(9, "big", string(big)),
		record(1, "last", `{"x":"\u0000"}`),
	}
	dir := t.TempDir()
	f := open(t, Options{Dir: dir})
	start := time.Now()
	next := uint64(0)
	for i, r := range records {
		p := appendOne(t, f, r)
		require.Equal(t, p, r.Position)
		if i > 0 {
			require.Equal(t, next, p, "positions are dense")
		}
		next = p + uint64(r.Len())
		require.WithinDuration(t, start, r.ReceivedAt, time.Minute)
	}
	check := func(f *Files) {
		frames := drain(t, f, 0)
		require.Len(t, frames, len(records))
		for i, fr := range frames {
			want := records[i].Frame
			require.True(t, want.ReceivedAt.Equal(fr.ReceivedAt))
			require.Equal(t, want.UUID, fr.UUID)
			require.Equal(t, want, fr)
			got, err := f.Lookup(t.Context(), fr.Position+uint64(fr.Len())-1)
			require.NoError(t, err)
			require.Equal(t, records[i], got)
		}
		oldest, end := f.Bounds()
		require.Equal(t, records[0].Position, oldest)
		require.Equal(t, next, end)
		// From the middle of a record.
		frames = drain(t, f, many.Position+9_990)
		require.Equal(t, many.Position+9_990, frames[0].Position)
		require.Equal(t, 10, frames[0].Len())
		require.Equal(t, `{"n":9990}`, string(frames[0].Row(0)))
		require.Equal(t, int32(9989), frames[0].Index[0])
	}
	check(f)
	require.NoError(t, f.Close())
	check(open(t, Options{Dir: dir}))
	_, err := os.Stat(filepath.Join(dir, quarantineDir))
	require.ErrorIs(t, err, os.ErrNotExist)
}
