package main

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"path/filepath"
	"time"

	"github.com/rivergate/rivergate/host/e2e/rig"
)

// bin is the width of one point of the curves.
const bin = 100 * time.Millisecond

// phase is a stretch of time in which pusher B behaves in one way.
type phase struct {
	name string
	mode uint64
	from time.Duration // since the start of the curves
	to   time.Duration
	a, b []float64 // rows/s per bin
}

// isolation watches pusher A while pusher B is well, down, slow and crashing. The load comes by the clock, so A's rate is
// that of the load unless B takes something away from it.
func (b *bench) isolation(ctx context.Context) (err error) {
	env, a, unmapA, err := b.withNull()
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, unmapA()) }()
	pathB := filepath.Join(b.dir, "null-b")
	other, unmapB, err := openCounter(pathB)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, unmapB()) }()
	env = maps.Clone(env)
	maps.Copy(env, map[string]string{
		"PLUGIN_OTHER_ENABLED": "true", "PLUGIN_OTHER_USE": "null", "PLUGIN_OTHER_COUNT_FILE": pathB,
		"PLUGIN_OTHER_RETRY_MAX": "1s", "PLUGIN_OTHER_RETRY_ATTEMPTS": "0",
	})
	length := 8 * time.Second
	if b.quick {
		length = 2 * time.Second
	}
	phases := []*phase{
		{name: "well", mode: accepting},
		{name: "well (again: the noise)", mode: accepting},
		{name: "down", mode: refusing},
		{name: "slow", mode: slow},
		{name: "crashing", mode: crashing},
		{name: "well after all", mode: accepting},
	}
	const requests, rows = 300, 100 // 30 000 rows/s: well below what the machine can do
	other.Delay.Store(uint64(500 * time.Millisecond))

	err = b.withHost(ctx, env, func(h *rig.Host) error {
		total := time.Duration(len(phases)) * length
		loading, stop := context.WithCancel(ctx)
		defer stop()
		type outcome struct {
			result
			err error
		}
		loaded := make(chan outcome, 1)
		go func() {
			r, err := b.load(loading, spec{Addr: h.Addr, Connections: connections, Rows: rows, Rate: requests, Duration: total + recovery})
			loaded <- outcome{r, err}
		}()
		err := errors.Join(a.reaches(ctx, requests*rows, 30*time.Second), other.reaches(ctx, requests*rows, 30*time.Second))
		if err == nil {
			err = watch(ctx, phases, length, a, other)
		}
		other.Mode.Store(accepting)
		if err != nil {
			stop()
			<-loaded
			return err
		}
		r := <-loaded
		if r.err != nil {
			return r.err
		}
		// In the end B has everything as well: it waited, it lost nothing. Rows of a killed batch may have come twice.
		if err := h.CaughtUp(ctx, settleTime, "null", "other"); err != nil {
			return err
		}
		dead, err := h.Pusher(ctx, "other")
		if err != nil {
			return err
		}
		if a.Rows.Load() != uint64(r.Rows) || int64(other.Rows.Load())+dead.DeadTotal < r.Rows {
			return fmt.Errorf("%d rows were accepted; A counted %d, B %d with %d dead letters", r.Rows, a.Rows.Load(), other.Rows.Load(), dead.DeadTotal)
		}
		return nil
	})
	if err != nil {
		return err
	}
	base := series(phases[0].a).mean()
	var worst float64 = 1
	for _, p := range phases {
		mean := series(p.a).mean()
		b.say("B %-24s A %6.0f rows/s (%.1f %% of its rate while B is well; weakest %s: %.0f); B %6.0f rows/s",
			p.name+":", mean, 100*mean/base, bin, series(p.a).min(), series(p.b).mean())
		if p.mode != accepting {
			worst = min(worst, mean/base)
		}
	}
	noise := series(phases[1].a).mean()/base - 1
	b.report.add(figure{Name: "A's rate while B is down, slow or crashing, against B well (the worst of the three)", Unit: "%",
		Value: 100 * worst, Noise: max(noise, -noise), Target: "≥ 98", Met: met(worst >= 0.98)})
	b.report.phases = phases
	return nil
}

// watch switches B from phase to phase and notes both rates in bins.
func watch(ctx context.Context, phases []*phase, length time.Duration, a, other *counter) error {
	start := time.Now()
	ticker := time.NewTicker(bin)
	defer ticker.Stop()
	at, lastA, lastB := start, a.Rows.Load(), other.Rows.Load()
	for i, p := range phases {
		p.from, p.to = time.Duration(i)*length, time.Duration(i+1)*length
		other.Mode.Store(p.mode)
		last := i == len(phases)-1
		for time.Since(start) < p.to || last && behind(a, other) && time.Since(start) < p.to+recovery {
			select {
			case <-ctx.Done():
				return ctx.Err()
			case <-ticker.C:
			}
			now, nowA, nowB := time.Now(), a.Rows.Load(), other.Rows.Load()
			seconds := now.Sub(at).Seconds()
			p.a = append(p.a, float64(nowA-lastA)/seconds)
			p.b = append(p.b, float64(nowB-lastB)/seconds)
			at, lastA, lastB = now, nowA, nowB
		}
		p.to = max(p.to, time.Since(start).Round(bin))
	}
	return nil
}

// recovery is what the last phase may take longer, until B has caught up: a plugin that crashed again and again is started
// only now and then.
const recovery = 45 * time.Second

// behind tells whether B has not yet seen rows that A has had for a second and more.
func behind(a, other *counter) bool { return other.Through.Load()+30_000 < a.Through.Load() }
