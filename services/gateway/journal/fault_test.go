package journal

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/stretchr/testify/require"
)

func padded(i, size int) *Record {
	return record(uint64(i%3+1), fmt.Sprintf("u%d", i), fmt.Sprintf(`{"n":%d,"p":"%s"}`, i, strings.Repeat("x", size)))
}

// refusals is how many requests were counted that the disk did not take.
func refusals(t *testing.T, registry *prometheus.Registry) (n float64) {
	t.Helper()
	families, err := registry.Gather()
	require.NoError(t, err)
	for _, family := range families {
		if family.GetName() != "rivergate_journal_refused_total" {
			continue
		}
		for _, m := range family.GetMetric() {
			if m.GetLabel()[0].GetValue() == "unavailable" {
				n += m.GetCounter().GetValue()
			}
		}
	}
	return n
}

func TestAFullDiskRefusesAndResumesWithoutLoss(t *testing.T) {
	for _, noAlloc := range []bool{false, true} {
		t.Run(fmt.Sprintf("preallocation=%t", !noAlloc), func(t *testing.T) {
			m := newFaultFS()
			m.room, m.noAlloc = 20<<10, noAlloc
			o := onFault(m)
			o.Registry = prometheus.NewRegistry()
			f := open(t, o)
			l := newLedger()
			var err error
			for i := 0; err == nil; i++ {
				require.Less(t, i, 100)
				err = l.send(f, padded(i, 500))
			}
			var unavailable *UnavailableError
			require.ErrorAs(t, err, &unavailable)
			require.ErrorIs(t, err, syscall.ENOSPC)
			require.Positive(t, unavailable.RetryAfter)
			require.Greater(t, len(l.accepted), 20, "most of the room was used")
			st := f.Stats()
			require.False(t, st.Writable)
			require.Equal(t, syscall.ENOSPC.Error(), st.Reason, "whoever may ask whether the host is ready learns no path")
			require.InDelta(t, 1, refusals(t, o.Registry.(*prometheus.Registry)), 0, "the first one counts")
			l.check(t, f)

			m.mu.Lock()
			m.room = 0
			m.mu.Unlock()
			for i := range 40 {
				require.NoError(t, l.send(f, padded(1000+i, 500)))
			}
			require.True(t, f.Stats().Writable)
			l.check(t, f)
			require.NoError(t, f.Close())
			checkRecovery(t, m.powerCut(nil), l)
		})
	}
}

func TestAFullDiskIsNotedFreeAgainWithoutAnyAppend(t *testing.T) {
	m := newFaultFS()
	m.room = 12 << 10
	f := open(t, onFault(m))
	for i := 0; ; i++ {
		if _, err := f.Append(t.Context(), padded(i, 500)); err != nil {
			break
		}
	}
	require.False(t, f.Stats().Writable)
	m.mu.Lock()
	m.room = 0
	m.mu.Unlock()
	require.Eventually(t, func() bool { return f.Stats().Writable }, 10*time.Second, 20*time.Millisecond)
}

func TestAFailedSyncRefusesItsRowsAndIsNeverTrustedAgain(t *testing.T) {
	for _, cutFails := range []bool{false, true} {
		t.Run(fmt.Sprintf("cut fails=%t", cutFails), func(t *testing.T) {
			m := newFaultFS()
			f := open(t, onFault(m))
			l := newLedger()
			require.NoError(t, l.send(f, padded(1, 10)))
			require.NoError(t, l.send(f, padded(2, 10)))
			first := f.segs[0].path
			failed := 0
			m.mu.Lock()
			m.refuse = func(op, name string) error {
				if op == "sync" && strings.HasPrefix(name, first) && failed == 0 {
					failed++
					return syscall.EIO
				}
				if op == "truncate" && strings.HasPrefix(name, first) && cutFails {
					return syscall.EIO
				}
				return nil
			}
			m.mu.Unlock()
			refused := record(1, "refused", `{"never":"read"}`)
			_, err := f.Append(t.Context(), refused)
			require.ErrorIs(t, err, syscall.EIO)
			require.Zero(t, refused.Position)
			for _, fr := range drain(t, f, 0) {
				require.NotEqual(t, "refused", fr.UUID)
			}
			require.NoError(t, l.send(f, padded(3, 10)))
			require.NotEqual(t, first, f.segs[len(f.segs)-1].path)
			require.True(t, f.Stats().Writable)
			l.check(t, f)
			require.NoError(t, f.Close())
			m.mu.Lock()
			m.refuse = nil
			m.mu.Unlock()
			// Whatever the disk kept of the refused rows: they do not come back.
			checkRecovery(t, m.kill(), l)
			checkRecovery(t, m.powerCut(nil), l)
		})
	}
}

