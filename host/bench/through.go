package main

import (
	"context"
	"fmt"
	"path/filepath"
	"time"

	"github.com/rivergate/rivergate/host/e2e/rig"
)

// withNull is the environment of a host with one null pusher, and its counter.
func (b *bench) withNull() (env map[string]string, c *counter, unmap func() error, err error) {
	path := filepath.Join(b.dir, fmt.Sprintf("null-%d", time.Now().UnixNano()))
	if c, unmap, err = openCounter(path); err != nil {
		return nil, nil, nil, err
	}
	return map[string]string{"PLUGIN_NULL_ENABLED": "true", "PLUGIN_NULL_COUNT_FILE": path}, c, unmap, nil
}

// through is the whole way: HTTP, journal, delivery, gRPC, counted in the plugin. The clock runs from the first request
// until the plugin has counted the last accepted row.
func (b *bench) through(ctx context.Context) error {
	var rates series
	for range b.rounds {
		env, c, unmap, err := b.withNull()
		if err != nil {
			return err
		}
		err = b.withHost(ctx, env, func(h *rig.Host) error {
			r, err := b.load(ctx, b.closed(h.Addr, 100))
			if err != nil {
				return err
			}
			atEnd := c.Rows.Load()
			if err := c.reaches(ctx, uint64(r.Rows), settleTime); err != nil {
				return err
			}
			took := time.Since(r.Begun)
			if err := h.CaughtUp(ctx, settleTime, "null"); err != nil {
				return err
			}
			if got := c.Rows.Load(); got != uint64(r.Rows) {
				return fmt.Errorf("%d rows were accepted, the plugin counted %d", r.Rows, got)
			}
			rate := float64(r.Rows) / took.Seconds()
			rates = append(rates, rate)
			b.say("%d rows accepted and counted in %.2f s: %.0f rows/s; %.1f %% of them when the load ended; %.0f rows per batch",
				r.Rows, took.Seconds(), rate, 100*float64(atEnd)/float64(r.Rows), float64(r.Rows)/float64(c.Batches.Load()))
			return nil
		})
		if unmapErr := unmap(); err == nil {
			err = unmapErr
		}
		if err != nil {
			return err
		}
	}
	b.report.add(figure{Name: "through to a null pusher, 100 rows per request, counted in the plugin", Unit: "rows/s", Runs: rates,
		Target: "≥ 200000", Met: met(rates.median() >= 200_000)})
	return nil
}
