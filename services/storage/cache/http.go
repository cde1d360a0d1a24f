package cache

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"strconv"
	"time"
	"unicode/utf8"

	"github.com/gofiber/fiber/v2"

	"github.com/rivergate/rivergate/services/platform/api"
)

const tagCache = "Storage: cache"

// maxBody is a value of the greatest size with its key, its tags, and room for their escapes.
const maxBody = MaxValue + 512<<10

// retryAfter is the hint of a 503.
const retryAfter = time.Second

// SetBody is the body of POST /internal/cache/set.
type SetBody struct {
	Key        string   `json:"key" required:"true" minLength:"1" maxLength:"512" description:"Any characters; / and : are usual."`
	Value      any      `json:"value" required:"true" description:"Any JSON, at most 10 MiB. It comes back byte for byte."`
	TTLSeconds int      `json:"ttl_seconds,omitempty" minimum:"1" maximum:"86400" default:"300"`
	Tags       []string `json:"tags,omitempty" nullable:"false" maxItems:"64" description:"Each 1 to 256 characters: what the entry can be thrown out by."`
}

// setRequest is SetBody as it is read.
type setRequest struct {
	Key        string          `json:"key"`
	Value      json.RawMessage `json:"value"`
	TTLSeconds *int            `json:"ttl_seconds"`
	Tags       []string        `json:"tags"`
}

// Stored is the answer to it.
type Stored struct {
	Key       string    `json:"key" required:"true"`
	Stored    bool      `json:"stored" required:"true" const:"true"`
	ExpiresAt time.Time `json:"expires_at" required:"true"`
}

// Found is the answer of GET /internal/cache/{key}.
type Found struct {
	Key                 string    `json:"key" required:"true"`
	Value               any       `json:"value" required:"true" description:"As it was set, byte for byte."`
	ExpiresAt           time.Time `json:"expires_at" required:"true"`
	TTLRemainingSeconds int       `json:"ttl_remaining_seconds" required:"true" minimum:"1" description:"Whole seconds, rounded up: 0 is never served."`
}

// Deleted is the answer of DELETE /internal/cache/{key}.
type Deleted struct {
	Key     string `json:"key" required:"true"`
	Deleted bool   `json:"deleted" required:"true" description:"false: there was none."`
}

type keyParam struct {
	Key string `path:"key" minLength:"1" maxLength:"512" description:"May hold / and :, as they are or percent-encoded; decoded once."`
}

// Routes declares what this package answers.
func (c *Cache) Routes() []api.Route {
	const path = "/internal/cache"
	const down = " 503: the server that holds the cache (RIVERGATE_CACHE) does not answer."
	return []api.Route{
		{
			Method: http.MethodPost, Path: path + "/set", ID: "setCache", Tag: tagCache, Summary: "Keep a value for a while",
			About: "In place of the one of that key. When the org's share of the cache is used up, entries of that org give way." + down,
			Body:  SetBody{}, KeptBody: maxBody,
			Answers: []api.Answer{{Status: http.StatusOK, Body: api.Envelope[Stored]{}}},
			Errors:  []int{http.StatusRequestEntityTooLarge, http.StatusUnsupportedMediaType, http.StatusServiceUnavailable},
			Handler: c.httpSet,
		},
		{
			Method: http.MethodGet, Path: path + "/{key...}", ID: "getCache", Tag: tagCache, Summary: "A value that is kept",
			About:  "404: there is none, or it has expired." + down + " Whether there is one is not known then; go on as after a 404.",
			Params: keyParam{}, Answers: []api.Answer{{Status: http.StatusOK, Body: api.Envelope[Found]{}}},
			Errors: []int{http.StatusNotFound, http.StatusServiceUnavailable}, Handler: c.httpGet,
		},
		{
			Method: http.MethodDelete, Path: path + "/{key...}", ID: "deleteCache", Tag: tagCache, Summary: "Throw a value out",
			About:  "Idempotent." + down + " The value may still be there then; ask again.",
			Params: keyParam{}, Answers: []api.Answer{{Status: http.StatusOK, Body: api.Envelope[Deleted]{}}},
			Errors: []int{http.StatusServiceUnavailable}, Handler: c.httpDelete,
		},
	}
}

// within bounds one request; the store answers sooner or not at all.
func (c *Cache) within() (context.Context, context.CancelFunc) {
	return context.WithTimeout(c.ctx, 2*redisTime)
}