func TestADiskThatFailsForLongLosesNothing(t *testing.T) {
	m := newFaultFS()
	f := open(t, onFault(m))
	l := newLedger()
	require.NoError(t, l.send(f, padded(0, 10)))
	broken := true
	m.mu.Lock()
	m.refuse = func(op, _ string) error {
		if broken && op != "read" {
			return syscall.EIO
		}
		return nil
	}
	m.mu.Unlock()
	for i := range 50 {
		r := padded(i, 10)
		r.UUID = "refused"
		_, err := f.Append(t.Context(), r)
		require.ErrorIs(t, err, syscall.EIO)
	}
	m.mu.Lock()
	broken = false
	m.mu.Unlock()
	require.NoError(t, l.send(f, padded(1, 10)))
	l.check(t, f)
	require.Less(t, len(f.segs), 3)
	require.NoError(t, f.Close())
	checkRecovery(t, m.powerCut(nil), l)
}

func TestAShortWriteIsTakenBack(t *testing.T) {
	m := newFaultFS()
	f := open(t, onFault(m))
	l := newLedger()
	require.NoError(t, l.send(f, padded(0, 10)))
	short := true
	m.mu.Lock()
	m.refuse = func(op, _ string) error {
		if op == "write" && short {
			short = false
			return errors.New("short write")
		}
		return nil
	}
	m.mu.Unlock()
	_, err := f.Append(t.Context(), record(1, "refused", `{"never":"read"}`))
	require.Error(t, err)
	require.NoError(t, l.send(f, padded(1, 10)))
	l.check(t, f)
	require.NoError(t, f.Close())
	checkRecovery(t, m.powerCut(nil), l)
	checkRecovery(t, m.kill(), l)
}

