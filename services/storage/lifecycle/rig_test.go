package lifecycle

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"sync/atomic"
	"testing"
	"time"

	"github.com/hashicorp/go-hclog"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/rivergate/rivergate/sdk/protocol"
	"github.com/rivergate/rivergate/services/platform/database"
	"github.com/rivergate/rivergate/services/platform/database/databasetest"
	"github.com/rivergate/rivergate/services/storage/files"
	"github.com/rivergate/rivergate/services/storage/ledger"
	"github.com/rivergate/rivergate/services/storage/seal"
	"github.com/rivergate/rivergate/services/storage/storagetest"
)

func TestMain(m *testing.M) {
	goleak.VerifyTestMain(m, goleak.IgnoreAnyFunction("github.com/valyala/fasthttp.updateServerDate.func1")) // one for ever
}

// rig is a lifecycle with a clock that tests move, over sealed files in a backend that fails when it is told to.
type rig struct {
	*Lifecycle
	t     *testing.T
	books *ledger.Ledger
	meta  *database.DB
	store *files.Service
	keys  *seal.Keys
	dir   *storagetest.Dir
	ahead *atomic.Int64 // of the real clock
}

// each runs a test on each database.
func each(t *testing.T, test func(t *testing.T, r *rig)) {
	t.Helper()
	databasetest.Each(t, func(t *testing.T, db *database.DB) { test(t, newRig(t, db)) })
}

func newRig(t *testing.T, db *database.DB) *rig {
	t.Helper()
	r := &rig{t: t, meta: db, dir: storagetest.NewDir(t.TempDir()), ahead: &atomic.Int64{}}
	var err error
	r.books, err = ledger.Open(t.Context(), db, ledger.Options{DefaultLimit: ledger.Unlimited, Lease: time.Hour, Now: r.clock})
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, r.books.Close()) })
	master, err := seal.NewMaster()
	require.NoError(t, err)
	r.keys, err = seal.Open(t.Context(), db, seal.Given(master), seal.Options{})
	require.NoError(t, err)
	r.store, err = files.New(t.Context(), files.Options{
		Ledger: r.books, Objects: r.dir, DB: db, Keys: r.keys, SigningKey: bytes.Repeat([]byte{7}, 32), SweepEvery: 100 * time.Hour,
		Log: hclog.NewNullLogger(), Registry: prometheus.NewRegistry(),
	})
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, r.store.Close()) })
	r.Lifecycle = r.another()
	return r
}

// another is the lifecycle of another host. Nothing is scheduled.
func (r *rig) another(changes ...func(*Options)) *Lifecycle {
	r.t.Helper()
	o := Options{DB: r.meta, Ledger: r.books, Objects: r.dir, Files: r.store, Every: -1, Now: r.clock}
	for _, change := range changes {
		change(&o)
	}
	l, err := Open(r.t.Context(), o)
	require.NoError(r.t, err)
	r.t.Cleanup(func() { require.NoError(r.t, l.Close()) })
	return l
}

func (r *rig) clock() time.Time     { return time.Now().Add(time.Duration(r.ahead.Load())) }
func (r *rig) pass(d time.Duration) { r.ahead.Add(int64(d)) }

// noise is n bytes that differ with the seed.
func noise(seed, n int) []byte {
	b := make([]byte, n)
	_, _ = rand.NewChaCha8([32]byte{byte(seed), byte(seed >> 8)}).Read(b)
	return b
}

func sum(content []byte) string { s := sha256.Sum256(content); return hex.EncodeToString(s[:]) }

// put stores a sealed file, or a new version of it.
func (r *rig) put(org uint64, name string, content []byte, expires time.Time) ledger.File {
	r.t.Helper()
	f, err := r.putIn(context.Background(), org, name, content, expires)
	require.NoError(r.t, err)
	return f
}

func (r *rig) putIn(ctx context.Context, org uint64, name string, content []byte, expires time.Time) (ledger.File, error) {
	hold, err := r.books.Reserve(ctx, ledger.Reservation{Org: org, ObjectName: name, Kind: ledger.KindInternal, Bytes: int64(len(content)), Overwrite: true})
	if err != nil {
		return ledger.File{}, err
	}
	sealed, keyID, err := r.keys.Seal(ctx, org, bytes.NewReader(content))
	if err != nil {
		return ledger.File{}, errors.Join(err, hold.Release(ctx))
	}
	object, err := r.dir.Put(ctx, protocol.Put{Key: hold.Key(), Size: -1}, sealed)
	if err != nil {
		return ledger.File{}, errors.Join(err, hold.Release(ctx))
	}
	f, _, err := hold.Commit(ctx, ledger.File{
		Purpose: "temp", FileName: name, Size: int64(len(content)), StoredSize: object.Size, SHA256: sum(content), KeyID: keyID,
		Tier: protocol.TierHot, Expires: expires,
	}, ledger.Replace)
	return f, err
}

// read is what a reader does: who finds nothing under the key looks again in the ledger.
func (r *rig) read(ctx context.Context, org uint64, name string) ([]byte, error) {
	for last := ""; ; {
		f, err := r.books.Find(ctx, org, name)
		if err != nil {
			return nil, err
		}
		body, err := r.store.Open(ctx, f, 0, -1)
		if errors.Is(err, protocol.ErrNotFound) && f.Key != last {
			last = f.Key
			continue
		}
		if err != nil {
			return nil, err
		}
		content, err := io.ReadAll(body)
		if err = errors.Join(err, body.Close()); err != nil {
			return nil, err
		}
		if sum(content) != f.SHA256 {
			return nil, fmt.Errorf("%s is not what was stored", name)
		}
		return content, nil
	}
}

// holds asserts what a file is and where.
func (r *rig) holds(org uint64, name string, content []byte, tier protocol.Tier) ledger.File {
	r.t.Helper()
	got, err := r.read(r.t.Context(), org, name)
	require.NoError(r.t, err)
	require.True(r.t, bytes.Equal(content, got), "content of %s", name)
	f, err := r.books.Find(r.t.Context(), org, name)
	require.NoError(r.t, err)
	require.Equal(r.t, tier, f.Tier)
	object, err := r.dir.Stat(r.t.Context(), f.Key)
	require.NoError(r.t, err)
	require.Equal(r.t, tier, object.Tier)
	return f
}

// exact sweeps, and asserts that the books are right and that nothing is left behind.
func (r *rig) exact(files int) {
	r.t.Helper()
	r.pass(2 * time.Minute) // what an earlier sweep claimed
	require.NoError(r.t, r.store.Sweep(r.t.Context()))
	report, err := r.books.Reconcile(r.t.Context(), r.dir, ledger.ReconcileOptions{})
	require.NoError(r.t, err)
	require.True(r.t, report.Empty(), "%+v", report)
	require.Len(r.t, r.dir.Keys(), files)
}
