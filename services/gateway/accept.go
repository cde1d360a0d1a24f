package gateway

import (
	"context"
	"strconv"
	"strings"
	"time"

	"github.com/gofiber/fiber/v2"

	"github.com/rivergate/rivergate/services/gateway/delivery"
	"github.com/rivergate/rivergate/services/gateway/intake"
	"github.com/rivergate/rivergate/services/gateway/journal"
	"github.com/rivergate/rivergate/services/platform/api"
)

// The media types of lines; the first is the one to send.
var lineTypes = []string{"application/x-ndjson", "application/ndjson", "application/jsonl", "application/x-jsonlines"}

// counted goes around a data route: every answer is counted and timed, also those given before the handler.
func (s *Service) counted(next fiber.Handler) fiber.Handler {
	return func(c *fiber.Ctx) error {
		start := time.Now()
		err := next(c)
		if err != nil {
			s.metrics.rejects.WithLabelValues(rejectReason(err)).Inc()
			s.metrics.done(api.AsError(err).Status, start, false)
			return err
		}
		s.metrics.done(c.Response().StatusCode(), start, c.Request().URI().QueryArgs().Has("wait"))
		return nil
	}
}

// accept answers POST /data (form Single) and POST /data/batch (form Batch).
func (s *Service) accept(form intake.Form) fiber.Handler {
	route := "data"
	if form == intake.Batch {
		route = "batch"
	}
	return func(c *fiber.Ctx) error {
		if s.tracer != nil {
			return s.traced(c, form, route)
		}
		err := s.take(s.toTheEnd, c, form, route)
		if err != nil {
			return s.answerTo(err)
		}
		return nil
	}
}

// take does everything of a data request: it answers, or returns an error and has kept nothing. ctx holds the request's span,
// when there is one.
func (s *Service) take(ctx context.Context, c *fiber.Ctx, form intake.Form, route string) error {
	caller := api.CallerOf(c)
	wait, err := readWait(c)
	if err != nil {
		return err
	}
	o := intake.Options{Form: form, MaxRows: s.maxRows, Keys: s.keys}
	if err := readForm(c, &o); err != nil {
		return err
	}
	key, keyed, err := api.IdempotencyKey(c, caller.OrgID, route)
	if err != nil {
		return err
	}
	names := s.delivery.Names(caller.OrgID)
	if len(names) == 0 && !s.hold {
		return s.noPusher()
	}

	size := int64(c.Request().Header.ContentLength())
	if size > s.maxBody {
		return api.TooLarge(s.maxBody)
	}
	l := s.memory.borrow()
	defer s.memory.giveBack(l)
	if err := s.readBody(c, l, size); err != nil {
		return err
	}
	record := &l.record
	if keyed {
		record.IdempotencyKey = key
		record.BodyDigest = api.Digest(l.body, []byte(o.UUID)) // before the scan, which takes the body over
	}
	rows, err := l.parser.Parse(l.body, o)
	if err != nil {
		return err
	}
	record.OrgID, record.UserID, record.RequestID = caller.OrgID, caller.UserID, caller.RequestID
	record.UUID, record.Data, record.Ends, record.Index = rows.UUID, rows.Data, rows.Ends, rows.Index
	if s.tracer != nil {
		nameRows(ctx, record)
	}

	repeated := false
	if keyed {
		done, err := s.begin(record)
		if err != nil {
			return err
		}
		defer done()
		if repeated, err = s.repeated(record, len(rows.Ends)); err != nil {
			return err
		}
	}
	if !repeated {
		if err := s.keep(ctx, record, rows); err != nil {
			return err
		}
	}
	if wait > 0 {
		s.memory.freeBody(l)
		return s.answerWhenDone(c, l, names, rows, wait)
	}
	l.answer = appendAccepted(l.answer[:0], record.Position, len(rows.Ends), names, rows.Warnings, rows.BadKeys)
	sendAccepted(c, l.answer)
	return nil
}

// readBody reads the body into the loan; size is its Content-Length, below 0 when it comes in chunks. Large bodies wait for
// memory first, one that comes in chunks when it turns out to be large.
func (s *Service) readBody(c *fiber.Ctx, l *loan, size int64) (err error) {
	if size > smallBody {
		if err := s.memory.reserve(s.life, l, size); err != nil {
			return err
		}
	}
	if size > 0 && int64(cap(l.body)) < size+intake.Pad {
		l.body = make([]byte, 0, size+intake.Pad)
	}
	if size >= 0 || s.maxBody <= smallBody {
		l.body, err = api.ReadInto(c, l.body[:0], s.maxBody)
		return err
	}
	l.body, err = api.ReadInto(c, l.body[:0], smallBody)
	if err == nil || len(l.body) <= smallBody {
		return err
	}
	if err := s.memory.reserve(s.life, l, s.maxBody); err != nil {
		return err
	}
	l.body, err = api.ReadInto(c, l.body, s.maxBody-int64(len(l.body)))
	if int64(len(l.body)) > s.maxBody {
		return api.TooLarge(s.maxBody)
	}
	return err
}

