package api

import (
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/gofiber/fiber/v2"
	"github.com/stretchr/testify/require"
)

// serve answers one request with handler behind Mount.
func serve(t *testing.T, route Route, answers *Answers, request *http.Request) (status int, header http.Header, body map[string]any) {
	t.Helper()
	app := fiber.New(fiber.Config{ErrorHandler: func(c *fiber.Ctx, err error) error { Fail(c.Context(), err); return nil }})
	loopback := func(c *fiber.Ctx) error {
		c.Context().SetRemoteAddr(&net.TCPAddr{IP: net.IPv4(127, 0, 0, 1)})
		return c.Next()
	}
	app.Use(loopback)
	Mount(app, []Route{route}, &Gate{Development: true}, answers)
	response, err := app.Test(request, -1)
	require.NoError(t, err)
	defer response.Body.Close()
	require.NoError(t, json.NewDecoder(response.Body).Decode(&body))
	return response.StatusCode, response.Header, body
}

func TestEveryErrorHasItsStatusAndCode(t *testing.T) {
	for _, c := range []struct {
		err    error
		status int
		code   string
	}{
		{BadRequest("f", "bad"), 400, "VALIDATION_ERROR"}, {Unauthorized("who"), 401, "UNAUTHORIZED"}, {NotFound("no"), 404, "NOT_FOUND"},
		{fiber.ErrMethodNotAllowed, 405, "METHOD_NOT_ALLOWED"}, {Conflict("no"), 409, "CONFLICT"}, {Gone("was"), 410, "GONE"},
		{TooLarge(5), 413, "REQUEST_ENTITY_TOO_LARGE"}, {UnsupportedMedia("x", "y"), 415, "UNSUPPORTED_MEDIA_TYPE"},
		{Unprocessable("f", "no"), 422, "UNPROCESSABLE_ENTITY"}, {RateLimited(0, "wait"), 429, "RATE_LIMITED"},
		{Upstream("no"), 502, "UPSTREAM_ERROR"}, {Unavailable(0, "down"), 503, "SERVICE_UNAVAILABLE"},
		{Internal(errors.New("x")), 500, "INTERNAL_SERVER_ERROR"}, {errors.New("secret"), 500, "INTERNAL_SERVER_ERROR"},
		{fmt.Errorf("wrapped: %w", NotFound("no")), 404, "NOT_FOUND"}, {fiber.NewError(418, "tea"), 418, "VALIDATION_ERROR"},
	} {
		route := Route{Method: "GET", Path: "/x", Handler: func(*fiber.Ctx) error { return c.err }}
		status, header, body := serve(t, route, NewAnswers(time.Hour), httptest.NewRequest(http.MethodGet, "/x", nil))
		require.Equal(t, c.status, status)
		require.Equal(t, false, body["success"])
		e := body["error"].(map[string]any)
		require.Equal(t, c.code, e["code"])
		require.NotContains(t, e["message"], "secret")
		require.True(t, strings.HasSuffix(e["timestamp"].(string), "Z"))
		require.Contains(t, e, "request_id")
		if c.status == 429 || c.status == 503 {
			require.Equal(t, "1", header.Get("Retry-After"), "always a hint")
		}
	}
}

func TestRetryAfterIsRoundedUpToWholeSeconds(t *testing.T) {
	route := Route{Method: "GET", Path: "/x", Handler: func(*fiber.Ctx) error { return RateLimited(2100*time.Millisecond, "wait") }}
	_, header, _ := serve(t, route, NewAnswers(time.Hour), httptest.NewRequest(http.MethodGet, "/x", nil))
	require.Equal(t, "3", header.Get("Retry-After"))
}

func TestPages(t *testing.T) {
	var page Page
	route := Route{Method: "GET", Path: "/x", Handler: func(c *fiber.Ctx) (err error) {
		if page, err = ReadPage(c); err != nil {
			return err
		}
		return OK(c, page.Of(41), "Listed")
	}}
	ask := func(query string) (int, http.Header, map[string]any) {
		return serve(t, route, NewAnswers(time.Hour), httptest.NewRequest(http.MethodGet, "/x?"+query, nil))
	}
	_, _, body := ask("")
	require.Equal(t, map[string]any{
		"page": 1., "page_size": 20., "total_items": 41., "total_pages": 3., "has_next": true, "has_previous": false,
	}, body["data"])
	_, _, body = ask("page=3")
	require.Equal(t, false, body["data"].(map[string]any)["has_next"])
	require.Equal(t, int64(40), page.Offset())
	for _, bad := range []string{"page=0", "page=x", "page_size=0", "page_size=101"} {
		status, _, body := ask(bad)
		require.Equal(t, 400, status, bad)
		name, _, _ := strings.Cut(bad, "=")
		require.Equal(t, name, body["error"].(map[string]any)["details"].(map[string]any)["field"])
	}
}

