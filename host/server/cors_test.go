package server

import (
	"strings"
	"testing"

	"github.com/gofiber/fiber/v2"
	"github.com/stretchr/testify/require"

	"github.com/rivergate/rivergate/services/platform/api"
)

const appOrigin = "https://app.example.com"

type nameParam struct {
	Name string `path:"name"`
}

// withOrigins allows the origins, on a server with a few routes more.
func withOrigins(origins ...string) change {
	done := func(c *fiber.Ctx) error { return api.OK(c, nil, "Done") }
	discover := func(c *fiber.Ctx) error {
		c.Set("Tus-Version", "1.0.0")
		return c.SendStatus(204)
	}
	return func(o *Options) {
		o.CORSOrigins = origins
		o.Routes = append(o.Routes,
			api.Route{Method: "GET", Path: "/things/{name...}/about", Params: nameParam{}, ID: "about", Handler: done},
			api.Route{Method: "GET", Path: "/things/{name...}", Params: nameParam{}, ID: "thing", Handler: done},
			api.Route{Method: "DELETE", Path: "/things/{name...}", Params: nameParam{}, ID: "noThing", Handler: done},
			api.Route{Method: "OPTIONS", Path: "/tus", ID: "tusOptions", Public: true, Handler: discover},
			api.Route{Method: "POST", Path: "/tus", ID: "tusCreate", Handler: done},
			api.Route{Method: "GET", Path: "/signed/{name...}", Params: nameParam{}, ID: "signed", Public: true, AnyOrigin: true, Handler: func(*fiber.Ctx) error {
				return api.Forbidden("Not signed")
			}},
		)
	}
}

func (c *conn) preflight(path, origin, method, more string) answer {
	c.t.Helper()
	return c.send("OPTIONS", path, "Origin: "+origin+"\r\nAccess-Control-Request-Method: "+method+"\r\n"+more, nil)
}

func allowed(a answer) string { return a.Header.Get("Access-Control-Allow-Origin") }

func TestAPreflightNamesTheMethodsOfItsPath(t *testing.T) {
	c := start(t, withOrigins(appOrigin, "http://localhost:5173")).dial()
	for _, want := range []struct{ path, method, methods string }{
		{"/data", "POST", "POST"},
		{"/things/a/b%2Fc", "DELETE", "GET, HEAD, DELETE"},
		{"/things/a/about", "GET", "GET, HEAD"},
		{"/things/a/about", "DELETE", "GET, HEAD, DELETE"},
		{"/tus", "POST", "OPTIONS, POST"},
	} {
		a := c.preflight(want.path, appOrigin, want.method, "Access-Control-Request-Headers: range,x-org-id\r\n")
		require.Equal(t, 204, a.StatusCode, want.path)
		require.Empty(t, a.body)
		require.Equal(t, appOrigin, allowed(a))
		require.Equal(t, "true", a.Header.Get("Access-Control-Allow-Credentials"))
		require.Equal(t, want.methods, a.Header.Get("Access-Control-Allow-Methods"), want.path)
		require.Equal(t, "range,x-org-id", a.Header.Get("Access-Control-Allow-Headers"))
		require.Equal(t, "7200", a.Header.Get("Access-Control-Max-Age"))
		require.Equal(t, "Origin, Access-Control-Request-Method, Access-Control-Request-Headers", a.Header.Get("Vary"))
		require.NotEmpty(t, a.Header.Get("X-Request-ID"))
	}
	c.preflight("/nowhere", appOrigin, "GET", "").failure(t, 404)
	c.preflight("/data", appOrigin, "PUT", "").failure(t, 405)
	a := c.preflight("/data", "https://other.example.com", "POST", "")
	a.failure(t, 405)
	require.Empty(t, allowed(a))
	for _, names := range []string{"x;y", strings.Repeat("x", 3000)} {
		a = c.preflight("/data", appOrigin, "POST", "Access-Control-Request-Headers: "+names+"\r\n")
		require.Equal(t, 204, a.StatusCode)
		require.Empty(t, a.Header.Get("Access-Control-Allow-Headers"), "the browser refuses it then")
	}
	c.works()
}

func TestOptionsWithoutAPreflightIsTheRoutesOwn(t *testing.T) {
	c := start(t, withOrigins(appOrigin)).dial()
	for _, header := range []string{"", "Origin: " + appOrigin + "\r\n"} {
		a := c.send("OPTIONS", "/tus", header, nil)
		require.Equal(t, 204, a.StatusCode)
		require.Equal(t, "1.0.0", a.Header.Get("Tus-Version"))
		require.Equal(t, header != "", allowed(a) == appOrigin)
	}
	c.send("OPTIONS", "/data", "Origin: "+appOrigin+"\r\n", nil).failure(t, 405)
}

