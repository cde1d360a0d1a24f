package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/rivergate/rivergate/host/e2e/rig"
)

// backlog is memory and start-up with ten million rows that wait for a paused pusher.
func (b *bench) backlog(ctx context.Context) (err error) {
	rows := int64(10_000_000)
	trials := 10
	if b.quick {
		rows, trials = 500_000, 3
	}
	env, c, unmap, err := b.withNull()
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, unmap()) }()
	o, err := b.options(env)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(filepath.Dir(o.DataDir))) }()
	if o.Addr, err = rig.FreeAddr(ctx); err != nil {
		return err
	}
	h, err := b.Start(ctx, o)
	if err != nil {
		return err
	}
	defer func() { end(h) }()
	if err := h.PausePusher(ctx, "null"); err != nil {
		return err
	}
	filled, err := b.fill(ctx, h, rows)
	if err != nil {
		return err
	}
	waiting, err := h.Pusher(ctx, "null")
	if err != nil {
		return err
	}
	delivered := int64(c.Rows.Load())
	if waiting.LagRows < filled.Rows-delivered {
		return fmt.Errorf("%d rows were accepted, %d delivered before the pause, but the backlog is %d", filled.Rows, delivered, waiting.LagRows)
	}
	memory, err := rig.ReadMemory(h.PID)
	if err != nil {
		return err
	}
	b.say("%d rows wait, filled in %.1f s; resident %.1f MB, peak %.1f MB", waiting.LagRows,
		filled.Ended.Sub(filled.Begun).Seconds(), mb(memory.Resident), mb(memory.Peak))
	b.report.add(figure{Name: fmt.Sprintf("host's resident memory with %d rows waiting", waiting.LagRows), Unit: "MB",
		Value: mb(memory.Resident), Target: "≤ 150", Met: met(mb(memory.Resident) <= 150)})
	b.report.add(figure{Name: "its peak while it was filled at full speed", Unit: "MB", Value: mb(memory.Peak)})

	var health, accepted series
	request, _ := buildRequest(1)
	for range trials {
		h.Kill()
		h.Forget()
		if h, err = b.Exec(ctx, o); err != nil {
			return err
		}
		alive, post, err := firstAnswers(ctx, h, request)
		if err != nil {
			return err
		}
		health, accepted = append(health, ms(alive)), append(accepted, ms(post))
		if err := h.Ready(ctx); err != nil {
			return err
		}
	}
	after, err := rig.ReadMemory(h.PID)
	if err != nil {
		return err
	}
	b.say("after kill -9, from exec: first answer %.0f ms (farthest %.0f), first 202 to a POST %.0f ms (farthest %.0f); resident %.1f MB",
		health.median(), health.max(), accepted.median(), accepted.max(), mb(after.Resident))
	b.report.add(figure{Name: "restart on it after kill -9: first answer", Unit: "ms", Runs: health})
	b.report.add(figure{Name: "restart on it after kill -9: first POST answered 202 (worst of all trials counts)", Unit: "ms", Runs: accepted,
		Target: "≤ 1000", Met: met(accepted.max() <= 1000)})

	// The same rows on their way out: what delivery needs of memory, and that all of them are there.
	begun := time.Now()
	if err := h.ResumePusher(ctx, "null"); err != nil {
		return err
	}
	if err := h.CaughtUp(ctx, settleTime, "null"); err != nil {
		return err
	}
	took := time.Since(begun)
	drained, err := rig.ReadMemory(h.PID)
	if err != nil {
		return err
	}
	total := filled.Rows + int64(trials)
	if got := int64(c.Rows.Load()); got < total {
		return fmt.Errorf("%d rows were accepted, the plugin counted %d", total, got)
	}
	b.say("drained at %.0f rows/s; peak resident %.1f MB", float64(waiting.LagRows)/took.Seconds(), mb(drained.Peak))
	b.report.add(figure{Name: "draining it to a null pusher", Unit: "rows/s", Value: float64(waiting.LagRows) / took.Seconds()})
	b.report.add(figure{Name: "peak resident memory from restart to drained", Unit: "MB", Value: mb(drained.Peak),
		Target: "≤ 150", Met: met(mb(drained.Peak) <= 150)})
	return nil
}

// firstAnswers asks without pause, from exec on: /health until it answers, and a POST until it is accepted.
func firstAnswers(ctx context.Context, h *rig.Host, request []byte) (alive, post time.Duration, err error) {
	ctx, cancel := context.WithTimeout(ctx, 60*time.Second)
	defer cancel()
	for alive == 0 {
		a, err := h.Do(ctx, "GET", "/health", nil, nil)
		if err == nil && a.Status == 200 {
			alive = time.Since(h.Started)
			break
		}
		if err := rig.Pause(ctx, time.Millisecond); err != nil {
			return 0, 0, fmt.Errorf("no answer after a restart: %w", err)
		}
	}
	g := &generator{spec: spec{Addr: h.Addr, Rows: 1}}
	for {
		c, err := g.dial(ctx)
		if err == nil {
			err = c.conn.SetDeadline(time.Now().Add(10 * time.Second))
			if err == nil {
				_, err = c.conn.Write(request)
			}
			status := 0
			if err == nil {
				status, err = c.answer()
			}
			closeErr := c.conn.Close()
			if err == nil && status == 202 {
				return alive, time.Since(h.Started), closeErr
			}
		}
		if waitErr := rig.Pause(ctx, time.Millisecond); waitErr != nil {
			return 0, 0, fmt.Errorf("no 202 after a restart: %w", errors.Join(err, waitErr))
		}
	}
}

func mb(bytes int64) float64 { return float64(bytes) / 1e6 }
