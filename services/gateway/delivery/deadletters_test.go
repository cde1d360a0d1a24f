package delivery

import (
	"bytes"
	"context"
	"encoding/json"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/rivergate/rivergate/sdk/protocol"
	"github.com/rivergate/rivergate/services/platform/database"
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

func TestAReplayGoesOnWhenItsOutcomesAreWrittenWhileThePusherChanges(t *testing.T) {
	in(t, func(t *testing.T) {
		var bad atomic.Bool
		bad.Store(true)
		f := rejecting(&bad)
		p := pusher("http", f)
		r := newRig(t, p)
		r.start()
		r.settledAll(r.post("a", 45))
		after(time.Second)
		bad.Store(false)
		heal := r.sicken("UPDATE ON pushers")
		_, err := r.Replay(context.Background(), Filter{Org: 1}, "", 0)
		require.NoError(t, err)
		after(time.Second) // a round is delivered and not written
		r.journal.counting = func() {
			heal()
			<-time.After(10 * time.Second)
			require.Nil(t, r.trouble.Load(), "written before the pusher goes on")
		}
		p.Window = 1
		r.apply(p)
		r.journal.counting = nil
		after(time.Minute)
		require.Empty(t, r.letters())
		require.Zero(t, r.chain("http").ahead.rows.Load())
		for at := range uint64(45) {
			require.Equal(t, 2, f.sent[firstPosition+at], "rejected once, replayed once")
		}
	})
}

// In real time: fake time stands still while somebody waits for a mutex.
func TestAReplayThatIsMarkedWhileThePusherChangesIsNotForgotten(t *testing.T) {
	var bad atomic.Bool
	bad.Store(true)
	p := pusher("http", rejecting(&bad))
	r := newRig(t, p)
	r.start()
	r.settledAll(r.post("a", 5))
	require.Eventually(t, func() bool { return len(r.letters()) == 5 }, time.Minute, 10*time.Millisecond)
	bad.Store(false)

	former := r.chain("http")
	free, done := make(chan struct{}), make(chan error, 3)
	held := make(chan struct{})
	go func() {
		done <- r.db.Write(context.Background(), func(*database.Tx) error { close(held); <-free; return nil })
	}()
	<-held
	go func() {
		_, err := r.Replay(context.Background(), Filter{Org: 1}, "", 0)
		done <- err
	}()
	<-time.After(50 * time.Millisecond) // the replay now waits for its turn to write; nothing tells that it does
	p.Window = 1
	go func() {
		_, err := r.Apply(context.Background(), []Pusher{p})
		done <- err
	}()
	require.Eventually(t, func() bool { return r.chain("http") != former }, time.Minute, time.Millisecond)
	<-time.After(200 * time.Millisecond) // the changed pusher has found nothing to replay; nothing tells that either
	close(free)
	for range 3 {
		require.NoError(t, <-done)
	}
	require.Eventually(t, func() bool { return len(r.letters()) == 0 }, time.Minute, 10*time.Millisecond)
}

func TestARowThatIsRejectedAgainTakesNoMoreRoom(t *testing.T) {
	in(t, func(t *testing.T) {
		p := pusher("http", newFake(rejectOdd))
		p.Start = StartOldest
		r := newRig(t, p)
		r.start()
		r.settledAll(r.post("a", 20))
		after(time.Second)
		before := r.stockOf("http").bytes.Load()
		r.apply()
		require.NoError(t, r.Forget(context.Background(), "http"))
		r.apply(p) // with all that the journal holds
		r.settledAll(r.post("a", 2))
		after(time.Second)
		letters := r.letters()
		require.Len(t, letters, 11)
		require.Equal(t, 2, letters[1].Attempts)
		require.EqualValues(t, 11, r.stockOf("http").rows.Load())
		require.Less(t, r.stockOf("http").bytes.Load(), before+before/5)
		_, err := r.DeleteDeadLetters(context.Background(), Filter{Org: 1})
		require.NoError(t, err)
		require.Zero(t, r.stockOf("http").rows.Load())
		require.Zero(t, r.stockOf("http").bytes.Load())
	})
}

func TestAPageOfLargeDeadLettersEndsEarly(t *testing.T) {
	in(t, func(t *testing.T) {
		var bad atomic.Bool
		bad.Store(true)
		r := newRig(t, pusher("http", rejecting(&bad)))
		r.start()
		for range 20 {
			large := protocol.Frame{OrgID: 1, UUID: "a", Data: append(bytes.Repeat([]byte(" "), 2<<20), "{}"...)}
			large.Ends = []uint32{uint32(len(large.Data))}
			r.settledAll(r.postFrame(large))
		}
		r.settledAll(r.post("b", 3))
		after(time.Second)
		ctx := context.Background()
		seen, cursor := 0, ""
		for {
			items, next, err := r.DeadLetters(ctx, Filter{Org: 1}, cursor, 1000)
			require.NoError(t, err)
			require.NotEmpty(t, items)
			bytes := 0
			for _, l := range items {
				bytes += len(l.Data)
			}
			require.LessOrEqual(t, bytes, letterPageBytes)
			seen += len(items)
			if cursor = next; next == "" {
				break
			}
		}
		require.Equal(t, 23, seen)
		exported := 0
		for _, err := range r.ExportDeadLetters(ctx, Filter{Org: 1}) {
			require.NoError(t, err)
			exported++
		}
		require.Equal(t, 23, exported)
	})
}

func TestManyDeadLettersAreMarkedStepByStep(t *testing.T) {
	in(t, func(t *testing.T) {
		const many = 2*changeAtOnce + 7
		f := newFake(nil)
		p := pusher("http", f)
		p.BatchRows = 1000
		r := newRig(t, p)
		r.open()
		require.NoError(t, r.db.Write(context.Background(), func(tx *database.Tx) error {
			_, err := tx.ExecContext(context.Background(), `WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < ?)
				INSERT INTO dead_letters (pusher, position, delivery, org, user, uuid, received_at, request_id, data, size, class, code, message, attempts, first_failed_at, failed_at)
				SELECT 'http', i % 500, i % 500, 1 + i % 2, 0, 'a', i, '', x'7b7d', 300, 'rejected', '', '', 1, 1, 1 FROM n`, 2*many)
			return err
		}))
		r.run()
		heal := r.sicken("UPDATE OF replay_to ON dead_letters WHEN OLD.replay_to IS NOT NULL") // a letter is marked once
		n, err := r.Replay(context.Background(), Filter{Org: 1}, "", 0)
		require.NoError(t, err)
		require.Equal(t, many, n)
		heal()
		after(time.Hour)
		left := 0
		for l, err := range r.ExportDeadLetters(context.Background(), Filter{}) {
			require.NoError(t, err)
			require.EqualValues(t, 2, l.Org)
			left++
		}
		require.Equal(t, many, left)
	})
}
