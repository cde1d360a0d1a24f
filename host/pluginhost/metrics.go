package pluginhost

import "github.com/prometheus/client_golang/prometheus"

var (
	metricRestarts = prometheus.NewDesc("rivergate_plugin_restarts_total", "Times that the plugin's process ended by itself or was killed for a reason, and was started again.", []string{"name"}, nil)
	metricUp       = prometheus.NewDesc("rivergate_plugin_up", "1 while the plugin runs and is configured.", []string{"name"}, nil)
	metricRSS      = prometheus.NewDesc("rivergate_plugin_rss_bytes", "Resident memory of the plugin's process.", []string{"name"}, nil)
	metricStart    = prometheus.NewDesc("rivergate_plugin_start_seconds", "Unix time at which the plugin's process was started.", []string{"name"}, nil)
)

// collector reads the figures when they are asked for.
type collector struct{ h *Host }

func (c collector) Describe(to chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{metricRestarts, metricUp, metricRSS, metricStart} {
		to <- d
	}
}

func (c collector) Collect(to chan<- prometheus.Metric) {
	for _, s := range c.h.Status() {
		up := 0.0
		if s.State == StateRunning {
			up = 1
			to <- prometheus.MustNewConstMetric(metricRSS, prometheus.GaugeValue, float64(s.RSSBytes), s.Name)
			to <- prometheus.MustNewConstMetric(metricStart, prometheus.GaugeValue, float64(s.StartedAt.UnixNano())/1e9, s.Name)
		}
		to <- prometheus.MustNewConstMetric(metricUp, prometheus.GaugeValue, up, s.Name)
		to <- prometheus.MustNewConstMetric(metricRestarts, prometheus.CounterValue, float64(s.Restarts), s.Name)
	}
}
