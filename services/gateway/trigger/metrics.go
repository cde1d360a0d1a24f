package trigger

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// Results of a request, as the metrics name them.
const (
	resultFound   = "found"
	resultMissing = "missing"
	resultInvalid = "invalid"
	resultFailed  = "failed"
)

type metrics struct {
	lookups      *prometheus.CounterVec
	seconds      prometheus.Histogram
	hits, misses prometheus.Counter
	cacheBytes   prometheus.GaugeFunc
}

func newMetrics(t *Tower) *metrics {
	counter := func(name, help string) prometheus.Counter {
		return prometheus.NewCounter(prometheus.CounterOpts{Name: "rivergate_trigger_" + name, Help: help})
	}
	m := &metrics{
		lookups: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "rivergate_trigger_lookups_total",
			Help: "Requests to the control tower, by result: found; missing (404); invalid (not of this uuid, too large); failed (no answer, or one that says nothing about the uuid).",
		}, []string{"result"}),
		seconds: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name: "rivergate_trigger_lookup_seconds", Help: "Time of a request to the control tower.", Buckets: prometheus.ExponentialBuckets(0.001, 3, 10),
		}),
		hits:   counter("cache_hits_total", "Rows of one request whose trigger was known already."),
		misses: counter("cache_misses_total", "Rows of one request that had to wait for their trigger."),
		cacheBytes: prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: "rivergate_trigger_cache_bytes", Help: "Size of the triggers that are kept."},
			func() float64 { return float64(t.cache.WeightedSize()) }),
	}
	for _, result := range []string{resultFound, resultMissing, resultInvalid, resultFailed} {
		m.lookups.WithLabelValues(result)
	}
	return m
}

func (m *metrics) looked(result string, took time.Duration) {
	m.lookups.WithLabelValues(result).Inc()
	m.seconds.Observe(took.Seconds())
}

func (m *metrics) register(r prometheus.Registerer) error {
	for _, c := range []prometheus.Collector{m.lookups, m.seconds, m.hits, m.misses, m.cacheBytes} {
		if err := r.Register(c); err != nil {
			return err
		}
	}
	return nil
}
