// Command slow is a pusher that takes its time for each batch; the delay is real. It proves that a slow destination holds
// up neither the intake nor another pusher.
package main

import (
	"context"
	"time"

	"github.com/rivergate/rivergate/sdk"
)

type slow struct {
	Delay time.Duration `config:"delay" default:"1s" min:"0s" doc:"What each batch takes."`
}

func (s *slow) Deliver(ctx context.Context, _ *sdk.Batch) error {
	timer := time.NewTimer(s.Delay)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

func main() {
	sdk.Serve(sdk.Plugin{Name: "slow", Version: "1.0.0", Summary: "Takes its time.", Pusher: func() sdk.Pusher { return new(slow) }})
}