// keep makes the rows durable and tells delivery.
func (s *Service) keep(ctx context.Context, record *journal.Record, rows *intake.Rows) error {
	if err := s.delivery.Admit(record.OrgID, len(rows.Ends)); err != nil {
		return err
	}
	if err := s.appendRecord(ctx, record); err != nil {
		return err
	}
	s.delivery.Accepted(&record.Frame)
	s.metrics.rows.Add(float64(len(rows.Ends)))
	s.metrics.bytes.Add(float64(len(rows.Data)))
	if rows.BadKeys > 0 {
		s.metrics.badKeys.Add(float64(rows.BadKeys))
	}
	return nil
}

// begin marks the record's idempotency key as running. Error: 409 when it is already.
func (s *Service) begin(record *journal.Record) (done func(), err error) {
	key := record.IdempotencyKey
	s.running.Lock()
	defer s.running.Unlock()
	if _, is := s.running.keys[key]; is {
		return nil, api.ErrStillRunning()
	}
	s.running.keys[key] = struct{}{}
	return func() {
		s.running.Lock()
		defer s.running.Unlock()
		delete(s.running.keys, key)
	}, nil
}

// repeated tells whether the same request was accepted before, and sets its position and time. Error: 422 for another body.
func (s *Service) repeated(record *journal.Record, rows int) (bool, error) {
	first, ok := s.journal.Repeated(record.IdempotencyKey)
	if !ok {
		return false, nil
	}
	if first.BodyDigest != record.BodyDigest || first.Rows != rows {
		return false, api.ErrOtherBody()
	}
	record.Position, record.ReceivedAt = first.Position, first.At
	return true, nil
}

func (s *Service) noPusher() error {
	message := "No pusher is enabled: set PLUGIN_<NAME>_ENABLED=true, for example PLUGIN_FILE_ENABLED=true, or RIVERGATE_GATEWAY_HOLD=true to keep rows for later"
	for _, p := range s.delivery.Status() {
		if !p.Disabled {
			message = "No enabled pusher takes rows of this organisation: add it to PLUGIN_<NAME>_ORGS, enable another pusher, or set RIVERGATE_GATEWAY_HOLD=true to keep rows for later"
			break
		}
	}
	e := api.Unavailable(longRetry, "%s", message)
	e.Cause = errNoPusher
	return e
}

// readForm finds out from the content type how the body is written.
func readForm(c *fiber.Ctx, o *intake.Options) error {
	lines := false
	pass := func(mediaType string) bool {
		if o.Form == intake.Batch {
			for _, t := range lineTypes {
				lines = lines || mediaType == t
			}
		}
		return lines || api.IsJSON(mediaType)
	}
	want := []string{api.JSON}
	if o.Form == intake.Batch {
		want = append(want, lineTypes[0])
	}
	if err := api.WantType(c, pass, want...); err != nil {
		return err
	}
	if lines {
		o.Form = intake.Lines
		o.UUID = strings.Clone(c.Query("uuid"))
	}
	return nil
}

const maxWait = 5 * time.Minute

// readWait reads ?wait=: a duration (5s, 500ms) or whole seconds; 0 when it is absent.
func readWait(c *fiber.Ctx) (time.Duration, error) {
	args := c.Request().URI().QueryArgs()
	if args.Len() == 0 || !args.Has("wait") {
		return 0, nil
	}
	text := string(args.Peek("wait"))
	wait, err := time.ParseDuration(text)
	if seconds, errInt := strconv.Atoi(text); errInt == nil && seconds <= int(maxWait/time.Second) {
		wait, err = time.Duration(seconds)*time.Second, nil
	}
	if err != nil || wait <= 0 || wait > maxWait {
		return 0, api.BadRequest("wait", "wait must be a duration such as 5s, above 0 and at most %v", maxWait)
	}
	return wait, nil
}

// appendAccepted writes the 202 answer without reflection: it is most of what this host says.
func appendAccepted(b []byte, position uint64, rows int, names, warnings []string, badKeys int) []byte {
	b = append(b, `{"success":true,"data":{"delivery_id":"`...)
	b = append(b, delivery.DeliveryID(position)...)
	b = append(b, `","rows":`...)
	b = strconv.AppendInt(b, int64(rows), 10)
	b = append(b, `,"pushers":[`...)
	for i, name := range names {
		if i > 0 {
			b = append(b, ',')
		}
		b = append(b, '"') // a name is [a-z][a-z0-9-]*
		b = append(b, name...)
		b = append(b, '"')
	}
	b = append(b, ']')
	if len(warnings) > 0 {
		b = appendWarnings(b, warnings, badKeys)
	}
	return append(b, `},"message":"Rows accepted"}`...)
}

func sendAccepted(c *fiber.Ctx, body []byte) {
	response := c.Response()
	response.SetStatusCode(fiber.StatusAccepted)
	response.Header.SetContentType(api.JSON)
	response.SetBody(body)
}
