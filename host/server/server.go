// Package server is the HTTP side of the host: one Fiber app with the routes of all services behind one fasthttp server.
//
//	connection → request id → origin → router → who is calling → idempotency key → handler → rest of the body drained → answer
//
// Request bodies are streamed: a handler reads its body with its own limit, so that one that is too large costs no memory and
// leaves the connection usable.
package server

import (
	"context"
	"errors"
	"fmt"
	"math"
	"net"
	"net/http"
	"runtime/debug"
	"sync"
	"time"

	"github.com/gofiber/fiber/v2"
	"github.com/hashicorp/go-hclog"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/valyala/fasthttp"

	"github.com/rivergate/rivergate/services/platform/api"
)

const (
	readTimeout     = time.Minute // for headers and body of one request
	idleTimeout     = 2 * time.Minute
	headerBytes     = 16 << 10
	shutdownTimeout = 10 * time.Second
	// drained is how much of an unread body is taken off a connection, beyond the limit on bodies, to keep it usable.
	drained = 64 << 20
)

// Options makes a Server. Listen, Log and Gatherer are needed.
type Options struct {
	Listen  string       // address and port
	Trusted []*net.IPNet // who may send context headers, besides loopback
	// InternalToken is what X-Internal-Token must be on /internal routes, once Listen is not loopback.
	InternalToken string

	// CORSOrigins are the origins whose pages may use the API; * alone: all.
	CORSOrigins []string

	Routes  []api.Route // of the services
	Version string
	Targets []string // services that this host runs

	IdempotencyTTL  time.Duration // how long answers of control routes are kept; 0: a day
	ShutdownTimeout time.Duration // 0: 10 s

	// Ready returns what is not ready, by part and reason; nil or empty: all is.
	Ready func() []NotReady
	// Status returns what /status shows of the parts.
	Status func() Parts
	// Hurry is called when the server begins to stop: end what waits on purpose.
	Hurry func()

	Log      hclog.Logger
	Gatherer prometheus.Gatherer
}

// Server serves the API on one listener.
type Server struct {
	o        Options
	log      hclog.Logger
	ids      *api.RequestIDs
	app      *fiber.App
	cors     *api.CORS
	http     *fasthttp.Server
	routes   []api.Route
	document func() ([]byte, error) // made for the first who asks: it would be most of the work of a start
	started  time.Time
}

// New makes the server; it does not listen yet. Error: the loopback rule (see CheckListen), or a bad origin.
func New(o Options) (*Server, error) {
	if o.Log == nil || o.Gatherer == nil {
		return nil, errors.New("server: log and gatherer are needed")
	}
	if err := CheckListen(o.Listen, o.Trusted); err != nil {
		return nil, err
	}
	if reason := api.CheckOrigins(o.CORSOrigins); reason != "" {
		return nil, errors.New("RIVERGATE_CORS_ORIGINS: " + reason)
	}
	if o.IdempotencyTTL == 0 {
		o.IdempotencyTTL = 24 * time.Hour
	}
	if o.ShutdownTimeout == 0 {
		o.ShutdownTimeout = shutdownTimeout
	}
	s := &Server{o: o, log: o.Log, ids: api.NewRequestIDs(), started: time.Now()}
	s.app = fiber.New(fiber.Config{
		DisableStartupMessage: true,
		ErrorHandler:          s.fail,
		// Bodies are read by the handlers; see package comment.
		StreamRequestBody: true, DisablePreParseMultipartForm: true, BodyLimit: math.MaxInt,
	})
	s.mount()
	s.cors = api.NewCORS(o.CORSOrigins, s.routes, s.app.Handler())
	s.http = &fasthttp.Server{
		Handler:      s.serve,
		ErrorHandler: s.broken,
		Logger:       quiet{o.Log},

		ReadTimeout: readTimeout, IdleTimeout: idleTimeout, ReadBufferSize: headerBytes,
		// The limit on a body is its handler's; this one only must not be reached before.
		StreamRequestBody: true, MaxRequestBodySize: math.MaxInt, DisablePreParseMultipartForm: true,
		NoDefaultServerHeader: true, CloseOnShutdown: true, SecureErrorLogMessage: true,
	}
	return s, nil
}

func (s *Server) mount() {
	loopback := IsLoopback(s.o.Listen)
	if !loopback {
		s.app.Use("/internal", internalToken(s.o.InternalToken))
	}
	s.routes = append(append([]api.Route{}, s.o.Routes...), s.ownRoutes()...)
	s.document = sync.OnceValues(func() ([]byte, error) {
		return api.Document(api.Info{
			Title: "Rivergate", Version: s.o.Version,
			About: "Rows in, kept safe, out through plugin processes.",
		}, s.routes)
	})
	gate := &api.Gate{Development: loopback, Trusted: s.o.Trusted}
	api.Mount(s.app, s.routes, gate, api.NewAnswers(s.o.IdempotencyTTL))
}

