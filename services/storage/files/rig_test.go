package files

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
	"net/textproto"
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

const quota = 1 << 20

// rig is the service on a real listener, with a backend that fails when it is told to. Every answer is held against the OpenAPI document.
type rig struct {
	t       *testing.T
	service *Service
	ledger  *ledger.Ledger
	dir     *storagetest.Dir
	db      *database.DB
	client  *http.Client
	addr    string
	url     string
	now     time.Time
	schemas *schemas
	org     string
	user    string
}

type change func(*Options)

func sqlite(t *testing.T) *database.DB {
	t.Helper()
	db, err := database.Open(t.Context(), filepath.Join(t.TempDir(), "a.db"))
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, db.Close()) })
	return db
}

// newRig encrypts; the quota of each org is 1 MiB.
func newRig(t *testing.T, db *database.DB, changes ...change) *rig {
	t.Helper()
	r := &rig{t: t, dir: storagetest.NewDir(t.TempDir()), db: db, org: "7", user: "3", now: time.Now()}
	var err error
	r.ledger, err = ledger.Open(t.Context(), db, ledger.Options{DefaultLimit: quota, Log: hclog.NewNullLogger(), Registry: prometheus.NewRegistry()})
	require.NoError(t, err)
	master, err := seal.NewMaster()
	require.NoError(t, err)
	keys, err := seal.Open(t.Context(), db, seal.Given(master), seal.Options{})
	require.NoError(t, err)
	o := Options{
		Ledger: r.ledger, Objects: r.dir, DB: db, Keys: keys, MaxFile: 4 << 20, SigningKey: bytes.Repeat([]byte{7}, 32), Skew: -1,
		SweepEvery: time.Hour, Now: func() time.Time { return r.now }, Log: hclog.NewNullLogger(), Registry: prometheus.NewRegistry(),
	}
	for _, c := range changes {
		c(&o)
	}
	r.service, err = New(t.Context(), o)
	require.NoError(t, err)
	r.serve()
	return r
}

func (r *rig) serve() {
	t := r.t
	t.Helper()
	routes := r.service.Routes()
	r.schemas = newSchemas(t, routes)
	for i := range routes { // the answer says which route gave it
		id, handler := routes[i].ID, routes[i].Handler
		routes[i].Handler = func(c *fiber.Ctx) error {
			c.Set("X-Route", id)
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
	r.addr = listener.Addr().String()
	r.url = "http://" + r.addr
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
		require.NoError(t, r.service.Close())
		require.NoError(t, r.ledger.Close())
	})
}

// answer is what came back.
type answer struct {
	t      *testing.T
	status int
	header http.Header
	body   []byte
}

func (r *rig) send(method, path string, body io.Reader, headers ...string) (answer, error) {
	r.t.Helper()
	if !strings.HasPrefix(path, "http") {
		path = r.url + path
	}
	request, err := http.NewRequestWithContext(r.t.Context(), method, path, body)
	require.NoError(r.t, err)
	request.Header.Set(api.HeaderOrg, r.org)
	if r.user != "" {
		request.Header.Set(api.HeaderUser, r.user)
	}
	for i := 0; i < len(headers); i += 2 {
		request.Header.Set(headers[i], headers[i+1])
	}
	response, err := r.client.Do(request)
	if err != nil {
		return answer{}, err
	}
	defer response.Body.Close()
	a := answer{t: r.t, status: response.StatusCode, header: response.Header}
	if a.body, err = io.ReadAll(response.Body); err != nil {
		return a, err
	}
	r.schemas.check(r.t, a, method == http.MethodHead)
	return a, nil
}

func (r *rig) do(method, path string, body io.Reader, headers ...string) answer {
	r.t.Helper()
	a, err := r.send(method, path, body, headers...)
	require.NoError(r.t, err)
	return a
}

func (r *rig) get(path string, headers ...string) answer {
	r.t.Helper()
	return r.do(http.MethodGet, path, nil, headers...)
}

// part is one part of a form.
type part struct {
	name, fileName, value string
	header                []string
}

