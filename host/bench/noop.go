package main

import (
	"context"
	"errors"
	"fmt"
	"os"

	"github.com/gofiber/fiber/v2"

	"github.com/rivergate/rivergate/host/e2e/rig"
)

// serveNoop is the floor of the intake: the same HTTP library with a handler that does nothing at all.
func serveNoop(ctx context.Context, args []string) error {
	if len(args) != 1 {
		return errors.New("noop wants an address")
	}
	app := fiber.New(fiber.Config{DisableStartupMessage: true})
	app.Post("/data", func(c *fiber.Ctx) error { return c.SendStatus(fiber.StatusAccepted) })
	stop := context.AfterFunc(ctx, func() { _ = app.Shutdown() }) // the listener then returns
	defer stop()
	return app.Listen(args[0])
}

// noop starts the no-op server as a process of its own.
func (b *bench) noop(ctx context.Context) (*rig.Process, string, error) {
	addr, err := rig.FreeAddr(ctx)
	if err != nil {
		return nil, "", err
	}
	p, err := rig.Spawn(b.self, []string{"noop", addr}, os.Environ(), b.dir, nil, nil, os.Stderr)
	if err != nil {
		return nil, "", err
	}
	if err := rig.Listening(ctx, addr, p.Done()); err != nil {
		p.KillGroup()
		return nil, "", fmt.Errorf("no-op server: %w", err)
	}
	return p, addr, nil
}
