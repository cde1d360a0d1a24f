package gateway

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"iter"
	"strconv"
	"strings"
	"time"

	"github.com/gofiber/fiber/v2"

	"github.com/rivergate/rivergate/services/gateway/delivery"
	"github.com/rivergate/rivergate/services/platform/api"
)

// DeadLetters is what the routes about dead letters need of package delivery. A filter always has the caller's org.
type DeadLetters interface {
	// DeadLetters lists, newest first, from cursor on; next is empty at the end.
	DeadLetters(ctx context.Context, f delivery.Filter, cursor string, limit int) (list []delivery.DeadLetter, next string, err error)
	// DeadLetter returns one. Error: delivery.ErrNoDeadLetter.
	DeadLetter(ctx context.Context, org uint64, id string) (delivery.DeadLetter, error)
	// ExportDeadLetters yields all that match, oldest first.
	ExportDeadLetters(ctx context.Context, f delivery.Filter) iter.Seq2[delivery.DeadLetter, error]
	// DeleteDeadLetters deletes all that match and says how many those were.
	DeleteDeadLetters(ctx context.Context, f delivery.Filter) (int, error)
	// Replay sends all that match again, to their own pusher or to another one, at most perSecond rows a second (0: no limit).
	Replay(ctx context.Context, f delivery.Filter, to string, perSecond float64) (int, error)
}

// DeadLetter is a row that will not be delivered by itself. Its data are the client's own bytes.
type DeadLetter struct {
	ID            string          `json:"id" required:"true"`
	Pusher        string          `json:"pusher" required:"true"`
	DeliveryID    string          `json:"delivery_id" required:"true"`
	UUID          string          `json:"uuid" required:"true"`
	Index         *int32          `json:"index" required:"true"`
	Class         string          `json:"class" required:"true" enum:"rejected,poison,retry,throttled,unauthenticated"`
	Code          string          `json:"code" required:"true"`
	Message       string          `json:"message" required:"true"`
	Attempts      int             `json:"attempts" required:"true"`
	FirstFailedAt time.Time       `json:"first_failed_at" required:"true"`
	FailedAt      time.Time       `json:"failed_at" required:"true"`
	Data          json.RawMessage `json:"data,omitempty" required:"true"`
}

// Selection says which dead letters are meant: ids, or a filter, exactly one of them. An empty filter means all of the org.
type Selection struct {
	IDs    []string      `json:"ids,omitempty" nullable:"false" maxItems:"10000"`
	Filter *LetterFilter `json:"filter,omitempty"`
}

// ForceRequestBody has the body of a DELETE described.
func (Selection) ForceRequestBody() {}

// LetterFilter narrows down dead letters; what is empty does not count.
type LetterFilter struct {
	Pusher string `json:"pusher,omitempty"`
	UUID   string `json:"uuid,omitempty"`
	Class  string `json:"class,omitempty"`
	Since  string `json:"since,omitempty" format:"date-time" description:"Failed at this time or later."`
	Until  string `json:"until,omitempty" format:"date-time" description:"Failed before this time."`
}

// ReplayBody is the body of a replay.
type ReplayBody struct {
	IDs           []string      `json:"ids,omitempty" nullable:"false" maxItems:"10000"`
	Filter        *LetterFilter `json:"filter,omitempty"`
	To            string        `json:"to,omitempty" description:"Another pusher than the letter's own."`
	RatePerSecond *float64      `json:"rate_per_second,omitempty" exclusiveMinimum:"0" description:"Rows a second at most; absent: as fast as the pusher takes them."`
}

// Replayed counts dead letters that are on their way again.
type Replayed struct {
	Replayed int `json:"replayed" required:"true"`
}

// Deleted counts dead letters that are gone.
type Deleted struct {
	Deleted int `json:"deleted" required:"true"`
}

const (
	maxSelectedIDs = 10_000
	selectionBytes = 1 << 20
	bulkTime       = 5 * time.Minute
)

func (s *Service) listLetters(c *fiber.Ctx) error {
	filter, err := queryFilter(c)
	if err != nil {
		return err
	}
	page, err := api.ReadCursor(c)
	if err != nil {
		return err
	}
	ctx, cancel := s.within(lookupTime)
	defer cancel()
	list, next, err := s.delivery.DeadLetters(ctx, filter, page.After, page.Limit)
	if err != nil {
		return s.answerTo(err)
	}
	// The data go out as they came in: encoding/json would write them anew.
	body := []byte(`{"success":true,"data":{"items":[`)
	for i := range list {
		if i > 0 {
			body = append(body, ',')
		}
		if body, err = appendLetter(body, &list[i]); err != nil {
			return api.Internal(err)
		}
	}
	body = append(body, ']')
	if next != "" {
		body = append(body, `,"next_cursor":"`+api.SealCursor(next)+`"`...)
	}
	return sendText(c, append(body, `},"message":"Dead letters listed"}`...))
}

