package delivery

import (
	"context"
	"errors"
	"time"

	"github.com/rivergate/rivergate/sdk/protocol"
	"github.com/rivergate/rivergate/services/gateway/journal"
)

// A reader hands over several frames at once, so that small requests cost little each.
const (
	chunkFrames = 128
	chunkBytes  = 1 << 20
)

// read brings frames from the journal until ctx ends. It stops reading while as much as allowed is on its way.
func (c *chain) read(ctx context.Context) {
	c.mu.Lock()
	from := c.next
	c.mu.Unlock()
	// When the cursor lies within a request, delivery ids of dead letters need its first position.
	if r, err := c.d.journal.Lookup(ctx, from); err == nil {
		c.mu.Lock()
		c.origin = span{r.Position, r.Position + uint64(r.Len())}
		c.mu.Unlock()
	}
	for ctx.Err() == nil {
		err := c.readFrom(ctx, from)
		if ctx.Err() != nil || errors.Is(err, journal.ErrClosed) {
			return
		}
		c.log.Error("cannot read the journal; trying again", "error", err)
		if !sleep(ctx, time.Second) {
			return
		}
		c.mu.Lock()
		from = c.next // what was read beyond it has been handed over, or is skipped as known
		c.mu.Unlock()
	}
}

func (c *chain) readFrom(ctx context.Context, position uint64) error {
	r := c.d.journal.Read(position)
	defer r.Close()
	var scratch []byte
	judge := func(f protocol.Frame) (in incoming) {
		if in.Frame = f; c.takes(f.OrgID) {
			in.rulings, scratch = sift(c.shape, &f, scratch)
		}
		return in
	}
	for {
		for c.ahead.full() {
			select {
			case <-c.ahead.room:
			case <-ctx.Done():
				return ctx.Err()
			}
		}
		f, err := r.Next(ctx)
		if err != nil {
			return err
		}
		chunk, bytes := []incoming{judge(f)}, len(f.Data)
		c.ahead.add(f.Len(), len(f.Data))
		for len(chunk) < chunkFrames && bytes < chunkBytes && !c.ahead.full() {
			f, ok, err := r.TryNext()
			if err != nil || !ok {
				break // an error comes again with Next
			}
			chunk, bytes = append(chunk, judge(f)), bytes+len(f.Data)
			c.ahead.add(f.Len(), len(f.Data))
		}
		select {
		case c.chunks <- chunk:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// sleep waits for d; false: ctx ended first.
func sleep(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-ctx.Done():
		return false
	}
}
