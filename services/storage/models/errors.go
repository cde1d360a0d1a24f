package models

import (
	"errors"
	"time"

	"github.com/rivergate/rivergate/services/platform/api"
	"github.com/rivergate/rivergate/services/platform/database"
	"github.com/rivergate/rivergate/services/storage/ledger"
)

var (
	errNoModel    = errors.New("there is no such model")
	errNoVersion  = errors.New("there is no such version")
	errOtherName  = errors.New("the model has another name")
	errOtherFirst = errors.New("another version was promoted meanwhile")
)

// answerTo turns errors into answers; answers pass as they are.
func answerTo(err error) error {
	var known *api.Error
	switch {
	case err == nil:
		return nil
	case errors.As(err, &known):
		return known
	case errors.Is(err, errNoModel), errors.Is(err, ledger.ErrNotFound):
		return api.NotFound("There is no such model")
	case errors.Is(err, errNoVersion):
		return api.NotFound("The model has no such version")
	case errors.Is(err, errOtherName):
		return api.Unprocessable("name", "the model of this model_id has another name")
	case errors.Is(err, errOtherFirst):
		return api.Conflict("Another version is promoted than the one that was expected")
	case errors.Is(err, database.ErrUnknown):
		e := api.Unavailable(time.Second, "The database does not answer as it should now")
		e.Cause = err
		return e
	}
	return api.Internal(err)
}
