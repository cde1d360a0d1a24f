package gateway

import (
	"errors"
	"fmt"
	"strconv"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/rivergate/rivergate/services/gateway/delivery"
	"github.com/rivergate/rivergate/services/gateway/intake"
	"github.com/rivergate/rivergate/services/gateway/journal"
	"github.com/rivergate/rivergate/services/platform/api"
)

// metrics of the intake; the journal's and the pushers' are their own packages'.
type metrics struct {
	rows, bytes, badKeys prometheus.Counter
	requests, rejects    *prometheus.CounterVec
	accepted             prometheus.Counter // requests{status="202"}, looked up once
	latency              prometheus.Histogram
}

func newMetrics(registry prometheus.Registerer) (*metrics, error) {
	opts := func(name, help string) prometheus.CounterOpts {
		return prometheus.CounterOpts{Namespace: "rivergate", Subsystem: "intake", Name: name, Help: help}
	}
	m := &metrics{
		rows:     prometheus.NewCounter(opts("rows_total", "Rows accepted: durable in the journal.")),
		bytes:    prometheus.NewCounter(opts("bytes_total", "Bytes of accepted rows' data.")),
		badKeys:  prometheus.NewCounter(opts("key_warnings_total", "Keys in accepted rows that are not camelCase.")),
		requests: prometheus.NewCounterVec(opts("requests_total", "Requests on the data routes by status."), []string{"status"}),
		rejects:  prometheus.NewCounterVec(opts("rejects_total", "Requests of which nothing was accepted, by reason."), []string{"reason"}),
		latency: prometheus.NewHistogram(prometheus.HistogramOpts{
			Namespace: "rivergate", Subsystem: "intake", Name: "request_seconds",
			Help:    "Time from the request's headers to its answer on the data routes, without ?wait.",
			Buckets: []float64{.00025, .0005, .001, .002, .004, .008, .015, .03, .06, .125, .25, .5, 1, 2.5, 5, 10},
		}),
	}
	for _, c := range []prometheus.Collector{m.rows, m.bytes, m.badKeys, m.requests, m.rejects, m.latency} {
		if err := registry.Register(c); err != nil {
			return nil, fmt.Errorf("register intake metrics: %w", err)
		}
	}
	m.accepted = m.requests.WithLabelValues("202")
	for _, reason := range rejectReasons {
		m.rejects.WithLabelValues(reason)
	}
	return m, nil
}

func (m *metrics) done(status int, start time.Time, waited bool) {
	if status == 202 {
		m.accepted.Inc()
	} else {
		m.requests.WithLabelValues(strconv.Itoa(status)).Inc()
	}
	if !waited {
		m.latency.Observe(time.Since(start).Seconds())
	}
}

var rejectReasons = []string{
	"not_json", "parameter", "unauthorized", "too_large", "media_type", "shape", "still_running", "key_reused",
	"backlog", "journal_full", "journal_unavailable", "no_pusher", "memory", "internal",
}

// rejectReason names an error of a data route for the metrics.
func rejectReason(err error) string {
	var syntax *intake.SyntaxError
	var shape *intake.ShapeError
	var full *journal.FullError
	var down *journal.UnavailableError
	var backlog *delivery.BacklogError
	switch {
	case errors.As(err, &syntax):
		return "not_json"
	case errors.As(err, &shape):
		return "shape"
	case errors.As(err, &full):
		return "journal_full"
	case errors.As(err, &down), errors.Is(err, journal.ErrClosed):
		return "journal_unavailable"
	case errors.As(err, &backlog):
		return "backlog"
	case errors.Is(err, errNoPusher):
		return "no_pusher"
	}
	switch api.AsError(err).Status {
	case 400:
		return "parameter"
	case 401, 403:
		return "unauthorized"
	case 409:
		return "still_running"
	case 413:
		return "too_large"
	case 415:
		return "media_type"
	case 422:
		return "key_reused"
	case 503:
		return "memory"
	}
	return "internal"
}
