package delivery

import (
	"context"
	"encoding/json"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/rivergate/rivergate/sdk/protocol"
)

// rejecting rejects everything while bad is set.
func rejecting(bad *atomic.Bool) *fake {
	return newFake(func(_ *process, b *protocol.Batch) reaction {
		if bad.Load() {
			return reaction{outcomes: outcome(b, protocol.Rejected, nil)}
		}
		return reaction{}
	})
}

func TestWhenTheDeadLettersAreFullThePusherWaits(t *testing.T) {
	in(t, func(t *testing.T) {
		var bad atomic.Bool
		bad.Store(true)
		f, other := rejecting(&bad), newFake(nil)
		r := newRig(t, pusher("http", f), pusher("other", other))
		r.options.DeadLettersMaxBytes = 5 * 300
		r.start()
		frame := r.post("a", 30)
		after(time.Hour)
		require.Contains(t, r.status("http").Blocked, "dead letters are full")
		require.Equal(t, 30, other.has(frame.Position, frame.Position+30))
		kept := len(r.letters())
		require.Greater(t, kept, 2)
		require.Less(t, kept, 6)
		require.EqualValues(t, frame.Position+uint64(kept), r.storedCursor("http"))

		n, err := r.DeleteDeadLetters(context.Background(), Filter{Org: 1, Pusher: "http"})
		require.NoError(t, err)
		require.Equal(t, kept, n)
		after(time.Second)
		require.Len(t, r.letters(), kept, "the next ones took the room")
		bad.Store(false)
		for r.status("http").Blocked != "" {
			_, err := r.DeleteDeadLetters(context.Background(), Filter{Org: 1})
			require.NoError(t, err)
			after(time.Second)
		}
		r.settledAll(frame)
	})
}

func TestAReplayedRowLeavesTheListWhenItSucceeds(t *testing.T) {
	in(t, func(t *testing.T) {
		var bad atomic.Bool
		bad.Store(true)
		f := rejecting(&bad)
		r := newRig(t, pusher("http", f))
		r.start()
		frame := r.post("a", 25)
		r.settledAll(frame)
		after(time.Second)
		ctx := context.Background()

		n, err := r.Replay(ctx, Filter{Org: 1}, "", 0)
		require.NoError(t, err)
		require.Equal(t, 25, n)
		after(time.Minute)
		letters := r.letters()
		require.Len(t, letters, 25, "those that fail come back")
		require.Equal(t, 2, letters[0].Attempts)
		require.True(t, letters[0].FailedAt.After(letters[0].FirstFailedAt))

		bad.Store(false)
		n, err = r.Replay(ctx, Filter{Org: 1, IDs: []string{letters[0].ID, letters[1].ID, "dlq-zzz", "nonsense"}}, "", 0)
		require.NoError(t, err)
		require.Equal(t, 2, n)
		after(time.Minute)
		require.Len(t, r.letters(), 23)
		progress := r.settledAll(frame)[0]
		require.Equal(t, []any{StatePartlyDead, 2, 23}, []any{progress.State, progress.Delivered, progress.Dead})
		require.Equal(t, string(frame.Row(24)), f.data[frame.Position+24])
		require.EqualValues(t, 23, r.stockOf("http").rows.Load())
	})
}

func TestAReplaySurvivesARestart(t *testing.T) {
	in(t, func(t *testing.T) {
		var bad atomic.Bool
		bad.Store(true)
		f := rejecting(&bad)
		r := newRig(t, pusher("http", f))
		r.start()
		r.settledAll(r.post("a", 25))
		after(time.Second)
		require.NoError(t, r.Pause(context.Background(), "http"))
		_, err := r.Replay(context.Background(), Filter{Org: 1}, "", 0)
		require.NoError(t, err)
		after(time.Second)
		require.NoError(t, r.halt())
		bad.Store(false)
		r.start()
		require.NoError(t, r.Resume(context.Background(), "http"))
		after(time.Minute)
		require.Empty(t, r.letters())
		require.Equal(t, 25, f.has(firstPosition, firstPosition+25))
	})
}

