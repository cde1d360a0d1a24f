package cache

import (
	"bytes"
	"encoding/json"
	"io"
	"math"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/gofiber/fiber/v2"
	"github.com/stretchr/testify/require"

	"github.com/rivergate/rivergate/sdk/settings"
	"github.com/rivergate/rivergate/services/platform/api"
)

// site serves the routes as the host does.
type site struct {
	t   *testing.T
	app *fiber.App
}

func (r *rig) serve(t *testing.T) *site {
	app := fiber.New(fiber.Config{StreamRequestBody: true, BodyLimit: math.MaxInt})
	app.Use(func(c *fiber.Ctx) error {
		c.Context().SetRemoteAddr(&net.TCPAddr{IP: net.IPv4(127, 0, 0, 1)})
		if err := c.Next(); err != nil {
			api.Fail(c.Context(), err)
		}
		api.Drain(c.Context(), 64<<20)
		return nil
	})
	api.Mount(app, r.Routes(), &api.Gate{Development: true}, api.NewAnswers(time.Hour))
	return &site{t, app}
}

// ask sends one request; headers are names and values.
func (s *site) ask(method, path, body string, headers ...string) (int, []byte) {
	s.t.Helper()
	request := httptest.NewRequest(method, "/internal/cache/"+path, strings.NewReader(body))
	if body != "" {
		request.Header.Set("Content-Type", "application/json")
	}
	for i := 0; i < len(headers); i += 2 {
		request.Header.Set(headers[i], headers[i+1])
	}
	response, err := s.app.Test(request, -1)
	require.NoError(s.t, err)
	defer response.Body.Close()
	answer, err := io.ReadAll(response.Body)
	require.NoError(s.t, err)
	return response.StatusCode, answer
}

// data is that of a success, failure the error of another answer.
func (s *site) data(method, path, body string, headers ...string) map[string]any {
	s.t.Helper()
	status, answer := s.ask(method, path, body, headers...)
	require.Equal(s.t, 200, status, string(answer))
	var got struct {
		Success bool
		Data    map[string]any
		Message string
	}
	require.NoError(s.t, json.Unmarshal(answer, &got))
	require.True(s.t, got.Success)
	require.NotEmpty(s.t, got.Message)
	return got.Data
}

func (s *site) failure(want int, method, path, body string, headers ...string) map[string]any {
	s.t.Helper()
	status, answer := s.ask(method, path, body, headers...)
	require.Equal(s.t, want, status, string(answer))
	var got struct{ Error map[string]any }
	require.NoError(s.t, json.Unmarshal(answer, &got))
	return got.Error
}

func TestTheRoutesKeepTheirContract(t *testing.T) {
	each(t, byHand, func(t *testing.T, r *rig) {
		s := r.serve(t)
		ends := func(ttl time.Duration) string {
			return r.clock.now().Add(ttl).Truncate(time.Millisecond).UTC().Format(time.RFC3339Nano)
		}
		first := ends(300 * time.Second)
		require.Equal(t, map[string]any{"key": "a/b:c", "stored": true, "expires_at": first},
			s.data("POST", "set", `{"key":"a/b:c","value":{"n":1},"tags":["t"],"other":1}`))
		found := map[string]any{"key": "a/b:c", "value": map[string]any{"n": 1.}, "expires_at": first, "ttl_remaining_seconds": 300.}
		require.Equal(t, found, s.data("GET", "a/b:c", ""))
		require.Equal(t, found, s.data("GET", "a%2Fb%3Ac", ""))
		r.clock.advance(299*time.Second + 10*time.Millisecond)
		found["ttl_remaining_seconds"] = 1.
		require.Equal(t, found, s.data("GET", "a/b:c", ""))
		status, body := s.ask("HEAD", "a/b:c", "")
		require.Equal(t, 200, status)
		require.Empty(t, body)
		r.clock.advance(990 * time.Millisecond)
		require.Equal(t, "NOT_FOUND", s.failure(404, "GET", "a/b:c", "")["code"])

		s.data("POST", "set", `{"key":"k","value":null,"ttl_seconds":86400}`)
		require.Equal(t, map[string]any{"key": "k", "value": nil, "expires_at": ends(24 * time.Hour), "ttl_remaining_seconds": 86400.}, s.data("GET", "k", ""))
		require.Equal(t, "NOT_FOUND", s.failure(404, "GET", "k", "", "X-Org-ID", "2")["code"])
		require.Equal(t, map[string]any{"key": "k", "deleted": false}, s.data("DELETE", "k", "", "X-Org-ID", "2"))
		require.Equal(t, map[string]any{"key": "k", "deleted": true}, s.data("DELETE", "k", ""))
		require.Equal(t, map[string]any{"key": "k", "deleted": false}, s.data("DELETE", "k", ""))

		// Decoded once: %2525 is the key %25.
		s.data("POST", "set", `{"key":"100%25","value":1}`)
		require.Equal(t, "100%25", s.data("GET", "100%2525", "")["key"])
		s.failure(404, "GET", "100%25", "")
		s.data("POST", "set", `{"key":"dir/","value":1}`)
		require.Equal(t, true, s.data("DELETE", "dir/", "")["deleted"])
	})
}