func TestAPageOfAnAllowedOriginSeesEveryAnswer(t *testing.T) {
	r := start(t, withOrigins(appOrigin))
	c := r.dial()
	sees := func(a answer, status int) {
		t.Helper()
		require.Equal(t, status, a.StatusCode, "%s", a.body)
		require.Equal(t, appOrigin, allowed(a))
		require.Equal(t, []string{"Origin"}, a.Header.Values("Vary"))
		for _, name := range []string{"ETag", "Content-Range", "X-Request-ID", "Retry-After", "Upload-Offset", "Location"} {
			require.Contains(t, strings.Split(a.Header.Get("Access-Control-Expose-Headers"), ", "), name)
		}
	}
	origin := "Origin: " + appOrigin + "\r\n"
	sees(c.send("GET", "/health", origin, nil), 200)
	sees(c.send("GET", "/things/a", origin, nil), 200)
	sees(c.send("GET", "/things/a", origin+"X-Org-ID: 0\r\n", nil), 400) // the gate
	sees(c.send("GET", "/nowhere", origin, nil), 404)
	sees(c.send("PUT", "/data", origin, nil), 405)
	sees(c.send("GET", "/test/panic", origin, nil), 500)
	sees(c.send("GET", "/test/broken", origin, nil), 500)
	sees(c.send("GET", "/signed/a", origin, nil), 403)
	for _, other := range []string{"https://app.example.com:8443", "http://app.example.com", "https://app.example.com.evil.org", "null"} {
		a := c.send("GET", "/things/a", "Origin: "+other+"\r\n", nil)
		require.Empty(t, allowed(a), other)
		require.Empty(t, a.Header.Get("Access-Control-Allow-Credentials"))
		require.Equal(t, "Origin", a.Header.Get("Vary"), "a cache must not show it to another")
	}
	c.works()
}

func TestInternalRoutesAreForNoPage(t *testing.T) {
	for _, origins := range [][]string{{appOrigin}, {"*"}} {
		c := start(t, withOrigins(origins...)).dial()
		for _, path := range []string{"/internal/test", "/INTERNAL/test"} {
			require.Empty(t, allowed(c.send("GET", path, "Origin: "+appOrigin+"\r\n", nil)))
			a := c.preflight(path, appOrigin, "GET", "")
			a.failure(t, 405)
			require.Empty(t, allowed(a))
		}
	}
}

func TestEveryOriginComesWithoutCredentials(t *testing.T) {
	c := start(t, withOrigins("*")).dial()
	for _, a := range []answer{
		c.send("GET", "/things/a", "Origin: null\r\n", nil), c.get("/things/a"), c.preflight("/things/a", "http://x", "GET", ""),
		c.preflight("/signed/a", "http://x", "GET", ""),
	} {
		require.Less(t, a.StatusCode, 300)
		require.Equal(t, "*", allowed(a))
		require.Empty(t, a.Header.Get("Access-Control-Allow-Credentials"))
	}
}

func TestWithoutOriginsOnlySignedURLsAreForPages(t *testing.T) {
	c := start(t, withOrigins()).dial()
	for _, a := range []answer{
		c.send("GET", "/things/a", "Origin: "+appOrigin+"\r\n", nil), c.preflight("/things/a", appOrigin, "GET", ""), c.preflight("/tus", appOrigin, "POST", ""),
	} {
		require.Empty(t, allowed(a))
		require.Empty(t, a.Header.Get("Vary"))
	}
	a := c.send("GET", "/signed/a", "Origin: "+appOrigin+"\r\n", nil)
	a.failure(t, 403)
	require.Equal(t, "*", allowed(a))
	a = c.preflight("/signed/a", appOrigin, "GET", "Access-Control-Request-Headers: range\r\n")
	require.Equal(t, 204, a.StatusCode)
	require.Equal(t, "*", allowed(a))
	require.Equal(t, "range", a.Header.Get("Access-Control-Allow-Headers"))
	require.Empty(t, a.Header.Get("Access-Control-Allow-Credentials"))
}

func TestABodyBehindAPreflightIsNotTheNextRequest(t *testing.T) {
	c := start(t, withOrigins(appOrigin)).dial()
	body := []byte("GET /test/panic HTTP/1.1\r\nHost: rivergate\r\n\r\n" + strings.Repeat("x", 20_000))
	a := c.send("OPTIONS", "/data", "Origin: "+appOrigin+"\r\nAccess-Control-Request-Method: POST\r\n", body)
	require.Equal(t, 204, a.StatusCode)
	c.works()
}

func TestAnOriginIsWrittenAsBrowsersSendIt(t *testing.T) {
	for origin, says := range map[string]string{
		"app.example.com": "no origin", "null": "no origin", "https://": "no origin",
		"https://app.example.com/":    "write https://app.example.com",
		"https://App.example.com":     "write https://app.example.com",
		"https://app.example.com:443": "write https://app.example.com",
		"http://[::1]:80":             "write http://[::1]",
		"https://bücher.example":      "xn--",
		"https://*.example.com/x":     "write https://*.example.com",
	} {
		require.Contains(t, api.CheckOrigins([]string{origin}), says, origin)
	}
	require.Contains(t, api.CheckOrigins([]string{"*", appOrigin}), "alone")
	for _, right := range []string{"*", appOrigin, "http://localhost:5173", "http://[::1]:8080", "capacitor://localhost", "https://xn--bcher-kva.example"} {
		require.Empty(t, api.CheckOrigins([]string{right}))
	}
	_, err := New(Options{Listen: "127.0.0.1:0", CORSOrigins: []string{"x"}, Log: newServer(t).server.log, Gatherer: newServer(t).server.o.Gatherer})
	require.ErrorContains(t, err, "RIVERGATE_CORS_ORIGINS")
}

func TestAPageSeesWhatIsRefusedBeforeTheRouter(t *testing.T) {
	r := start(t, withOrigins("*"))
	a := r.dial().send("GET", "/health", "X-Long: "+strings.Repeat("x", headerBytes)+"\r\n", nil)
	a.failure(t, 431)
	require.Equal(t, "*", allowed(a))
}
