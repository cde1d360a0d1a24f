package main

import (
	"context"
	"fmt"
	"time"

	"github.com/rivergate/rivergate/host/e2e/rig"
)

// push is one run of rows through the host and a pusher to its destination.
type push struct {
	pusher  string
	env     map[string]string
	ready   func() error          // the journal is filled, the clock not started; nil: nothing to do
	arrived func() error          // waits for what comes after the acknowledgement of the last row; nil: nothing does
	count   func() (int64, error) // the rows that the destination has
}

// push returns rows per second from resume until the last row has arrived. The rows wait in the journal while the pusher is paused, so that
// the intake takes no time from it.
func (b *bench) push(ctx context.Context, p push, rows int64) (rate float64, err error) {
	err = b.withHost(ctx, p.env, func(h *rig.Host) error {
		if err := h.Running(ctx, p.pusher, 30*time.Second); err != nil {
			return err
		}
		if err := h.PausePusher(ctx, p.pusher); err != nil {
			return err
		}
		filled, err := b.fill(ctx, h, rows)
		if err != nil {
			return err
		}
		if p.ready != nil {
			if err := p.ready(); err != nil {
				return err
			}
		}
		begun := time.Now()
		if err := h.ResumePusher(ctx, p.pusher); err != nil {
			return err
		}
		if err := h.CaughtUp(ctx, settleTime, p.pusher); err != nil {
			return err
		}
		if p.arrived != nil {
			if err := p.arrived(); err != nil {
				return err
			}
		}
		took := time.Since(begun)
		counted, err := p.count()
		if err != nil {
			return fmt.Errorf("count: %w", err)
		}
		if counted != filled.Rows {
			return fmt.Errorf("%d rows were accepted, the destination of %s has %d", filled.Rows, p.pusher, counted)
		}
		rate = float64(counted) / took.Seconds()
		return nil
	})
	return rate, err
}
