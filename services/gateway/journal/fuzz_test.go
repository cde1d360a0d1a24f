package journal

import (
	"hash/crc32"
	"math"
	"path/filepath"
	"slices"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/rivergate/rivergate/sdk/protocol"
)

// fuzzed is a fixed journal: four records in one segment, with its footer when sealed.
func fuzzed(t testing.TB) (data []byte, ends []int64, frames []protocol.Frame) {
	h := segmentHeader{salt: 0x01020304, first: 1 << 50, prevEnd: 1 << 50, base: 1 << 50, madeAt: 1}
	s := newSegment(dir, h)
	data = h.bytes()
	for i, rows := range [][]string{{`{"a":1}`}, {`{"b":1}`, `{"b":2}`}, {`{}`, `{}`, `{}`}, {`{"last":true}`}} {
		r := record(uint64(i+1), "u", rows...)
		if i == 1 {
			r.Index = []int32{3, protocol.NoIndex}
			r.IdempotencyKey = [16]byte{5}
		}
		if i > 0 && i < 3 {
			r.TraceParent = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
		}
		req := &request{}
		require.NoError(t, req.encode(r))
		rh := recordHeader{salt: h.salt, length: req.length(), rows: req.rows, position: s.end, receivedAt: int64(i + 1), org: r.OrgID, payloadCRC: req.crc}
		rh.put(req.head)
		s.add(&rh, s.dataEnd, nil)
		data = append(append(data, req.head...), req.data...)
		ends = append(ends, s.dataEnd)
		r.Position, r.ReceivedAt = rh.position, utc(rh.receivedAt)
		frames = append(frames, r.Frame)
	}
	_, footer := encodeFooter(s)
	return append(data, footer...), ends, frames
}

// recoverBytes opens a journal whose one segment has these bytes, reads it, writes to it, and opens it again.
func recoverBytes(t *testing.T, data []byte) []protocol.Frame {
	m := newFaultFS()
	m.dirs[dir] = true
	name := filepath.Join(dir, segmentName(1<<50))
	m.names[name] = &inode{data: data, durable: data}
	m.durable[name] = m.names[name]
	var before []protocol.Frame
	for start := range 2 {
		f, err := Open(onFault(m))
		require.NoError(t, err)
		frames := drain(t, f, 0)
		if start == 0 {
			before = frames
			p, err := f.Append(t.Context(), record(1, "more", `{}`))
			require.NoError(t, err)
			for _, fr := range before {
				require.Less(t, fr.Position, p)
			}
		} else {
			require.Len(t, frames, len(before)+1)
			require.True(t, len(before) == 0 || slices.EqualFunc(before, frames[:len(before)], func(a, b protocol.Frame) bool { return a.Position == b.Position }))
		}
		for _, fr := range frames {
			_, err := f.OrgRows(t.Context(), fr.Position, math.MaxUint64)
			require.NoError(t, err)
			f.Span(fr.Position)
		}
		require.NoError(t, f.Close())
	}
	return before
}

// FuzzRecover: a prefix of a good segment, then anything. The records before it survive, and nothing hangs or panics.
func FuzzRecover(f *testing.F) {
	data, ends, frames := fuzzed(f)
	f.Add(0, []byte("not a segment"))
	f.Add(0, []byte(nil))
	f.Add(0, data)
	f.Add(segmentHeaderSize, make([]byte, 5000))
	for _, end := range ends {
		f.Add(int(end), data[ends[0]:])
		f.Add(int(end)-3, data[ends[0]:ends[2]])
		f.Add(int(end)+9, []byte{1, 2, 3})
	}
	f.Fuzz(func(t *testing.T, keep int, tail []byte) {
		keep = int(uint(keep) % uint(len(data)+1))
		got := recoverBytes(t, append(slices.Clone(data[:keep]), tail...))
		for i, want := range frames {
			if int(ends[i]) > keep {
				break
			}
			require.Less(t, i, len(got), "record %d is lost", i)
			require.Equal(t, want, got[i])
		}
	})
}

// FuzzMutatedSegment: any run of bytes of a good segment replaced. Records outside of it survive.
func FuzzMutatedSegment(f *testing.F) {
	data, ends, frames := fuzzed(f)
	f.Add(70, []byte{0})
	f.Add(int(ends[1])+8, []byte{0xff, 0xff, 0xff, 0x7f})
	f.Add(len(data)-60, []byte{9, 9, 9})
	f.Fuzz(func(t *testing.T, at int, with []byte) {
		at = int(uint(at) % uint(len(data)))
		mutated := slices.Clone(data)
		n := copy(mutated[at:], with)
		got := recoverBytes(t, mutated)
		for i, want := range frames {
			start := segmentHeaderSize
			if i > 0 {
				start = int(ends[i-1])
			}
			if at >= int(ends[i]) || at+n <= start {
				require.True(t, slices.ContainsFunc(got, func(fr protocol.Frame) bool { return fr.Position == want.Position }), "record %d is lost", i)
			}
		}
	})
}

// FuzzDecodeRecord: a payload whose checksum is right, whatever it says.
func FuzzDecodeRecord(f *testing.F) {
	data, ends, _ := fuzzed(f)
	start := int64(segmentHeaderSize)
	for i, end := range ends {
		f.Add(uint32(i+1), data[start+recordHeaderSize:end])
		start = end
	}
	f.Fuzz(func(t *testing.T, rows uint32, b []byte) {
		h := recordHeader{length: uint32(len(b)), rows: rows, position: 1, payloadCRC: crc32.Checksum(b, castagnoli)}
		head := make([]byte, recordHeaderSize)
		h.put(head)
		h, ok := parseHeader(head)
		if !ok {
			return
		}
		p, err := decodePayload(&h, b)
		if err != nil {
			return
		}
		var r Record
		p.fill(&h, &r)
		require.NoError(t, r.validate())
		again := &request{}
		require.NoError(t, again.encode(&r))
		h.length = again.length()
		p, err = decodePayload(&h, append(again.head[recordHeaderSize:], again.data...))
		require.NoError(t, err)
		var twice Record
		p.fill(&h, &twice)
		require.Equal(t, r, twice)
	})
}
