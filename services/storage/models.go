package storage

import (
	"context"
	"time"

	"github.com/gofiber/fiber/v2"

	"github.com/rivergate/rivergate/services/platform/api"
	"github.com/rivergate/rivergate/services/storage/files"
	"github.com/rivergate/rivergate/services/storage/ledger"
	"github.com/rivergate/rivergate/services/storage/models"
)

// artifacts is what the registry of models needs of the files.
type artifacts struct{ files *files.Service }

func (a artifacts) Form(c *fiber.Ctx) (models.Form, error) { return files.ReadForm(c) }

func (a artifacts) Store(file ledger.File, form models.Form, late func() error) (ledger.File, error) {
	return a.files.StoreForm(file, form.(*files.Form), late)
}

func (a artifacts) Copy(from, to ledger.File, late func() error) (ledger.File, error) {
	return a.files.Copy(from, to, late)
}

func (a artifacts) Visible(caller *api.Caller, uri string) (ledger.File, error) {
	return a.files.Visible(caller, uri)
}

func (a artifacts) Find(ctx context.Context, org uint64, objectName string) (ledger.File, error) {
	return a.files.Find(ctx, org, objectName)
}

func (a artifacts) URL(c *fiber.Ctx, file ledger.File, expiry time.Duration) (string, time.Duration, error) {
	return a.files.URL(c, file, expiry)
}

func (a artifacts) URI(file ledger.File) string { return a.files.URI(file) }
