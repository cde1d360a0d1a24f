package journal

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/rivergate/rivergate/sdk/protocol"
)

const dir = "/journal"

func onFault(m *faultFS) Options {
	return Options{Dir: dir, MaxBytes: 1 << 20, SegmentBytes: 4 << 10, fs: m, retryEvery: time.Nanosecond}
}

// ledger is what clients were told.
type ledger struct {
	mu       sync.Mutex
	accepted map[uint64]string // position of a row → its bytes
	keys     map[[16]byte]uint64
	sent     map[string]bool // every row that was ever sent
	released uint64
}

func newLedger() *ledger {
	return &ledger{accepted: map[uint64]string{}, keys: map[[16]byte]uint64{}, sent: map[string]bool{}}
}

func (l *ledger) send(f *Files, r *Record) error {
	l.mu.Lock()
	for i := range r.Len() {
		l.sent[string(r.Row(i))] = true
	}
	l.mu.Unlock()
	p, err := f.Append(context.Background(), r)
	if err != nil {
		return err
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	for i := range r.Len() {
		l.accepted[p+uint64(i)] = string(r.Row(i))
	}
	if r.IdempotencyKey != [16]byte{} {
		l.keys[r.IdempotencyKey] = p
	}
	return nil
}

// check reads everything: each accepted row is there under its position, and no row was invented or moved.
func (l *ledger) check(t *testing.T, f *Files) {
	t.Helper()
	rows := map[uint64]string{}
	last := uint64(0)
	oldest, next := f.Bounds()
	for _, fr := range drain(t, f, 0) {
		require.Greater(t, fr.Position+1, last, "positions rise")
		for i := range fr.Len() {
			rows[fr.Position+uint64(i)] = string(fr.Row(i))
			require.True(t, l.sent[string(fr.Row(i))], "row %q was never sent", fr.Row(i))
		}
		last = fr.Position + uint64(fr.Len())
	}
	require.LessOrEqual(t, last, next)
	for p, row := range l.accepted {
		if got, ok := rows[p]; ok {
			require.Equal(t, row, got, "position %d", p)
		} else {
			require.Less(t, p, l.released, "accepted row %q at %d is lost", row, p)
			require.Less(t, p, oldest)
		}
		require.Less(t, p, next, "a position is given out again")
	}
	for key, p := range l.keys {
		a, ok := f.Repeated(key)
		require.True(t, ok, "the key of %d is forgotten", p)
		require.Equal(t, p, a.Position)
	}
}

// workload appends, in groups and alone, and releases, until the power fails.
func workload(f *Files, l *ledger) {
	rng := rand.New(rand.NewPCG(1, 2))
	for round := range 20 {
		var wg sync.WaitGroup
		failed := make(chan error, 8)
		for c := range 1 + round%3 {
			size := rng.IntN(900)
			wg.Go(func() {
				r := record(uint64(c+1), "u", fmt.Sprintf(`{"r":%d,"c":%d,"p":"%s"}`, round, c, strings.Repeat("x", size)), fmt.Sprintf(`{"second":%d.%d}`, round, c))
				if c == 0 {
					r.IdempotencyKey = [16]byte{byte(round + 1)}
				}
				if err := l.send(f, r); err != nil {
					failed <- err
				}
			})
		}
		wg.Wait()
		if len(failed) > 0 {
			return
		}
		if round%4 == 3 {
			_, next := f.Bounds()
			l.released = max(l.released, next-6)
			if f.Release(next-6) != nil {
				return
			}
		}
	}
}

func TestAcceptedRowsSurviveAPowerCutAtEveryOperation(t *testing.T) {
	for _, form := range []string{"unsynced is lost", "unsynced is torn", "torn without preallocation", "killed"} {
		t.Run(form, func(t *testing.T) {
			for cut := 1; ; cut++ {
				m := newFaultFS()
				m.noAlloc = strings.Contains(form, "without")
				m.cutAt = cut
				l := newLedger()
				f, err := Open(onFault(m))
				require.NoError(t, err)
				workload(f, l)
				require.NoError(t, f.Close())
				survived := m.ops < cut
				seeds := 1
				if strings.Contains(form, "torn") {
					seeds = 4
				}
				for seed := range seeds {
					var disk *faultFS
					switch form {
					case "unsynced is lost":
						disk = m.powerCut(nil)
					case "killed":
						disk = m.kill()
					default:
						disk = m.powerCut(rand.New(rand.NewPCG(uint64(cut), uint64(seed))))
					}
					checkRecovery(t, disk, l)
				}
				if survived {
					require.Greater(t, cut, 100, "the workload is too small to prove anything")
					return
				}
			}
		})
	}
}

// checkRecovery opens the disk, checks, goes on, and does so once more.
func checkRecovery(t *testing.T, disk *faultFS, before *ledger) {
	t.Helper()
	l := newLedger()
	for p, r := range before.accepted {
		l.accepted[p] = r
	}
	for k, p := range before.keys {
		l.keys[k] = p
	}
	for r := range before.sent {
		l.sent[r] = true
	}
	l.released = before.released
	for range 2 {
		f, err := Open(onFault(disk))
		require.NoError(t, err)
		l.check(t, f)
		require.NoError(t, l.send(f, record(1, "after", `{"after":"the cut"}`)))
		l.check(t, f)
		require.NoError(t, f.Close())
	}
}

// lastSegment returns the one file that a small journal has.
func lastSegment(t *testing.T, m *faultFS) *inode {
	t.Helper()
	var found *inode
	for name, i := range m.names {
		if strings.HasSuffix(name, segmentSuffix) {
			require.Nil(t, found, "one segment expected")
			found = i
		}
	}
	require.NotNil(t, found)
	return found
}

// smallJournal is six records in one segment. It returns the offset after each.
func smallJournal(t *testing.T) (m *faultFS, frames []protocol.Frame, ends []int64) {
	m = newFaultFS()
	f, err := Open(onFault(m))
	require.NoError(t, err)
	for i := range 6 {
		r := record(uint64(i), fmt.Sprintf("uuid-%d", i), fmt.Sprintf(`{"row":%d}`, i), `{"z":"second"}`)
		if i%2 == 0 {
			r.Index = []int32{int32(i), protocol.NoIndex}
		}
		appendOne(t, f, r)
		ends = append(ends, f.segs[0].dataEnd)
	}
	frames = drain(t, f, 0)
	require.NoError(t, f.Close())
	return m, frames, ends
}

// checkDamage opens a damaged journal: rows that come are rows that were, all frames for which must holds are there, and the
// journal goes on, also after more starts. known: the damage leaves a sign of each position that was given out.
func checkDamage(t *testing.T, m *faultFS, frames []protocol.Frame, known bool, must func(i int) bool) {
	t.Helper()
	disk := m.kill()
	next := frames[len(frames)-1].Position + 2
	var added []protocol.Frame
	for start := range 3 {
		f, err := Open(onFault(disk))
		require.NoError(t, err)
		got := drain(t, f, 0)
		seen := map[string]protocol.Frame{}
		for _, fr := range got {
			require.NotContains(t, seen, fr.UUID, "a record comes twice")
			seen[fr.UUID] = fr
		}
		for i, want := range frames {
			if fr, ok := seen[want.UUID]; ok {
				require.Equal(t, want, fr)
				delete(seen, want.UUID)
			} else {
				require.False(t, must(i), "record %d is lost", i)
			}
		}
		for _, want := range added {
			require.Equal(t, want, seen[want.UUID])
			delete(seen, want.UUID)
		}
		require.Empty(t, seen, "rows that nobody sent")
		r := record(1, fmt.Sprintf("more-%d", start), `{"more":1}`)
		p := appendOne(t, f, r)
		if known {
			require.GreaterOrEqual(t, p, next, "a position is given out again")
		}
		added = append(added, r.Frame)
		require.NoError(t, f.Close())
	}
}

func TestJournalCutAtAnyByteKeepsTheRecordsBefore(t *testing.T) {
	m, frames, ends := smallJournal(t)
	whole := lastSegment(t, m)
	data := whole.data
	for cut := ends[1]; cut < ends[5]; cut++ {
		must := func(i int) bool { return ends[i] <= cut }
		// With more gone than the last record, nothing tells how far the journal went.
		known := cut > ends[4]+2
		// The rest is zeros, as in a preallocated file.
		whole.data = make([]byte, len(data))
		copy(whole.data, data[:cut])
		checkDamage(t, m, frames, known, must)
		// The rest is not there.
		whole.data = data[:cut:cut]
		checkDamage(t, m, frames, known, must)
	}
}

func TestAnyDamagedByteCostsItsOwnRecordOnly(t *testing.T) {
	m, frames, ends := smallJournal(t)
	whole := lastSegment(t, m)
	data := whole.data
	for at := int64(0); at < ends[5]; at++ {
		for _, with := range []byte{data[at] ^ 1, data[at] ^ 0xff, 0} {
			if with == data[at] {
				continue
			}
			whole.data = append([]byte(nil), data...)
			whole.data[at] = with
			checkDamage(t, m, frames, true, func(i int) bool {
				start := int64(segmentHeaderSize)
				if i > 0 {
					start = ends[i-1]
				}
				return at < start || at >= ends[i]
			})
		}
	}
}

func TestDamagedBytesAreKeptInQuarantineAndCounted(t *testing.T) {
	m, frames, ends := smallJournal(t)
	s := lastSegment(t, m)
	s.data[ends[2]+60] ^= 1
	damaged := append([]byte(nil), s.data[ends[2]:ends[3]]...)
	for range 2 {
		f, err := Open(onFault(m))
		require.NoError(t, err)
		require.Len(t, drain(t, f, 0), len(frames)-1)
		require.Equal(t, int64(len(damaged)), f.Stats().Quarantined)
		_, err = f.Lookup(t.Context(), frames[3].Position)
		require.ErrorIs(t, err, ErrNotFound)
		require.NoError(t, f.Close())
	}
	var kept [][]byte
	for name, i := range m.names {
		if strings.Contains(name, quarantineDir) {
			kept = append(kept, i.data)
		}
	}
	require.Equal(t, [][]byte{damaged}, kept)
}

func TestDamageFoundWhileReadingIsPassedOver(t *testing.T) {
	m, frames, ends := smallJournal(t)
	f, err := Open(onFault(m))
	require.NoError(t, err)
	defer f.Close()
	s := lastSegment(t, m)
	m.mu.Lock()
	s.data[ends[1]+50] ^= 1
	s.data[ends[4]+5] ^= 1 // the last record: nothing valid follows
	m.mu.Unlock()
	for range 2 {
		got := drain(t, f, 0)
		require.Equal(t, []protocol.Frame{frames[0], frames[1], frames[3], frames[4]}, got)
	}
	require.Equal(t, ends[2]-ends[1]+ends[5]-ends[4], f.Stats().Quarantined)
	r := record(1, "more", `{}`)
	appendOne(t, f, r)
	got := drain(t, f, frames[4].Position)
	require.Equal(t, []protocol.Frame{frames[4], r.Frame}, got)
}

func TestAReadThatFailsOnceLosesNothing(t *testing.T) {
	m, frames, _ := smallJournal(t)
	f, err := Open(onFault(m))
	require.NoError(t, err)
	defer f.Close()
	refused := false
	m.refuse = func(op, _ string) error {
		if op == "read" && !refused {
			refused = true
			return errors.New("input/output error")
		}
		return nil
	}
	r := f.Read(0)
	defer r.Close()
	_, err = r.Next(t.Context())
	var unavailable *UnavailableError
	require.ErrorAs(t, err, &unavailable)
	for _, want := range frames {
		fr, err := r.Next(t.Context())
		require.NoError(t, err)
		require.Equal(t, want, fr)
	}
}
