package ledger_test

import (
	"context"
	"fmt"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/rivergate/rivergate/sdk/protocol"
	"github.com/rivergate/rivergate/services/platform/database"
	"github.com/rivergate/rivergate/services/platform/database/databasetest"
	"github.com/rivergate/rivergate/services/storage/ledger"
	"github.com/rivergate/rivergate/services/storage/storagetest"
)

const limit = 1000

// rig is a ledger with a clock that tests move, and a backend.
type rig struct {
	*ledger.Ledger
	testing.TB
	db      *database.DB
	objects *storagetest.Dir
	ahead   *atomic.Int64 // of the real clock
}

func (r *rig) now() time.Time           { return time.Now().Add(time.Duration(r.ahead.Load())) }
func (r *rig) pass(d time.Duration)     { r.ahead.Add(int64(d)) }
func (r *rig) Context() context.Context { return r.TB.Context() }

// each runs a test on each database.
func each(t *testing.T, run func(r *rig)) {
	t.Helper()
	databasetest.Each(t, func(t *testing.T, db *database.DB) {
		t.Helper()
		r := &rig{TB: t, db: db, objects: storagetest.NewDir(t.TempDir()), ahead: &atomic.Int64{}}
		r.Ledger = r.another(ledger.Options{})
		run(r)
	})
}

// another is the ledger of another process on the same database.
func (r *rig) another(o ledger.Options) *ledger.Ledger {
	r.Helper()
	o.Now = r.now
	if o.Lease == 0 {
		o.Lease = time.Hour // it renews at a quarter of that by the real clock: never during a test
	}
	if o.DefaultLimit == 0 {
		o.DefaultLimit = limit
	}
	l, err := ledger.Open(r.Context(), r.db, o)
	require.NoError(r, err)
	r.Cleanup(func() { require.NoError(r, l.Close()) })
	return l
}

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// put uploads a file of some bytes.
func (r *rig) put(org uint64, name string, size int, mode ledger.Mode) (ledger.File, error) {
	r.Helper()
	ctx := r.Context()
	h, err := r.Reserve(ctx, ledger.Reservation{Org: org, ObjectName: name, Kind: ledger.KindFile, Bytes: int64(size), Overwrite: mode == ledger.Replace})
	if err != nil {
		return ledger.File{}, err
	}
	defer func() { require.NoError(r, h.Release(ctx)) }()
	_, err = r.objects.Put(ctx, protocol.Put{Key: h.Key(), Size: int64(size)}, strings.NewReader(strings.Repeat("x", size)))
	require.NoError(r, err)
	f, replaced, err := h.Commit(ctx, ledger.File{User: 7, Category: "general", FileName: name, Size: int64(size), StoredSize: int64(size)}, mode)
	if err == nil && replaced != nil {
		require.Equal(r, f.ID, replaced.ID)
	}
	return f, err
}

func (r *rig) must(f ledger.File, err error) ledger.File {
	r.Helper()
	require.NoError(r, err)
	return f
}

// uses asserts what an org uses, and that the books are right.
func (r *rig) uses(org uint64, used, reserved int64) {
	r.Helper()
	u, err := r.Usage(r.Context(), org)
	require.NoError(r, err)
	require.Equal(r, []int64{used, reserved}, []int64{u.Used, u.Reserved}, "used and reserved")
	r.exact()
}

// exact asserts an empty report.
func (r *rig) exact() {
	r.Helper()
	report, err := r.Reconcile(r.Context(), r.objects, ledger.ReconcileOptions{})
	require.NoError(r, err)
	require.True(r, report.Empty(), "%+v", report)
}

// sweep does what the sweeper does until nothing is left.
func (r *rig) sweep() (holds, graves int) {
	r.Helper()
	ctx := r.Context()
	for {
		n, err := r.Sweep(ctx, 100)
		require.NoError(r, err)
		list, err := r.Tombstones(ctx, 100)
		require.NoError(r, err)
		for _, grave := range list {
			require.NoError(r, r.objects.Delete(ctx, grave.Key))
			require.NoError(r, r.Purged(ctx, grave.Key))
		}
		if holds, graves = holds+n, graves+len(list); n+len(list) == 0 {
			return holds, graves
		}
	}
}

func (r *rig) keys() (keys []string) {
	r.Helper()
	list, more, err := r.objects.List(r.Context(), "", "", 1000)
	require.NoError(r, err)
	require.False(r, more)
	for _, o := range list {
		keys = append(keys, o.Key)
	}
	return keys
}

func name(i int) string { return fmt.Sprintf("organizations/1/files/7/%d.csv", i) }
