package delivery

import (
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/rivergate/rivergate/sdk/protocol"
)

// shifts watches how work goes from one process to the next.
type shifts struct {
	mu       sync.Mutex
	open     map[int]int       // process → batches that it got and has not answered
	last     map[int]time.Time // process → when it last answered, or ended
	first    map[int]time.Time // process → when it got its first batch
	overlaps []string          // a process got a batch while an earlier one was at work
}

func newShifts() *shifts {
	return &shifts{open: map[int]int{}, last: map[int]time.Time{}, first: map[int]time.Time{}}
}

func (s *shifts) got(p *process) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, earlier := range p.fake.all()[:p.number] {
		select {
		case <-earlier.dead:
			continue // its stream has ended
		default:
		}
		if len(earlier.inbox) > 0 || len(earlier.acks) > 0 || s.open[earlier.number] > 0 {
			s.overlaps = append(s.overlaps, fmt.Sprintf("process %d got a batch while process %d had %d", p.number, earlier.number, s.open[earlier.number]))
		}
	}
	if s.open[p.number]++; s.first[p.number].IsZero() {
		s.first[p.number] = time.Now()
	}
}

func (s *shifts) answered(p *process) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.open[p.number]--
	s.last[p.number] = time.Now()
}

// retire asks the newest process to be replaced, as an upgrade does.
func (f *fake) retire() (number int) {
	f.mu.Lock()
	defer f.mu.Unlock()
	p := f.processes[len(f.processes)-1]
	select {
	case <-p.retired:
	default:
		close(p.retired)
	}
	return p.number
}

func TestNothingReachesTheNextProcessBeforeTheFormerHasAnsweredForAllItGot(t *testing.T) {
	in(t, func(t *testing.T) {
		watch := newShifts()
		f := newFake(nil)
		f.behave = func(p *process, _ *protocol.Batch) reaction {
			watch.got(p)
			p.takes(20 * time.Millisecond)
			watch.answered(p)
			return reaction{}
		}
		p := pusher("http", f)
		require.Equal(t, OrderKey, p.Order)
		r := newRig(t, p)
		r.start()
		var last *protocol.Frame
		var stopped []int
		for i := range 2000 {
			last = r.post(fmt.Sprint("key", i%24), 1+i%3)
			after(time.Millisecond)
			if i%200 == 150 {
				stopped = append(stopped, f.retire())
			}
		}
		whole := &protocol.Frame{OrgID: 1, Position: firstPosition, Ends: make([]uint32, last.Position+uint64(last.Len())-firstPosition)}
		r.settledAll(whole)
		require.Empty(t, watch.overlaps)
		require.Len(t, stopped, 10)
		require.Len(t, f.all(), 11)
		for _, n := range stopped {
			// The pause is that of the last acknowledgements, and then the wait of a batch to fill up.
			pause := watch.first[n+1].Sub(watch.last[n])
			require.GreaterOrEqual(t, pause, time.Duration(0))
			require.LessOrEqual(t, pause, p.BatchWait+time.Millisecond)
		}
		for at := firstPosition; at < firstPosition+whole.Len(); at++ {
			require.Equal(t, 1, f.sent[uint64(at)], "position %d", at)
		}
		for uuid, order := range f.orders {
			require.True(t, slices.IsSorted(order), "%s: %v", uuid, order)
		}
	})
}

func TestAProcessThatDoesNotAnswerWhileItIsReplacedHasItsStreamEndedFirst(t *testing.T) {
	in(t, func(t *testing.T) {
		watch := newShifts()
		f := newFake(nil)
		f.behave = func(p *process, _ *protocol.Batch) reaction {
			watch.got(p)
			if p.number == 0 {
				p.takes(time.Hour)
			}
			watch.answered(p)
			return reaction{}
		}
		p := pusher("http", f)
		r := newRig(t, p)
		r.start()
		var last *protocol.Frame
		for i := range 100 {
			last = r.post(fmt.Sprint("key", i%24), 2)
		}
		after(time.Second)
		f.retire()
		asked := time.Now()
		whole := &protocol.Frame{OrgID: 1, Position: firstPosition, Ends: make([]uint32, last.Position+uint64(last.Len())-firstPosition)}
		r.settledAll(whole)
		require.Empty(t, watch.overlaps)
		require.Len(t, f.all(), 2)
		require.LessOrEqual(t, watch.first[1].Sub(asked), p.Timeout+time.Second)
		require.Empty(t, f.process(0).reason(), "the plugin host ends it")
		require.Empty(t, r.letters(), "no row is blamed")
		for uuid, order := range f.orders {
			require.True(t, slices.IsSorted(order), "%s: %v", uuid, order)
		}
	})
}
