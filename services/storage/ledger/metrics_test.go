package ledger_test

import (
	"fmt"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/stretchr/testify/require"

	"github.com/rivergate/rivergate/services/storage/ledger"
)

func TestOnlyTheLargestOrgsHaveMetricsOfTheirOwn(t *testing.T) {
	each(t, func(r *rig) {
		registry := prometheus.NewRegistry()
		l := r.another(ledger.Options{Registry: registry, TopOrgs: 2})
		for org, size := range []int{0, 10, 40, 30, 20} {
			if size > 0 {
				r.must(r.put(uint64(org), name(org), size, ledger.Create))
			}
		}
		_, err := l.Reserve(r.Context(), ledger.Reservation{Org: 4, ObjectName: "a", Bytes: 5})
		require.NoError(r, err)
		_, err = l.Reserve(r.Context(), ledger.Reservation{Org: 4, ObjectName: "a", Bytes: limit})
		require.Error(r, err)
		families, err := registry.Gather()
		require.NoError(r, err)
		got := map[string]float64{}
		for _, f := range families {
			for _, m := range f.Metric {
				key := f.GetName()
				for _, label := range m.Label {
					key += " " + label.GetValue()
				}
				got[key] = m.GetGauge().GetValue() + m.GetCounter().GetValue()
			}
		}
		require.Equal(r, map[string]float64{
			"rivergate_storage_used_bytes 2": 40, "rivergate_storage_used_bytes 3": 30, "rivergate_storage_used_bytes other": 30,
			"rivergate_storage_reserved_bytes 2": 0, "rivergate_storage_reserved_bytes 3": 0, "rivergate_storage_reserved_bytes other": 5,
			"rivergate_storage_limit_bytes 2": limit, "rivergate_storage_limit_bytes 3": limit,
			"rivergate_storage_quota_refusals_total": 1, "rivergate_storage_expired_reservations_total": 0, "rivergate_storage_scrape_failures_total": 0,
		}, got, fmt.Sprint(got))
	})
}
