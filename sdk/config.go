package sdk

import (
	"errors"

	"github.com/rivergate/rivergate/sdk/protocol"
	"github.com/rivergate/rivergate/sdk/settings"
)

// The types of configuration fields that Go does not have; see package settings for all of them and their tags.
type (
	// Secret is a string that is never printed; Reveal returns the value.
	Secret = settings.Secret
	// Bytes is a size: 16MiB.
	Bytes = settings.Bytes
)

// FieldError says that err is about one setting, by its property name ("url"), so that the operator is shown the variable.
// Several may be joined with errors.Join.
func FieldError(field string, err error) error {
	if err == nil {
		return nil
	}
	return &fieldError{field: field, err: err}
}

type fieldError struct {
	field string
	err   error
}

func (e *fieldError) Error() string { return e.field + ": " + e.err.Error() }
func (e *fieldError) Unwrap() error { return e.err }

// problemsOf turns the error of Open into configuration problems: one per FieldError, one for each of the rest.
func problemsOf(err error) []protocol.ConfigProblem {
	if joined, ok := err.(interface{ Unwrap() []error }); ok {
		var problems []protocol.ConfigProblem
		for _, e := range joined.Unwrap() {
			problems = append(problems, problemsOf(e)...)
		}
		if len(problems) > 0 {
			return problems
		}
	}
	var field *fieldError
	if errors.As(err, &field) {
		reason := err.Error()
		if bare, ok := err.(*fieldError); ok { //nolint:errorlint // only this very error: one around it has more to say
			reason = bare.err.Error()
		}
		return []protocol.ConfigProblem{{Field: field.field, Reason: reason}}
	}
	return []protocol.ConfigProblem{{Reason: err.Error()}}
}
