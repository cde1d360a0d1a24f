package delivery

import (
	"context"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/rivergate/rivergate/sdk/protocol"
)

// rejectOdd rejects every second position.
func rejectOdd(_ *process, b *protocol.Batch) reaction {
	return reaction{outcomes: outcome(b, protocol.Rejected, func(f *protocol.Frame, row int) bool { return (f.Position+uint64(row))%2 == 1 })}
}

func TestWhenTheStoreFailsThePusherWaitsAndLosesNothing(t *testing.T) {
	for _, statement := range []string{"INSERT ON dead_letters", "UPDATE ON pushers", "INSERT ON notes"} {
		t.Run(statement, func(t *testing.T) {
			in(t, func(t *testing.T) {
				f := newFake(rejectOdd)
				r := newRig(t, pusher("http", f))
				r.start()
				heal := r.sicken(statement)
				r.post("a", 10)
				after(time.Second)
				require.Contains(t, r.status("http").Blocked, "disk full")
				require.EqualValues(t, firstPosition, r.storedCursor("http"), "nothing of the transaction stays")
				require.Empty(t, r.letters())
				second := r.post("a", 10)
				after(time.Hour)
				require.Zero(t, f.sent[second.Position], "it does not run away from what is durable")
				heal()
				r.settledAll(second)
				after(time.Second)
				require.Empty(t, r.status("http").Blocked)
				require.Len(t, r.letters(), 10)
				require.Equal(t, second.Position+10, r.storedCursor("http"))
			})
		})
	}
}

// A crash of the host is a stop that can write nothing: whatever was not flushed before is gone.
func TestACrashOfTheHostLosesNoRowAndDoublesNoDeadLetter(t *testing.T) {
	for _, statement := range []string{"INSERT ON dead_letters", "UPDATE ON pushers", "INSERT ON notes"} {
		t.Run(statement, func(t *testing.T) {
			in(t, func(t *testing.T) {
				f := newFake(rejectOdd)
				r := newRig(t, pusher("http", f))
				r.start()
				first := r.post("a", 10)
				r.settledAll(first)
				after(time.Second)
				heal := r.sicken(statement)
				second := r.post("a", 10)
				after(time.Second)
				require.ErrorContains(t, r.halt(), "disk full")
				heal()
				r.start()
				progress := r.settledAll(second)
				after(time.Second)
				require.Equal(t, StatePartlyDead, progress[0].State)
				require.Equal(t, 10, f.has(firstPosition, firstPosition+20))
				letters := r.letters()
				require.Len(t, letters, 10)
				seen := map[uint64]bool{}
				for _, l := range letters {
					require.EqualValues(t, 1, l.Position%2)
					require.False(t, seen[l.Position])
					seen[l.Position] = true
				}
				require.Equal(t, 1, f.sent[first.Position], "what was durable is not sent again")
				require.Equal(t, 2, f.sent[second.Position], "what was not is sent again, with the same position")
			})
		})
	}
}

func TestARowSettledBeyondTheCursorAsDeadDoesNotComeAgain(t *testing.T) {
	in(t, func(t *testing.T) {
		f := newFake(nil)
		f.behave = func(_ *process, b *protocol.Batch) reaction {
			return reaction{outcomes: append(outcome(b, protocol.Retry, only(firstPosition)), outcome(b, protocol.Rejected, only(firstPosition+2))...)}
		}
		p := pusher("http", f)
		p.RetryAttempts = 0
		r := newRig(t, p)
		r.options.DeadLettersMaxBytes = 1 << 20
		r.start()
		frame := r.post("a", 4)
		after(time.Second)
		require.NoError(t, r.halt())
		require.EqualValues(t, firstPosition, r.storedCursor("http"))
		f.behave = nil
		r.open()
		require.EqualValues(t, 4, r.chain("http").backlog.Load(), "counted from the cursor")
		r.run()
		progress := r.settledAll(frame)
		require.Equal(t, []int{3, 1}, []int{progress[0].Delivered, progress[0].Dead})
		require.Equal(t, 1, f.sent[firstPosition+2])
		require.Zero(t, r.chain("http").backlog.Load())
		require.Len(t, r.letters(), 1)
	})
}

