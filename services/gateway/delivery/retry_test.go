package delivery

import (
	"fmt"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/rivergate/rivergate/sdk/protocol"
)

// only chooses the row at one position.
func only(position uint64) func(f *protocol.Frame, row int) bool {
	return func(f *protocol.Frame, row int) bool { return f.Position+uint64(row) == position }
}

func TestOnlyTheRowsThatFailedAreSentAgain(t *testing.T) {
	in(t, func(t *testing.T) {
		bad := uint64(firstPosition + 3)
		var times atomic.Int32
		f := newFake(nil)
		f.behave = func(_ *process, b *protocol.Batch) reaction {
			o := outcome(b, protocol.Retry, only(bad))
			if len(o) > 0 && times.Add(1) > 2 {
				o = nil
			}
			return reaction{outcomes: o}
		}
		r := newRig(t, pusher("http", f))
		r.start()
		frame := r.post("a", 8)
		require.Equal(t, []Progress{{Name: "http", State: StateDelivered, Delivered: 8, Attempts: 3}}, r.settledAll(frame))
		for at := frame.Position; at < frame.Position+8; at++ {
			want := 1
			if at == bad {
				want = 3
			}
			require.Equal(t, want, f.sent[at], "position %d", at)
		}
		require.Equal(t, string(frame.Row(3)), f.data[bad])
	})
}

func TestALaterRowOfAKeyWaitsForTheFailedOneAndOtherKeysGoOn(t *testing.T) {
	in(t, func(t *testing.T) {
		bad := uint64(firstPosition)
		var healed atomic.Bool
		f := newFake(nil)
		f.behave = func(_ *process, b *protocol.Batch) reaction {
			if healed.Load() {
				return reaction{}
			}
			return reaction{outcomes: outcome(b, protocol.Retry, only(bad))}
		}
		p := pusher("http", f)
		p.Window, p.RetryAttempts = 1, 0 // one lane for all keys
		r := newRig(t, p)
		r.start()
		first := r.post("a", 1)
		after(time.Second)
		second, other := r.post("a", 1), r.post("b", 1)
		r.settledAll(other)
		require.Zero(t, f.has(first.Position, second.Position+1))
		require.Zero(t, f.sent[second.Position])
		healed.Store(true)
		r.settledAll(second)
		require.Equal(t, []uint64{first.Position, second.Position}, f.orders["a"])
	})
}

func TestWithoutOrderARetryLetsOthersPass(t *testing.T) {
	in(t, func(t *testing.T) {
		f := newFake(nil)
		f.behave = func(_ *process, b *protocol.Batch) reaction {
			return reaction{outcomes: outcome(b, protocol.Retry, only(firstPosition))}
		}
		p := pusher("http", f)
		p.Order, p.RetryAttempts = OrderNone, 0
		r := newRig(t, p)
		r.start()
		r.post("a", 1)
		after(time.Second)
		r.settledAll(r.post("a", 30))
		require.EqualValues(t, firstPosition, r.status("http").Cursor)
	})
}

func TestARowIsGivenUpAfterItsAttemptsOnly(t *testing.T) {
	in(t, func(t *testing.T) {
		bad := uint64(firstPosition + 1)
		f := newFake(nil)
		f.behave = func(_ *process, b *protocol.Batch) reaction {
			return reaction{outcomes: outcome(b, protocol.Retry, only(bad))}
		}
		p := pusher("http", f)
		p.RetryAttempts = 4
		r := newRig(t, p)
		r.start()
		frame := r.post("a", 3)
		for range 100 { // others arrive all the time: the destination is well
			r.post("b", 1)
			after(50 * time.Millisecond)
		}
		require.Equal(t, StatePartlyDead, r.settledAll(frame)[0].State)
		letters := r.letters()
		require.Len(t, letters, 1)
		require.Equal(t, "retry", letters[0].Class)
		require.Equal(t, bad, letters[0].Position)
		require.Equal(t, 4, f.sent[bad])
		require.Equal(t, 4, letters[0].Attempts)
		require.True(t, letters[0].FailedAt.After(letters[0].FirstFailedAt))
	})
}

