package main

import (
	"context"
	"errors"
	"io"
	"os"
	"path/filepath"

	"github.com/gofiber/fiber/v2"
)

// servePlain is the floor of the storage: the same HTTP library with a handler that writes each body to a file and syncs it, and one that
// reads it back.
func servePlain(ctx context.Context, args []string) error {
	if len(args) != 2 {
		return errors.New("plain wants an address and a folder")
	}
	app := fiber.New(fiber.Config{DisableStartupMessage: true, StreamRequestBody: true, BodyLimit: 1 << 40})
	app.Post("/:name", func(c *fiber.Ctx) error {
		file, err := os.Create(filepath.Join(args[1], filepath.Base(c.Params("name"))))
		if err != nil {
			return err
		}
		_, err = io.CopyBuffer(file, c.Context().RequestBodyStream(), make([]byte, 1<<20))
		if err = errors.Join(err, file.Sync(), file.Close()); err != nil {
			return err
		}
		return c.SendStatus(fiber.StatusCreated)
	})
	app.Get("/:name", func(c *fiber.Ctx) error {
		file, err := os.Open(filepath.Join(args[1], filepath.Base(c.Params("name"))))
		if err != nil {
			return err
		}
		info, err := file.Stat()
		if err != nil {
			return err
		}
		return c.SendStream(file, int(info.Size()))
	})
	stop := context.AfterFunc(ctx, func() { _ = app.Shutdown() }) // the listener then returns
	defer stop()
	return app.Listen(args[0])
}