func TestACursorComesBackAsItWas(t *testing.T) {
	var got Cursor
	route := Route{Method: "GET", Path: "/x", Handler: func(c *fiber.Ctx) (err error) {
		got, err = ReadCursor(c)
		return errors.Join(err, OK(c, nil, "Read"))
	}}
	_, _, body := serve(t, route, NewAnswers(time.Hour), httptest.NewRequest(http.MethodGet, "/x?limit=1000&cursor="+SealCursor("a/b?c"), nil))
	require.Equal(t, true, body["success"])
	require.Equal(t, Cursor{"a/b?c", 1000}, got)
}

func TestAParameterMayHoldSlashes(t *testing.T) {
	app := fiber.New(fiber.Config{ErrorHandler: func(c *fiber.Ctx, err error) error { Fail(c.Context(), err); return nil }})
	tell := func(which string) fiber.Handler {
		return func(c *fiber.Ctx) error {
			text, err := Rest(c)
			if err != nil {
				return err
			}
			return OK(c, which+" "+text, "Read")
		}
	}
	routes := []Route{
		{Method: "GET", Path: "/of/{id}/x/{name...}/about", Public: true, Handler: tell("about")},
		{Method: "GET", Path: "/x/{name...}", Public: true, ID: "x", Handler: tell("x"), Params: struct {
			Name string `path:"name"`
		}{}},
	}
	Mount(app, routes, &Gate{}, NewAnswers(time.Hour))
	ask := func(path string) (int, map[string]any) {
		response, err := app.Test(httptest.NewRequest(http.MethodGet, path, nil), -1)
		require.NoError(t, err)
		defer response.Body.Close()
		var body map[string]any
		require.NoError(t, json.NewDecoder(response.Body).Decode(&body))
		return response.StatusCode, body
	}
	for path, want := range map[string]string{
		"/x/plain": "x plain", "/x/a/b:c": "x a/b:c", "/x/A/B%2FC": "x A/B/C", "/x/a%253Ab": "x a%3Ab", "/x/a+b%20c": "x a+b c",
		"/x/a//b": "x a//b", "/x/a/": "x a/", "/x/a//": "x a//", "/x/a%2F": "x a/", "/x/../y": "x ../y", "/x/%C3%A9": "x é",
		"/of/1/x/a/b/about": "about a/b", "/of/1/x/about/about": "about about",
	} {
		status, body := ask(path)
		require.Equal(t, 200, status, path)
		require.Equal(t, want, body["data"], path)
	}
	for _, path := range []string{"/x/%FF", "/x/a%25zz%C3"} {
		status, _ := ask(path)
		require.Equal(t, 400, status, path)
	}
	document, err := Document(Info{Title: "t", Version: "1"}, routes[1:])
	require.NoError(t, err)
	require.Contains(t, string(document), `"/x/{name}"`)
}

func TestRequestIDsAreNeverMadeTwice(t *testing.T) {
	ids := NewRequestIDs()
	seen := map[string]bool{}
	for range 10_000 {
		id := ids.Next()
		require.Len(t, id, 21)
		require.False(t, seen[id])
		seen[id] = true
	}
	require.NotEqual(t, ids.Next()[:12], NewRequestIDs().Next()[:12], "another process has another prefix")
}

func TestKeptAnswersAreBoundedAndAgeOut(t *testing.T) {
	a := NewAnswers(time.Hour)
	key := func(i int) (k [16]byte) { k[0], k[1], k[2] = byte(i), byte(i>>8), byte(i>>16); return k }
	for i := range maxKeptAnswers + 100 {
		_, err := a.begin(key(i), key(1))
		require.NoError(t, err)
		a.finish(key(i), 200, JSON, nil)
	}
	require.LessOrEqual(t, len(a.kept), maxKeptAnswers)
	require.Len(t, a.order, len(a.kept))
	first, err := a.begin(key(maxKeptAnswers+99), key(1))
	require.NoError(t, err)
	require.NotNil(t, first, "the newest is still known")
	for i := range 100 { // requests that fail leave nothing behind
		_, err := a.begin(key(1<<20+i), key(1))
		require.NoError(t, err)
		a.forget(key(1<<20 + i))
	}
	require.Len(t, a.order, len(a.kept))

	brief := NewAnswers(0)
	_, err = brief.begin(key(1), key(1))
	require.NoError(t, err)
	brief.finish(key(1), 200, JSON, nil)
	again, err := brief.begin(key(1), key(2))
	require.NoError(t, err, "too old to matter")
	require.Nil(t, again)
}

func TestSchemaNames(t *testing.T) {
	text, err := Document(Info{Title: "t", Version: "1"}, []Route{{
		Method: "GET", Path: "/x/{id}", ID: "x", Params: struct {
			ID string `path:"id"`
		}{}, Answers: []Answer{{Status: 200, Body: Envelope[List[Pagination]]{}}},
	}})
	require.NoError(t, err)
	for _, name := range []string{"PaginationListEnvelope", "PaginationList", "Pagination", "Failure"} {
		require.Contains(t, string(text), `"`+name+`": {`)
	}
	_, err = Document(Info{}, []Route{{Method: "GET", Path: "/x/{id}", ID: "x"}})
	require.ErrorContains(t, err, "/x/{id}", "a path parameter that is not declared")
}
