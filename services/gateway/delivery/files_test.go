package delivery

import (
	"context"
	"fmt"
	"sync/atomic"
	"testing"
	"time"

	"github.com/hashicorp/go-hclog"
	"github.com/stretchr/testify/require"

	"github.com/rivergate/rivergate/sdk/protocol"
	"github.com/rivergate/rivergate/services/gateway/journal"
)

// In real time, with the journal on disk: rows posted while delivery runs, and a restart of both in the middle.
func TestRowsGoFromTheJournalOnDiskThroughARestart(t *testing.T) {
	dir := t.TempDir()
	var bad atomic.Bool
	bad.Store(true)
	f := newFake(func(_ *process, b *protocol.Batch) reaction {
		if !bad.Load() {
			return reaction{}
		}
		return reaction{outcomes: append(outcome(b, protocol.Retry, func(f *protocol.Frame, _ int) bool { return f.UUID == "key3" }),
			outcome(b, protocol.Rejected, func(f *protocol.Frame, row int) bool { return f.UUID == "key5" && f.Index[row] == 2 })...)}
	})
	r := newRig(t)
	p := pusher("http", f)
	p.RetryMin, p.RetryMax, p.RetryAttempts = 10*time.Millisecond, 50*time.Millisecond, 0
	var first, last protocol.Frame
	posted := 0
	for round := range 2 {
		highest, err := HighestPosition(context.Background(), r.db)
		require.NoError(t, err)
		files, err := journal.Open(journal.Options{Dir: dir, Log: hclog.NewNullLogger(), NotBelow: highest})
		require.NoError(t, err)
		d, err := Open(context.Background(), Options{Journal: files, DB: r.db, Pushers: []Pusher{p}})
		require.NoError(t, err)
		ctx, stop := context.WithCancel(context.Background())
		ran := make(chan error, 1)
		go func() { ran <- d.Run(ctx) }()
		for i := range 50 {
			rec := &journal.Record{Frame: rows(1, fmt.Sprint("key", i%10), 10)}
			_, err := files.Append(ctx, rec)
			require.NoError(t, err)
			d.Accepted(&rec.Frame)
			if posted == 0 {
				first = rec.Frame
			}
			last = rec.Frame
			posted += 10
		}
		whole := protocol.Frame{OrgID: 1, Position: first.Position, Ends: make([]uint32, last.Position+10-first.Position)}
		wait, cancel := context.WithTimeout(ctx, 30*time.Second)
		if round == 0 { // one key is stuck: the cursor stays in the middle
			well := last
			require.Equal(t, "key9", well.UUID)
			require.Equal(t, StateDelivered, d.Wait(wait, &well)[0].State)
		} else {
			bad.Store(false)
			progress := d.Wait(wait, &whole)
			require.Equal(t, StatePartlyDead, progress[0].State)
			require.Equal(t, posted, progress[0].Delivered+progress[0].Dead)
			require.Equal(t, posted-progress[0].Dead, f.has(first.Position, last.Position+10))
		}
		cancel()
		stop()
		require.NoError(t, <-ran)
		require.NoError(t, files.Close())
		require.Zero(t, d.chain("http").backlog.Load()%10)
	}
	require.Equal(t, last.Position+10, r.storedCursor("http"))
	for uuid, order := range f.orders {
		require.IsIncreasing(t, order, uuid)
	}
}
