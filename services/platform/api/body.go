package api

import (
	"encoding/json"
	"errors"
	"io"
	"mime"
	"slices"
	"strings"
	"sync"

	"github.com/gofiber/fiber/v2"
	"github.com/valyala/fasthttp"
)

// The server streams request bodies: a handler that wants one reads it here, with its own limit and memory. What a handler
// leaves unread must be drained before the answer, or the connection would take it for the next request.

// ReadInto appends the body to dst, at most limit bytes of it. Errors: 413 beyond the limit (the rest is left for Drain), 400
// when the client stops in the middle.
func ReadInto(c *fiber.Ctx, dst []byte, limit int64) ([]byte, error) {
	request := c.Request()
	if !request.IsBodyStream() {
		body := request.Body()
		if int64(len(body)) > limit {
			return dst, TooLarge(limit)
		}
		return append(dst, body...), nil
	}
	if int64(request.Header.ContentLength()) > limit {
		return dst, TooLarge(limit)
	}
	stream := c.Context().RequestBodyStream()
	start := len(dst)
	if n := request.Header.ContentLength(); n > 0 {
		dst = slices.Grow(dst, n)
	}
	for {
		if len(dst) == cap(dst) {
			dst = slices.Grow(dst, max(4096, len(dst)-start))
		}
		room := dst[len(dst):min(int64(cap(dst)), int64(start)+limit+1)]
		n, err := stream.Read(room)
		dst = dst[:len(dst)+n]
		if int64(len(dst)-start) > limit {
			return dst, TooLarge(limit)
		}
		switch {
		case errors.Is(err, io.EOF) && len(dst)-start >= request.Header.ContentLength():
			request.ResetBody() // done with the stream: Drain must not read from it again
			return dst, nil
		case err != nil:
			c.Response().SetConnectionClose()
			request.ResetBody()
			return dst, &Error{Status: 400, Message: "The body ended before its announced length", Cause: err}
		}
	}
}

// ReadBody returns the whole body in memory of the request: good until the handler returns. It may be called again.
func ReadBody(c *fiber.Ctx, limit int64) ([]byte, error) {
	if !c.Request().IsBodyStream() {
		body := c.Request().Body()
		if int64(len(body)) > limit {
			return nil, TooLarge(limit)
		}
		return body, nil
	}
	body, err := ReadInto(c, nil, limit)
	if err != nil {
		return nil, err
	}
	c.Request().SetBodyRaw(body)
	return body, nil
}

// scratches are where drained bytes go.
var scratches = sync.Pool{New: func() any { b := make([]byte, 16<<10); return &b }}

// Drain passes over what is left of the body, at most limit bytes; a connection with more is closed behind the answer.
func Drain(ctx *fasthttp.RequestCtx, limit int64) {
	request := &ctx.Request
	if !request.IsBodyStream() {
		return
	}
	if int64(request.Header.ContentLength()) > limit {
		ctx.Response.SetConnectionClose()
		request.ResetBody()
		return
	}
	stream := ctx.RequestBodyStream()
	scratch := scratches.Get().(*[]byte)
	defer scratches.Put(scratch)
	for n := int64(0); n <= limit; {
		k, err := stream.Read(*scratch)
		n += int64(k)
		if err != nil {
			if !errors.Is(err, io.EOF) {
				ctx.Response.SetConnectionClose()
			}
			request.ResetBody()
			return
		}
	}
	ctx.Response.SetConnectionClose()
	request.ResetBody()
}

// ReadJSON decodes a JSON body of at most limit bytes; unknown fields are passed over. Errors: 400 with the place, 413, 415.
// An empty body leaves into as it is.
func ReadJSON(c *fiber.Ctx, limit int64, into any) error {
	body, err := ReadBody(c, limit)
	if err != nil || len(body) == 0 {
		return err
	}
	if err := WantType(c, IsJSON, JSON); err != nil {
		return err
	}
	err = json.Unmarshal(body, into)
	var syntax *json.SyntaxError
	var wrong *json.UnmarshalTypeError
	switch {
	case err == nil:
		return nil
	case errors.As(err, &syntax):
		offset := int(syntax.Offset)
		return &Error{Status: 400, Message: "The body is not valid JSON: " + syntax.Error(), Details: &Details{Offset: &offset}}
	case errors.As(err, &wrong) && wrong.Field == "":
		return BadRequest("", "The body must be %s, not %s", jsonWord(wrong.Type.Kind().String()), wrong.Value)
	case errors.As(err, &wrong):
		return BadRequest(wrong.Field, "%s must be %s, not %s", wrong.Field, jsonWord(wrong.Type.Kind().String()), wrong.Value)
	}
	return BadRequest("", "The body cannot be read: %v", err)
}

func jsonWord(kind string) string {
	switch kind {
	case "slice", "array":
		return "an array"
	case "struct", "map":
		return "an object"
	case "string":
		return "a string"
	case "bool":
		return "a boolean"
	}
	return "a number"
}

// WantType answers 415 unless the request's media type passes. No type at all passes: old clients send none.
func WantType(c *fiber.Ctx, pass func(mediaType string) bool, want ...string) error {
	if encoding := c.Request().Header.Peek(fiber.HeaderContentEncoding); len(encoding) > 0 && string(encoding) != "identity" {
		return &Error{Status: 415, Message: "Content-Encoding is not taken here; send the body as it is"}
	}
	sent := c.Request().Header.ContentType()
	if len(sent) == 0 || string(sent) == JSON && pass(JSON) {
		return nil
	}
	mediaType, params, err := mime.ParseMediaType(string(sent))
	if err != nil || !pass(mediaType) {
		return UnsupportedMedia(string(sent), want...)
	}
	if charset := params["charset"]; charset != "" && !strings.EqualFold(charset, "utf-8") {
		return UnsupportedMedia(string(sent), want...)
	}
	return nil
}

// IsJSON tells whether a media type is JSON.
func IsJSON(mediaType string) bool {
	return mediaType == JSON || mediaType == "text/json" || strings.HasSuffix(mediaType, "+json")
}
