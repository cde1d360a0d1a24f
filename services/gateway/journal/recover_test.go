package journal

import (
	"bytes"
	"fmt"
	"maps"
	"math"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/hashicorp/go-hclog"
	"github.com/stretchr/testify/require"

	"github.com/rivergate/rivergate/sdk/protocol"
)

// manySegments is a journal of several sealed segments and an active one.
func manySegments(t *testing.T) (m *faultFS, frames []protocol.Frame, names []string) {
	m = newFaultFS()
	f, err := Open(onFault(m))
	require.NoError(t, err)
	for i := range 40 {
		r := padded(i, 400)
		r.IdempotencyKey = [16]byte{byte(i + 1)}
		appendOne(t, f, r)
	}
	frames = drain(t, f, 0)
	require.NoError(t, f.Close())
	for name := range maps.Keys(m.names) {
		if strings.HasSuffix(name, segmentSuffix) {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	require.Greater(t, len(names), 4)
	return m, frames, names
}

func openLogged(t *testing.T, m *faultFS) (*Files, *bytes.Buffer) {
	var log bytes.Buffer
	o := onFault(m)
	o.Log = hclog.New(&hclog.LoggerOptions{Output: &log, Level: hclog.Info})
	f, err := Open(o)
	require.NoError(t, err)
	return f, &log
}

func TestADamagedFooterOfASealedSegmentIsMadeAgain(t *testing.T) {
	m, frames, names := manySegments(t)
	whole := m.names[names[1]].data
	trailer, ok := parseTrailer(whole[len(whole)-trailerSize:], int64(len(whole)))
	require.True(t, ok)
	for at := int(trailer.summary.dataEnd); at < len(whole); at++ {
		disk := m.kill()
		disk.names[names[1]].data[at] ^= 0x55
		for range 2 {
			f, err := Open(onFault(disk))
			require.NoError(t, err)
			require.Equal(t, frames, drain(t, f, 0))
			require.Zero(t, f.Stats().Quarantined)
			orgs, err := f.OrgRows(t.Context(), 0, math.MaxUint64)
			require.NoError(t, err)
			require.Equal(t, map[uint64]uint64{1: 14, 2: 13, 3: 13}, orgs)
			for i := range 40 {
				_, ok := f.Repeated([16]byte{byte(i + 1)})
				require.True(t, ok, "key %d", i)
			}
			got, err := f.Lookup(t.Context(), frames[9].Position)
			require.NoError(t, err)
			require.Equal(t, frames[9], got.Frame)
			require.NoError(t, f.Close())
		}
	}
}

func TestADamagedHeaderOfASealedSegmentDoesNoHarm(t *testing.T) {
	m, frames, names := manySegments(t)
	for _, footerToo := range []bool{false, true} {
		disk := m.kill()
		data := disk.names[names[1]].data
		clear(data[:segmentHeaderSize])
		if footerToo {
			clear(data[len(data)-trailerSize:])
		}
		for range 2 {
			f, err := Open(onFault(disk))
			require.NoError(t, err)
			require.Equal(t, frames, drain(t, f, 0))
			require.NoError(t, f.Close())
		}
	}
}

func TestAMissingSegmentIsReportedAndPassedOver(t *testing.T) {
	m, frames, names := manySegments(t)
	delete(m.names, names[2])
	f, log := openLogged(t, m)
	defer f.Close()
	got := drain(t, f, 0)
	require.Less(t, len(got), len(frames))
	lost := len(frames) - len(got)
	require.Contains(t, log.String(), "rows are missing")
	require.Contains(t, log.String(), fmt.Sprintf("lost_rows=%d", lost))
	appendOne(t, f, padded(1, 1))
}

func TestASegmentThatSomebodyRemovedDoesNotKeepTheOthers(t *testing.T) {
	m, _, names := manySegments(t)
	f, log := openLogged(t, m)
	defer f.Close()
	m.mu.Lock()
	delete(m.names, names[1])
	m.mu.Unlock()
	_, next := f.Bounds()
	require.NoError(t, f.Release(next))
	require.Equal(t, 1, f.Stats().Segments)
	require.Contains(t, log.String(), filepath.Base(names[1]))
	appendOne(t, f, padded(1, 1))
}

func TestWithoutTheNewestSegmentPositionsStillRise(t *testing.T) {
	m, frames, names := manySegments(t)
	delete(m.names, names[len(names)-1])
	f, log := openLogged(t, m)
	defer f.Close()
	require.Contains(t, log.String(), "newest segment is missing")
	require.Greater(t, appendOne(t, f, padded(1, 1)), frames[len(frames)-1].Position)
}

func TestForeignFilesAreLeftAloneWithAWarning(t *testing.T) {
	m, frames, names := manySegments(t)
	foreign := map[string]*inode{
		filepath.Join(dir, "notes.txt"):                 {data: []byte("mine")},
		filepath.Join(dir, "1.seg"):                     {data: []byte("short name")},
		filepath.Join(dir, "99999999999999999.seg"):     {data: []byte("beyond every position")},
		filepath.Join(dir, "00000000000000001.seg.bak"): {data: []byte("a copy")},
		filepath.Join(dir, segmentName(5)):              {data: slices.Clone(m.names[names[1]].data)}, // a copy under another name
	}
	maps.Copy(m.names, foreign)
	m.dirs[filepath.Join(dir, segmentName(77))] = true
	for range 2 {
		f, log := openLogged(t, m)
		require.Equal(t, frames, drain(t, f, 0))
		for name, i := range foreign {
			require.Contains(t, log.String(), filepath.Base(name))
			require.Equal(t, i, m.names[name])
		}
		require.Contains(t, log.String(), segmentName(77))
		require.NoError(t, f.Close())
	}
}

func TestAFileOfGarbageUnderOurNameIsSetAside(t *testing.T) {
	m, frames, _ := manySegments(t)
	name := filepath.Join(dir, segmentName(frames[0].Position-1000))
	m.names[name] = &inode{data: bytes.Repeat([]byte("garbage!"), 1000)}
	f, log := openLogged(t, m)
	defer f.Close()
	require.Equal(t, frames, drain(t, f, 0))
	require.Equal(t, int64(8000), f.Stats().Quarantined)
	require.Contains(t, log.String(), "set aside")
	require.NotContains(t, m.names, name)
}

func TestAWipedFolderNeverGivesAPositionAgain(t *testing.T) {
	now := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	o := onFault(newFaultFS())
	o.Now = func() time.Time { return now }
	f := open(t, o)
	first := appendOne(t, f, padded(1, 1))
	require.Equal(t, uint64(now.Unix())<<20, first)
	for i := range 20 {
		appendOne(t, f, padded(i, 1))
	}
	_, next := f.Bounds()
	now = now.Add(time.Second)
	o.fs = newFaultFS()
	require.Greater(t, appendOne(t, open(t, o), padded(1, 1)), next)
}

func TestAReleasedJournalStillKnowsItsNextPosition(t *testing.T) {
	now := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	m := newFaultFS()
	o := onFault(m)
	o.Now = func() time.Time { return now }
	f := open(t, o)
	for i := range 30 {
		appendOne(t, f, padded(i, 400))
	}
	_, next := f.Bounds()
	require.NoError(t, f.Release(next))
	require.NoError(t, f.Close())
	now = now.Add(-time.Hour) // the clock was set back
	f = open(t, o)
	_, again := f.Bounds()
	require.Equal(t, next, again)
	require.Equal(t, next, appendOne(t, f, padded(1, 1)))
}

func TestManySealedSegmentsOpenWithoutReadingThem(t *testing.T) {
	m := newFaultFS()
	o := onFault(m)
	o.MaxBytes, o.SegmentBytes = 1<<30, 64<<10
	f := open(t, o)
	for i := range 3000 {
		appendOne(t, f, padded(i, 8000))
	}
	require.NoError(t, f.Close())
	used := m.used()
	read := 0
	m.refuse = func(op, _ string) error {
		if op == "read" {
			read++
		}
		return nil
	}
	f = open(t, o)
	require.Greater(t, f.Stats().Segments, 300)
	require.Equal(t, uint64(3000), f.Stats().Rows)
	// Header and trailer of each; the active one as a whole.
	require.LessOrEqual(t, read, 2*f.Stats().Segments+4)
	require.Greater(t, used, 20<<20)
	for _, s := range f.segs[:len(f.segs)-1] {
		require.Nil(t, s.index)
		require.Nil(t, s.orgs)
		require.Nil(t, s.keys)
	}
}

func TestNewRowsNeverHideBehindACursor(t *testing.T) {
	for _, wiped := range []bool{false, true} {
		m, frames, _ := manySegments(t)
		if wiped {
			m = newFaultFS()
		}
		o := onFault(m)
		o.Now = func() time.Time { return time.Unix(1, 0) } // the clock is of no help
		o.NotBelow = frames[len(frames)-1].Position + 5000
		for range 2 {
			f := open(t, o)
			_, next := f.Bounds()
			require.GreaterOrEqual(t, next, o.NotBelow)
			require.GreaterOrEqual(t, appendOne(t, f, padded(1, 1)), o.NotBelow)
			require.NoError(t, f.Close())
		}
	}
}
