package pluginhost

import (
	"context"
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/rivergate/rivergate/services/gateway/delivery"
)

// flow plays a pusher of delivery under ORDER=key with one key: it keeps batches in flight, sends again what was not
// acknowledged, in order, and opens a new stream when the one that it has ends.
type flow struct {
	w       *world
	name    string
	next    uint64 // position of the first row that is not acknowledged
	longest time.Duration
}

const flowWindow = 8

// run delivers one row a batch until ctx ends.
func (f *flow) run(ctx context.Context) error {
	last := time.Now()
	for ctx.Err() == nil {
		s, err := f.w.host.Destination(f.name).Open(ctx)
		if err != nil {
			if ctx.Err() != nil {
				return nil //nolint:nilerr // the end
			}
			return fmt.Errorf("open: %w", err)
		}
		err = f.stream(ctx, s, &last)
		s.Close()
		if err != nil && !errors.Is(err, io.EOF) {
			return err
		}
	}
	return nil
}

func (f *flow) stream(ctx context.Context, s delivery.Session, last *time.Time) error {
	sent, acked := uint64(0), uint64(0)
	first := f.next
	for {
		over := ctx.Err() != nil
		select {
		case <-s.Retired():
			over = true
		default:
		}
		if over && sent == acked {
			return s.CloseSend()
		}
		for !over && sent-acked < flowWindow {
			sent++
			if err := s.Send(batch(sent, first+sent, `{}`)); err != nil {
				return fmt.Errorf("send: %w", err)
			}
		}
		ack, err := s.Recv()
		if err != nil {
			return err //nolint:wrapcheck // io.EOF is looked for
		}
		acked = ack.ThroughSeq
		f.next = first + acked
		f.longest = max(f.longest, time.Since(*last))
		*last = time.Now()
	}
}

func TestNoRowIsLostOrOvertakenWhileProcessesAreExchanged(t *testing.T) {
	w := newWorld(t)
	w.install("sharing")
	out := filepath.Join(t.TempDir(), "rows")
	w.start(shared("a", "PATH", out, "SLOW", "2ms"), shared("b"))
	f := &flow{w: w, name: "a"}
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	done := make(chan error, 1)
	go func() { done <- f.run(ctx) }()

	lines(t, out, 10)
	own := using("sharing", "a", "PATH", out, "SLOW", "2ms")
	pids := map[int]bool{}
	for i := range 3 {
		require.NoError(t, w.host.Reload(t.Context(), "a")) // with the process that both share
		pids[w.pid("a")] = true
		require.Empty(t, w.apply(shared("a", "PATH", out, "SLOW", fmt.Sprintf("%dms", i+1)), shared("b")).Failed) // in its place
		require.Empty(t, w.apply(own, shared("b")).Failed)                                                        // out of it
		pids[w.pid("a")] = true
		require.NoError(t, w.host.Reload(t.Context(), "a"))
		pids[w.pid("a")] = true
		require.Empty(t, w.apply(shared("a", "PATH", out, "SLOW", "2ms"), shared("b")).Failed) // and back
	}
	cancel()
	require.NoError(t, <-done)
	require.Len(t, pids, 9)
	t.Logf("%d rows, the longest time without an acknowledgement was %s", f.next, f.longest)

	want := uint64(1)
	for _, line := range lines(t, out, int(f.next)) {
		_, what, _ := strings.Cut(line, " a ")
		if what == "open" || what == "close" {
			continue
		}
		require.Equal(t, fmt.Sprintf("%d {}", want), what, "each row once, in order, nothing between")
		want++
	}
	require.Equal(t, f.next, want-1)
	require.Less(t, f.longest, patience/2)
}
