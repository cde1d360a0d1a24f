package storage

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"math"
	"mime/multipart"
	"net"
	"net/http"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/gofiber/fiber/v2"
	"github.com/hashicorp/go-hclog"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/santhosh-tekuri/jsonschema/v6"
	"github.com/stretchr/testify/require"
	"github.com/valyala/fasthttp"
	"go.uber.org/goleak"

	"github.com/rivergate/rivergate/services/platform/api"
	"github.com/rivergate/rivergate/services/platform/database"
	"github.com/rivergate/rivergate/services/storage/ledger"
	"github.com/rivergate/rivergate/services/storage/seal"
	"github.com/rivergate/rivergate/services/storage/storagetest"
)

func TestMain(m *testing.M) {
	goleak.VerifyTestMain(m,
		goleak.IgnoreAnyFunction("github.com/valyala/fasthttp.updateServerDate.func1"),    // one for the process
		goleak.IgnoreAnyFunction("github.com/valyala/fasthttp.(*workerPool).Start.func2"), // sleeps up to ten seconds after its server has stopped
	)
}

const testQuota = 1 << 20

// rig is the whole service on a real listener, over a backend that fails when it is told to. Successes are held against the OpenAPI document.
type rig struct {
	t        *testing.T
	service  *Service
	dir      *storagetest.Dir
	db       *database.DB
	rotated  []seal.Master // what the source of master keys gives
	url      string
	client   *http.Client
	org      string
	key      string // Idempotency-Key; empty: none
	document any
	mu       sync.Mutex // of the compiler
	compiler *jsonschema.Compiler
}

func openSQLite(t *testing.T) *database.DB {
	t.Helper()
	db, err := database.Open(t.Context(), filepath.Join(t.TempDir(), "a.db"))
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, db.Close()) })
	return db
}

func newRig(t *testing.T, db *database.DB) *rig {
	t.Helper()
	master, err := seal.NewMaster()
	require.NoError(t, err)
	r := &rig{t: t, db: db, dir: storagetest.NewDir(t.TempDir()), rotated: []seal.Master{master}, org: "7"}
	r.service = r.open()
	t.Cleanup(func() { require.NoError(t, r.service.Close()) })
	r.serve()
	return r
}

// serve puts the service on a listener of its own.
func (r *rig) serve() {
	t := r.t
	t.Helper()
	routes := r.service.Routes()
	text, err := api.Document(api.Info{Title: "t", Version: "1"}, routes)
	require.NoError(t, err)
	r.compiler = jsonschema.NewCompiler()
	r.document, err = jsonschema.UnmarshalJSON(bytes.NewReader(text))
	require.NoError(t, err)
	require.NoError(t, r.compiler.AddResource("file:///openapi.json", r.document))
	for i := range routes { // the answer says which route gave it
		at, handler := routes[i].OpenAPIPath(), routes[i].Handler
		routes[i].Handler = func(c *fiber.Ctx) error {
			c.Set("X-Route", at)
			return handler(c)
		}
	}
	app := fiber.New(fiber.Config{DisableStartupMessage: true, StreamRequestBody: true, BodyLimit: math.MaxInt, ErrorHandler: func(c *fiber.Ctx, err error) error {
		api.Fail(c.Context(), err)
		return nil
	}})
	api.Mount(app, routes, &api.Gate{Development: true}, api.NewAnswers(time.Hour))
	ids, inner := api.NewRequestIDs(), app.Handler()
	server := &fasthttp.Server{
		StreamRequestBody: true, MaxRequestBodySize: math.MaxInt, CloseOnShutdown: true, DisablePreParseMultipartForm: true,
		ReadTimeout: time.Minute, ReadBufferSize: 16 << 10,
		Handler: func(ctx *fasthttp.RequestCtx) {
			api.Begin(ctx, ids)
			inner(ctx)
			api.Drain(ctx, 64<<20)
		},
	}
	listener, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0")
	require.NoError(t, err)
	r.url = "http://" + listener.Addr().String()
	served := make(chan error, 1)
	go func() { served <- server.Serve(listener) }()
	transport := &http.Transport{}
	r.client = &http.Client{Transport: transport}
	t.Cleanup(func() {
		transport.CloseIdleConnections()
		ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
		defer cancel()
		require.NoError(t, server.ShutdownWithContext(ctx))
		require.NoError(t, <-served)
	})
}

