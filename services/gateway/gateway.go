// Package gateway takes rows over HTTP, keeps them in the journal and shows what becomes of them.
//
//	POST → body (memory with a budget) → intake (one scan) → backlog limits → journal (fsync) → delivery is told → 202
//
// Nothing is answered with 202 before the journal has made it durable; nothing of a refused request is kept.
package gateway

import (
	"context"
	"errors"
	"sync"
	"time"

	"github.com/hashicorp/go-hclog"
	"github.com/prometheus/client_golang/prometheus"
	"go.opentelemetry.io/otel/trace"

	"github.com/rivergate/rivergate/sdk/protocol"
	"github.com/rivergate/rivergate/services/gateway/delivery"
	"github.com/rivergate/rivergate/services/gateway/intake"
	"github.com/rivergate/rivergate/services/gateway/journal"
)

// The limits that hold when Options says nothing.
const (
	DefaultMaxRows = 10_000
	DefaultMaxBody = 16 << 20
)

// Delivery is what the routes need of package delivery.
type Delivery interface {
	Steering
	DeadLetters
	Tail

	// Names are the enabled pushers that take this org's rows.
	Names(org uint64) []string
	// Admit refuses rows, with *delivery.BacklogError, when too many wait already.
	Admit(org uint64, rows int) error
	// Accepted says that the frame is durable. The frame and its memory are the caller's again when it returns.
	Accepted(f *protocol.Frame)
	// Wait returns when no pusher has rows of the frame pending any more, or when ctx ends. It looks at position, org and
	// number of rows only.
	Wait(ctx context.Context, f *protocol.Frame) []delivery.Progress
	// Progress is Wait without the wait, from what is stored.
	Progress(ctx context.Context, f *protocol.Frame) ([]delivery.Progress, error)
}

// Options makes a Service. Journal, Delivery, Log and Registry are needed.
type Options struct {
	Journal  journal.Journal
	Delivery Delivery
	Plugins  Plugins // nil: no plugin is listed
	Hold     bool    // take rows although no pusher is enabled
	Keys     intake.Keys
	MaxRows  int   // rows in one request; 0: DefaultMaxRows
	MaxBody  int64 // bytes of one body; 0: DefaultMaxBody
	Log      hclog.Logger
	Registry prometheus.Registerer
	Tracer   trace.Tracer // nil: no spans
}

// Service answers the gateway's routes.
type Service struct {
	journal  journal.Journal
	delivery Delivery
	plugins  Plugins
	hold     bool
	keys     intake.Keys
	maxRows  int
	maxBody  int64
	log      hclog.Logger
	metrics  *metrics
	memory   *memory
	tracer   trace.Tracer

	running struct { // data requests with an idempotency key that are not done
		sync.Mutex
		keys map[[16]byte]struct{}
	}

	stop     context.Context // ends waits and event streams
	stopNow  context.CancelFunc
	life     context.Context // ends everything
	toTheEnd context.Context // never ends: what the journal has taken is answered
	end      context.CancelFunc
	streams  sync.WaitGroup
}

// New makes the service. Close it after the server has stopped taking requests.
func New(o Options) (*Service, error) {
	if o.Journal == nil || o.Delivery == nil || o.Log == nil || o.Registry == nil {
		return nil, errors.New("gateway: journal, delivery, log and registry are needed")
	}
	if o.MaxRows == 0 {
		o.MaxRows = DefaultMaxRows
	}
	if o.MaxBody == 0 {
		o.MaxBody = DefaultMaxBody
	}
	s := &Service{
		journal: o.Journal, delivery: o.Delivery, plugins: o.Plugins, hold: o.Hold, keys: o.Keys,
		maxRows: o.MaxRows, maxBody: o.MaxBody, log: o.Log, memory: newMemory(o.MaxBody), tracer: o.Tracer,
	}
	if s.plugins == nil {
		s.plugins = noPlugins{}
	}
	s.running.keys = map[[16]byte]struct{}{}
	var err error
	if s.metrics, err = newMetrics(o.Registry); err != nil {
		return nil, err
	}
	s.life, s.end = context.WithCancel(context.Background())
	s.toTheEnd = context.WithoutCancel(s.life)
	s.stop, s.stopNow = context.WithCancel(s.life)
	return s, nil
}

// Hurry ends waits (?wait=) and event streams, so that the server can stop. Requests that append go on.
func (s *Service) Hurry() { s.stopNow() }

// streamsEnd bounds how long Close waits: a client that does not read holds its stream until it goes away.
const streamsEnd = time.Second

// Close ends event streams and waits for them, though not for clients that do not read.
func (s *Service) Close() error {
	s.end()
	ended := make(chan struct{})
	go func() {
		s.streams.Wait()
		close(ended)
	}()
	late := time.NewTimer(streamsEnd)
	defer late.Stop()
	select {
	case <-ended:
	case <-late.C:
		s.log.Warn("a client does not read its stream; it is not waited for")
	}
	return nil
}

// utc is a time as answers show it.
func utc(t time.Time) time.Time { return t.UTC() }
