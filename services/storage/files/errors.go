package files

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"time"

	"github.com/gofiber/fiber/v2"

	"github.com/rivergate/rivergate/sdk/protocol"
	"github.com/rivergate/rivergate/services/platform/api"
	"github.com/rivergate/rivergate/services/platform/database"
	"github.com/rivergate/rivergate/services/storage/inspect"
	"github.com/rivergate/rivergate/services/storage/ledger"
	"github.com/rivergate/rivergate/services/storage/seal"
)

const (
	fieldObject   = "object_name"
	fieldPath     = "path"
	fieldCategory = "file_category"
)

const retryBackend = 5 * time.Second

// answerTo turns the errors of ledger, backend and seal into answers; answers pass as they are.
func answerTo(err error) error {
	var (
		known *api.Error
		quota *ledger.QuotaError
	)
	switch {
	case err == nil:
		return nil
	case errors.As(err, &known):
		return known
	case errors.As(err, &quota):
		return &api.Error{
			Status: http.StatusRequestEntityTooLarge, Cause: err,
			Message: fmt.Sprintf("The organisation's quota of %d bytes has no room for %d more", quota.Limit, quota.Requested),
			Details: &api.Details{Quota: &api.Quota{Limit: quota.Limit, Used: quota.Used + quota.Reserved, Requested: quota.Requested}},
		}
	case errors.Is(err, ledger.ErrNotFound):
		return errNoObject()
	case errors.Is(err, ledger.ErrExists), errors.Is(err, protocol.ErrPrecondition):
		return errTaken(err)
	case errors.Is(err, ledger.ErrChanged):
		e := api.PreconditionFailed(fiber.HeaderIfMatch, "Another request wrote the object first")
		e.Cause = err
		return e
	case errors.Is(err, ledger.ErrDeep):
		return api.BadRequest("page", "%v", err)
	case errors.Is(err, protocol.ErrKey):
		e := api.BadRequest(fieldObject, "the storage backend cannot keep an object of that name")
		e.Cause = err
		return e
	case errors.Is(err, seal.ErrKeyGone):
		e := api.Gone("The key of the object was deleted; nobody can read it any more")
		e.Cause = err
		return e
	case errors.Is(err, inspect.ErrType):
		return &api.Error{Status: http.StatusUnsupportedMediaType, Message: sentence(err.Error())}
	case errors.Is(err, inspect.ErrContent):
		return api.Unprocessable(fieldFile, "%s", sentence(err.Error()))
	case errors.Is(err, protocol.ErrFull):
		e := api.Unavailable(time.Minute, "The storage backend has no room left")
		e.Cause = err
		return e
	case errors.Is(err, errBackend), errors.Is(err, database.ErrUnknown), errors.Is(err, ledger.ErrHoldLost), errors.Is(err, context.DeadlineExceeded):
		e := api.Unavailable(retryBackend, "The storage does not answer as it should now")
		e.Cause = err
		return e
	case errors.Is(err, context.Canceled):
		e := api.Unavailable(retryBackend, "The host is stopping")
		e.Cause = err
		return e
	}
	return api.Internal(err)
}

// errBackend marks what a backend said, and is not one of protocol's errors.
var errBackend = errors.New("storage backend")

// backend tells an error of the backend from one of ours.
func backend(doing string, err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("%w: %s: %w", errBackend, doing, err)
}

func errNoObject() *api.Error { return api.NotFound("There is no such object") }

func errTaken(cause error) *api.Error {
	e := api.Conflict("There is an object of that name already")
	e.Cause = cause
	return e
}

func errFileTooLarge(limit int64) *api.Error {
	return &api.Error{Status: http.StatusRequestEntityTooLarge, Message: fmt.Sprintf("The file is larger than %d bytes", limit)}
}

func sentence(text string) string { return strings.ToUpper(text[:1]) + text[1:] }

// mute is for closing what was only read.
func mute(c io.Closer) { _ = c.Close() }
