package main

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/rivergate/rivergate/host/e2e/rig"
)

// pluginStart is the time from the moment when the plugin host begins until a stream to a new plugin process is open:
// verified, started, introduced, configured and healthy.
func (b *bench) pluginStart(ctx context.Context) error {
	trials := 20
	if b.quick {
		trials = 4
	}
	path := filepath.Join(b.dir, "start")
	_, unmap, err := openCounter(path)
	if err != nil {
		return err
	}
	defer func() { _ = unmap() }()
	var times series
	for range trials {
		begun := time.Now()
		_, end, err := b.openNull(ctx, path)
		if err != nil {
			return err
		}
		times = append(times, ms(time.Since(begun)))
		if err := end(); err != nil {
			return err
		}
	}
	b.say("%d starts: median %.1f ms, farthest %.1f ms", trials, times.median(), times.max())
	b.report.add(figure{Name: "plugin start, until its stream is open", Unit: "ms", Runs: times, Target: "≤ 50", Met: met(times.median() <= 50)})
	return nil
}

const (
	manyInstances = 50
	manyName      = "n" // and two digits; the host may have other plugins, too
	idleTime      = 20 * time.Second
)

// fifty starts a host with fifty enabled instances, each a process of its own, and watches it do nothing.
func (b *bench) fifty(ctx context.Context) error {
	rounds, idle := b.rounds, idleTime
	if b.quick {
		idle = 5 * time.Second
	}
	env := map[string]string{}
	for i := range manyInstances {
		prefix := fmt.Sprintf("PLUGIN_%s%02d_", strings.ToUpper(manyName), i)
		maps.Copy(env, map[string]string{prefix + "ENABLED": "true", prefix + "USE": "null", prefix + "COUNT_FILE": filepath.Join(b.dir, fmt.Sprintf("idle-%02d", i))})
	}
	var starts, ready, loads series
	for range rounds {
		err := b.withHost(ctx, env, func(h *rig.Host) error {
			ready = append(ready, ms(time.Since(h.Started)))
			if err := allRun(ctx, h); err != nil {
				return err
			}
			starts = append(starts, ms(time.Since(h.Started)))
			// The first moments belong to the start: caches, first collections.
			if err := rig.Pause(ctx, 3*time.Second); err != nil {
				return err
			}
			before, err := processorTime(h.PID)
			if err != nil {
				return err
			}
			begun := time.Now()
			if err := rig.Pause(ctx, idle); err != nil {
				return err
			}
			after, err := processorTime(h.PID)
			if err != nil {
				return err
			}
			loads = append(loads, 100*float64(after-before)/float64(time.Since(begun)))
			return nil
		})
		if err != nil {
			return err
		}
		b.say("%d instances run after %.0f ms (ready to take rows after %.0f ms); idle: %.2f %% of a core with all their processes",
			manyInstances, starts[len(starts)-1], ready[len(ready)-1], loads[len(loads)-1])
	}
	b.report.add(figure{Name: fmt.Sprintf("%d instances, each a process: all run after", manyInstances), Unit: "ms", Runs: starts, Target: "≤ 2000", Met: met(starts.median() <= 2000)})
	b.report.add(figure{Name: fmt.Sprintf("host and %d idle plugin processes", manyInstances), Unit: "% of a core", Runs: loads, Target: "≤ 1", Met: met(loads.median() <= 1)})
	return nil
}

// allRun waits until every plugin has a process and runs.
func allRun(ctx context.Context, h *rig.Host) error {
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	for {
		plugins, err := h.Plugins(ctx)
		if err != nil {
			return err
		}
		running := 0
		for _, p := range plugins {
			if strings.HasPrefix(p.Name, manyName) && p.State == "running" && p.PID > 0 {
				running++
			}
		}
		if running == manyInstances {
			return nil
		}
		if err := rig.Pause(ctx, 5*time.Millisecond); err != nil {
			return fmt.Errorf("%d of %d plugins run: %w", running, manyInstances, err)
		}
	}
}

// processorTime is what the process and all below it have used so far. The kernel counts nanoseconds for each thread in
// schedstat; the clock ticks of stat would be too coarse for fifty idle processes.
func processorTime(pid int) (time.Duration, error) {
	below, err := rig.Descendants(pid)
	if err != nil {
		return 0, err
	}
	var total time.Duration
	for _, p := range append(below, rig.Incarnation{PID: pid}) {
		threads, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/schedstat", p.PID))
		if err != nil {
			return 0, err
		}
		for _, t := range threads {
			raw, err := os.ReadFile(t)
			if errors.Is(err, os.ErrNotExist) {
				continue // a thread that has just ended
			}
			if err != nil {
				return 0, fmt.Errorf("read processor time: %w", err)
			}
			ns, err := strconv.ParseInt(strings.Fields(string(raw))[0], 10, 64)
			if err != nil {
				return 0, fmt.Errorf("read processor time: %w", err)
			}
			total += time.Duration(ns)
		}
	}
	return total, nil
}
