// Command forker is a pusher that starts three grandchildren which never end by themselves: one in the plugin's process
// group that inherits nothing, one that leaves the group, and one that leaves it and holds the plugin's standard error
// open. It proves that the host kills with a plugin all that the plugin started.
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
	Path string `config:"path" required:"true" doc:"File that gets their process ids, one per line, in that order."`
	Hold bool   `config:"hold" default:"true" doc:"Whether the third holds standard error."`
}

func (f *forker) Open(context.Context, sdk.Env) error {
	text := ""
	bare, leaving, holding := exec.Command("sleep", "3600"), exec.Command("sleep", "3600"), exec.Command("sleep", "3600")
	bare.Env = []string{"PATH=" + os.Getenv("PATH")}
	leaving.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	holding.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	holding.Stderr = os.Stderr
	if !f.Hold {
		holding.Stderr = nil
	}
	for _, cmd := range []*exec.Cmd{bare, leaving, holding} {
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
