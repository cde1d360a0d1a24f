package ledger

import (
	"context"
	"strconv"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/rivergate/rivergate/services/platform/database"
)

// scrapeTime is how long a scrape waits for the database.
const scrapeTime = 2 * time.Second

// metrics are read from the books when somebody asks. Only the orgs that use most have series of their own.
type metrics struct {
	l                     *Ledger
	top                   int
	used, reserved, limit *prometheus.Desc
	refused, expired      prometheus.Counter
	failed                prometheus.Counter
}

func newMetrics(l *Ledger, top int) *metrics {
	desc := func(name, help string) *prometheus.Desc {
		return prometheus.NewDesc("rivergate_storage_"+name, help+" Orgs that are not among the largest are \"other\".", []string{"org"}, nil)
	}
	counter := func(name, help string) prometheus.Counter {
		return prometheus.NewCounter(prometheus.CounterOpts{Name: "rivergate_storage_" + name, Help: help})
	}
	return &metrics{
		l: l, top: top,
		used:     desc("used_bytes", "Bytes of files that count against the quota."),
		reserved: desc("reserved_bytes", "Bytes reserved by uploads under way."),
		limit:    desc("limit_bytes", "The quota; -1: unlimited. Not for other."),
		refused:  counter("quota_refusals_total", "Uploads refused by the quota."),
		expired:  counter("expired_reservations_total", "Reservations released because their process died or their time was over."),
		failed:   counter("scrape_failures_total", "Scrapes that could not read what the orgs use."),
	}
}

func (m *metrics) Describe(c chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{m.used, m.reserved, m.limit, m.refused.Desc(), m.expired.Desc(), m.failed.Desc()} {
		c <- d
	}
}

func (m *metrics) Collect(c chan<- prometheus.Metric) {
	ctx, cancel := context.WithTimeout(context.Background(), scrapeTime)
	defer cancel()
	if err := m.orgs(ctx, c); err != nil {
		m.failed.Inc()
		m.l.log.Warn("the metrics of the storage could not be read", "error", err)
	}
	c <- m.refused
	c <- m.expired
	c <- m.failed
}

func (m *metrics) orgs(ctx context.Context, c chan<- prometheus.Metric) error {
	var list []OrgUsage
	var used, reserved int64
	if err := m.l.db.Snapshot(ctx, func(tx *database.Tx) (err error) {
		if list, err = m.l.orgs(ctx, tx, "used > 0 OR reserved > 0 ORDER BY used DESC, org LIMIT ?", m.top); err != nil {
			return err
		}
		return tx.QueryRowContext(ctx, "SELECT coalesce(sum(used), 0), coalesce(sum(reserved), 0) FROM ledger_orgs").Scan(&used, &reserved)
	}); err != nil {
		return err
	}
	gauge := func(d *prometheus.Desc, value int64, org string) {
		c <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, float64(value), org)
	}
	for _, u := range list {
		org := strconv.FormatUint(u.Org, 10)
		gauge(m.used, u.Used, org)
		gauge(m.reserved, u.Reserved, org)
		gauge(m.limit, u.Limit, org)
		used, reserved = used-u.Used, reserved-u.Reserved
	}
	gauge(m.used, used, "other")
	gauge(m.reserved, reserved, "other")
	return nil
}