func TestARowThatFailsAgainHoldsUpNoOther(t *testing.T) {
	for n := range 16 { // some of these keys share a lane with the bad row, most do not
		in(t, func(t *testing.T) {
			f := newFake(nil)
			f.behave = func(_ *process, b *protocol.Batch) reaction {
				return reaction{outcomes: outcome(b, protocol.Retry, only(firstPosition))}
			}
			r := newRig(t, pusher("http", f))
			r.start()
			r.post("a", 2)
			for range 40 {
				after(100 * time.Millisecond)
				other := r.post(fmt.Sprint("b", n), 1)
				after(10 * time.Millisecond)
				require.NotZero(t, f.has(other.Position, other.Position+1), "a row of another key waits for the bad one")
			}
		})
	}
}

func TestARowBehindAFailedOneOfItsKeyIsNotGivenUpWithIt(t *testing.T) {
	in(t, func(t *testing.T) {
		bad := uint64(firstPosition + 1)
		f := newFake(nil)
		f.behave = func(_ *process, b *protocol.Batch) reaction {
			outcomes := outcome(b, protocol.Retry, only(bad))
			if len(outcomes) > 0 { // the plugin keeps the order: what follows is not tried
				waiting := outcome(b, protocol.Retry, only(bad+1))
				for i := range waiting {
					waiting[i].Code = "not_sent"
				}
				outcomes = append(outcomes, waiting...)
			}
			return reaction{outcomes: outcomes}
		}
		p := pusher("http", f)
		p.RetryAttempts = 4
		r := newRig(t, p)
		r.start()
		frame := r.post("a", 3)
		for range 100 {
			r.post("b", 1)
			after(50 * time.Millisecond)
		}
		progress := r.settledAll(frame)[0]
		require.Equal(t, 1, progress.Dead)
		require.Equal(t, 2, progress.Delivered)
		require.Equal(t, bad, r.letters()[0].Position)
	})
}

func TestAnOutageGivesUpNoRow(t *testing.T) {
	in(t, func(t *testing.T) {
		var down atomic.Bool
		down.Store(true)
		f := newFake(nil)
		f.behave = func(_ *process, b *protocol.Batch) reaction {
			if down.Load() {
				return reaction{outcomes: outcome(b, protocol.Retry, nil)}
			}
			return reaction{}
		}
		p := pusher("http", f)
		p.RetryAttempts = 2
		r := newRig(t, p)
		r.start()
		var frames []*protocol.Frame
		for range 30 {
			frames = append(frames, r.post("a", 1), r.post("b", 5))
		}
		after(10 * time.Hour)
		require.Contains(t, r.status("http").Blocked, "destination fails: code: it is retry")
		f.mu.Lock()
		require.Less(t, len(f.batches), 10*3600/10, "it does not hammer a destination that is down")
		f.mu.Unlock()
		down.Store(false)
		for _, frame := range frames {
			require.Equal(t, StateDelivered, r.settledAll(frame)[0].State)
		}
		require.Empty(t, r.letters())
		require.Empty(t, r.status("http").Blocked)
	})
}

func TestWhileTheDestinationIsDownOneBatchProbes(t *testing.T) {
	in(t, func(t *testing.T) {
		var now, most, down atomic.Int32
		down.Store(1)
		f := newFake(nil)
		f.behave = func(p *process, b *protocol.Batch) reaction {
			if down.Load() == 2 {
				most.Store(max(most.Load(), now.Add(1)+int32(len(p.inbox))))
				defer now.Add(-1)
			}
			<-time.After(time.Millisecond)
			if down.Load() > 0 {
				return reaction{outcomes: outcome(b, protocol.Retry, nil)}
			}
			return reaction{}
		}
		r := newRig(t, pusher("http", f))
		r.start()
		var last *protocol.Frame
		for i := range 200 {
			last = r.post(string(rune('a'+i%26)), 5)
		}
		after(time.Minute)
		down.Store(2)
		after(10 * time.Minute)
		require.EqualValues(t, 1, most.Load())
		down.Store(0)
		r.settledAll(last)
	})
}

func TestRetryAfterWinsOverBackoff(t *testing.T) {
	in(t, func(t *testing.T) {
		var times []time.Time
		f := newFake(nil)
		f.behave = func(_ *process, b *protocol.Batch) reaction {
			times = append(times, time.Now())
			if len(times) > 3 {
				return reaction{}
			}
			o := outcome(b, protocol.Retry, nil)
			o[0].RetryAfter = 7 * time.Second
			return reaction{outcomes: o}
		}
		r := newRig(t, pusher("http", f))
		r.start()
		r.settledAll(r.post("a", 1))
		for i := 1; i < len(times); i++ {
			require.Equal(t, 7*time.Second, times[i].Sub(times[i-1]))
		}
	})
}

