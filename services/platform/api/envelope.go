// Package api is what all HTTP routes of the host share: the envelope, errors, the context of a request, paging, idempotency
// keys, and the table of routes from which both the router and the OpenAPI document are made. The contract is the first
// section of the HTTP API's description.
package api

import (
	"encoding/json"
	"fmt"
	"math"
	"strconv"
	"time"

	"github.com/gofiber/fiber/v2"
	"github.com/valyala/fasthttp"
)

// Envelope is the body of every success.
type Envelope[T any] struct {
	Success bool   `json:"success" required:"true" const:"true"`
	Data    T      `json:"data" required:"true"`
	Message string `json:"message" required:"true"`
}

// Failure is the body of every error.
type Failure struct {
	Success bool        `json:"success" required:"true" const:"false"`
	Error   FailureInfo `json:"error" required:"true"`
}

// FailureInfo says what went wrong.
type FailureInfo struct {
	Code      string    `json:"code" required:"true"`
	Message   string    `json:"message" required:"true"`
	Details   *Details  `json:"details,omitempty"`
	Timestamp time.Time `json:"timestamp" required:"true"`
	RequestID string    `json:"request_id" required:"true"`
}

// JSON is the content type of every answer that is not said to be something else.
const JSON = "application/json"

// OK answers 200 with data in the envelope. The message is a short sentence in the past tense.
func OK(c *fiber.Ctx, data any, message string) error { return Success(c, 200, data, message) }

// Success answers with data in the envelope.
func Success(c *fiber.Ctx, status int, data any, message string) error {
	return Bare(c, status, Envelope[any]{true, data, message})
}

// Bare answers with a JSON body as it is.
func Bare(c *fiber.Ctx, status int, body any) error { return bare(c.Context(), status, body) }

func bare(ctx *fasthttp.RequestCtx, status int, body any) error {
	text, err := json.Marshal(body)
	if err != nil {
		return Internal(fmt.Errorf("encode answer: %w", err))
	}
	ctx.Response.SetStatusCode(status)
	ctx.Response.Header.SetContentType(JSON)
	ctx.Response.SetBodyRaw(text)
	return nil
}

// Fail answers with the error, as AsError sees it.
func Fail(ctx *fasthttp.RequestCtx, err error) {
	e := AsError(err)
	body := Failure{Error: FailureInfo{
		Code: e.Code(), Message: e.Message, Details: e.Details,
		Timestamp: time.Now().UTC().Truncate(time.Millisecond), RequestID: callerIn(ctx).RequestID,
	}}
	if e.RetryAfter > 0 {
		ctx.Response.Header.Set(fiber.HeaderRetryAfter, strconv.Itoa(int(math.Ceil(e.RetryAfter.Seconds()))))
	}
	ctx.Response.ResetBody()
	if failed := bare(ctx, e.Status, body); failed != nil {
		ctx.Response.SetStatusCode(e.Status)
	}
}
