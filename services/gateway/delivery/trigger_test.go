package delivery

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/rivergate/rivergate/sdk/protocol"
	"github.com/rivergate/rivergate/services/gateway/trigger"
)

// tower answers for the control tower in the test's own process.
type tower struct {
	mu      sync.Mutex
	answer  func(ctx context.Context, uuid string) ([]byte, error)
	forgets bool // caches nothing, as one whose cache is too small
	cache   map[string][]byte
	asked   map[string]int
}

var errTowerDown = errors.New("the control tower at http://tower does not answer: connection refused")

func newTower(answer func(ctx context.Context, uuid string) ([]byte, error)) *tower {
	return &tower{answer: answer, cache: map[string][]byte{}, asked: map[string]int{}}
}

func triggerOf(uuid string) []byte { return fmt.Appendf(nil, `{"uuid":%q}`, uuid) }

// knowing is a tower that knows every uuid.
func knowing(_ context.Context, uuid string) ([]byte, error) { return triggerOf(uuid), nil }

func (t *tower) Cached(uuid string) ([]byte, bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	found, ok := t.cache[uuid]
	return found, ok
}

func (t *tower) Look(ctx context.Context, uuid string) ([]byte, error) {
	t.mu.Lock()
	t.asked[uuid]++
	answer := t.answer
	t.mu.Unlock()
	found, err := answer(ctx, uuid)
	t.mu.Lock()
	defer t.mu.Unlock()
	if err == nil && !t.forgets {
		t.cache[uuid] = found
	}
	return found, err
}

func (t *tower) answers(f func(ctx context.Context, uuid string) ([]byte, error)) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.answer = f
}

func (t *tower) times(uuid string) int {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.asked[uuid]
}

// missingFor says of uuids that they are missing, and that this is final after patience.
func missingFor(patience time.Duration) func(uuid string) error {
	var mu sync.Mutex
	first := map[string]time.Time{}
	return func(uuid string) error {
		mu.Lock()
		defer mu.Unlock()
		if first[uuid].IsZero() {
			first[uuid] = time.Now()
		}
		until := first[uuid].Add(patience)
		return &trigger.NotFound{Code: trigger.CodeMissing, Reason: "no trigger for this uuid: HTTP 404", Until: until, Final: !time.Now().Before(until)}
	}
}

// triggered is a rig with one pusher whose plugin needs triggers.
func triggered(t *testing.T, tw *tower, p Pusher) *rig {
	p.Destination.(*fake).needsTrigger.Store(true)
	r := newRig(t, p)
	r.options.Triggers = tw
	return r
}

func TestEveryRowComesWithTheTriggerOfItsUUID(t *testing.T) {
	in(t, func(t *testing.T) {
		f, plain, tw := newFake(nil), newFake(nil), newTower(knowing)
		r := triggered(t, tw, pusher("riffyn", f))
		r.options.Pushers = append(r.options.Pushers, pusher("file", plain))
		r.start()
		for i := range 40 {
			frame := r.post(fmt.Sprint("u", i%4), 25)
			r.settledAll(frame)
			for at := frame.Position; at < frame.Position+25; at++ {
				require.Equal(t, string(triggerOf(frame.UUID)), f.trigger(at))
				require.Empty(t, plain.trigger(at), "a plugin that asks for none gets none")
			}
		}
		require.Equal(t, 1, tw.times("u0"), "a trigger never changes")
	})
}

func TestRowsWithoutTriggerGoToTheDeadLettersAndOthersGoOn(t *testing.T) {
	in(t, func(t *testing.T) {
		missing := missingFor(time.Minute)
		tw := newTower(func(_ context.Context, uuid string) ([]byte, error) {
			if uuid == "unknown" {
				return nil, missing(uuid)
			}
			return triggerOf(uuid), nil
		})
		f := newFake(nil)
		p := pusher("riffyn", f)
		p.Window = 1 // one lane for all keys
		r := triggered(t, tw, p)
		r.start()
		first := r.post("unknown", 3)
		after(time.Second)
		second, other := r.post("unknown", 2), r.post("known", 5)
		require.Equal(t, 5, r.settledAll(other)[0].Delivered)
		after(50 * time.Second)
		progress, err := r.Progress(t.Context(), first)
		require.NoError(t, err)
		require.Equal(t, []Progress{{Name: "riffyn", State: StatePending, LastError: "no trigger for this uuid: HTTP 404"}}, progress)
		require.Equal(t, 1, r.status("riffyn").WaitsTriggers)
		after(10 * time.Second)
		require.Equal(t, 3, r.settledAll(first)[0].Dead)
		require.Equal(t, 2, r.settledAll(second)[0].Dead)
		require.Zero(t, r.status("riffyn").WaitsTriggers)
		require.Zero(t, f.times(first.Position))
		after(time.Second)
		letters := r.letters()
		require.Len(t, letters, 5)
		for _, l := range letters {
			require.Equal(t, []string{"rejected", "trigger_missing", "no trigger for this uuid: HTTP 404"}, []string{l.Class, l.Code, l.Message})
		}

		tw.answers(knowing)
		n, err := r.Replay(t.Context(), Filter{Org: 1}, "", 0)
		require.NoError(t, err)
		require.Equal(t, 5, n)
		after(time.Minute)
		require.Empty(t, r.letters())
		require.Equal(t, string(triggerOf("unknown")), f.trigger(first.Position), "a replay looks it up again")
	})
}

