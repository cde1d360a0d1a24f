package vectors

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/gofiber/fiber/v2"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/rivergate/rivergate/services/platform/api"
	"github.com/rivergate/rivergate/services/platform/database"
)

func TestMain(m *testing.M) {
	goleak.VerifyTestMain(m, goleak.IgnoreAnyFunction("github.com/valyala/fasthttp.updateServerDate.func1")) // one for ever
}

func open(t testing.TB, db *database.DB, o Options) *Vectors {
	t.Helper()
	v, err := Open(t.Context(), db, o)
	require.NoError(t, err)
	t.Cleanup(v.Close)
	return v
}

func openSQLite(t testing.TB) *database.DB {
	t.Helper()
	db, err := database.Open(t.Context(), filepath.Join(t.TempDir(), "a.db"))
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, db.Close()) })
	return db
}

// settle waits until nothing is being built.
func (v *Vectors) settle() {
	v.builders.Wait()
	if v.pgvector != nil {
		v.pgvector.followers.Wait()
	}
}

// client speaks to the routes.
type client struct {
	t   *testing.T
	app *fiber.App
	org int
}

func serve(t *testing.T, v *Vectors) *client {
	app := fiber.New(fiber.Config{
		StreamRequestBody: true, DisablePreParseMultipartForm: true, BodyLimit: MaxBody,
		ErrorHandler: func(c *fiber.Ctx, err error) error { api.Fail(c.Context(), err); return nil },
	})
	app.Use(func(c *fiber.Ctx) error {
		c.Context().SetRemoteAddr(&net.TCPAddr{IP: net.IPv4(127, 0, 0, 1)})
		return c.Next()
	})
	api.Mount(app, v.Routes(), &api.Gate{Development: true}, api.NewAnswers(time.Hour))
	return &client{t, app, 1}
}

// post returns the status and the body's data or error.
func (c *client) post(route, body string) (int, map[string]any) {
	c.t.Helper()
	request := httptest.NewRequest(http.MethodPost, "/internal/vectors/"+route, strings.NewReader(body))
	request.Header.Set("Content-Type", api.JSON)
	request.Header.Set(api.HeaderOrg, fmt.Sprint(c.org))
	response, err := c.app.Test(request, -1)
	require.NoError(c.t, err)
	defer response.Body.Close()
	raw, err := io.ReadAll(response.Body)
	require.NoError(c.t, err)
	var answer map[string]any
	decoder := json.NewDecoder(bytes.NewReader(raw))
	require.NoError(c.t, decoder.Decode(&answer), "%s", raw)
	if response.StatusCode == http.StatusOK {
		return response.StatusCode, answer["data"].(map[string]any)
	}
	return response.StatusCode, answer["error"].(map[string]any)
}

func (c *client) ok(route, body string) map[string]any {
	c.t.Helper()
	status, data := c.post(route, body)
	require.Equal(c.t, http.StatusOK, status, "%v", data)
	return data
}

// ids are those of a search, best first.
func (c *client) ids(body string) []string {
	c.t.Helper()
	ids := []string{}
	for _, m := range c.ok("search", body)["matches"].([]any) {
		ids = append(ids, m.(map[string]any)["id"].(string))
	}
	return ids
}
