package server

import (
	"encoding/json"
	"net/http"
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

func document(t *testing.T, c *conn) map[string]any {
	t.Helper()
	a := c.get("/openapi.json")
	require.Equal(t, 200, a.StatusCode)
	var d map[string]any
	require.NoError(t, json.Unmarshal(a.body, &d))
	return d
}

func TestEveryMountedRouteIsDescribedAndTheReverse(t *testing.T) {
	r := start(t)
	d := document(t, r.dial())
	require.Regexp(t, `^3\.1\.`, d["openapi"])
	described := map[string]bool{}
	for path, item := range d["paths"].(map[string]any) {
		for method := range item.(map[string]any) {
			described[strings.ToUpper(method)+" "+path] = true
		}
	}
	mounted := map[string]bool{}
	for _, methods := range r.server.app.Stack() {
		for _, route := range methods {
			mounted[route.Method+" "+route.Path] = true
		}
	}
	for _, route := range r.server.Routes() {
		require.Contains(t, described, route.Method+" "+route.OpenAPIPath())
		delete(described, route.Method+" "+route.OpenAPIPath())
		require.Contains(t, mounted, route.Method+" "+route.FiberPath())
		delete(mounted, route.Method+" "+route.FiberPath())
		if route.Method == http.MethodGet { // Fiber adds HEAD
			delete(mounted, http.MethodHead+" "+route.FiberPath())
		}
	}
	require.Empty(t, described)
	require.Empty(t, mounted)
	require.Greater(t, len(r.server.Routes()), 20)
}

func TestTheDescriptionHasBodiesAnswersAndErrors(t *testing.T) {
	r := start(t)
	d := document(t, r.dial())
	text, err := json.Marshal(d)
	require.NoError(t, err)
	schemas := d["components"].(map[string]any)["schemas"].(map[string]any)
	for _, ref := range regexp.MustCompile(`"#/components/schemas/([^"]+)"`).FindAllSubmatch(text, -1) {
		require.Contains(t, schemas, string(ref[1]), "every reference leads somewhere")
	}
	for name := range schemas {
		require.Regexp(t, `^[A-Za-z0-9.]+$`, name)
	}
	operation := func(method, path string) map[string]any {
		return d["paths"].(map[string]any)[path].(map[string]any)[method].(map[string]any)
	}
	batch := operation("post", "/data/batch")
	bodies := batch["requestBody"].(map[string]any)["content"].(map[string]any)
	require.Contains(t, bodies, "application/json")
	require.Contains(t, bodies, "application/x-ndjson")
	for _, status := range []string{"200", "202", "207", "400", "401", "409", "413", "415", "422", "429", "500", "503"} {
		require.Contains(t, batch["responses"], status)
	}
	var names []string
	for _, p := range batch["parameters"].([]any) {
		names = append(names, p.(map[string]any)["name"].(string))
	}
	require.Subset(t, names, []string{"X-Org-ID", "X-User-ID", "X-Workspace-ID", "X-Request-ID", "Idempotency-Key", "wait", "uuid"})
	require.Contains(t, operation("delete", "/api/v1/gateway/dead-letters"), "requestBody")

	ids := map[any]bool{}
	for _, item := range d["paths"].(map[string]any) {
		for _, o := range item.(map[string]any) {
			id := o.(map[string]any)["operationId"]
			require.False(t, ids[id], "operation id %v is used once", id)
			ids[id] = true
		}
	}
}

func TestTheDocsPageLoadsEverythingFromThisHost(t *testing.T) {
	r := start(t)
	c := r.dial()
	page := c.get("/docs")
	require.Equal(t, 200, page.StatusCode)
	require.Contains(t, page.Header.Get("Content-Type"), "text/html")
	require.NotRegexp(t, `(?i)(src|href|url)\s*[=:(]\s*["']?(https?:)?//`, string(page.body), "nothing from elsewhere")
	require.Contains(t, string(page.body), documentPath)
	assets := regexp.MustCompile(`(?:src|href)="([^"]+)"`).FindAllSubmatch(page.body, -1)
	require.GreaterOrEqual(t, len(assets), 4)
	for _, a := range assets {
		path := string(a[1])
		require.True(t, strings.HasPrefix(path, "/docs/"), path)
		got := c.get(path)
		require.Equal(t, 200, got.StatusCode, path)
		require.NotEmpty(t, got.body, path)
		if strings.HasSuffix(path, ".css") {
			require.NotRegexp(t, `(?i)(@import|url\()\s*["']?https?:`, string(got.body))
		}
	}
	c.get("/docs/nothing.js").failure(t, 404)
	c.works()
}