func TestATowerInTroubleCostsNoRow(t *testing.T) {
	in(t, func(t *testing.T) {
		tw := newTower(func(context.Context, string) ([]byte, error) { return nil, errTowerDown })
		f, neighbour := newFake(nil), newFake(nil)
		p := pusher("riffyn", f)
		p.RetryAttempts = 3
		r := triggered(t, tw, p)
		r.options.Pushers = append(r.options.Pushers, pusher("file", neighbour))
		r.start()
		tw.cache["before"] = triggerOf("before")
		var frames []*protocol.Frame
		for i := range 20 {
			frames = append(frames, r.post(fmt.Sprint("u", i%5), 3))
		}
		known := r.post("before", 2)
		after(24 * time.Hour)
		for _, frame := range append(frames, known) {
			require.Equal(t, frame.Len(), neighbour.has(frame.Position, frame.Position+uint64(frame.Len())))
		}
		require.Equal(t, 2, f.has(known.Position, known.Position+2), "what is known goes on")
		s := r.status("riffyn")
		require.Equal(t, 5, s.WaitsTriggers)
		require.Equal(t, "rows wait for their trigger: "+errTowerDown.Error(), s.Blocked)
		require.LessOrEqual(t, tw.times("u0"), 24*60*60/15+20, "the backoff holds")

		began := time.Now()
		tw.answers(knowing)
		for _, frame := range frames {
			require.Equal(t, 3, r.settledAll(frame)[0].Delivered)
		}
		require.LessOrEqual(t, time.Since(began), 31*time.Second, "RETRY_MAX, and the first success wakes the others")
		for uuid, order := range f.orders {
			require.IsIncreasing(t, order, uuid)
		}
		require.Empty(t, r.status("riffyn").Blocked)
		require.Empty(t, r.letters())
	})
}

func TestALookUpThatHangsHoldsUpNothing(t *testing.T) {
	in(t, func(t *testing.T) {
		tw := newTower(func(ctx context.Context, uuid string) ([]byte, error) {
			if uuid == "hangs" {
				<-ctx.Done()
				return nil, ctx.Err()
			}
			return triggerOf(uuid), nil
		})
		r := triggered(t, tw, pusher("riffyn", newFake(nil)))
		r.start()
		waits := r.post("hangs", 1)
		synctest.Wait()
		for i := range 50 {
			r.settledAll(r.post(fmt.Sprint("u", i), 2))
		}
		require.EqualValues(t, waits.Position, r.status("riffyn").Cursor)
		began := time.Now()
		require.NoError(t, r.halt())
		require.Less(t, time.Since(began), time.Second)
	})
}

func TestATriggerThatTheCacheDoesNotKeepIsHandedOnAllTheSame(t *testing.T) {
	in(t, func(t *testing.T) {
		f, tw := newFake(nil), newTower(knowing)
		tw.forgets = true
		f.behave = func(_ *process, b *protocol.Batch) reaction {
			if f.times(firstPosition) < 4 {
				return reaction{outcomes: outcome(b, protocol.Retry, only(firstPosition))}
			}
			return reaction{}
		}
		r := triggered(t, tw, pusher("riffyn", f))
		r.start()
		frame := r.post("u", 5)
		require.Equal(t, 5, r.settledAll(frame)[0].Delivered)
		require.Equal(t, string(triggerOf("u")), f.trigger(frame.Position))
		require.Equal(t, 1, tw.times("u"), "rows keep their trigger over retries")
	})
}

func TestAnUpgradeMayBeginOrCeaseToWantTriggers(t *testing.T) {
	in(t, func(t *testing.T) {
		f, tw := newFake(nil), newTower(func(context.Context, string) ([]byte, error) { return nil, errTowerDown })
		r := triggered(t, tw, pusher("riffyn", f))
		r.start()
		frame := r.post("u", 5)
		after(time.Minute)
		require.Zero(t, f.times(frame.Position))
		f.needsTrigger.Store(false)
		f.retire()
		require.Equal(t, 5, r.settledAll(frame)[0].Delivered)
		require.Empty(t, f.trigger(frame.Position))
		require.Zero(t, r.status("riffyn").WaitsTriggers)

		tw.answers(knowing)
		f.needsTrigger.Store(true)
		f.behave = func(p *process, b *protocol.Batch) reaction {
			if len(b.Frames[0].Trigger) == 0 {
				return reaction{crash: "panic: no trigger"}
			}
			return reaction{}
		}
		next := r.post("v", 5) // goes to the old process, which ends on it: suspects get their trigger too
		require.Equal(t, 5, r.settledAll(next)[0].Delivered)
		require.Equal(t, string(triggerOf("v")), f.trigger(next.Position))
	})
}

func TestRowsOfOneUUIDInTwoOrganisationsWaitForOneTrigger(t *testing.T) {
	for _, order := range []Order{OrderKey, OrderNone} {
		in(t, func(t *testing.T) {
			release := make(chan struct{})
			tw := newTower(func(ctx context.Context, uuid string) ([]byte, error) {
				select {
				case <-release:
				case <-ctx.Done():
				}
				return triggerOf(uuid), nil
			})
			f := newFake(nil)
			p := pusher("riffyn", f)
			p.Order = order
			r := triggered(t, tw, p)
			r.start()
			one, two, more := r.postFor(1, "u", 3), r.postFor(2, "u", 3), r.postFor(1, "u", 30)
			synctest.Wait()
			close(release)
			for _, frame := range []*protocol.Frame{one, two, more} {
				r.settledAll(frame)
				require.Equal(t, string(triggerOf("u")), f.trigger(frame.Position))
			}
			require.Equal(t, 1, tw.times("u"))
		})
	}
}
