package cache

import (
	"sync/atomic"

	"github.com/prometheus/client_golang/prometheus"
)

type metrics struct {
	hits, misses, errors, evicted, loads atomic.Int64

	collectors []prometheus.Collector
}

func newMetrics(c *Cache) *metrics {
	m := &metrics{}
	counter := func(n *atomic.Int64, name, help string) {
		m.collectors = append(m.collectors, prometheus.NewCounterFunc(prometheus.CounterOpts{Name: name, Help: help},
			func() float64 { return float64(n.Load()) }))
	}
	counter(&m.hits, "rivergate_cache_hits_total", "Entries that were asked for and there.")
	counter(&m.misses, "rivergate_cache_misses_total", "Entries that were asked for and not there.")
	counter(&m.errors, "rivergate_cache_errors_total", "Calls that the server of the cache did not answer.")
	counter(&m.evicted, "rivergate_cache_evicted_total", "Entries that gave way to others.")
	counter(&m.loads, "rivergate_cache_loads_total", "Values that were made since they were not there.")
	m.collectors = append(m.collectors,
		prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: "rivergate_cache_entries", Help: "Entries that are kept."},
			func() float64 { return float64(c.Stats().Entries) }),
		prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: "rivergate_cache_bytes", Help: "What they take, bytes."},
			func() float64 { return float64(c.Stats().Bytes) }))
	return m
}

func (m *metrics) register(r prometheus.Registerer) error {
	for _, c := range m.collectors {
		if err := r.Register(c); err != nil {
			return err
		}
	}
	return nil
}
