// Command sharing is a pusher of which one process serves any number of instances. It writes down which process delivered
// which row for which instance, and misbehaves at the start as its configuration says. It proves what becomes of the rows
// when processes are exchanged and instances come and go.
package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"time"

	"github.com/rivergate/rivergate/sdk"
)

type sharing struct {
	Path   string        `config:"path" doc:"File that gets one line per event: process id, instance, and open, close, or position and row."`
	Slow   time.Duration `config:"slow" doc:"How long each batch takes."`
	Refuse bool          `config:"refuse" doc:"Refuses to open."`
	Hang   bool          `config:"hang" doc:"Never opens."`
	Unwell bool          `config:"unwell" doc:"Opens, and says that it is not healthy."`
	Die    bool          `config:"die" doc:"Ends the process a moment after it was opened."`

	env  sdk.Env
	file *os.File
}

func (s *sharing) Open(ctx context.Context, env sdk.Env) error {
	s.env = env
	if s.Refuse {
		return errors.New("refused by configuration")
	}
	if s.Hang {
		select {} // not even a cancel helps
	}
	if s.Path != "" {
		file, err := os.OpenFile(s.Path, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
		if err != nil {
			return sdk.FieldError("path", err)
		}
		s.file = file
	}
	if s.Die {
		time.AfterFunc(50*time.Millisecond, func() { os.Exit(9) })
	}
	return s.note("open")
}

func (s *sharing) note(what string) error {
	if s.file == nil {
		return nil
	}
	_, err := fmt.Fprintf(s.file, "%d %s %s\n", os.Getpid(), s.env.Instance, what)
	return err
}

func (s *sharing) Health(context.Context) error {
	if s.Unwell {
		return errors.New("unwell by configuration")
	}
	return nil
}

func (s *sharing) Close(context.Context) error {
	if s.file == nil {
		return nil
	}
	return errors.Join(s.note("close"), s.file.Close())
}

func (s *sharing) Deliver(ctx context.Context, b *sdk.Batch) error {
	select {
	case <-time.After(s.Slow):
	case <-ctx.Done():
		return ctx.Err()
	}
	for row := range b.Rows() {
		if strings.Contains(string(row.JSON()), `"crash":true`) {
			panic("crash")
		}
		if err := s.note(fmt.Sprintf("%d %s", row.Position(), row.JSON())); err != nil {
			return err
		}
	}
	return nil
}

func main() {
	sdk.Serve(sdk.Plugin{
		Name: "sharing", Version: "1.0.0", Summary: "Serves many instances in one process.", Instances: true,
		Pusher: func() sdk.Pusher { return new(sharing) },
	})
}
