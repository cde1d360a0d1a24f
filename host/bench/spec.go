package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"time"

	"github.com/rivergate/rivergate/host/e2e/rig"
)

// spec tells the load generator what to do.
type spec struct {
	Addr        string
	Connections int
	Rows        int           // per request; 1 goes to /data, more to /data/batch
	Warmup      time.Duration // at the beginning, not measured
	Duration    time.Duration // measured, after the warm-up; 0: until Requests are done
	Requests    int64         // in all; 0: until the time is over
	Rate        float64       // requests per second, open loop: sent by the clock, whatever the answers do; 0: closed loop
}

// result is what the generator saw. Latencies run from the moment when the request was due: in an open loop a stalled
// server cannot hide the requests that had to wait.
type result struct {
	Requests int64 // answered 202 in the measured time
	Sent     int64 // answered 202 in all, warm-up included
	Rows     int64 // of Sent
	Refused  int64 // other answers
	Said     string
	Seconds  float64 // measured time
	P50      time.Duration
	P90      time.Duration
	P99      time.Duration
	Max      time.Duration
	Begun    time.Time
	Ended    time.Time
}

func (r result) perSecond() float64 { return float64(r.Requests) / r.Seconds }

// load runs the generator as a process of its own and returns what it saw. Any answer but 202 is an error.
func (b *bench) load(ctx context.Context, s spec) (result, error) {
	in, err := json.Marshal(s)
	if err != nil {
		return result{}, err
	}
	var out bytes.Buffer
	p, err := rig.Spawn(b.self, []string{"load"}, os.Environ(), b.dir, bytes.NewReader(in), &out, os.Stderr)
	if err != nil {
		return result{}, err
	}
	limit := time.NewTimer(s.Warmup + s.Duration + 5*time.Minute)
	defer limit.Stop()
	select {
	case <-p.Done():
	case <-ctx.Done():
		p.KillGroup()
		return result{}, ctx.Err()
	case <-limit.C:
		p.KillGroup()
		return result{}, fmt.Errorf("load generator did not end")
	}
	if code := p.ExitCode(); code != 0 {
		return result{}, fmt.Errorf("load generator ended with %d", code)
	}
	var r result
	if err := json.Unmarshal(out.Bytes(), &r); err != nil {
		return result{}, fmt.Errorf("read the generator's result: %w", err)
	}
	if r.Refused > 0 {
		return r, fmt.Errorf("%d requests were not accepted, the first answer was %s", r.Refused, r.Said)
	}
	return r, nil
}
