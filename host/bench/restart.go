package main

import (
	"context"
	"errors"
	"fmt"
	"syscall"
	"time"

	"github.com/rivergate/rivergate/host/e2e/rig"
)

// pluginRestart is the time from kill -9 of a plugin until the next process has delivered a row. Each trial has a host of
// its own: a plugin that dies again and again is restarted with growing patience, which is another promise.
func (b *bench) pluginRestart(ctx context.Context) error {
	trials := 30
	if b.quick {
		trials = 4
	}
	var times series
	for range trials {
		took, err := b.oneRestart(ctx)
		if err != nil {
			return err
		}
		times = append(times, ms(took))
	}
	b.say("%d trials: median %.0f ms, farthest %.0f ms", trials, times.median(), times.max())
	b.report.add(figure{Name: fmt.Sprintf("killed plugin delivers again (worst of %d trials counts)", trials), Unit: "ms", Runs: times,
		Target: "≤ 250", Met: met(times.max() <= 250)})
	return nil
}

func (b *bench) oneRestart(ctx context.Context) (took time.Duration, err error) {
	env, c, unmap, err := b.withNull()
	if err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, unmap()) }()
	err = b.withHost(ctx, env, func(h *rig.Host) error {
		// A steady trickle, so that there is always a row to deliver.
		loading, stop := context.WithCancel(ctx)
		loaded := make(chan struct{})
		go func() {
			defer close(loaded)
			// Its error says only that it was cancelled.
			_, _ = b.load(loading, spec{Addr: h.Addr, Connections: 4, Rows: 1, Rate: 500, Duration: time.Minute})
		}()
		defer func() { stop(); <-loaded }()

		if err := c.reaches(ctx, 50, 20*time.Second); err != nil {
			return err
		}
		pid, err := h.PluginPID(ctx, "null")
		if err != nil {
			return err
		}
		victim, err := rig.Identify(pid)
		if err != nil {
			return err
		}
		killed := time.Now()
		if err := syscall.Kill(pid, syscall.SIGKILL); err != nil {
			return err
		}
		for victim.Alive() {
			if err := rig.Pause(ctx, 100*time.Microsecond); err != nil {
				return err
			}
		}
		if err := c.reaches(ctx, c.Rows.Load()+1, 30*time.Second); err != nil {
			return err
		}
		took = time.Since(killed)
		if got := int(c.PID.Load()); got == pid {
			return fmt.Errorf("process %d was killed and still counts", pid)
		}
		return nil
	})
	return took, err
}
