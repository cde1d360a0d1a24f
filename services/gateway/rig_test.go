package gateway

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"iter"
	"math"
	"net"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/gofiber/fiber/v2"
	"github.com/hashicorp/go-hclog"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/stretchr/testify/require"
	"github.com/valyala/fasthttp"
	"github.com/valyala/fasthttp/fasthttputil"
	"go.uber.org/goleak"

	"github.com/rivergate/rivergate/sdk/protocol"
	"github.com/rivergate/rivergate/services/gateway/delivery"
	"github.com/rivergate/rivergate/services/gateway/journal"
	"github.com/rivergate/rivergate/services/platform/api"
)

func TestMain(m *testing.M) {
	goleak.VerifyTestMain(m,
		goleak.IgnoreAnyFunction("github.com/valyala/fasthttp.updateServerDate.func1"), // one for the process
		// Sleeps up to ten seconds after its server has stopped.
		goleak.IgnoreAnyFunction("github.com/valyala/fasthttp.(*workerPool).Start.func2"),
	)
}

// pushers plays package delivery: destinations that settle nothing unless a test says so.
type pushers struct {
	mu       sync.Mutex
	names    []string
	admit    error
	accepted []protocol.Frame // with memory of their own
	progress func(ctx context.Context) []delivery.Progress
	statuses []delivery.Status
	steered  []string
	letters  []delivery.DeadLetter
	asked    delivery.Filter
	to       string
	rate     float64
	events   chan delivery.Event
	tailed   delivery.TailOptions
}

func (p *pushers) Names(uint64) []string { return p.names }

func (p *pushers) Admit(uint64, int) error { return p.admit }

func (p *pushers) Accepted(f *protocol.Frame) {
	p.mu.Lock()
	defer p.mu.Unlock()
	kept := *f
	kept.Data, kept.Ends, kept.Index = bytes.Clone(f.Data), slices.Clone(f.Ends), slices.Clone(f.Index)
	p.accepted = append(p.accepted, kept)
}

func (p *pushers) Wait(ctx context.Context, _ *protocol.Frame) []delivery.Progress {
	return p.progress(ctx)
}

func (p *pushers) Progress(ctx context.Context, _ *protocol.Frame) ([]delivery.Progress, error) {
	return p.progress(ctx), nil
}

func (p *pushers) Status() []delivery.Status { return p.statuses }

func (p *pushers) steer(what, name string) error {
	if !slices.Contains(p.names, name) {
		return delivery.ErrUnknownPusher
	}
	p.steered = append(p.steered, what+" "+name)
	return nil
}

func (p *pushers) Pause(_ context.Context, name string) error  { return p.steer("pause", name) }
func (p *pushers) Resume(_ context.Context, name string) error { return p.steer("resume", name) }
func (p *pushers) Forget(_ context.Context, name string) error {
	if slices.Contains(p.names, name) {
		return delivery.ErrStillEnabled
	}
	return delivery.ErrUnknownPusher
}

func (p *pushers) DeadLetters(_ context.Context, f delivery.Filter, cursor string, limit int) ([]delivery.DeadLetter, string, error) {
	p.asked = f
	start := 0
	if cursor != "" {
		start = slices.IndexFunc(p.letters, func(l delivery.DeadLetter) bool { return l.ID == cursor })
		if start < 0 {
			return nil, "", delivery.ErrBadCursor
		}
	}
	end := min(start+limit, len(p.letters))
	next := ""
	if end < len(p.letters) {
		next = p.letters[end].ID
	}
	return p.letters[start:end], next, nil
}

func (p *pushers) DeadLetter(_ context.Context, org uint64, id string) (delivery.DeadLetter, error) {
	for _, l := range p.letters {
		if l.ID == id && l.Org == org {
			return l, nil
		}
	}
	return delivery.DeadLetter{}, delivery.ErrNoDeadLetter
}

func (p *pushers) ExportDeadLetters(_ context.Context, f delivery.Filter) iter.Seq2[delivery.DeadLetter, error] {
	p.asked = f
	return func(yield func(delivery.DeadLetter, error) bool) {
		for _, l := range p.letters {
			if !yield(l, nil) {
				return
			}
		}
	}
}

func (p *pushers) DeleteDeadLetters(_ context.Context, f delivery.Filter) (int, error) {
	p.asked = f
	return len(p.letters), nil
}

func (p *pushers) Replay(_ context.Context, f delivery.Filter, to string, perSecond float64) (int, error) {
	if to != "" && !slices.Contains(p.names, to) {
		return 0, delivery.ErrUnknownPusher
	}
	p.asked, p.to, p.rate = f, to, perSecond
	return len(p.letters), nil
}

func (p *pushers) Tail(_ context.Context, o delivery.TailOptions) <-chan delivery.Event {
	p.tailed = o
	return p.events
}

// rows are all accepted rows, as text.
func (p *pushers) rows() (out []string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, f := range p.accepted {
		for i := range f.Len() {
			out = append(out, string(f.Row(i)))
		}
	}
	return out
}

var _ Delivery = (*delivery.Delivery)(nil)