func formOf(parts ...part) (body []byte, contentType string) {
	var b bytes.Buffer
	w := multipart.NewWriter(&b)
	for _, p := range parts {
		h := textproto.MIMEHeader{}
		disposition := fmt.Sprintf(`form-data; name="%s"`, p.name)
		if p.fileName != "" {
			disposition += fmt.Sprintf(`; filename="%s"`, strings.NewReplacer(`\`, `\\`, `"`, `\"`).Replace(p.fileName))
		}
		h.Set("Content-Disposition", disposition)
		for i := 0; i < len(p.header); i += 2 {
			h.Set(p.header[i], p.header[i+1])
		}
		to, _ := w.CreatePart(h)
		_, _ = io.WriteString(to, p.value)
	}
	_ = w.Close()
	return b.Bytes(), w.FormDataContentType()
}

func (r *rig) form(path string, headers []string, parts ...part) answer {
	r.t.Helper()
	body, contentType := formOf(parts...)
	return r.do(http.MethodPost, path, bytes.NewReader(body), append([]string{"Content-Type", contentType}, headers...)...)
}

const uploadPath = prefix + "/upload"

// upload uploads a file and expects that it is taken.
func (r *rig) upload(name, content string, fields ...part) Uploaded {
	r.t.Helper()
	return data[Uploaded](r.form(uploadPath, nil, append(fields, part{name: "file", fileName: name, value: content})...), http.StatusCreated)
}

func data[T any](a answer, status int) T {
	a.t.Helper()
	require.Equal(a.t, status, a.status, "%s", a.body)
	var e api.Envelope[T]
	require.NoError(a.t, json.Unmarshal(a.body, &e), "%s", a.body)
	require.True(a.t, e.Success)
	require.NotEmpty(a.t, e.Message)
	return e.Data
}

// refused is the error of an answer with this status.
func (a answer) refused(status int) api.FailureInfo {
	a.t.Helper()
	require.Equal(a.t, status, a.status, "%s", a.body)
	var f api.Failure
	require.NoError(a.t, json.Unmarshal(a.body, &f), "%s", a.body)
	require.Equal(a.t, api.CodeOf(status), f.Error.Code)
	if f.Error.Details == nil {
		f.Error.Details = &api.Details{}
	}
	return f.Error
}

func objectPath(name string) string { return objectsPath + "/" + escapedName(name) }

func (r *rig) usage() Usage {
	r.t.Helper()
	return data[Usage](r.get(prefix+"/usage"), http.StatusOK)
}

// clean proves that nothing is there, and nothing charged or reserved.
func (r *rig) clean() {
	r.t.Helper()
	require.Empty(r.t, r.dir.Keys())
	files, err := r.dir.Files()
	require.NoError(r.t, err)
	require.Zero(r.t, files)
	u := r.usage()
	require.Zero(r.t, u.UsedBytes)
	require.Zero(r.t, u.ReservedBytes)
	require.Zero(r.t, u.FileCount)
	r.reconciled()
}

// reconciled proves that the books are in order.
func (r *rig) reconciled() {
	r.t.Helper()
	report, err := r.ledger.Reconcile(r.t.Context(), r.dir, ledger.ReconcileOptions{})
	require.NoError(r.t, err)
	require.True(r.t, report.Empty(), "%+v", report)
}

// schemas are the answers that the OpenAPI document promises, by operation.
type schemas struct {
	mu       sync.Mutex // of the compiler
	compiler *jsonschema.Compiler
	document any
	places   map[string]string // operation id → pointer to its responses
}

func newSchemas(t *testing.T, routes []api.Route) *schemas {
	t.Helper()
	text, err := api.Document(api.Info{Title: "t", Version: "1"}, routes)
	require.NoError(t, err)
	s := &schemas{compiler: jsonschema.NewCompiler(), places: map[string]string{}}
	s.document, err = jsonschema.UnmarshalJSON(bytes.NewReader(text))
	require.NoError(t, err)
	require.NoError(t, s.compiler.AddResource("file:///openapi.json", s.document))
	for path, item := range s.document.(map[string]any)["paths"].(map[string]any) {
		for method, operation := range item.(map[string]any) {
			id := operation.(map[string]any)["operationId"].(string)
			s.places[id] = strings.ReplaceAll(strings.ReplaceAll(path, "~", "~0"), "/", "~1") + "/" + method + "/responses/"
		}
	}
	return s
}

// check holds an answer against the document: the status is promised, and the body is what is promised with it.
func (s *schemas) check(t *testing.T, a answer, head bool) {
	t.Helper()
	id := a.header.Get("X-Route")
	if id == "" {
		return // refused before any route of ours
	}
	require.Contains(t, s.places, id)
	place := s.places[id] + fmt.Sprint(a.status)
	at := s.document.(map[string]any)["paths"]
	for step := range strings.SplitSeq(place, "/") {
		next, ok := at.(map[string]any)[strings.ReplaceAll(strings.ReplaceAll(step, "~1", "/"), "~0", "~")]
		require.True(t, ok, "%s does not promise status %d: %s", id, a.status, a.body)
		at = next
	}
	content, _ := at.(map[string]any)["content"].(map[string]any)
	if head || len(a.body) == 0 {
		return
	}
	if !strings.HasPrefix(a.header.Get("Content-Type"), api.JSON) || content[api.JSON] == nil {
		require.NotEmpty(t, content, "%s %d promises no body: %s", id, a.status, a.body)
		return
	}
	s.mu.Lock()
	schema, err := s.compiler.Compile("file:///openapi.json#/paths/" + place + "/content/application~1json/schema")
	s.mu.Unlock()
	require.NoError(t, err)
	value, err := jsonschema.UnmarshalJSON(bytes.NewReader(a.body))
	require.NoError(t, err)
	require.NoError(t, schema.Validate(value), "%s %d: %s", id, a.status, a.body)
}
