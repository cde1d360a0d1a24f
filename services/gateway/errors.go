package gateway

import (
	"context"
	"errors"
	"math"
	"strings"
	"time"

	"github.com/rivergate/rivergate/services/gateway/delivery"
	"github.com/rivergate/rivergate/services/gateway/intake"
	"github.com/rivergate/rivergate/services/gateway/journal"
	"github.com/rivergate/rivergate/services/platform/api"
)

// errNoPusher: rows would wait for nobody.
var errNoPusher = errors.New("no pusher takes these rows")

// ErrUnknownPlugin is returned by Plugins.Reload for a name that no plugin has.
var ErrUnknownPlugin = errors.New("no such plugin")

const (
	shortRetry = 5 * time.Second
	longRetry  = 30 * time.Second
	maxRetry   = 5 * time.Minute
)

// answerTo turns the errors of intake, journal and delivery into answers; others pass as they are.
func (s *Service) answerTo(err error) error {
	var (
		known   *api.Error
		syntax  *intake.SyntaxError
		shape   *intake.ShapeError
		full    *journal.FullError
		down    *journal.UnavailableError
		backlog *delivery.BacklogError
	)
	switch {
	case err == nil, errors.As(err, &known):
		return err
	case errors.As(err, &syntax):
		return &api.Error{Status: 400, Cause: err, Message: "The body is not valid JSON: " + syntax.Error(), Details: &api.Details{
			Field: syntax.Place, Reason: syntax.Reason, Line: syntax.Line, Column: syntax.Column, Offset: &syntax.Offset,
		}}
	case errors.As(err, &shape):
		return refused(shape)
	case errors.As(err, &full):
		e := api.RateLimited(s.roomIn(full), "The journal holds %d of %d bytes; rows are taken again when the pushers have caught up", full.Bytes, full.MaxBytes)
		e.Cause = err
		return e
	case errors.As(err, &down):
		// What the disk said may name paths: it goes to the log only.
		e := api.Unavailable(down.RetryAfter, "The journal cannot write now; it tries again by itself and nothing accepted is lost")
		e.Cause = err
		return e
	case errors.As(err, &backlog):
		e := api.RateLimited(backlog.RetryAfter, "%s", sentence(backlog.Error()))
		e.Cause = err
		return e
	case errors.Is(err, journal.ErrClosed), errors.Is(err, context.Canceled):
		e := api.Unavailable(shortRetry, "The host is stopping")
		e.Cause = err
		return e
	case errors.Is(err, context.DeadlineExceeded):
		e := api.Unavailable(shortRetry, "The host did not get to it in time")
		e.Cause = err
		return e
	case errors.Is(err, delivery.ErrUnknownPusher):
		return api.NotFound("There is no such pusher")
	case errors.Is(err, delivery.ErrStillEnabled):
		return api.Conflict("The pusher is still enabled; only one that is gone from the configuration can be forgotten")
	case errors.Is(err, delivery.ErrNoDeadLetter):
		return api.NotFound("There is no such dead letter")
	case errors.Is(err, delivery.ErrBadCursor):
		return api.BadRequest("cursor", "cursor must be the next_cursor of an earlier answer")
	case errors.Is(err, journal.ErrGone):
		return api.Gone("The journal has let these rows go: every pusher is past them")
	case errors.Is(err, journal.ErrNotFound), errors.Is(err, delivery.ErrBadID):
		return api.NotFound("There is no such delivery")
	}
	return api.Internal(err)
}

func refused(shape *intake.ShapeError) *api.Error {
	first := shape.Fields[0]
	details := &api.Details{Field: first.Field, Reason: first.Reason}
	for _, f := range shape.Fields {
		details.Errors = append(details.Errors, api.FieldError{Field: f.Field, Reason: f.Reason})
	}
	if shape.Count > len(shape.Fields) {
		details.Total = shape.Count
	}
	return &api.Error{Status: 422, Cause: shape, Details: details, Message: "Nothing was accepted: " + strings.TrimSpace(first.Field+" "+first.Reason)}
}

// roomIn estimates when the slowest pusher will have read a segment's worth of a full journal.
func (s *Service) roomIn(full *journal.FullError) time.Duration {
	stats := s.journal.Stats()
	var slowest time.Duration
	for _, p := range s.delivery.Status() {
		if p.LagBytes == 0 || p.LagRows == 0 {
			continue
		}
		if p.RowsPerSecond <= 0 {
			return longRetry
		}
		segment := float64(full.MaxBytes) / float64(max(stats.Segments, 1))
		rows := segment / (float64(p.LagBytes) / float64(p.LagRows))
		seconds := math.Min(rows/p.RowsPerSecond, maxRetry.Seconds())
		slowest = max(slowest, time.Duration(seconds*float64(time.Second)))
	}
	if slowest == 0 {
		return shortRetry
	}
	return slowest
}

func sentence(text string) string { return strings.ToUpper(text[:1]) + text[1:] }
