package main

import (
	"context"
	"errors"
	"os"
	"time"

	"github.com/rivergate/rivergate/sdk"
)

// Null counts what it is given.
type Null struct {
	CountFile string `config:"count_file" required:"true" doc:"File that holds the counts, one page, shared with the measurer."`

	pid   uint64 // asked for once: a measurer wants the cost of Rivergate, not of a system call per batch
	page  *page
	unmap func() error
}

// Open maps the count file.
func (n *Null) Open(context.Context, sdk.Env) error {
	n.pid = uint64(os.Getpid())
	var err error
	n.page, n.unmap, err = openPage(n.CountFile)
	return err
}

// Deliver counts the batch, or does what the mode asks for. Frames are counted whole: the cost is that of a few sums.
func (n *Null) Deliver(ctx context.Context, b *sdk.Batch) error {
	switch n.page.Mode.Load() {
	case modeRefuse:
		return sdk.RetryIn(0, "down", errors.New("the destination is down (asked for by the measurer)"))
	case modeSlow:
		timer := time.NewTimer(time.Duration(n.page.Delay.Load()))
		defer timer.Stop()
		select {
		case <-timer.C:
		case <-ctx.Done():
			return ctx.Err()
		}
	case modeCrash:
		os.Exit(3)
	case modeWedge:
		select {} // on purpose deaf to ctx: this is what a wedged plugin does
	}
	var rows, bytes, through uint64
	for i := range b.Frames {
		f := &b.Frames[i]
		rows += uint64(f.Len())
		bytes += uint64(len(f.Data))
		through = max(through, f.Position+uint64(f.Len()))
	}
	n.page.PID.Store(n.pid)
	if through > n.page.Through.Load() {
		n.page.Through.Store(through)
	}
	n.page.Batches.Add(1)
	n.page.Bytes.Add(bytes)
	n.page.Rows.Add(rows)
	return nil
}

// Close unmaps the count file; the counts stay in it.
func (n *Null) Close(context.Context) error {
	if n.unmap == nil {
		return nil
	}
	return n.unmap()
}