func TestARefusingDiskIsNotHammered(t *testing.T) {
	m := newFaultFS()
	o := onFault(m)
	o.retryEvery = time.Hour
	f := open(t, o)
	m.mu.Lock()
	m.refuse = func(string, string) error { return syscall.EIO }
	m.mu.Unlock()
	_, err := f.Append(t.Context(), padded(0, 10))
	require.ErrorIs(t, err, syscall.EIO)
	m.mu.Lock()
	before := m.ops
	m.mu.Unlock()
	for i := range 100 {
		_, err := f.Append(t.Context(), padded(i, 10))
		require.ErrorIs(t, err, syscall.EIO)
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	require.LessOrEqual(t, m.ops-before, 10, "only the probe of each second asks")
}

func TestAJournalOpensOnAFullDiskAndServesWhatItHolds(t *testing.T) {
	m, frames, ends := smallJournal(t)
	lastSegment(t, m).data[ends[5]-1] ^= 1 // so that a new segment is wanted
	m.room = m.used()
	f := open(t, onFault(m))
	require.Len(t, drain(t, f, 0), len(frames)-1)
	require.False(t, f.Stats().Writable)
	_, err := f.Append(t.Context(), padded(0, 10))
	require.ErrorIs(t, err, syscall.ENOSPC)
	m.mu.Lock()
	m.room = 0
	m.mu.Unlock()
	appendOne(t, f, padded(0, 10))
	require.Len(t, drain(t, f, 0), len(frames))
}

func TestTheSizeCapIsKeptAndReleaseMakesRoom(t *testing.T) {
	for _, maxBytes := range []int64{20 << 10, 40 << 10, 300 << 10} {
		t.Run(fmt.Sprint(maxBytes), func(t *testing.T) {
			m := newFaultFS()
			o := onFault(m)
			o.MaxBytes, o.SegmentBytes = maxBytes, 64<<10
			f := open(t, o)
			l := newLedger()
			for round := range 5 {
				i := 0
				for ; ; i++ {
					r := padded(round*10_000+i, 300)
					if i%2 == 0 {
						r.IdempotencyKey = [16]byte{byte(round), byte(i), byte(i >> 8), 1}
					}
					err := l.send(f, r)
					if err == nil {
						continue
					}
					var full *FullError
					require.ErrorAs(t, err, &full)
					require.Equal(t, maxBytes, full.MaxBytes)
					break
				}
				require.Greater(t, int64(i)*400, maxBytes/2, "half of the cap at least is usable")
				require.LessOrEqual(t, f.Stats().Bytes, maxBytes)
				l.check(t, f)
				_, next := f.Bounds()
				if round%2 == 0 {
					next -= 2
				}
				l.released = next
				require.NoError(t, f.Release(next))
			}
			require.NoError(t, f.Close())
			checkRecovery(t, m.powerCut(nil), l)
		})
	}
}

func TestARecordLargerThanASegmentGetsOneOfItsOwn(t *testing.T) {
	m := newFaultFS()
	f := open(t, onFault(m))
	l := newLedger()
	for i := range 5 {
		require.NoError(t, l.send(f, padded(i, i%2*10_000)))
	}
	l.check(t, f)
	require.NoError(t, f.Close())
	checkRecovery(t, m.powerCut(nil), l)
}

func TestAWaitingAppendCanBeGivenUp(t *testing.T) {
	m := newFaultFS()
	f := open(t, onFault(m))
	inSync, goOn := make(chan struct{}), make(chan struct{})
	m.mu.Lock()
	m.refuse = func(op, _ string) error {
		if op == "sync" {
			m.refuse = nil
			m.mu.Unlock()
			close(inSync)
			<-goOn
			m.mu.Lock()
		}
		return nil
	}
	m.mu.Unlock()
	first := make(chan error, 1)
	go func() {
		_, err := f.Append(context.Background(), padded(1, 10))
		first <- err
	}()
	<-inSync
	ctx, cancel := context.WithCancel(t.Context())
	second := make(chan error, 1)
	go func() {
		_, err := f.Append(ctx, record(1, "given-up", `{}`))
		second <- err
	}()
	require.Eventually(t, func() bool { f.queue.mu.Lock(); defer f.queue.mu.Unlock(); return len(f.queue.waiting) == 1 }, 10*time.Second, time.Millisecond)
	cancel()
	require.ErrorIs(t, <-second, context.Canceled)
	require.Empty(t, drain(t, f, 0), "nothing is seen before it is durable")
	close(goOn)
	require.NoError(t, <-first)
	appendOne(t, f, padded(2, 10))
	frames := drain(t, f, 0)
	require.Len(t, frames, 2)
	require.Equal(t, frames[0].Position+1, frames[1].Position)
}

func TestAFullDiskKeepsAReserveForTheStore(t *testing.T) {
	m := newFaultFS()
	m.room = 50 << 10
	o := onFault(m)
	o.SegmentBytes = 16 << 10
	f := open(t, o)
	for i := 0; ; i++ {
		if _, err := f.Append(t.Context(), padded(i, 500)); err != nil {
			require.ErrorIs(t, err, syscall.ENOSPC)
			break
		}
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	require.GreaterOrEqual(t, m.room-m.used(), int(o.SegmentBytes/4))
}

func TestReleaseMakesRoomOnADiskWithoutAByteLeft(t *testing.T) {
	m := newFaultFS()
	m.room, m.noAlloc = 20<<10, true
	f := open(t, onFault(m))
	l := newLedger()
	var err error
	for i := 0; err == nil; i++ {
		r := padded(i, 500)
		r.IdempotencyKey = [16]byte{byte(i + 1)}
		err = l.send(f, r)
	}
	m.mu.Lock()
	m.room = m.used()
	m.mu.Unlock()
	_, next := f.Bounds()
	l.released = next
	require.NoError(t, f.Release(next))
	require.NoError(t, l.send(f, padded(1000, 500)))
	l.check(t, f)
	require.NoError(t, f.Close())
	m.room = 0
	checkRecovery(t, m.powerCut(nil), l)
}

func TestASegmentThatCannotBeRemovedStays(t *testing.T) {
	m := newFaultFS()
	f := open(t, onFault(m))
	l := newLedger()
	for i := range 30 {
		require.NoError(t, l.send(f, padded(i, 500)))
	}
	before := f.Stats()
	m.mu.Lock()
	m.refuse = func(op, _ string) error {
		if op == "remove" {
			return syscall.EIO
		}
		return nil
	}
	m.mu.Unlock()
	_, next := f.Bounds()
	require.ErrorIs(t, f.Release(next), syscall.EIO)
	require.Equal(t, before, f.Stats())
	l.check(t, f)
	m.mu.Lock()
	m.refuse = nil
	m.mu.Unlock()
	require.NoError(t, f.Release(next))
	require.Equal(t, 1, f.Stats().Segments)
}
