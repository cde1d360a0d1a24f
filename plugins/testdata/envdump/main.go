// Command envdump is a pusher that rejects every row with its own environment as the message, and logs it at the start. It
// proves that nothing of the host's environment reaches a plugin but what was meant to.
package main

import (
	"context"
	"errors"
	"os"
	"slices"
	"strings"

	"github.com/rivergate/rivergate/sdk"
)

// environment is read before the SDK or anybody else changes it. Values of certificates have several lines: quoted.
func environment() string {
	env := os.Environ()
	slices.Sort(env)
	return strings.ReplaceAll(strings.Join(env, "\x1f"), "\n", `\n`)
}

type envdump struct{}

func (envdump) Open(_ context.Context, env sdk.Env) error {
	env.Log.Info("environment", "env", strings.ReplaceAll(environment(), "\x1f", " "))
	return nil
}

func (envdump) Deliver(_ context.Context, b *sdk.Batch) error {
	message := strings.ReplaceAll(environment(), "\x1f", "\n")
	for row := range b.Rows() {
		b.Reject(row, "environment", errors.New(message))
	}
	return nil
}

func main() {
	sdk.Serve(sdk.Plugin{Name: "envdump", Version: "1.0.0", Summary: "Tells its environment.", Pusher: func() sdk.Pusher { return new(envdump) }})
}
