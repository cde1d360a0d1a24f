package server

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"iter"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/gofiber/fiber/v2"
	"github.com/hashicorp/go-hclog"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/rivergate/rivergate/sdk/protocol"
	"github.com/rivergate/rivergate/services/gateway"
	"github.com/rivergate/rivergate/services/gateway/delivery"
	"github.com/rivergate/rivergate/services/gateway/journal"
	"github.com/rivergate/rivergate/services/platform/api"
)

func TestMain(m *testing.M) {
	goleak.VerifyTestMain(m,
		goleak.IgnoreAnyFunction("github.com/valyala/fasthttp.updateServerDate.func1"), // one for the process
		// Sleeps up to ten seconds after its server has stopped.
		goleak.IgnoreAnyFunction("github.com/valyala/fasthttp.(*workerPool).Start.func2"),
		// The benchmarks' client: the same.
		goleak.IgnoreAnyFunction("github.com/valyala/fasthttp.(*HostClient).connsCleaner"),
		goleak.IgnoreAnyFunction("github.com/valyala/fasthttp.(*TCPDialer).tcpAddrsClean"),
	)
}

// idle plays package delivery with one pusher that settles nothing, unless accepted says so. Routes that need more are not
// asked here.
type idle struct {
	gateway.Delivery
	accepted func(*protocol.Frame)
	letters  iter.Seq2[delivery.DeadLetter, error]
}

func (idle) Names(uint64) []string   { return []string{"file"} }
func (idle) Admit(uint64, int) error { return nil }
func (i *idle) Accepted(f *protocol.Frame) {
	if i.accepted != nil {
		i.accepted(f)
	}
}
func (i *idle) ExportDeadLetters(context.Context, delivery.Filter) iter.Seq2[delivery.DeadLetter, error] {
	return i.letters
}
func (idle) Status() []delivery.Status { return nil }
func (idle) Wait(ctx context.Context, _ *protocol.Frame) []delivery.Progress {
	<-ctx.Done()
	return []delivery.Progress{{Name: "file", State: "pending"}}
}

// rig is a server on a real listener, with the gateway's routes on a real journal and a few more.
type rig struct {
	t       *testing.T
	server  *Server
	service *gateway.Service
	journal journal.Journal
	pusher  *idle
	addr    string
	log     *bytes.Buffer // read it after stop
	stop    func()
}

type change func(*Options)

func extraRoutes() []api.Route {
	route := func(method, path, id string, handler fiber.Handler) api.Route {
		return api.Route{Method: method, Path: path, ID: id, Tag: "Test", Summary: id, Handler: handler}
	}
	return []api.Route{
		route("GET", "/test/panic", "panic", func(*fiber.Ctx) error { panic("secret in /some/path") }),
		route("GET", "/test/broken", "broken", func(*fiber.Ctx) error { return fmt.Errorf("secret in /some/path") }),
		route("GET", "/test/caller", "caller", func(c *fiber.Ctx) error { return api.OK(c, *api.CallerOf(c), "Seen") }),
		route("GET", "/internal/test", "internal", func(c *fiber.Ctx) error { return api.OK(c, nil, "Passed") }),
	}
}

func newServer(t testing.TB, changes ...change) *rig {
	t.Helper()
	r := &rig{log: &bytes.Buffer{}, pusher: &idle{}}
	j, err := journal.Open(journal.Options{Dir: t.TempDir(), MaxBytes: 1 << 30, SegmentBytes: 64 << 20, Log: hclog.NewNullLogger()})
	require.NoError(t, err)
	r.journal = j
	registry := prometheus.NewRegistry()
	r.service, err = gateway.New(gateway.Options{Journal: j, Delivery: r.pusher, Log: hclog.NewNullLogger(), Registry: registry})
	require.NoError(t, err)
	o := Options{
		Listen: "127.0.0.1:0", Routes: append(r.service.Routes(), extraRoutes()...), Version: "1.2.3", Targets: []string{"gateway"},
		Hurry: r.service.Hurry, Gatherer: registry, ShutdownTimeout: 5 * time.Second,
		Log: hclog.New(&hclog.LoggerOptions{Output: r.log, Level: hclog.Info}),
	}
	for _, c := range changes {
		c(&o)
	}
	r.server, err = New(o)
	require.NoError(t, err)
	t.Cleanup(func() {
		require.NoError(t, r.service.Close())
		require.NoError(t, j.Close())
	})
	return r
}

