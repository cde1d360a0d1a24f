// Command forker is a pusher that starts a grandchild which never ends by itself, and one that leaves the process group.
// Both hold the plugin's standard error open. It proves that the host kills with a plugin all that the plugin started.
package main

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"syscall"

	"github.com/rivergate/rivergate/sdk"
)

type forker struct {
	Path string `config:"path" required:"true" doc:"File that gets the process ids of both, one per line."`
}

func (f *forker) Open(context.Context, sdk.Env) error {
	text := ""
	for _, leaves := range []bool{false, true} {
		cmd := exec.Command("sleep", "3600")
		cmd.Stdout, cmd.Stderr = os.Stderr, os.Stderr
		cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: leaves}
		if err := cmd.Start(); err != nil {
			return fmt.Errorf("start a grandchild: %w", err)
		}
		text += fmt.Sprintln(cmd.Process.Pid)
	}
	if err := os.WriteFile(f.Path+".new", []byte(text), 0o644); err != nil {
		return sdk.FieldError("path", err)
	}
	return os.Rename(f.Path+".new", f.Path)
}

func (f *forker) Deliver(context.Context, *sdk.Batch) error { return nil }

func main() {
	sdk.Serve(sdk.Plugin{Name: "forker", Version: "1.0.0", Summary: "Starts grandchildren.", Pusher: func() sdk.Pusher { return new(forker) }})
}
