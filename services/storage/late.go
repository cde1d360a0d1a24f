package storage

import (
	"context"
	"errors"
	"math/rand/v2"
	"sync/atomic"
	"time"

	"github.com/gofiber/fiber/v2"
	"github.com/hashicorp/go-hclog"
	"github.com/prometheus/client_golang/prometheus"
	dto "github.com/prometheus/client_model/go"

	"github.com/rivergate/rivergate/services/platform/api"
)

// Late is a storage service that is opened while the host serves already, and for as long as that takes: a database or a backend that is
// down when the host starts keeps nothing else from starting. Until then its routes answer 503 and say why.
type Late struct {
	open   func(context.Context, prometheus.Registerer) (*Service, error)
	log    hclog.Logger
	routes []api.Route

	now atomic.Pointer[opened]
	why atomic.Pointer[error]

	end   context.CancelFunc
	ended chan struct{}
}

// opened is a service with its handlers by the ids of their routes, and its metrics.
type opened struct {
	service  *Service
	handlers map[string]fiber.Handler
	registry *prometheus.Registry
}

// The pauses between attempts to open.
const (
	firstPause = 200 * time.Millisecond
	longPause  = 30 * time.Second
)

// errOpening is the reason until the first attempt has ended.
var errOpening = errors.New("it is being opened")

// NewLate declares the routes. Nothing is opened before Start. open is called until it succeeds, each time with a registry that knows nothing
// of the attempts before; it leaves nothing open when it fails.
func NewLate(open func(context.Context, prometheus.Registerer) (*Service, error), log hclog.Logger) *Late {
	l := &Late{open: open, log: log, ended: make(chan struct{})}
	reason := errOpening
	l.why.Store(&reason)
	l.routes = declared()
	for i := range l.routes {
		id := l.routes[i].ID
		l.routes[i].Handler = func(c *fiber.Ctx) error { return l.pass(id, c) }
		l.routes[i].Errors = append(l.routes[i].Errors, fiber.StatusServiceUnavailable)
	}
	return l
}

// Routes declares everything that the service answers.
func (l *Late) Routes() []api.Route { return l.routes }

func (l *Late) pass(id string, c *fiber.Ctx) error {
	now := l.now.Load()
	if now == nil {
		e := api.Unavailable(time.Second, "The storage service is not ready; the host's log says why")
		e.Cause = *l.why.Load()
		return e
	}
	handler := now.handlers[id]
	if handler == nil {
		return api.NotFound("The storage backend of this host cannot do that")
	}
	return handler(c)
}

// Start opens the service in the background.
func (l *Late) Start(ctx context.Context) {
	ctx, l.end = context.WithCancel(context.WithoutCancel(ctx))
	go func() {
		defer close(l.ended)
		for pause := firstPause; ; pause = min(2*pause, longPause) {
			registry := prometheus.NewRegistry()
			service, err := l.open(ctx, registry)
			if err == nil {
				l.take(service, registry)
				return
			}
			if ctx.Err() != nil {
				return
			}
			l.why.Store(&err)
			l.log.Error("storage cannot be opened; the host tries again", "error", err)
			timer := time.NewTimer(pause/2 + rand.N(pause/2+1))
			select {
			case <-timer.C:
			case <-ctx.Done():
				timer.Stop()
				return
			}
		}
	}()
}

func (l *Late) take(service *Service, registry *prometheus.Registry) {
	now := &opened{service: service, handlers: map[string]fiber.Handler{}, registry: registry}
	for _, route := range service.Routes() {
		now.handlers[route.ID] = route.Handler
	}
	l.now.Store(now)
	l.log.Info("storage is ready")
}

// Service returns the opened service; nil before that.
func (l *Late) Service() *Service {
	if now := l.now.Load(); now != nil {
		return now.service
	}
	return nil
}

// Gather gives the metrics of the service; none before it is opened.
func (l *Late) Gather() ([]*dto.MetricFamily, error) {
	if now := l.now.Load(); now != nil {
		return now.registry.Gather()
	}
	return nil, nil
}

// NotReady says why the service is not open yet; nil: it is.
func (l *Late) NotReady() error {
	if l.now.Load() != nil {
		return nil
	}
	return *l.why.Load()
}

// Close ends the attempts, or the service. Call it after the server has stopped taking requests; before Start it does nothing.
func (l *Late) Close() error {
	if l.end == nil {
		return nil
	}
	l.end()
	<-l.ended
	if now := l.now.Load(); now != nil {
		return now.service.Close()
	}
	return nil
}
