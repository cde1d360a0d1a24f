package main

import (
	"bytes"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/rivergate/rivergate/sdk/plugintest"
	"github.com/rivergate/rivergate/sdk/protocol"
)

// written is a segment of batches, each one frame, with the offsets behind each record and each mark.
func written(frames ...protocol.Frame) (text []byte, s salt, ends []int) {
	s = salt{1, 2, 3}
	text = appendHeader(nil, s, time.Time{})
	for _, f := range frames {
		text = appendRecord(text, s, &f, 0, f.Len())
		ends = append(ends, len(text))
		text = appendMark(text, s, int64(len(text)))
		ends = append(ends, len(text))
	}
	return text, s, ends
}

func scanned(t testing.TB, text []byte) (frames []protocol.Frame, found scan) {
	t.Helper()
	found, err := scanSegment(bytes.NewReader(text), int64(len(text)), func(at extent, f *protocol.Frame) error {
		again, err := parseRecord(text[at.at : at.at+int64(at.size)])
		require.NoError(t, err)
		require.Equal(t, f.Data, again.Data)
		again.Data = bytes.Clone(again.Data)
		frames = append(frames, again)
		return nil
	})
	require.NoError(t, err)
	return frames, found
}

func someFrames() []protocol.Frame {
	one := plugintest.Indexed(plugintest.FrameAt(1, "a", `{"n":1}`, `{}`), 7, protocol.NoIndex)
	one.RequestID, one.OrgID = "request", 42
	return []protocol.Frame{one, plugintest.FrameAt(3, "b", `{"text":"`+strings.Repeat("x", 2*windowSize)+`"}`), plugintest.FrameAt(4, "", `{"RGmarked":"RGrows"}`)}
}

func TestRecordsAreReadBackAsTheyWereWritten(t *testing.T) {
	want := someFrames()
	text, _, _ := written(want...)
	got, found := scanned(t, text)
	require.Equal(t, want, got)
	require.Equal(t, int64(len(text)), found.end)
	require.False(t, found.damaged)
}

func TestAPartOfAFrameIsARecordOfItsOwn(t *testing.T) {
	f := plugintest.Indexed(plugintest.FrameAt(10, "a", `{"n":1}`, `{"n":2}`, `{"n":3}`), 1, 2, 3)
	s := salt{}
	got, _ := scanned(t, appendRecord(appendHeader(nil, s, time.Time{}), s, &f, 1, 3))
	require.Len(t, got, 1)
	require.EqualValues(t, 11, got[0].Position)
	require.Equal(t, `{"n":2}{"n":3}`, string(got[0].Data))
	require.Equal(t, []int32{2, 3}, got[0].Index)
}

// Cut anywhere, a segment gives the records before, and is not damaged: a crash cuts.
func TestATornEndIsNoDamage(t *testing.T) {
	frames := []protocol.Frame{plugintest.FrameAt(1, "a", `{}`), plugintest.FrameAt(2, "b", `{"n":1}`)}
	text, _, ends := written(frames...)
	for cut := headerSize; cut <= len(text); cut++ {
		got, found := scanned(t, text[:cut])
		require.False(t, found.damaged, "cut at %d", cut)
		whole := 0
		for _, end := range []int{ends[0], ends[2]} {
			if end <= cut {
				whole++
			}
		}
		require.Len(t, got, whole, "cut at %d", cut)
		require.LessOrEqual(t, found.end, int64(cut))
	}
}

// A flipped bit before the last mark is damage, wherever; all records but the one that was hit are there. Behind it, nothing was acknowledged.
func TestAFlippedBitIsDamageWhereRowsWereAcknowledged(t *testing.T) {
	frames := []protocol.Frame{plugintest.FrameAt(1, "a", `{}`), plugintest.FrameAt(2, "b", `{"n":1}`), plugintest.FrameAt(3, "c", `{}`)}
	text, _, ends := written(frames...)
	for i := headerSize; i < len(text); i++ {
		broken := bytes.Clone(text)
		broken[i] ^= 0x10
		got, found := scanned(t, broken)
		lastMark := ends[len(ends)-2]
		require.Equal(t, i < lastMark, found.damaged, "bit at %d of %d", i, len(text))
		inRecord := 0
		for r := range frames {
			begin := headerSize
			if r > 0 {
				begin = ends[2*r-1]
			}
			if i >= begin && i < ends[2*r] {
				inRecord = 1
			}
		}
		// A mark that is hit hides what stands before the next one.
		require.GreaterOrEqual(t, len(got), len(frames)-1-inRecord, "bit at %d", i)
	}
}

func TestNothingOfAnotherSegmentIsBelieved(t *testing.T) {
	text, _, _ := written(plugintest.FrameAt(1, "a", `{}`))
	other := appendHeader(nil, salt{9}, time.Time{})
	got, found := scanned(t, append(other, text[headerSize:]...))
	require.Empty(t, got)
	require.Equal(t, int64(headerSize), found.end)
}

// Whatever a disk gives back: no panic, no endless loop, and every record that is believed lies within the file.
func FuzzScanSegment(f *testing.F) {
	text, s, _ := written(plugintest.FrameAt(1, "a", `{}`), plugintest.FrameAt(2, "b", `{"n":1}`))
	f.Add(text)
	f.Add(text[:len(text)-5])
	f.Add(append(bytes.Clone(text), markMagic...))
	f.Add(appendHeader(nil, s, time.Time{}))
	f.Fuzz(func(t *testing.T, text []byte) {
		found, err := scanSegment(bytes.NewReader(text), int64(len(text)), func(at extent, f *protocol.Frame) error {
			if at.at < 0 || at.at+int64(at.size) > int64(len(text)) || f.Len() == 0 {
				t.Fatalf("a record at %+v of %d bytes, %d rows", at, len(text), f.Len())
			}
			for row := range rowsOf(f).Rows() {
				_ = row.JSON() // within its frame, or it panics
			}
			return nil
		})
		if err == nil && found.end > int64(len(text)) {
			t.Fatalf("end at %d of %d", found.end, len(text))
		}
	})
}

// A payload whose checksum is right may still be anything, as far as the reader knows.
func FuzzParseRecord(f *testing.F) {
	frame := plugintest.Indexed(plugintest.FrameAt(1, "a", `{}`, `{"n":1}`), 1, protocol.NoIndex)
	f.Add(appendRecord(nil, salt{}, &frame, 0, 2)[recordHeadSize:])
	f.Fuzz(func(t *testing.T, payload []byte) {
		frame, err := parseRecord(payload)
		if err != nil {
			return
		}
		again, err := parseRecord(appendRecord(nil, salt{}, &frame, 0, frame.Len())[recordHeadSize:])
		require.NoError(t, err)
		require.Equal(t, frame, again)
	})
}

func FuzzParseCut(f *testing.F) {
	c := &cut{Size: 9, Path: "rows/{org}", Objects: []object{{Path: "rows/1", Rows: 2, First: 3, Last: 4}}, layout: layout{Format: jsonLines}}
	text, err := c.text()
	require.NoError(f, err)
	f.Add(text)
	f.Fuzz(func(t *testing.T, text []byte) {
		c, err := parseCut(text)
		if err != nil {
			return
		}
		again, err := c.text()
		require.NoError(t, err)
		same, err := parseCut(again)
		require.NoError(t, err)
		require.Equal(t, c, same)
	})
}