func (s *Service) showLetter(c *fiber.Ctx) error {
	ctx, cancel := s.within(lookupTime)
	defer cancel()
	letter, err := s.delivery.DeadLetter(ctx, api.CallerOf(c).OrgID, strings.Clone(c.Params("id")))
	if err != nil {
		return s.answerTo(err)
	}
	body, err := appendLetter([]byte(`{"success":true,"data":`), &letter)
	if err != nil {
		return api.Internal(err)
	}
	return sendText(c, append(body, `,"message":"Dead letter found"}`...))
}

func sendText(c *fiber.Ctx, body []byte) error {
	c.Response().Header.SetContentType(api.JSON)
	c.Response().SetBodyRaw(body)
	return nil
}

// appendLetter writes a dead letter as JSON, its data byte for byte.
func appendLetter(b []byte, l *delivery.DeadLetter) ([]byte, error) {
	head, err := json.Marshal(DeadLetter{
		ID: l.ID, Pusher: l.Pusher, DeliveryID: l.DeliveryID, UUID: l.UUID, Index: l.Index, Class: l.Class, Code: l.Code,
		Message: l.Message, Attempts: l.Attempts, FirstFailedAt: utc(l.FirstFailedAt), FailedAt: utc(l.FailedAt),
	})
	if err != nil {
		return b, fmt.Errorf("encode dead letter %s: %w", l.ID, err)
	}
	b = append(b, head[:len(head)-1]...)
	b = append(b, `,"data":`...)
	b = append(b, l.Data...)
	return append(b, '}'), nil
}

func (s *Service) replayLetters(c *fiber.Ctx) error {
	var body ReplayBody
	if err := api.ReadJSON(c, selectionBytes, &body); err != nil {
		return err
	}
	filter, err := readSelection(c, Selection{body.IDs, body.Filter})
	if err != nil {
		return err
	}
	var rate float64
	if body.RatePerSecond != nil {
		if rate = *body.RatePerSecond; rate <= 0 {
			return api.Unprocessable("rate_per_second", "rate_per_second must be above 0")
		}
	}
	ctx, cancel := s.within(bulkTime)
	defer cancel()
	n, err := s.delivery.Replay(ctx, filter, body.To, rate)
	switch {
	case errors.Is(err, delivery.ErrUnknownPusher):
		return api.Unprocessable("to", "There is no pusher to replay to: %v", err)
	case err != nil:
		return s.answerTo(err)
	}
	return api.Success(c, fiber.StatusAccepted, Replayed{n}, "Replay started")
}

func (s *Service) deleteLetters(c *fiber.Ctx) error {
	var body Selection
	if err := api.ReadJSON(c, selectionBytes, &body); err != nil {
		return err
	}
	filter, err := readSelection(c, body)
	if err != nil {
		return err
	}
	ctx, cancel := s.within(bulkTime)
	defer cancel()
	n, err := s.delivery.DeleteDeadLetters(ctx, filter)
	if err != nil {
		return s.answerTo(err)
	}
	return api.OK(c, Deleted{n}, "Dead letters deleted")
}

// readSelection makes a selection a filter of the caller's org.
func readSelection(c *fiber.Ctx, selected Selection) (f delivery.Filter, err error) {
	switch {
	case selected.IDs == nil && selected.Filter == nil:
		return f, api.Unprocessable("ids", "give ids or filter; an empty filter means all")
	case selected.IDs != nil && selected.Filter != nil:
		return f, api.Unprocessable("filter", "give ids or filter, not both")
	case selected.IDs != nil && len(selected.IDs) == 0:
		return f, api.Unprocessable("ids", "ids must hold at least one id")
	case len(selected.IDs) > maxSelectedIDs:
		return f, api.Unprocessable("ids", "ids holds %d ids, at most %d are allowed", len(selected.IDs), maxSelectedIDs)
	}
	if selected.Filter != nil {
		if f, err = selected.Filter.read("filter."); err != nil {
			return f, err
		}
	}
	f.Org, f.IDs = api.CallerOf(c).OrgID, selected.IDs
	return f, nil
}

func queryFilter(c *fiber.Ctx) (delivery.Filter, error) {
	q := LetterFilter{
		Pusher: api.TextQuery(c, "pusher"), UUID: api.TextQuery(c, "uuid"), Class: api.TextQuery(c, "class"),
		Since: api.TextQuery(c, "since"), Until: api.TextQuery(c, "until"),
	}
	f, err := q.read("")
	f.Org = api.CallerOf(c).OrgID
	return f, err
}

func (q *LetterFilter) read(within string) (delivery.Filter, error) {
	f := delivery.Filter{Pusher: q.Pusher, UUID: q.UUID, Class: q.Class}
	var err error
	if f.Since, err = readTime(within+"since", q.Since); err != nil {
		return f, err
	}
	f.Until, err = readTime(within+"until", q.Until)
	return f, err
}

// readTime reads an ISO-8601 time; empty is the zero time.
func readTime(field, text string) (time.Time, error) {
	if text == "" {
		return time.Time{}, nil
	}
	t, err := time.Parse(time.RFC3339Nano, text)
	if err != nil {
		return t, api.BadRequest(field, "%s must be a time such as 2026-01-31T12:00:00Z, not %s", field, strconv.Quote(text))
	}
	return t, nil
}
