package pluginhost

import (
	"cmp"

	"github.com/prometheus/client_golang/prometheus"
)

var (
	metricRestarts = prometheus.NewDesc("rivergate_plugin_restarts_total", "Times that the plugin's process ended by itself or was killed for a reason, and was started again.", []string{"name"}, nil)
	metricUp       = prometheus.NewDesc("rivergate_plugin_up", "1 while the plugin runs and is configured.", []string{"name"}, nil)
	metricRSS      = prometheus.NewDesc("rivergate_plugin_rss_bytes", "Resident memory of the plugin's process.", []string{"name"}, nil)
	metricStart    = prometheus.NewDesc("rivergate_plugin_start_seconds", "Unix time at which the plugin's process was started.", []string{"name"}, nil)

	metricCondition = prometheus.NewDesc("rivergate_plugin_condition", "1 for the condition that a running plugin is in.", []string{"name", "condition"}, nil)
	metricUpgrades  = prometheus.NewDesc("rivergate_plugin_upgrades_total", "Upgrades and changes of the plugin: done, or failed, which left the former process in place.", []string{"name", "result"}, nil)
)

// conditions are all that metricCondition tells apart; the first is that of a plugin that is well.
var conditions = []string{"well", ConditionUnhealthy, ConditionSilent}

// collector reads the figures when they are asked for.
type collector struct{ h *Host }

func (c collector) Describe(to chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{metricRestarts, metricUp, metricRSS, metricStart, metricCondition, metricUpgrades} {
		to <- d
	}
}

func (c collector) Collect(to chan<- prometheus.Metric) {
	c.h.mu.Lock()
	members := c.h.members
	c.h.mu.Unlock()
	for _, m := range members {
		s := m.status()
		gauge := func(d *prometheus.Desc, v float64, labels ...string) {
			to <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, v, append([]string{s.Name}, labels...)...)
		}
		count := func(d *prometheus.Desc, v int, labels ...string) {
			to <- prometheus.MustNewConstMetric(d, prometheus.CounterValue, float64(v), append([]string{s.Name}, labels...)...)
		}
		up := s.State == StateRunning
		if up && s.PID != 0 {
			gauge(metricRSS, float64(s.RSSBytes))
			gauge(metricStart, float64(s.StartedAt.UnixNano())/1e9)
		}
		gauge(metricUp, number(up))
		for _, condition := range conditions {
			gauge(metricCondition, number(up && cmp.Or(s.Condition, conditions[0]) == condition), condition)
		}
		count(metricRestarts, s.Restarts)
		done, failed := m.upgrades()
		count(metricUpgrades, done, "done")
		count(metricUpgrades, failed, "failed")
	}
}

func number(b bool) float64 {
	if b {
		return 1
	}
	return 0
}