func TestADeadLetterOfARequestCutByTheCursorKnowsItsDelivery(t *testing.T) {
	in(t, func(t *testing.T) {
		f := newFake(nil)
		f.behave = func(_ *process, b *protocol.Batch) reaction { // the first half passes
			return reaction{outcomes: outcome(b, protocol.Retry, func(f *protocol.Frame, row int) bool { return f.Position+uint64(row) >= firstPosition+5 })}
		}
		r := newRig(t, pusher("http", f))
		r.start()
		frame := r.post("a", 10)
		after(time.Second)
		require.NoError(t, r.halt())
		require.EqualValues(t, firstPosition+5, r.storedCursor("http"))
		f.behave = rejectOdd
		r.start()
		r.settledAll(frame)
		after(time.Second)
		require.Len(t, r.letters(), 3)
		for _, l := range r.letters() {
			require.Equal(t, DeliveryID(firstPosition), l.DeliveryID)
		}
	})
}

func TestDamagedRowsAreSteppedOver(t *testing.T) {
	in(t, func(t *testing.T) {
		f := newFake(nil)
		r := newRig(t, pusher("http", f))
		r.start()
		r.post("a", 3)
		r.journal.damage(5)
		frame := r.post("a", 3)
		r.settledAll(frame)
		require.Equal(t, frame.Position+3, r.status("http").Cursor)
	})
}

func TestACursorOutsideTheJournalIsSaidAndMoved(t *testing.T) {
	in(t, func(t *testing.T) {
		f := newFake(nil)
		r := newRig(t, pusher("http", f))
		r.start()
		r.settledAll(r.post("a", 10))
		require.NoError(t, r.halt())

		r.post("a", 10)
		r.journal.letGo(firstPosition + 15)
		r.start() // the journal lost five rows that waited
		frame := r.post("a", 1)
		r.settledAll(frame)
		require.Equal(t, 5, f.has(firstPosition+10, firstPosition+20))
		require.NoError(t, r.halt())

		r.journal = newMemory() // an old copy of the folder
		r.start()
		frame = r.post("b", 2)
		require.Equal(t, StateDelivered, r.settledAll(frame)[0].State)
		require.Equal(t, 2, f.sent[firstPosition])
	})
}

func TestADisabledPusherKeepsItsRowsUntilItIsForgotten(t *testing.T) {
	in(t, func(t *testing.T) {
		on, off := newFake(nil), newFake(nil)
		r := newRig(t, pusher("on", on), pusher("off", off))
		r.start()
		r.settledAll(r.post("a", 10))
		require.NoError(t, r.halt())
		require.EqualValues(t, firstPosition+10, r.journal.lastReleased())

		r.options.Pushers = r.options.Pushers[:1]
		r.start()
		frame := r.post("a", 10)
		r.settledAll(frame)
		after(time.Second)
		require.EqualValues(t, firstPosition+10, r.journal.lastReleased(), "the rows are kept for it")
		s := r.status("off")
		require.True(t, s.Disabled)
		require.EqualValues(t, 10, s.LagRows)
		require.Equal(t, []string{"on"}, r.Names(1))

		ctx := context.Background()
		require.ErrorIs(t, r.Forget(ctx, "on"), ErrStillEnabled)
		require.ErrorIs(t, r.Forget(ctx, "nobody"), ErrUnknownPusher)
		require.NoError(t, r.Forget(ctx, "off"))
		after(time.Second)
		require.EqualValues(t, firstPosition+20, r.journal.lastReleased())
		require.Len(t, r.Status(), 1)
		require.ErrorIs(t, r.Forget(ctx, "off"), ErrUnknownPusher)
	})
}

func TestAPauseOutlivesTheHost(t *testing.T) {
	in(t, func(t *testing.T) {
		f := newFake(nil)
		r := newRig(t, pusher("http", f))
		r.start()
		ctx := context.Background()
		require.NoError(t, r.Pause(ctx, "http"))
		require.NoError(t, r.Pause(ctx, "http"))
		require.ErrorIs(t, r.Pause(ctx, "nobody"), ErrUnknownPusher)
		frame := r.post("a", 3)
		after(time.Hour)
		require.NoError(t, r.halt())
		r.start()
		after(time.Hour)
		require.True(t, r.status("http").Paused)
		require.Empty(t, f.sent)
		require.NoError(t, r.Resume(ctx, "http"))
		require.NoError(t, r.Resume(ctx, "http"))
		require.Equal(t, StateDelivered, r.settledAll(frame)[0].State)
	})
}