func TestAValueGoesThroughTheRoutesByteForByte(t *testing.T) {
	each(t, Options{}, func(t *testing.T, r *rig) {
		s := r.serve(t)
		for _, value := range []string{
			`{ "b" : 1,  "a":[ ] ,"a":1e400}`, `"<&>\u003c\/"`, "[\n\t1\r\n]", `12345678901234567890.000`, `"` + strings.Repeat("x", MaxValue-2) + `"`,
		} {
			s.data("POST", "set", `{"value": `+value+` , "key":"k"}`, "Idempotency-Key", "k"+value[:3])
			_, answer := s.ask("GET", "k", "")
			require.True(t, bytes.Contains(answer, []byte(`"value":`+value+`,`)), "%.200s", answer)
		}
	})
}

func TestWhatTheRoutesRefuse(t *testing.T) {
	each(t, Options{}, func(t *testing.T, r *rig) {
		s := r.serve(t)
		for _, c := range []struct {
			status      int
			body, field string
		}{
			{400, `{"value":1}`, "key"}, {400, `{"key":"","value":1}`, "key"}, {400, `{"key":1,"value":1}`, "key"},
			{400, `{"key":"` + strings.Repeat("k", 513) + `","value":1}`, "key"},
			{400, `{"key":"k"}`, "value"}, {400, "{\"key\":\"k\",\"value\":\"\xff\"}", "value"},
			{413, `{"key":"k","value":"` + strings.Repeat("x", MaxValue) + `"}`, "value"},
			{413, `{"key":"k","value":"` + strings.Repeat("x", maxBody) + `"}`, ""},
			{400, `{"key":"k","value":1,"ttl_seconds":0}`, "ttl_seconds"}, {400, `{"key":"k","value":1,"ttl_seconds":86401}`, "ttl_seconds"},
			{400, `{"key":"k","value":1,"ttl_seconds":9223372036854775807}`, "ttl_seconds"},
			{400, `{"key":"k","value":1,"ttl_seconds":1.5}`, "ttl_seconds"}, {400, `{"key":"k","value":1,"tags":[""]}`, "tags"},
			{400, `{"key":"k","value":1,"tags":"t"}`, "tags"}, {400, `{`, ""}, {400, `[]`, ""}, {400, ``, "value"},
		} {
			failure := s.failure(c.status, "POST", "set", c.body)
			details, _ := failure["details"].(map[string]any)
			if c.field != "" {
				require.Equal(t, c.field, details["field"], "%.100s", c.body)
			}
		}
		s.failure(415, "POST", "set", `{"key":"k","value":1}`, "Content-Type", "text/plain")
		s.failure(400, "GET", strings.Repeat("k", 513), "")
		s.failure(400, "GET", "%FF", "")
		s.failure(400, "DELETE", strings.Repeat("%C3%BC", 513), "")
		require.Zero(t, r.Stats().Entries)
	})
}

func TestTheRoutesSayThatTheServerIsDown(t *testing.T) {
	s := open(t, Options{URL: settings.Secret("redis://" + alone(t).address), OrgBytes: 1 << 20}).serve(t)
	for _, c := range [][3]string{{"POST", "set", `{"key":"k","value":1}`}, {"GET", "k", ""}, {"DELETE", "k", ""}} {
		require.Equal(t, "SERVICE_UNAVAILABLE", s.failure(503, c[0], c[1], c[2])["code"])
	}
}

func TestTheRoutesAreDescribed(t *testing.T) {
	text, err := api.Document(api.Info{Title: "t", Version: "1"}, open(t, Options{OrgBytes: 1, TotalBytes: 1}).Routes())
	require.NoError(t, err)
	require.Contains(t, string(text), `"/internal/cache/{key}"`)
	require.Equal(t, http.MethodPost, open(t, Options{OrgBytes: 1, TotalBytes: 1}).Routes()[0].Method)
}
