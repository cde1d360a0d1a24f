package main

import (
	"context"
	"fmt"
	"time"

	"github.com/rivergate/rivergate/host/e2e/rig"
)

const connections = 64

// closed is a closed loop: each connection sends as soon as it was answered.
func (b *bench) closed(addr string, rows int) spec {
	return spec{Addr: addr, Connections: connections, Rows: rows, Warmup: b.long / 6, Duration: b.long}
}

// single is one row per request: the rate against a handler that does nothing, and the latency at half that rate. A client
// waits for the disk each time, so the rate grows with their number where that of the no-op does not. Throughput is what a
// server gives when it has enough to do: each side's best rate counts, and all are shown.
func (b *bench) single(ctx context.Context) error {
	var best, bestFloor series
	for _, clients := range []int{connections, 4 * connections, 8 * connections} {
		var floors, rates series
		for range b.rounds {
			r, err := b.noopRate(ctx, clients)
			if err != nil {
				return err
			}
			floors = append(floors, r.perSecond())
			err = b.withHost(ctx, hold, func(h *rig.Host) error {
				s := b.closed(h.Addr, 1)
				s.Connections = clients
				own, err := b.load(ctx, s)
				if err != nil {
					return err
				}
				rates = append(rates, own.perSecond())
				b.say("%d clients: no-op %.0f requests/s; durable %.0f requests/s, p50 %.2f ms, p99 %.2f ms, max %.1f ms",
					clients, r.perSecond(), own.perSecond(), ms(own.P50), ms(own.P99), ms(own.Max))
				return nil
			})
			if err != nil {
				return err
			}
		}
		ratio := rates.median() / floors.median()
		f := figure{Name: fmt.Sprintf("durable / no-op, %d clients", clients), Value: ratio, Noise: floors.noise() + rates.noise()}
		if len(best) == 0 || rates.median() > best.median() {
			best = rates
		}
		if len(bestFloor) == 0 || floors.median() > bestFloor.median() {
			bestFloor = floors
		}
		b.report.add(figure{Name: fmt.Sprintf("no-op Fiber handler, 1 row per request, %d clients", clients), Unit: "requests/s", Runs: floors})
		b.report.add(figure{Name: fmt.Sprintf("durable, 1 row per request, %d clients", clients), Unit: "requests/s", Runs: rates})
		b.report.add(f)
	}
	ratio := best.median() / bestFloor.median()
	b.report.add(figure{Name: "durable / no-op, the best rate of each", Value: ratio, Noise: best.noise() + bestFloor.noise(),
		Target: "≥ 0.5", Met: met(ratio >= 0.5)})
	return b.halfLoad(ctx, best.median()/2)
}

// halfLoad is the latency at rate requests per second, beside that of the bare disk.
func (b *bench) halfLoad(ctx context.Context, rate float64) error {
	var answers, bare series
	for range b.rounds {
		f, err := b.fdatasync(ctx, b.long/2)
		if err != nil {
			return err
		}
		bare = append(bare, ms(f.p99))
		err = b.withHost(ctx, hold, func(h *rig.Host) error {
			// Many connections, so that a request that is due finds one free even while the disk stalls.
			r, err := b.load(ctx, spec{Addr: h.Addr, Connections: 4 * connections, Rows: 1, Warmup: b.long / 6, Duration: b.long, Rate: rate})
			if err != nil {
				return err
			}
			if r.perSecond() < 0.95*rate {
				b.say("only %.0f of %.0f requests/s were sent on time", r.perSecond(), rate)
			}
			answers = append(answers, ms(r.P99))
			b.say("at %.0f requests/s, from due to answered: p50 %.2f ms, p90 %.2f ms, p99 %.2f ms, max %.1f ms; bare fdatasync p99 %.2f ms",
				rate, ms(r.P50), ms(r.P90), ms(r.P99), ms(r.Max), ms(f.p99))
			return nil
		})
		if err != nil {
			return err
		}
	}
	limit := max(15, 5*bare.median())
	b.report.add(figure{Name: "bare fdatasync p99 beside it", Unit: "ms", Runs: bare})
	b.report.add(figure{Name: fmt.Sprintf("p99 of the answer at half load (%.0f requests/s, open loop)", rate), Unit: "ms", Runs: answers,
		Target: fmt.Sprintf("≤ %.1f (15, or 5 × bare fdatasync p99)", limit), Met: met(answers.median() <= limit)})
	return nil
}

// noopRate measures the floor once.
func (b *bench) noopRate(ctx context.Context, clients int) (result, error) {
	p, addr, err := b.noop(ctx)
	if err != nil {
		return result{}, err
	}
	defer p.KillGroup()
	s := b.closed(addr, 1)
	s.Connections = clients
	return b.load(ctx, s)
}

// batches is the durable intake with many rows per request.
func (b *bench) batches(ctx context.Context) error {
	for _, c := range []struct {
		rows   int
		target float64
	}{{100, 300_000}, {1000, 600_000}} {
		var rates series
		for range b.rounds {
			err := b.withHost(ctx, hold, func(h *rig.Host) error {
				s := b.closed(h.Addr, c.rows)
				if c.rows == 1000 {
					s.Connections = 16 // 4 MiB in flight, as much as 64 with 100 rows and more
				}
				r, err := b.load(ctx, s)
				if err != nil {
					return err
				}
				rate := r.perSecond() * float64(c.rows)
				rates = append(rates, rate)
				b.say("%d rows per request: %.0f rows/s, %.0f MB/s of rows; answers p50 %.1f ms, p99 %.1f ms",
					c.rows, rate, rate*rowBytes/1e6, ms(r.P50), ms(r.P99))
				return nil
			})
			if err != nil {
				return err
			}
		}
		b.report.add(figure{Name: fmt.Sprintf("durable, %d rows per request", c.rows), Unit: "rows/s", Runs: rates,
			Target: fmt.Sprintf("≥ %.0f", c.target), Met: met(rates.median() >= c.target)})
	}
	return nil
}

// fill puts rows into a host's journal, 1000 per request.
func (b *bench) fill(ctx context.Context, h *rig.Host, rows int64) (result, error) {
	return b.load(ctx, spec{Addr: h.Addr, Connections: 16, Rows: 1000, Requests: rows / 1000, Duration: 0})
}

// settleTime bounds the wait for pushers.
const settleTime = 5 * time.Minute
