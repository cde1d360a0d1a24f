package main

import (
	"context"
	"errors"
	"fmt"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"github.com/rivergate/rivergate/host/e2e/rig"
)

// python is the whole way to a pusher in Python that takes each row into its hands, in batches of 100 rows: with an async
// deliver, on the event loop, and with a plain one, in a thread. The clock runs from the first request until the plugin has
// counted the last accepted row.
func (b *bench) python(ctx context.Context) error {
	if err := b.buildPython(ctx); err != nil {
		return err
	}
	for _, form := range []struct {
		name, blocking string
	}{
		{"async deliver", "false"},
		{"plain deliver", "true"},
	} {
		var rates series
		for range b.rounds {
			rate, err := b.throughPython(ctx, form.blocking)
			if err != nil {
				return err
			}
			b.say("%s: %.0f rows/s", form.name, rate)
			rates = append(rates, rate)
		}
		b.report.add(figure{
			Name: "through to a pusher in Python, BATCH_ROWS=100, " + form.name + ", each row counted in its loop", Unit: "rows/s", Runs: rates,
			Target: "≥ 20000", Met: met(rates.median() >= 20_000),
		})
	}
	return nil
}

// buildPython packs plugins/testdata/pynull as an author would.
func (b *bench) buildPython(ctx context.Context) error {
	root, err := rig.Root(ctx)
	if err != nil {
		return err
	}
	var said strings.Builder
	environment := exec.CommandContext(ctx, filepath.Join(root, "deploy", "python"))
	environment.Stderr = &said
	out, err := environment.Output()
	if err != nil {
		return fmt.Errorf("make a Python environment: %w\n%s", err, said.String())
	}
	build := exec.CommandContext(ctx, filepath.Join(strings.TrimSpace(string(out)), "bin", "python"), "-m", "rivergate_sdk.build", // #nosec G204 -- of this tree
		"--output", b.Pusher("pynull"), "--entry", "pynull:main", "--source", "plugins/testdata/pynull/pynull.py")
	build.Dir = root
	if out, err := build.CombinedOutput(); err != nil {
		return fmt.Errorf("build the Python pusher: %w\n%s", err, out)
	}
	return nil
}

func (b *bench) throughPython(ctx context.Context, blocking string) (rate float64, err error) {
	path := filepath.Join(b.dir, fmt.Sprintf("pynull-%d", time.Now().UnixNano()))
	c, unmap, err := openCounter(path)
	if err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, unmap()) }()
	env := map[string]string{
		"PLUGIN_PYNULL_ENABLED": "true", "PLUGIN_PYNULL_COUNT_FILE": path, "PLUGIN_PYNULL_BLOCKING": blocking,
		"PLUGIN_PYNULL_BATCH_ROWS": "100", "PLUGIN_PYNULL_PASS_ENV": "XDG_CACHE_HOME",
		"XDG_CACHE_HOME": b.dir,
	}
	err = b.withHost(ctx, env, func(h *rig.Host) error {
		load := spec{Addr: h.Addr, Connections: connections, Rows: 100, Requests: 6000}
		if b.quick {
			load.Requests = 1500
		}
		r, err := b.load(ctx, load)
		if err != nil {
			return err
		}
		if err := c.reaches(ctx, uint64(r.Rows), settleTime); err != nil {
			return err
		}
		rate = float64(r.Rows) / time.Since(r.Begun).Seconds()
		if err := h.CaughtUp(ctx, settleTime, "pynull"); err != nil {
			return err
		}
		if got := c.Rows.Load(); got != uint64(r.Rows) {
			return fmt.Errorf("%d rows were accepted, the plugin counted %d", r.Rows, got)
		}
		if batches := c.Batches.Load(); uint64(r.Rows) > 100*batches {
			return fmt.Errorf("%d rows came in %d batches: more than 100 a batch", r.Rows, batches)
		}
		return nil
	})
	return rate, err
}
