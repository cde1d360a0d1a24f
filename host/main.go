// Command rivergate is the whole program: the gateway and the commands that watch and steer it. See package command.
package main

import (
	"context"
	"os"
	"os/signal"
	"syscall"

	"github.com/rivergate/rivergate/host/command"
)

// Set by make build.
var version, commit string

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	context.AfterFunc(ctx, stop) // a second signal ends the process at once
	os.Exit(command.Program{
		Version: version,
		Commit:  commit,
		Args:    os.Args[1:],
		Environ: os.Environ(),
		Stdin:   os.Stdin,
		Stdout:  os.Stdout,
		Stderr:  os.Stderr,
	}.Run(ctx))
}