func (c *Cache) httpSet(ctx *fiber.Ctx) error {
	var body setRequest
	if err := api.ReadJSON(ctx, maxBody, &body); err != nil {
		return err
	}
	if len(body.Value) == 0 {
		return api.BadRequest("value", "value is missing; null is a value")
	}
	if !utf8.Valid(body.Value) {
		return api.BadRequest("value", "value must be UTF-8")
	}
	keep := Keep{Tags: body.Tags}
	if body.TTLSeconds != nil {
		if *body.TTLSeconds < 1 || *body.TTLSeconds > int(MaxTTL.Seconds()) { // before it becomes a duration, where 0 means another thing
			return api.BadRequest("ttl_seconds", "ttl_seconds must be from 1 to %d", int(MaxTTL.Seconds()))
		}
		keep.TTL = time.Duration(*body.TTLSeconds) * time.Second
	}
	within, cancel := c.within()
	defer cancel()
	e, err := c.set(within, api.CallerOf(ctx).OrgID, body.Key, body.Value, keep)
	if err != nil {
		return answerTo(err)
	}
	return api.OK(ctx, Stored{e.Key, true, e.Expires}, "Value stored")
}

func (c *Cache) httpGet(ctx *fiber.Ctx) error {
	key, err := keyOf(ctx)
	if err != nil {
		return err
	}
	within, cancel := c.within()
	defer cancel()
	e, ok, err := c.Get(within, api.CallerOf(ctx).OrgID, key)
	if err != nil {
		return answerTo(err)
	}
	remaining := e.Expires.Sub(c.now())
	if !ok || remaining <= 0 {
		return api.NotFound("There is no such entry in the cache")
	}
	return answer(ctx, &e, int((remaining+time.Second-1)/time.Second))
}

// answer writes Found in its envelope. The value goes as it came; an encoder would change its spaces and escapes.
func answer(ctx *fiber.Ctx, e *Entry, remaining int) error {
	key, err := json.Marshal(e.Key)
	if err != nil {
		return api.Internal(err)
	}
	const frame = 256
	body := make([]byte, 0, len(e.Value)+len(key)+frame)
	body = append(append(body, `{"success":true,"data":{"key":`...), key...)
	body = append(append(body, `,"value":`...), e.Value...)
	body = append(e.Expires.AppendFormat(append(body, `,"expires_at":"`...), time.RFC3339Nano), `","ttl_remaining_seconds":`...)
	body = append(strconv.AppendInt(body, int64(remaining), 10), `},"message":"Value read"}`...)
	ctx.Response().Header.SetContentType(api.JSON)
	ctx.Response().SetBodyRaw(body)
	return nil
}

func (c *Cache) httpDelete(ctx *fiber.Ctx) error {
	key, err := keyOf(ctx)
	if err != nil {
		return err
	}
	within, cancel := c.within()
	defer cancel()
	deleted, err := c.Delete(within, api.CallerOf(ctx).OrgID, key)
	if err != nil {
		return answerTo(err)
	}
	message := "Value deleted"
	if !deleted {
		message = "There was no such value"
	}
	return api.OK(ctx, Deleted{key, deleted}, message)
}

// keyOf reads the key from the path.
func keyOf(ctx *fiber.Ctx) (string, error) {
	key, err := api.Rest(ctx)
	if err != nil {
		return "", err
	}
	if err := checkKey(key); err != nil {
		return "", answerTo(err)
	}
	return key, nil
}

func answerTo(err error) error {
	var bound *BoundError
	switch {
	case errors.As(err, &bound) && bound.TooLarge:
		e := api.TooLarge(MaxValue)
		e.Message, e.Details = bound.Error(), &api.Details{Field: bound.Field, Reason: bound.Reason}
		return e
	case errors.As(err, &bound):
		return api.BadRequest(bound.Field, "%s", bound.Error())
	case errors.Is(err, ErrUnavailable), errors.Is(err, context.DeadlineExceeded):
		e := api.Unavailable(retryAfter, "The server that holds the cache does not answer now")
		e.Cause = err
		return e
	case errors.Is(err, context.Canceled), errors.Is(err, errClosed):
		e := api.Unavailable(retryAfter, "The host is stopping")
		e.Cause = err
		return e
	}
	return api.Internal(err)
}