// Listen opens the listener. Serve closes it.
func (s *Server) Listen(ctx context.Context) (net.Listener, error) {
	l, err := new(net.ListenConfig).Listen(ctx, "tcp", s.o.Listen)
	if err != nil {
		return nil, fmt.Errorf("listen on %s: %w", s.o.Listen, err)
	}
	return l, nil
}

// Serve answers requests until ctx ends; then it lets those that run finish, up to the shutdown timeout. It closes l.
func (s *Server) Serve(ctx context.Context, l net.Listener) error {
	l = &onceListener{Listener: l}
	served := make(chan error, 1)
	go func() { served <- s.http.Serve(l) }()
	select {
	case err := <-served:
		return fmt.Errorf("serve HTTP: %w", err)
	case <-ctx.Done():
	}
	if s.o.Hurry != nil {
		s.o.Hurry()
	}
	// The listener goes first: a fasthttp server that is told to stop before it knows its listener would never stop.
	if err := l.Close(); err != nil {
		s.log.Warn("listener not closed", "error", err)
	}
	if err := <-served; err != nil {
		return fmt.Errorf("serve HTTP: %w", err)
	}
	last, cancel := context.WithTimeout(context.WithoutCancel(ctx), s.o.ShutdownTimeout)
	defer cancel()
	if err := s.http.ShutdownWithContext(last); err != nil {
		s.log.Warn("connections are still open", "after", s.o.ShutdownTimeout, "connections", s.http.GetOpenConnectionsCount(), "error", err)
	}
	return nil
}

// onceListener may be closed again.
type onceListener struct {
	net.Listener
	once sync.Once
	err  error
}

func (l *onceListener) Close() error {
	l.once.Do(func() { l.err = l.Listener.Close() })
	return l.err
}

// Handler is the whole server as one function, for tests that need no listener.
func (s *Server) Handler() fasthttp.RequestHandler { return s.serve }

// Routes are all routes, those of the server included.
func (s *Server) Routes() []api.Route { return s.routes }

// serve goes around every request.
func (s *Server) serve(ctx *fasthttp.RequestCtx) {
	caller := api.Begin(ctx, s.ids)
	if s.log.IsDebug() {
		defer s.access(ctx, caller, time.Now())
	}
	defer s.end(ctx, caller)
	s.cors.Serve(ctx)
}

// end recovers what a handler broke, and takes what it did not read off the connection.
func (s *Server) end(ctx *fasthttp.RequestCtx, caller *api.Caller) {
	if broken := recover(); broken != nil {
		s.log.Error("panic in a request", "request_id", caller.RequestID, "panic", fmt.Sprint(broken), "stack", string(debug.Stack()))
		api.Fail(ctx, api.Internal(nil))
	}
	if ctx.Request.IsBodyStream() {
		api.Drain(ctx, drained)
	}
	if ctx.Response.StatusCode() == http.StatusBadRequest && string(ctx.Response.Body()) == "Invalid http method" {
		api.Fail(ctx, fiber.ErrMethodNotAllowed) // Fiber's own answer to a method that no route can have
	}
}

func (s *Server) access(ctx *fasthttp.RequestCtx, caller *api.Caller, start time.Time) {
	s.log.Debug("request", "method", string(ctx.Method()), "path", string(ctx.Path()), "status", ctx.Response.StatusCode(),
		"took", time.Since(start), "org", caller.OrgID, "peer", ctx.RemoteAddr().String(), "request_id", caller.RequestID)
}

// fail is Fiber's error handler.
func (s *Server) fail(c *fiber.Ctx, err error) error {
	e := api.AsError(err)
	api.Fail(c.Context(), e)
	switch {
	case e.Status == http.StatusInternalServerError:
		s.log.Error("request failed", "method", c.Method(), "path", string(c.Context().Path()), "error", err, "request_id", api.RequestID(c))
	case e.Cause != nil && s.log.IsDebug():
		s.log.Debug("request refused", "path", string(c.Context().Path()), "status", e.Status, "reason", e.Cause, "request_id", api.RequestID(c))
	}
	return nil
}

// broken answers what is not HTTP, or not in time, or has too long headers. The connection is closed behind it.
func (s *Server) broken(ctx *fasthttp.RequestCtx, err error) {
	api.Begin(ctx, s.ids)
	s.cors.Allow(ctx)
	var small *fasthttp.ErrSmallBuffer
	var network net.Error
	switch {
	case errors.As(err, &small):
		err = &api.Error{Status: http.StatusRequestHeaderFieldsTooLarge, Message: fmt.Sprintf("The headers are larger than %d bytes", headerBytes)}
	case errors.As(err, &network) && network.Timeout():
		err = &api.Error{Status: http.StatusRequestTimeout, Message: "The request did not come in time"}
	default:
		err = &api.Error{Status: http.StatusBadRequest, Message: "This is not an HTTP request that can be answered", Cause: err}
	}
	api.Fail(ctx, err)
}

// quiet passes on what fasthttp says of connections at debug level.
type quiet struct{ log hclog.Logger }

func (q quiet) Printf(format string, args ...any) {
	if q.log.IsDebug() {
		q.log.Debug("connection", "said", fmt.Sprintf(format, args...))
	}
}
