package storage

import (
	"context"
	"errors"
	"path/filepath"
	"sync/atomic"
	"testing"
	"time"

	"github.com/hashicorp/go-hclog"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/stretchr/testify/require"

	"github.com/rivergate/rivergate/services/platform/api"
	"github.com/rivergate/rivergate/services/platform/database"
	"github.com/rivergate/rivergate/services/storage/seal"
	"github.com/rivergate/rivergate/services/storage/storagetest"
)

func open(ctx context.Context, t *testing.T, registry prometheus.Registerer) (*Service, error) {
	db, err := database.Open(ctx, filepath.Join(t.TempDir(), "storage.db"))
	if err != nil {
		return nil, err
	}
	master, err := seal.NewMaster()
	if err != nil {
		return nil, errors.Join(err, db.Close())
	}
	return New(ctx, Options{DB: db, OwnsDB: true, Objects: storagetest.NewDir(t.TempDir()), Master: seal.Given(master), Quota: 1 << 20, Log: hclog.NewNullLogger(), Registry: registry})
}

func ids(routes []api.Route) map[string]string {
	out := map[string]string{}
	for _, r := range routes {
		out[r.ID] = r.Method + " " + r.Path
	}
	return out
}

// What a host describes before its storage is open is what it answers then.
func TestTheDeclaredRoutesAreThoseOfAnOpenService(t *testing.T) {
	s, err := open(t.Context(), t, prometheus.NewRegistry())
	require.NoError(t, err)
	defer func() { require.NoError(t, s.Close()) }()
	require.Equal(t, ids(s.Routes()), ids(declared()))
}

func TestALateServiceIsOpenedAgainUntilItCanBe(t *testing.T) {
	var attempts atomic.Int32
	down := errors.New("the database is down")
	l := NewLate(func(ctx context.Context, registry prometheus.Registerer) (*Service, error) {
		registry.MustRegister(prometheus.NewGauge(prometheus.GaugeOpts{Name: "left_by_an_attempt"})) // again each time: that is no clash
		if attempts.Add(1) < 3 {
			return nil, down
		}
		return open(ctx, t, registry)
	}, hclog.NewNullLogger())
	require.NotEmpty(t, l.Routes())
	require.ErrorIs(t, l.NotReady(), errOpening)
	l.Start(t.Context())
	require.Eventually(t, func() bool { return l.Service() != nil }, time.Minute, time.Millisecond)
	require.NoError(t, l.NotReady())
	metrics, err := l.Gather()
	require.NoError(t, err)
	require.NotEmpty(t, metrics)
	require.NoError(t, l.Close())
}

func TestALateServiceThatIsNeverOpenedIsClosed(t *testing.T) {
	down := errors.New("the database is down")
	l := NewLate(func(context.Context, prometheus.Registerer) (*Service, error) { return nil, down }, hclog.NewNullLogger())
	l.Start(t.Context())
	require.Eventually(t, func() bool { return errors.Is(l.NotReady(), down) }, time.Minute, time.Millisecond)
	require.NoError(t, l.Close())
}