func (r *rig) master() ([]seal.Master, error) { return r.rotated, nil }

// open is another host on the same database and backend.
func (r *rig) open() *Service {
	r.t.Helper()
	s, err := New(r.t.Context(), Options{
		DB: r.db, Objects: r.dir, Master: r.master, Quota: testQuota, Log: hclog.NewNullLogger(), Registry: prometheus.NewRegistry(),
	})
	require.NoError(r.t, err)
	return s
}

// ask sends a request and returns the status and data, or the error, of its answer.
func (r *rig) ask(method, path string, body io.Reader, contentType string) (int, map[string]any) {
	r.t.Helper()
	if !strings.HasPrefix(path, "http") {
		path = r.url + path
	}
	request, err := http.NewRequestWithContext(r.t.Context(), method, path, body)
	require.NoError(r.t, err)
	request.Header.Set(api.HeaderOrg, r.org)
	request.Header.Set(api.HeaderUser, "3")
	if r.key != "" {
		request.Header.Set(api.HeaderIdempotencyKey, r.key)
	}
	if contentType != "" {
		request.Header.Set("Content-Type", contentType)
	}
	response, err := r.client.Do(request)
	require.NoError(r.t, err)
	defer response.Body.Close()
	text, err := io.ReadAll(response.Body)
	require.NoError(r.t, err)
	if response.Header.Get("Content-Type") != api.JSON {
		return response.StatusCode, map[string]any{"bytes": string(text)}
	}
	r.check(response, text)
	var answer struct {
		Data  map[string]any `json:"data"`
		Error map[string]any `json:"error"`
	}
	require.NoError(r.t, json.Unmarshal(text, &answer))
	if answer.Error != nil {
		return response.StatusCode, answer.Error
	}
	return response.StatusCode, answer.Data
}

// check holds an answer against the document.
func (r *rig) check(response *http.Response, text []byte) {
	r.t.Helper()
	at := response.Header.Get("X-Route")
	if at == "" {
		return // refused before any route
	}
	escaped := strings.ReplaceAll(strings.ReplaceAll(at, "~", "~0"), "/", "~1")
	pointer := fmt.Sprintf("/paths/%s/%s/responses/%d/content/application~1json/schema", escaped, strings.ToLower(response.Request.Method), response.StatusCode)
	r.mu.Lock()
	schema, err := r.compiler.Compile("file:///openapi.json#" + pointer)
	r.mu.Unlock()
	require.NoError(r.t, err, "%s %d is not promised: %s", at, response.StatusCode, text)
	value, err := jsonschema.UnmarshalJSON(bytes.NewReader(text))
	require.NoError(r.t, err)
	require.NoError(r.t, schema.Validate(value), "%s", text)
}

func (r *rig) get(path string) (int, map[string]any) {
	r.t.Helper()
	return r.ask(http.MethodGet, path, nil, "")
}

func (r *rig) post(path, body string) (int, map[string]any) {
	r.t.Helper()
	return r.ask(http.MethodPost, path, strings.NewReader(body), api.JSON)
}

// upload sends a form: pairs of fields, and the file where the name is "file" and the value is name, newline, content.
func (r *rig) upload(path string, pairs ...string) (int, map[string]any) {
	r.t.Helper()
	var b bytes.Buffer
	w := multipart.NewWriter(&b)
	for i := 0; i < len(pairs); i += 2 {
		if pairs[i] != "file" {
			require.NoError(r.t, w.WriteField(pairs[i], pairs[i+1]))
			continue
		}
		name, content, _ := strings.Cut(pairs[i+1], "\n")
		to, err := w.CreateFormFile("file", name)
		require.NoError(r.t, err)
		_, err = io.WriteString(to, content)
		require.NoError(r.t, err)
	}
	require.NoError(r.t, w.Close())
	return r.ask(http.MethodPost, path, &b, w.FormDataContentType())
}

// reconciled proves that the books are in order, and returns what the org uses.
func (r *rig) reconciled() int64 {
	r.t.Helper()
	report, err := r.service.Ledger.Reconcile(r.t.Context(), r.dir, ledger.ReconcileOptions{})
	require.NoError(r.t, err)
	require.True(r.t, report.Empty(), "%+v", report)
	usage, err := r.service.Ledger.Usage(r.t.Context(), 7)
	require.NoError(r.t, err)
	require.Zero(r.t, usage.Reserved)
	return usage.Used
}
