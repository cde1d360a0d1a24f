// Command hang is a pusher that never returns from Deliver on a row with a certain member, {"poison":true} unless
// configured otherwise, whatever the context says, and answers Health all the while. It proves that a wedged plugin is
// noticed by its missing acknowledgements, killed, and that the others go on.
package main

import (
	"context"

	"github.com/rivergate/rivergate/sdk"
)

type hang struct {
	HangOn string `config:"hang_on" default:"poison" doc:"Member whose value true hangs the plugin."`
}

func (h *hang) Deliver(_ context.Context, b *sdk.Batch) error {
	for row := range b.Rows() {
		if v, ok := row.Field(h.HangOn); ok {
			if poisoned, err := v.Bool(); err == nil && poisoned {
				select {}
			}
		}
	}
	return nil
}

func main() {
	sdk.Serve(sdk.Plugin{Name: "hang", Version: "1.0.0", Summary: "Hangs on a poisonous row.", Pusher: func() sdk.Pusher { return new(hang) }})
}
