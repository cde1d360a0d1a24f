package api

import (
	"errors"
	"fmt"
	"net/http"
	"strings"
	"time"

	"github.com/gofiber/fiber/v2"
)

// Error is an answer that is not a success. What it says reaches the client; its cause does not, and is logged.
type Error struct {
	Status     int
	Message    string
	Details    *Details
	RetryAfter time.Duration // sent as Retry-After when above 0
	Cause      error
}

func (e *Error) Error() string {
	if e.Cause != nil {
		return e.Message + ": " + e.Cause.Error()
	}
	return e.Message
}

func (e *Error) Unwrap() error { return e.Cause }

// Code is the word for the status in the answer's body.
func (e *Error) Code() string { return CodeOf(e.Status) }

// Details says where the mistake is.
type Details struct {
	Field  string       `json:"field,omitempty" description:"The field or header that is wrong, or the place in the body."`
	Reason string       `json:"reason,omitempty"`
	Errors []FieldError `json:"errors,omitempty" description:"The first mistakes of several."`
	Total  int          `json:"total,omitempty" description:"How many mistakes there are, when not all are listed."`
	Line   int          `json:"line,omitempty" description:"Line of the body, from 1."`
	Column int          `json:"column,omitempty" description:"Byte in the line, from 1."`
	Offset *int         `json:"offset,omitempty" description:"Byte of the body, from 0."`
	Quota  *Quota       `json:"quota,omitempty" description:"With 413: what the organisation may keep, in bytes."`
}

// Quota says why there is no room: Used holds what is reserved, too.
type Quota struct {
	Limit     int64 `json:"limit" required:"true"`
	Used      int64 `json:"used" required:"true"`
	Requested int64 `json:"requested" required:"true"`
}

// FieldError is one mistake in one field.
type FieldError struct {
	Field  string `json:"field"`
	Reason string `json:"reason"`
}

// codes is the one table from status to code.
var codes = map[int]string{
	http.StatusBadRequest:                   "VALIDATION_ERROR",
	http.StatusUnauthorized:                 "UNAUTHORIZED",
	http.StatusForbidden:                    "FORBIDDEN",
	http.StatusNotFound:                     "NOT_FOUND",
	http.StatusMethodNotAllowed:             "METHOD_NOT_ALLOWED",
	http.StatusConflict:                     "CONFLICT",
	http.StatusGone:                         "GONE",
	http.StatusPreconditionFailed:           "PRECONDITION_FAILED",
	http.StatusRequestedRangeNotSatisfiable: "RANGE_NOT_SATISFIABLE",
	http.StatusRequestEntityTooLarge:        "REQUEST_ENTITY_TOO_LARGE",
	http.StatusUnsupportedMediaType:         "UNSUPPORTED_MEDIA_TYPE",
	http.StatusUnprocessableEntity:          "UNPROCESSABLE_ENTITY",
	http.StatusTooManyRequests:              "RATE_LIMITED",
	http.StatusBadGateway:                   "UPSTREAM_ERROR",
	http.StatusServiceUnavailable:           "SERVICE_UNAVAILABLE",
	http.StatusGatewayTimeout:               "QUERY_TIMEOUT",
	http.StatusInternalServerError:          "INTERNAL_SERVER_ERROR",
}

// CodeOf is the code for a status: that of the table, else the code of its family.
func CodeOf(status int) string {
	if code, ok := codes[status]; ok {
		return code
	}
	if status < 500 {
		return codes[http.StatusBadRequest]
	}
	return codes[http.StatusInternalServerError]
}

// BadRequest: a bad parameter, header or body (400).
func BadRequest(field, format string, args ...any) *Error {
	return withField(http.StatusBadRequest, field, format, args...)
}

// Unauthorized: no valid credential (401).
func Unauthorized(format string, args ...any) *Error {
	return &Error{Status: http.StatusUnauthorized, Message: fmt.Sprintf(format, args...)}
}

// Forbidden: the caller may not do that (403).
func Forbidden(format string, args ...any) *Error {
	return &Error{Status: http.StatusForbidden, Message: fmt.Sprintf(format, args...)}
}

// NotFound: there is no such thing, or it belongs to another org (404).
func NotFound(format string, args ...any) *Error {
	return &Error{Status: http.StatusNotFound, Message: fmt.Sprintf(format, args...)}
}

// Conflict: the state of things forbids it (409).
func Conflict(format string, args ...any) *Error {
	return &Error{Status: http.StatusConflict, Message: fmt.Sprintf(format, args...)}
}

// Gone: it was there (410).
func Gone(format string, args ...any) *Error {
	return &Error{Status: http.StatusGone, Message: fmt.Sprintf(format, args...)}
}

// PreconditionFailed: the thing is not in the state that the client's condition names (412).
func PreconditionFailed(header, format string, args ...any) *Error {
	return withField(http.StatusPreconditionFailed, header, format, args...)
}

// TooLarge: the body is over its limit, bytes (413).
func TooLarge(limit int64) *Error {
	return &Error{Status: http.StatusRequestEntityTooLarge, Message: fmt.Sprintf("The body is larger than %d bytes", limit)}
}

// UnsupportedMedia: a content type that the route does not take (415).
func UnsupportedMedia(got string, want ...string) *Error {
	return &Error{Status: http.StatusUnsupportedMediaType, Message: fmt.Sprintf("Content-Type %q is not taken here; send the header Content-Type: %s", got, strings.Join(want, " or "))}
}

// Unprocessable: well-formed, but impossible (422).
func Unprocessable(field, format string, args ...any) *Error {
	return withField(http.StatusUnprocessableEntity, field, format, args...)
}

// RateLimited: too much waits (429). retryAfter is at least a second in the answer.
func RateLimited(retryAfter time.Duration, format string, args ...any) *Error {
	return &Error{Status: http.StatusTooManyRequests, Message: fmt.Sprintf(format, args...), RetryAfter: max(retryAfter, time.Second)}
}

// Unavailable: a part is down or the disk is full (503). retryAfter is at least a second in the answer.
func Unavailable(retryAfter time.Duration, format string, args ...any) *Error {
	return &Error{Status: http.StatusServiceUnavailable, Message: fmt.Sprintf(format, args...), RetryAfter: max(retryAfter, time.Second)}
}

// Upstream: something that this host called did not do its work (502).
func Upstream(format string, args ...any) *Error {
	return &Error{Status: http.StatusBadGateway, Message: fmt.Sprintf(format, args...)}
}

// Internal: our mistake (500). The client learns nothing about the cause.
func Internal(cause error) *Error {
	return &Error{Status: http.StatusInternalServerError, Message: "Something went wrong inside the host; the log has it under this request id", Cause: cause}
}

func withField(status int, field, format string, args ...any) *Error {
	e := &Error{Status: status, Message: fmt.Sprintf(format, args...)}
	if field != "" {
		e.Details = &Details{Field: field, Reason: e.Message}
	}
	return e
}

// AsError turns any error of a handler or of Fiber into an answer.
func AsError(err error) *Error {
	var e *Error
	if errors.As(err, &e) {
		return e
	}
	var f *fiber.Error
	if !errors.As(err, &f) {
		return Internal(err)
	}
	switch f.Code {
	case http.StatusNotFound:
		return NotFound("There is no such route")
	case http.StatusMethodNotAllowed:
		return &Error{Status: f.Code, Message: "This route does not take this method; the Allow header names those it takes"}
	}
	if f.Code >= 500 {
		return Internal(err)
	}
	return &Error{Status: f.Code, Message: f.Message}
}