func TestThrottlingCountsNoAttemptAndSlowsThePusher(t *testing.T) {
	in(t, func(t *testing.T) {
		n := 0
		f := newFake(nil)
		f.behave = func(_ *process, b *protocol.Batch) reaction {
			if n++; n < 100 { // some rows pass each time
				return reaction{outcomes: outcome(b, protocol.Throttled, func(f *protocol.Frame, row int) bool { return f.UUID == "a" })}
			}
			return reaction{}
		}
		p := pusher("http", f)
		p.RetryAttempts = 2
		r := newRig(t, p)
		r.start()
		frame := r.post("a", 2)
		for range 50 {
			r.post("b", 1)
			after(10 * time.Second)
		}
		require.Equal(t, StateDelivered, r.settledAll(frame)[0].State)
		require.Empty(t, r.letters())
	})
}

func TestBadCredentialsHoldThePusherUntilTheyAreAccepted(t *testing.T) {
	in(t, func(t *testing.T) {
		var bad atomic.Bool
		bad.Store(true)
		f := newFake(nil)
		f.behave = func(_ *process, b *protocol.Batch) reaction {
			if bad.Load() {
				return reaction{outcomes: outcome(b, protocol.Unauthenticated, nil)}
			}
			return reaction{}
		}
		p := pusher("http", f)
		p.RetryAttempts = 1
		r := newRig(t, p)
		r.start()
		frame := r.post("a", 10)
		for range 20 {
			frame = r.post("b", 10)
		}
		after(time.Hour)
		require.Contains(t, r.status("http").Blocked, "credentials refused")
		require.Empty(t, r.letters())
		f.mu.Lock()
		require.InDelta(t, 3600/22, len(f.batches), 80, "one batch now and then")
		f.mu.Unlock()
		bad.Store(false)
		require.Equal(t, StateDelivered, r.settledAll(frame)[0].State)
		require.Empty(t, r.status("http").Blocked)
	})
}

func TestDuplicatesCountAsDeliveredAndSkippedRowsApart(t *testing.T) {
	in(t, func(t *testing.T) {
		f := newFake(nil)
		f.behave = func(_ *process, b *protocol.Batch) reaction {
			o := outcome(b, protocol.Duplicate, only(firstPosition))
			return reaction{outcomes: append(o, outcome(b, protocol.Skipped, only(firstPosition+1))...)}
		}
		r := newRig(t, pusher("http", f))
		r.start()
		frame := r.post("a", 4)
		want := []Progress{{Name: "http", State: StateDelivered, Delivered: 3, Skipped: 1, Attempts: 1}}
		require.Equal(t, want, r.settledAll(frame))
		require.NoError(t, r.halt())
		r.start()
		require.Equal(t, want, r.settledAll(frame), "a restart knows it too")
		require.EqualValues(t, 3, r.status("http").DeliveredTotal)
		require.EqualValues(t, 1, r.status("http").SkippedTotal)
	})
}

func TestARejectedRowGoesToTheDeadLettersWithItsBytes(t *testing.T) {
	in(t, func(t *testing.T) {
		f := newFake(nil)
		f.behave = func(_ *process, b *protocol.Batch) reaction {
			return reaction{outcomes: outcome(b, protocol.Rejected, only(firstPosition+2))}
		}
		r := newRig(t, pusher("http", f))
		r.start()
		frame := r.post("a", 4)
		want := []Progress{{Name: "http", State: StatePartlyDead, Delivered: 3, Dead: 1, Attempts: 1, LastError: "code: it is rejected"}}
		require.Equal(t, want, r.settledAll(frame))
		after(time.Second)
		letters := r.letters()
		require.Len(t, letters, 1)
		l := letters[0]
		require.Equal(t, "dlq-1", l.ID)
		require.Equal(t, DeliveryID(frame.Position), l.DeliveryID)
		require.Equal(t, string(frame.Row(2)), string(l.Data))
		require.EqualValues(t, 2, *l.Index)
		require.Equal(t, []any{"http", "a", "rejected", "code", "it is rejected", 1}, []any{l.Pusher, l.UUID, l.Class, l.Code, l.Message, l.Attempts})
		require.Equal(t, want, r.settledAll(frame), "the store tells the same as memory")
	})
}
