package server

import (
	"net/http"
	"time"

	"github.com/gofiber/fiber/v2"
	"github.com/prometheus/client_golang/prometheus/promhttp"
	"github.com/valyala/fasthttp/fasthttpadaptor"

	"github.com/rivergate/rivergate/services/platform/api"
)

const (
	serviceName = "rivergate"
	tagHost     = "Host"
)

// Health is the answer of GET /health: the process is alive.
type Health struct {
	Status    string    `json:"status" required:"true" const:"healthy"`
	Service   string    `json:"service" required:"true"`
	Version   string    `json:"version" required:"true"`
	Timestamp time.Time `json:"timestamp" required:"true"`
}

// Readiness is the answer of GET /ready.
type Readiness struct {
	Status  string     `json:"status" required:"true" enum:"ready,not_ready"`
	Failing []NotReady `json:"failing,omitempty" nullable:"false"`
}

// NotReady is a part that cannot do its work now.
type NotReady struct {
	Part   string `json:"part" required:"true"`
	Reason string `json:"reason" required:"true"`
}

// Status is the answer of GET /status.
type Status struct {
	Service       string   `json:"service" required:"true"`
	Version       string   `json:"version" required:"true"`
	Status        string   `json:"status" required:"true" enum:"healthy,degraded"`
	UptimeSeconds int64    `json:"uptime_seconds" required:"true"`
	Targets       []string `json:"targets" required:"true" nullable:"false"`
	Parts
}

// Parts is what /status shows of the parts of the host. Engines, connectors and the cache are there for clients that look for
// them; without the services that have them nothing is available.
type Parts struct {
	Plugins    map[string]PluginState `json:"plugins" required:"true" nullable:"false" description:"By name."`
	Engines    Engines                `json:"engines" required:"true"`
	Connectors Connectors             `json:"connectors" required:"true"`
	Cache      Cache                  `json:"cache" required:"true"`
	Journal    Journal                `json:"journal" required:"true"`
}

// PluginState is one plugin in short.
type PluginState struct {
	Kind  string `json:"kind" required:"true"`
	State string `json:"state" required:"true"`
}

// Engines tells which query engines there are.
type Engines struct {
	DuckDB Available `json:"duckdb" required:"true"`
	Trino  Available `json:"trino" required:"true"`
	Native Available `json:"native" required:"true"`
}

// Available tells whether something is there.
type Available struct {
	Available bool `json:"available" required:"true"`
}

// Connectors counts connector types.
type Connectors struct {
	Registered int `json:"registered" required:"true"`
	Available  int `json:"available" required:"true"`
}

// Cache counts the use of the cache.
type Cache struct {
	Entries int64 `json:"entries" required:"true"`
	Hits    int64 `json:"hits" required:"true"`
	Misses  int64 `json:"misses" required:"true"`
}

// Journal is the journal in short.
type Journal struct {
	Bytes       int64 `json:"bytes" required:"true"`
	Segments    int   `json:"segments" required:"true"`
	OldestAgeMS int64 `json:"oldest_age_ms" required:"true"`
}

func (s *Server) health(c *fiber.Ctx) error {
	return api.Bare(c, http.StatusOK, Health{"healthy", serviceName, s.o.Version, time.Now().UTC()})
}

func (s *Server) notReady() []NotReady {
	if s.o.Ready == nil {
		return nil
	}
	return s.o.Ready()
}

func (s *Server) ready(c *fiber.Ctx) error {
	if failing := s.notReady(); len(failing) > 0 {
		return api.Bare(c, http.StatusServiceUnavailable, Readiness{"not_ready", failing})
	}
	return api.Bare(c, http.StatusOK, Readiness{Status: "ready"})
}

func (s *Server) status(c *fiber.Ctx) error {
	out := Status{
		Service: serviceName, Version: s.o.Version, Status: "healthy",
		UptimeSeconds: int64(time.Since(s.started).Seconds()), Targets: s.o.Targets,
	}
	if len(s.notReady()) > 0 {
		out.Status = "degraded"
	}
	if s.o.Status != nil {
		out.Parts = s.o.Status()
	}
	if out.Targets == nil {
		out.Targets = []string{}
	}
	if out.Plugins == nil {
		out.Plugins = map[string]PluginState{}
	}
	return api.Bare(c, http.StatusOK, out)
}

// ownRoutes are those that belong to the host itself.
func (s *Server) ownRoutes() []api.Route {
	metrics := fasthttpadaptor.NewFastHTTPHandler(promhttp.HandlerFor(s.o.Gatherer, promhttp.HandlerOpts{
		ErrorHandling: promhttp.ContinueOnError,
	}))
	status := []api.Answer{{Status: http.StatusOK, Body: Status{}}}
	return append([]api.Route{
		{
			Method: http.MethodGet, Path: "/health", ID: "getHealth", Tag: tagHost, Public: true, Summary: "Is the process alive",
			Answers: []api.Answer{{Status: http.StatusOK, Body: Health{}}}, Handler: s.health,
		},
		{
			Method: http.MethodGet, Path: "/ready", ID: "getReady", Tag: tagHost, Public: true, Summary: "Can every part do its work",
			Answers: []api.Answer{
				{Status: http.StatusOK, Body: Readiness{}},
				{Status: http.StatusServiceUnavailable, Body: Readiness{}, About: "Names the parts that cannot."},
			}, Handler: s.ready,
		},
		{Method: http.MethodGet, Path: "/status", ID: "getStatus", Tag: tagHost, Public: true, Summary: "The host in short", Answers: status, Handler: s.status},
		{Method: http.MethodGet, Path: "/", ID: "getRoot", Tag: tagHost, Public: true, Summary: "The same as /status", Answers: status, Handler: s.status},
		{
			Method: http.MethodGet, Path: "/metrics", ID: "getMetrics", Tag: tagHost, Public: true, Summary: "Metrics for Prometheus",
			Answers: []api.Answer{{Status: http.StatusOK, Type: "text/plain", Body: ""}},
			Handler: func(c *fiber.Ctx) error { metrics(c.Context()); return nil },
		},
	}, s.docRoutes()...)
}
