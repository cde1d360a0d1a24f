// Package telemetrytest is an OTLP/HTTP receiver for tests: what a host exports, read as a collector would.
package telemetrytest

import (
	"compress/gzip"
	"encoding/hex"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	collector "go.opentelemetry.io/proto/otlp/collector/trace/v1"
	commonpb "go.opentelemetry.io/proto/otlp/common/v1"
	tracepb "go.opentelemetry.io/proto/otlp/trace/v1"
	"google.golang.org/protobuf/proto" //nolint:depguard // the exporter's wire format, not that of our plugins
)

// patience is how long a span may take on a busy machine.
const patience = 30 * time.Second

// Span is one span as it was exported.
type Span struct {
	Service, Version      string // of the resource
	Name                  string
	Kind                  string // SPAN_KIND_SERVER
	Trace, ID, Parent     string // hex; Parent is empty for a root
	Start, End            time.Time
	Status, StatusMessage string // STATUS_CODE_ERROR
	Attributes            map[string]any
}

// Receiver takes traces on a port of its own until the test ends.
type Receiver struct {
	URL string // RIVERGATE_TRACES_OTLP

	mu      sync.Mutex
	spans   []Span
	changed chan struct{}
	status  int
	calls   int
}

// Receive starts a receiver.
func Receive(t testing.TB) *Receiver {
	t.Helper()
	r := &Receiver{changed: make(chan struct{}), status: http.StatusOK}
	server := httptest.NewServer(http.HandlerFunc(r.take))
	t.Cleanup(server.Close)
	r.URL = server.URL
	return r
}

// Answer makes the receiver refuse everything with this status, or take it again with 200.
func (r *Receiver) Answer(status int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.status = status
}

// Calls is how many exports came, refused ones included.
func (r *Receiver) Calls() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.calls
}

// Spans are all that came so far.
func (r *Receiver) Spans() []Span {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Clone(r.spans)
}

// Wait returns all spans once there are some that satisfy enough.
func (r *Receiver) Wait(t testing.TB, enough func([]Span) bool) []Span {
	t.Helper()
	deadline := time.NewTimer(patience)
	defer deadline.Stop()
	for {
		r.mu.Lock()
		spans, changed := slices.Clone(r.spans), r.changed
		r.mu.Unlock()
		if enough(spans) {
			return spans
		}
		select {
		case <-changed:
		case <-deadline.C:
			require.Fail(t, "the spans did not come", "%d came: %+v", len(spans), spans)
		}
	}
}

func (r *Receiver) take(w http.ResponseWriter, q *http.Request) {
	r.mu.Lock()
	r.calls++
	status := r.status
	r.mu.Unlock()
	if status != http.StatusOK {
		w.WriteHeader(status)
		return
	}
	spans, err := read(q)
	if err != nil || q.Method != http.MethodPost || q.URL.Path != "/v1/traces" {
		w.WriteHeader(http.StatusBadRequest)
		return
	}
	w.Header().Set("Content-Type", "application/x-protobuf") // an empty message: all were taken
	r.mu.Lock()
	defer r.mu.Unlock()
	r.spans = append(r.spans, spans...)
	close(r.changed)
	r.changed = make(chan struct{})
}

func read(q *http.Request) ([]Span, error) {
	body := io.Reader(q.Body)
	if q.Header.Get("Content-Encoding") == "gzip" {
		unzipped, err := gzip.NewReader(body)
		if err != nil {
			return nil, err
		}
		body = unzipped
	}
	raw, err := io.ReadAll(body)
	if err != nil {
		return nil, err
	}
	var export collector.ExportTraceServiceRequest
	if err := proto.Unmarshal(raw, &export); err != nil {
		return nil, err
	}
	var spans []Span
	for _, of := range export.GetResourceSpans() {
		about := attributes(of.GetResource().GetAttributes())
		service, _ := about["service.name"].(string)
		version, _ := about["service.version"].(string)
		for _, in := range of.GetScopeSpans() {
			for _, s := range in.GetSpans() {
				spans = append(spans, span(service, version, s))
			}
		}
	}
	return spans, nil
}

func span(service, version string, s *tracepb.Span) Span {
	return Span{
		Service: service, Version: version, Name: s.GetName(), Kind: s.GetKind().String(),
		Trace: hex.EncodeToString(s.GetTraceId()), ID: hex.EncodeToString(s.GetSpanId()), Parent: hex.EncodeToString(s.GetParentSpanId()),
		Start: time.Unix(0, int64(s.GetStartTimeUnixNano())), End: time.Unix(0, int64(s.GetEndTimeUnixNano())),
		Status: s.GetStatus().GetCode().String(), StatusMessage: s.GetStatus().GetMessage(), Attributes: attributes(s.GetAttributes()),
	}
}

func attributes(list []*commonpb.KeyValue) map[string]any {
	out := map[string]any{}
	for _, kv := range list {
		switch v := kv.GetValue().GetValue().(type) {
		case *commonpb.AnyValue_StringValue:
			out[kv.GetKey()] = v.StringValue
		case *commonpb.AnyValue_IntValue:
			out[kv.GetKey()] = v.IntValue
		case *commonpb.AnyValue_BoolValue:
			out[kv.GetKey()] = v.BoolValue
		case *commonpb.AnyValue_DoubleValue:
			out[kv.GetKey()] = v.DoubleValue
		}
	}
	return out
}