// start serves until stop.
func start(t *testing.T, changes ...change) *rig {
	t.Helper()
	r := newServer(t, changes...)
	r.t = t
	l, err := r.server.Listen(t.Context())
	require.NoError(t, err)
	r.addr = l.Addr().String()
	ctx, cancel := context.WithCancel(context.Background())
	served := make(chan error, 1)
	go func() { served <- r.server.Serve(ctx, l) }()
	stopped := false
	r.stop = func() {
		if !stopped {
			stopped = true
			cancel()
			require.NoError(t, <-served)
		}
	}
	t.Cleanup(func() { r.stop() })
	return r
}

// conn is one connection, so that a test knows whether it stayed usable.
type conn struct {
	t *testing.T
	net.Conn
	in *bufio.Reader
}

func (r *rig) dial() *conn {
	r.t.Helper()
	c, err := net.DialTimeout("tcp", r.addr, 5*time.Second)
	require.NoError(r.t, err)
	require.NoError(r.t, c.SetDeadline(time.Now().Add(30*time.Second)))
	r.t.Cleanup(func() { _ = c.Close() })
	return &conn{r.t, c, bufio.NewReader(c)}
}

type answer struct {
	*http.Response
	body []byte
}

// send writes a request and reads its answer at the same time.
func (c *conn) send(method, path, headers string, body []byte) answer {
	c.t.Helper()
	sent := make(chan error, 1)
	go func() {
		head := method + " " + path + " HTTP/1.1\r\nHost: rivergate\r\n" + headers
		if body != nil && !strings.Contains(headers, "chunked") {
			head += fmt.Sprintf("Content-Length: %d\r\n", len(body))
		}
		_, err := io.WriteString(c, head+"\r\n")
		if err == nil && len(body) > 0 { // even an empty write fails on a connection that was closed behind its last answer
			_, err = c.Write(body)
		}
		sent <- err
	}()
	request, err := http.NewRequestWithContext(c.t.Context(), method, "http://rivergate"+path, nil)
	require.NoError(c.t, err)
	response, err := http.ReadResponse(c.in, request)
	require.NoError(c.t, err)
	defer response.Body.Close()
	a := answer{Response: response}
	a.body, err = io.ReadAll(response.Body)
	require.NoError(c.t, err)
	require.NoError(c.t, <-sent, "the server takes the body off the connection")
	return a
}

func (c *conn) get(path string) answer { c.t.Helper(); return c.send("GET", path, "", nil) }

const oneRow = `{"uuid":"u","row":{"data":{"a":1}}}`

// works proves that the connection is still usable.
func (c *conn) works() {
	c.t.Helper()
	require.Equal(c.t, 202, c.send("POST", "/data", "", []byte(oneRow)).StatusCode)
}

func (a answer) failure(t *testing.T, status int) api.FailureInfo {
	t.Helper()
	require.Equal(t, status, a.StatusCode, "%s", a.body)
	var f api.Failure
	require.NoError(t, json.Unmarshal(a.body, &f), "%s", a.body)
	require.False(t, f.Success)
	require.Equal(t, api.CodeOf(status), f.Error.Code)
	require.Equal(t, a.Header.Get("X-Request-ID"), f.Error.RequestID)
	require.NotEmpty(t, f.Error.RequestID)
	require.NotZero(t, f.Error.Timestamp)
	return f.Error
}
