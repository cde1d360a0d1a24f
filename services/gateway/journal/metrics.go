package journal

import (
	"fmt"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// metrics counts also when nobody collects.
type metrics struct {
	registry prometheus.Registerer
	all      []prometheus.Collector

	rows, bytes prometheus.Counter
	refusals    *prometheus.CounterVec
	sync        prometheus.Histogram
	group       prometheus.Histogram
}

func newMetrics(f *Files, registry prometheus.Registerer) (*metrics, error) {
	name := func(n, help string) prometheus.Opts {
		return prometheus.Opts{Namespace: "rivergate", Subsystem: "journal", Name: n, Help: help}
	}
	gauge := func(n, help string, value func(Stats) float64) prometheus.Collector {
		return prometheus.NewGaugeFunc(prometheus.GaugeOpts(name(n, help)), func() float64 { return value(f.Stats()) })
	}
	m := &metrics{
		registry: registry,
		rows:     prometheus.NewCounter(prometheus.CounterOpts(name("appended_rows_total", "Rows made durable."))),
		bytes:    prometheus.NewCounter(prometheus.CounterOpts(name("appended_bytes_total", "Bytes of the records made durable."))),
		refusals: prometheus.NewCounterVec(prometheus.CounterOpts(name("refused_total", "Requests not taken, by reason: full, unavailable.")), []string{"reason"}),
		sync: prometheus.NewHistogram(prometheus.HistogramOpts{Namespace: "rivergate", Subsystem: "journal", Name: "fdatasync_seconds",
			Help: "Time of one fdatasync.", Buckets: prometheus.ExponentialBuckets(0.0001, 2, 15)}),
		group: prometheus.NewHistogram(prometheus.HistogramOpts{Namespace: "rivergate", Subsystem: "journal", Name: "group_records",
			Help: "Records made durable by one fdatasync.", Buckets: prometheus.ExponentialBuckets(1, 2, 13)}),
	}
	m.all = []prometheus.Collector{m.rows, m.bytes, m.refusals, m.sync, m.group,
		gauge("bytes", "Bytes on disk, preallocation not counted.", func(s Stats) float64 { return float64(s.Bytes) }),
		gauge("max_bytes", "The size cap.", func(s Stats) float64 { return float64(s.MaxBytes) }),
		gauge("segments", "Segment files.", func(s Stats) float64 { return float64(s.Segments) }),
		gauge("rows", "Rows kept.", func(s Stats) float64 { return float64(s.Rows) }),
		gauge("quarantined_bytes", "Damaged bytes set aside.", func(s Stats) float64 { return float64(s.Quarantined) }),
		gauge("writable", "1 while the disk takes rows, else 0.", func(s Stats) float64 {
			if s.Writable {
				return 1
			}
			return 0
		}),
	}
	if registry == nil {
		return m, nil
	}
	for i, c := range m.all {
		if err := registry.Register(c); err != nil {
			for _, done := range m.all[:i] {
				registry.Unregister(done)
			}
			return nil, fmt.Errorf("register metrics: %w", err)
		}
	}
	return m, nil
}

func (m *metrics) unregister() {
	if m.registry == nil {
		return
	}
	for _, c := range m.all {
		m.registry.Unregister(c)
	}
}

func (m *metrics) appended(rows int, bytes int64) {
	m.rows.Add(float64(rows))
	m.bytes.Add(float64(bytes))
}

func (m *metrics) synced(d time.Duration, records int) {
	m.sync.Observe(d.Seconds())
	m.group.Observe(float64(records))
}

func (m *metrics) refused(reason string) { m.refusals.WithLabelValues(reason).Inc() }
