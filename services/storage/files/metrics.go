package files

import (
	"errors"

	"github.com/prometheus/client_golang/prometheus"
)

// metrics of what passes through this package; what is stored is the ledger's to count.
type metrics struct {
	bytes *prometheus.CounterVec // by direction
	swept *prometheus.CounterVec // by what it was
}

func newMetrics(registry prometheus.Registerer) (*metrics, error) {
	m := &metrics{
		bytes: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "rivergate_storage_bytes_total", Help: "Bytes of files that were taken in or given out by the host.",
		}, []string{"direction"}),
		swept: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "rivergate_storage_swept_total", Help: "What the sweeper of the storage has cleared.",
		}, []string{"what"}),
	}
	return m, errors.Join(registry.Register(m.bytes), registry.Register(m.swept))
}
