// Command crash is a pusher that dies on a row with a certain member, {"poison":true} unless configured otherwise. It
// proves that the host finds the guilty row, dead-letters that one alone, and delivers the rest.
package main

import (
	"context"
	"errors"
	"os"

	"github.com/rivergate/rivergate/sdk"
)

type crash struct {
	CrashOn string `config:"crash_on" default:"poison" doc:"Member whose value true kills the plugin."`
	How     string `config:"how" default:"panic" enum:"panic,exit" doc:"panic, or exit with status 3."`
	Early   bool   `config:"crash_at_open" doc:"Dies before the first batch."`
}

func (c *crash) Open(context.Context, sdk.Env) error {
	if c.Early {
		c.die()
	}
	return nil
}

func (c *crash) Deliver(_ context.Context, b *sdk.Batch) error {
	for row := range b.Rows() {
		if v, ok := row.Field(c.CrashOn); ok {
			if poisoned, err := v.Bool(); err == nil && poisoned {
				c.die()
			}
		}
	}
	return nil
}

func (c *crash) die() {
	if c.How == "exit" {
		os.Exit(3)
	}
	panic(errors.New("poison"))
}

func main() {
	sdk.Serve(sdk.Plugin{Name: "crash", Version: "1.0.0", Summary: "Dies on a poisonous row.", Pusher: func() sdk.Pusher { return new(crash) }})
}