func TestAReplayKeepsToItsRate(t *testing.T) {
	in(t, func(t *testing.T) {
		var bad atomic.Bool
		bad.Store(true)
		f := rejecting(&bad)
		r := newRig(t, pusher("http", f))
		r.start()
		r.settledAll(r.post("a", 60))
		after(time.Second)
		bad.Store(false)
		_, err := r.Replay(context.Background(), Filter{Org: 1}, "", 2)
		require.NoError(t, err)
		after(10 * time.Second)
		require.InDelta(t, 40, len(r.letters()), 2)
		after(30 * time.Second)
		require.Empty(t, r.letters())
	})
}

func TestARowCanBeReplayedToAnotherPusher(t *testing.T) {
	in(t, func(t *testing.T) {
		var bad atomic.Bool
		bad.Store(true)
		f, other := rejecting(&bad), newFake(nil)
		r := newRig(t, pusher("http", f))
		r.start()
		frame := r.post("a", 3)
		r.settledAll(frame)
		require.NoError(t, r.halt())

		only2 := pusher("only2", newFake(nil))
		only2.Orgs = []string{"2"}
		r.options.Pushers = append(r.options.Pushers, pusher("other", other), only2)
		r.start()
		ctx := context.Background()
		_, err := r.Replay(ctx, Filter{Org: 1}, "nobody", 0)
		require.ErrorIs(t, err, ErrUnknownPusher)
		n, err := r.Replay(ctx, Filter{Org: 1}, "only2", 0)
		require.NoError(t, err)
		require.Zero(t, n, "it takes no rows of this org")
		n, err = r.Replay(ctx, Filter{Org: 1}, "other", 0)
		require.NoError(t, err)
		require.Equal(t, 3, n)
		after(time.Minute)
		require.Empty(t, r.letters())
		require.Equal(t, 3, other.has(frame.Position, frame.Position+3))
		require.Zero(t, r.stockOf("http").rows.Load())
	})
}

func TestDeadLettersAreListedPageByPageAndOnlyToTheirOrg(t *testing.T) {
	in(t, func(t *testing.T) {
		var bad atomic.Bool
		bad.Store(true)
		r := newRig(t, pusher("http", rejecting(&bad)))
		r.start()
		r.settledAll(r.post("a", 5))
		r.settledAll(r.postFor(2, "b", 3))
		after(time.Second)
		ctx := context.Background()

		var ids []string
		cursor := ""
		for range 3 {
			items, next, err := r.DeadLetters(ctx, Filter{Org: 1}, cursor, 2)
			require.NoError(t, err)
			for _, l := range items {
				ids = append(ids, l.ID)
			}
			cursor = next
		}
		require.Empty(t, cursor)
		require.Equal(t, []string{"dlq-5", "dlq-4", "dlq-3", "dlq-2", "dlq-1"}, ids)
		_, _, err := r.DeadLetters(ctx, Filter{Org: 1}, "!", 2)
		require.ErrorIs(t, err, ErrBadCursor)

		_, err = r.DeadLetter(ctx, 2, "dlq-1")
		require.ErrorIs(t, err, ErrNoDeadLetter)
		l, err := r.DeadLetter(ctx, 1, "dlq-1")
		require.NoError(t, err)
		text, err := json.Marshal(l)
		require.NoError(t, err)
		var fields map[string]any
		require.NoError(t, json.Unmarshal(text, &fields))
		require.Len(t, fields, 13)
		require.Equal(t, map[string]any{"n": 0.0}, fields["data"])

		var exported []string
		for l, err := range r.ExportDeadLetters(ctx, Filter{Org: 2, UUID: "b", Class: "rejected", Pusher: "http", Since: l.FailedAt.Add(-time.Hour), Until: l.FailedAt.Add(time.Hour)}) {
			require.NoError(t, err)
			exported = append(exported, l.ID)
		}
		require.Equal(t, []string{"dlq-6", "dlq-7", "dlq-8"}, exported)

		n, err := r.DeleteDeadLetters(ctx, Filter{Org: 1, IDs: []string{"dlq-8", "dlq-1"}})
		require.NoError(t, err)
		require.Equal(t, 1, n)
		n, err = r.DeleteDeadLetters(ctx, Filter{Org: 1, IDs: []string{}})
		require.NoError(t, err)
		require.Zero(t, n, "no ids choose nothing")
	})
}
