package delivery

import (
	"cmp"

	"github.com/prometheus/client_golang/prometheus"
)

// metrics is what delivery measures. Lag and state are read when somebody asks.
type metrics struct {
	delivered, skipped, retries, missing *prometheus.CounterVec
	dead, wedged                         *prometheus.CounterVec
	batchRows, batchSeconds              *prometheus.HistogramVec
	status                               *statusCollector
}

// pusherMetrics is one pusher's part of it.
type pusherMetrics struct {
	delivered, skipped, retries, missing prometheus.Counter
	dead, wedged                         *prometheus.CounterVec
	batchRows, batchSeconds              prometheus.Observer
}

func newMetrics(d *Delivery) *metrics {
	counter := func(name, help string, labels ...string) *prometheus.CounterVec {
		return prometheus.NewCounterVec(prometheus.CounterOpts{Name: "rivergate_pusher_" + name, Help: help}, append([]string{"pusher"}, labels...))
	}
	histogram := func(name, help string, buckets []float64) *prometheus.HistogramVec {
		return prometheus.NewHistogramVec(prometheus.HistogramOpts{Name: "rivergate_pusher_" + name, Help: help, Buckets: buckets}, []string{"pusher"})
	}
	return &metrics{
		delivered:    counter("delivered_total", "Rows delivered, duplicates included."),
		skipped:      counter("skipped_total", "Rows that were not meant for the destination."),
		retries:      counter("retries_total", "Rows that failed and are sent again."),
		missing:      counter("missing_total", "Rows that the journal lost before they were delivered (damaged on disk, or a changed data folder)."),
		dead:         counter("dead_total", "Rows given up, by class.", "class"),
		wedged:       counter("wedged_total", "How often the plugin was killed for acknowledging nothing (stuck), or its window lowered (slow).", "kind"),
		batchRows:    histogram("batch_rows", "Rows in a batch.", prometheus.ExponentialBuckets(1, 4, 9)),
		batchSeconds: histogram("batch_seconds", "Time from sending a batch to its acknowledgement.", prometheus.ExponentialBuckets(0.0005, 3, 11)),
		status: &statusCollector{
			d:         d,
			rows:      prometheus.NewDesc("rivergate_pusher_lag_rows", "Rows from the cursor to the end of the journal.", []string{"pusher"}, nil),
			age:       prometheus.NewDesc("rivergate_pusher_lag_seconds", "Age of the oldest row that is not settled.", []string{"pusher"}, nil),
			state:     prometheus.NewDesc("rivergate_pusher_state", "1 for the state that delivery is in: running, blocked, paused or disabled.", []string{"pusher", "state"}, nil),
			triggers:  prometheus.NewDesc("rivergate_pusher_trigger_waits", "UUIDs whose rows wait for their trigger.", []string{"pusher"}, nil),
			window:    prometheus.NewDesc("rivergate_pusher_window", "Batches that may be in flight now.", []string{"pusher"}, nil),
			condition: prometheus.NewDesc("rivergate_pusher_condition", "1 for how the plugin keeps up: well, slow or stuck.", []string{"pusher", "condition"}, nil),
		},
	}
}

func (m *metrics) of(pusher string) *pusherMetrics {
	return &pusherMetrics{
		delivered: m.delivered.WithLabelValues(pusher), skipped: m.skipped.WithLabelValues(pusher), retries: m.retries.WithLabelValues(pusher),
		missing: m.missing.WithLabelValues(pusher), dead: m.dead, wedged: m.wedged,
		batchRows: m.batchRows.WithLabelValues(pusher), batchSeconds: m.batchSeconds.WithLabelValues(pusher),
	}
}

// forget drops the series of a pusher that is not enabled any more; what Status tells of it stays.
func (m *metrics) forget(pusher string) {
	by := prometheus.Labels{"pusher": pusher}
	for _, c := range []*prometheus.CounterVec{m.delivered, m.skipped, m.retries, m.missing, m.dead, m.wedged} {
		c.DeletePartialMatch(by)
	}
	m.batchRows.DeletePartialMatch(by)
	m.batchSeconds.DeletePartialMatch(by)
}

func (m *metrics) register(r prometheus.Registerer) error {
	for _, c := range []prometheus.Collector{m.delivered, m.skipped, m.retries, m.missing, m.dead, m.wedged, m.batchRows, m.batchSeconds, m.status} {
		if err := r.Register(c); err != nil {
			return err
		}
	}
	return nil
}

// statusCollector turns Status into gauges.
type statusCollector struct {
	d                                             *Delivery
	rows, age, state, triggers, window, condition *prometheus.Desc
}

func (c *statusCollector) Describe(out chan<- *prometheus.Desc) {
	out <- c.rows
	out <- c.age
	out <- c.state
	out <- c.triggers
	out <- c.window
	out <- c.condition
}

func (c *statusCollector) Collect(out chan<- prometheus.Metric) {
	gauge := func(desc *prometheus.Desc, value float64, labels ...string) {
		out <- prometheus.MustNewConstMetric(desc, prometheus.GaugeValue, value, labels...)
	}
	for _, s := range c.d.Status() {
		gauge(c.rows, float64(s.LagRows), s.Name)
		gauge(c.age, s.OldestAge.Seconds(), s.Name)
		for _, state := range []string{"running", "blocked", "paused", "disabled"} {
			value := 0.0
			if s.state() == state {
				value = 1
			}
			gauge(c.state, value, s.Name, state)
		}
		if s.Disabled {
			continue
		}
		gauge(c.triggers, float64(s.WaitsTriggers), s.Name)
		gauge(c.window, float64(s.Window), s.Name)
		for _, condition := range []string{"well", conditionSlow, conditionStuck} {
			value := 0.0
			if cmp.Or(s.Condition, "well") == condition {
				value = 1
			}
			gauge(c.condition, value, s.Name, condition)
		}
	}
}
