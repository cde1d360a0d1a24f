package delivery

import (
	"context"
	"fmt"
	"path/filepath"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/rivergate/rivergate/sdk/protocol"
	"github.com/rivergate/rivergate/services/gateway/journal"
	"github.com/rivergate/rivergate/services/platform/database"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// rig is a host around a Delivery: a journal and a database that stay when the host is "restarted".
type rig struct {
	t       testing.TB
	journal *memory
	db      *database.DB
	options Options

	*Delivery
	stop func()
	ran  chan error
}

// in runs a test under fake time: minutes of backoff pass at once, and waiting is for a state, not for a while.
func in(t *testing.T, test func(t *testing.T)) { synctest.Test(t, test) }

func newRig(t testing.TB, pushers ...Pusher) *rig {
	t.Helper()
	db, err := database.Open(context.Background(), filepath.Join(t.TempDir(), "rivergate.db"))
	require.NoError(t, err)
	r := &rig{t: t, journal: newMemory(), db: db, options: Options{Pushers: pushers}}
	t.Cleanup(func() {
		_ = r.halt()
		require.NoError(t, db.Close())
	})
	return r
}

// pusher is a configuration with the defaults of production, but small batches.
func pusher(name string, d Destination) Pusher {
	return Pusher{Name: name, BatchRows: 10, BatchBytes: 1 << 20, BatchWait: 5 * time.Millisecond, Window: 8, Order: OrderKey, Timeout: 30 * time.Second,
		RetryMin: 200 * time.Millisecond, RetryMax: 30 * time.Second, RetryAttempts: 20, Start: StartNew, Destination: d}
}

// start opens a Delivery and runs it.
func (r *rig) start() {
	r.t.Helper()
	r.open()
	r.run()
}

func (r *rig) open() {
	r.t.Helper()
	o := r.options
	o.Journal, o.DB = r.journal, r.db
	var err error
	r.Delivery, err = Open(context.Background(), o)
	require.NoError(r.t, err)
}

func (r *rig) run() {
	ctx, cancel := context.WithCancel(context.Background())
	r.ran = make(chan error, 1)
	go func(d *Delivery, ran chan error) { ran <- d.Run(ctx) }(r.Delivery, r.ran)
	r.stop = cancel
}

// halt stops in good order; the error is Run's.
func (r *rig) halt() error {
	if r.stop == nil {
		return nil
	}
	r.stop()
	r.stop = nil
	return <-r.ran
}

// post accepts n rows of a uuid for org 1.
func (r *rig) post(uuid string, n int) *protocol.Frame { return r.postFor(1, uuid, n) }

func (r *rig) postFor(org uint64, uuid string, n int) *protocol.Frame {
	return r.postFrame(rows(org, uuid, n))
}

func (r *rig) postFrame(f protocol.Frame) *protocol.Frame {
	rec := &journal.Record{Frame: f}
	_, err := r.journal.Append(context.Background(), rec)
	require.NoError(r.t, err)
	if r.Delivery != nil {
		r.Accepted(&rec.Frame)
	}
	return &rec.Frame
}

func rows(org uint64, uuid string, n int) protocol.Frame {
	f := protocol.Frame{OrgID: org, UserID: 7, UUID: uuid, RequestID: "req-1"}
	for i := range n {
		f.Data = fmt.Appendf(f.Data, `{"n": %d}`, i)
		f.Ends = append(f.Ends, uint32(len(f.Data)))
		f.Index = append(f.Index, int32(i))
	}
	return f
}

// settledAll waits until a frame is settled at all pushers.
func (r *rig) settledAll(f *protocol.Frame) []Progress {
	r.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 24*time.Hour)
	defer cancel()
	all := r.Wait(ctx, f)
	for _, p := range all {
		require.NotEqual(r.t, StatePending, p.State, "%+v", p)
	}
	return all
}

func (r *rig) status(name string) Status {
	r.t.Helper()
	for _, s := range r.Status() {
		if s.Name == name {
			return s
		}
	}
	require.Fail(r.t, "no status of "+name)
	return Status{}
}

// after lets fake time pass, and waits until nothing moves any more.
func after(d time.Duration) {
	<-time.After(d)
	synctest.Wait()
}

// storedCursor is the durable one.
func (r *rig) storedCursor(name string) (cursor uint64) {
	r.t.Helper()
	require.NoError(r.t, r.db.Reader().QueryRowContext(context.Background(), "SELECT cursor FROM pushers WHERE name = ?", name).Scan(&cursor))
	return cursor
}

// sicken makes a kind of statement fail, as a full disk would.
func (r *rig) sicken(statement string) (heal func()) {
	r.t.Helper()
	exec := func(q string) {
		require.NoError(r.t, r.db.Write(context.Background(), func(tx *database.Tx) error {
			_, err := tx.ExecContext(context.Background(), q)
			return err
		}))
	}
	exec("CREATE TRIGGER sick BEFORE " + statement + " BEGIN SELECT RAISE(ABORT, 'disk full'); END")
	return func() { exec("DROP TRIGGER sick") }
}

// letters lists all dead letters.
func (r *rig) letters() []DeadLetter {
	r.t.Helper()
	items, next, err := r.DeadLetters(context.Background(), Filter{Org: 1}, "", 1000)
	require.NoError(r.t, err)
	require.Empty(r.t, next)
	return items
}