// rig is the service behind a server like the host's.
type rig struct {
	t        *testing.T
	service  *Service
	journal  journal.Journal
	pushers  *pushers
	registry *prometheus.Registry
	client   *http.Client
	listener *fasthttputil.InmemoryListener
}

type change func(*Options, *pushers)

func newRig(t *testing.T, changes ...change) *rig {
	t.Helper()
	r := &rig{t: t, registry: prometheus.NewRegistry(), pushers: &pushers{names: []string{"file", "http"}, events: make(chan delivery.Event, 8)}}
	r.pushers.progress = func(context.Context) []delivery.Progress { return nil }
	o := Options{Delivery: r.pushers, Log: hclog.NewNullLogger(), Registry: r.registry}
	for _, c := range changes {
		c(&o, r.pushers)
	}
	if o.Journal == nil {
		o.Journal = openJournal(t, t.TempDir())
	}
	r.journal = o.Journal
	var err error
	r.service, err = New(o)
	require.NoError(t, err)

	ids := api.NewRequestIDs()
	app := fiber.New(fiber.Config{DisableStartupMessage: true, ErrorHandler: func(c *fiber.Ctx, err error) error {
		api.Fail(c.Context(), err)
		return nil
	}})
	api.Mount(app, r.service.Routes(), &api.Gate{Development: true}, api.NewAnswers(time.Hour))
	inner := app.Handler()
	server := &fasthttp.Server{
		StreamRequestBody: true, MaxRequestBodySize: math.MaxInt, CloseOnShutdown: true, DisablePreParseMultipartForm: true,
		Handler: func(ctx *fasthttp.RequestCtx) {
			// The peer of an in-memory connection has no address; it stands for loopback.
			ctx.SetRemoteAddr(&net.TCPAddr{IP: net.IPv4(127, 0, 0, 1)})
			api.Begin(ctx, ids)
			inner(ctx)
			api.Drain(ctx, 64<<20)
		},
	}
	r.listener = fasthttputil.NewInmemoryListener()
	served := make(chan error, 1)
	go func() { served <- server.Serve(r.listener) }()
	transport := &http.Transport{DialContext: func(context.Context, string, string) (net.Conn, error) { return r.listener.Dial() }}
	r.client = &http.Client{Transport: transport}
	t.Cleanup(func() {
		r.service.Hurry()
		transport.CloseIdleConnections()
		require.NoError(t, server.Shutdown())
		require.NoError(t, <-served)
		require.NoError(t, r.service.Close())
	})
	return r
}

func openJournal(t *testing.T, dir string) journal.Journal {
	t.Helper()
	j, err := journal.Open(journal.Options{Dir: dir, MaxBytes: 256 << 20, SegmentBytes: 4 << 20, Log: hclog.NewNullLogger()})
	require.NoError(t, err)
	t.Cleanup(func() { _ = j.Close() })
	return j
}

// answer is what came back.
type answer struct {
	t      *testing.T
	status int
	header http.Header
	body   []byte
}

func (r *rig) do(method, path, body string, headers ...string) answer {
	r.t.Helper()
	request, err := http.NewRequestWithContext(r.t.Context(), method, "http://rivergate"+path, strings.NewReader(body))
	require.NoError(r.t, err)
	if body != "" {
		request.Header.Set("Content-Type", "application/json")
	}
	for i := 0; i < len(headers); i += 2 {
		request.Header.Set(headers[i], headers[i+1])
	}
	response, err := r.client.Do(request)
	require.NoError(r.t, err)
	defer response.Body.Close()
	a := answer{t: r.t, status: response.StatusCode, header: response.Header}
	a.body, err = io.ReadAll(response.Body)
	require.NoError(r.t, err)
	require.NotEmpty(r.t, a.header.Get(api.HeaderRequestID))
	return a
}

func (r *rig) post(path, body string, headers ...string) answer {
	r.t.Helper()
	return r.do(http.MethodPost, path, body, headers...)
}

// accepted is the data of a 202.
func (a answer) accepted() Accepted {
	a.t.Helper()
	require.Equal(a.t, http.StatusAccepted, a.status, "%s", a.body)
	return data[Accepted](a)
}

func data[T any](a answer) T {
	a.t.Helper()
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
	require.False(a.t, f.Success)
	require.Equal(a.t, api.CodeOf(status), f.Error.Code)
	require.Equal(a.t, a.header.Get(api.HeaderRequestID), f.Error.RequestID)
	require.WithinDuration(a.t, time.Now(), f.Error.Timestamp, time.Minute)
	if f.Error.Details == nil {
		f.Error.Details = &api.Details{}
	}
	return f.Error
}

// metric is the value of a counter, or the count of a histogram; label is the value of its only label.
func (r *rig) metric(name, label string) float64 {
	r.t.Helper()
	families, err := r.registry.Gather()
	require.NoError(r.t, err)
	for _, f := range families {
		if f.GetName() != name {
			continue
		}
		for _, m := range f.GetMetric() {
			if label == "" || len(m.GetLabel()) == 1 && m.GetLabel()[0].GetValue() == label {
				return m.GetCounter().GetValue() + float64(m.GetHistogram().GetSampleCount())
			}
		}
	}
	return 0
}
