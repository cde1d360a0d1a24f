package delivery

import (
	"context"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestEveryRowArrivesWithItsOwnBytes(t *testing.T) {
	in(t, func(t *testing.T) {
		f := newFake(nil)
		r := newRig(t, pusher("file", f))
		r.start()
		frame := r.post("a", 25)
		require.Equal(t, []Progress{{Name: "file", State: StateDelivered, Delivered: 25, Attempts: 1}}, r.settledAll(frame))
		require.Equal(t, 25, f.has(frame.Position, frame.Position+25))
		for i := range 25 {
			require.Equal(t, string(frame.Row(i)), f.data[frame.Position+uint64(i)])
		}
		require.NoError(t, r.halt())
		require.Equal(t, frame.Position+25, r.storedCursor("file"))
	})
}

func TestACleanRestartSendsNothingTwice(t *testing.T) {
	in(t, func(t *testing.T) {
		f := newFake(nil)
		r := newRig(t, pusher("file", f))
		r.start()
		first := r.post("a", 5)
		r.settledAll(first)
		require.NoError(t, r.halt())
		r.start()
		second := r.post("a", 5)
		r.settledAll(second)
		for at := first.Position; at < second.Position+5; at++ {
			require.Equal(t, 1, f.sent[at])
		}
	})
}

func TestANewPusherStartsWhereItIsTold(t *testing.T) {
	in(t, func(t *testing.T) {
		young, old := newFake(nil), newFake(nil)
		o := pusher("old", old)
		o.Start = StartOldest
		r := newRig(t, pusher("young", young), o)
		before := r.post("a", 3)
		r.start()
		after := r.post("a", 4)
		r.settledAll(after)
		require.Equal(t, 3, old.has(before.Position, before.Position+3))
		require.Zero(t, young.has(before.Position, before.Position+3))
		require.Equal(t, 4, young.has(after.Position, after.Position+4))
		progress, err := r.Progress(context.Background(), before)
		require.NoError(t, err)
		require.Len(t, progress, 1, "the rows were never meant for the young one")
	})
}
