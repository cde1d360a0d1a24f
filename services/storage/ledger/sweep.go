package ledger

import (
	"context"
	"database/sql"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/rivergate/rivergate/services/platform/database"
)

const (
	claimed = time.Minute // for which a tombstone is the caller's alone
	late    = time.Minute // for which the object of a dead process may still appear

	sweepers = 50 // holds that Sweep releases at once
)

// dead is the condition of holds that nobody keeps alive; its arguments are the time twice.
const dead = `(owner = '' AND expires <= ? OR owner <> '' AND NOT EXISTS (SELECT 1 FROM ledger_hosts s WHERE s.owner = ledger_holds.owner AND s.expires > ?))`

func (l *Ledger) alive(ctx context.Context, tx *database.Tx, id int64) (bool, error) {
	now := micros(l.now())
	var n int
	err := tx.QueryRowContext(ctx, "SELECT count(*) FROM ledger_holds WHERE id = ? AND "+dead, id, now, now).Scan(&n)
	return n == 0, err
}

// Sweep releases holds that nobody keeps alive, at most limit, and returns how many. Call it now and then, and again at once when
// it released as many as it might.
func (l *Ledger) Sweep(ctx context.Context, limit int) (n int, err error) {
	now := l.now()
	found, err := l.holds(ctx, dead+" ORDER BY id LIMIT ?", micros(now), micros(now), limit)
	if err != nil {
		return 0, wrap("sweep", err)
	}
	var released atomic.Int64
	all, together := errgroup.WithContext(ctx)
	all.SetLimit(sweepers) // so that they share transactions
	for _, h := range found {
		all.Go(func() error {
			if err := l.release(together, h.org, h.id, true); err != nil {
				return err
			}
			released.Add(1)
			l.metrics.expired.Inc()
			return nil
		})
	}
	err = all.Wait()
	n = int(released.Load())
	if err != nil {
		return n, wrap("sweep", err)
	}
	// A process that is late, not dead, comes back with its next renewal.
	err = l.db.Write(ctx, func(tx *database.Tx) error {
		return run(ctx, tx, "DELETE FROM ledger_hosts WHERE expires < ? AND NOT EXISTS (SELECT 1 FROM ledger_holds h WHERE h.owner = ledger_hosts.owner)", micros(now.Add(-10*l.lease)))
	})
	return n, wrap("sweep", err)
}

// Tombstones returns keys whose objects are to be deleted, at most limit, the oldest first. For a minute no other caller gets them.
func (l *Ledger) Tombstones(ctx context.Context, limit int) ([]Tombstone, error) {
	now := l.now()
	var list []Tombstone
	err := l.db.Write(ctx, func(tx *database.Tx) error {
		list = nil
		return database.Each(ctx, tx, func(rows *sql.Rows) error {
			var t Tombstone
			var org, since int64
			err := rows.Scan(&t.Key, &org, &since)
			t.Org, t.Since = uint64(org), fromMicros(since)
			list = append(list, t)
			return err
		}, `UPDATE ledger_tombstones SET due = ? WHERE due <= ? AND key IN (SELECT key FROM ledger_tombstones WHERE due <= ? ORDER BY due, key LIMIT ?)
			RETURNING key, org, since`, micros(now.Add(claimed)), micros(now), micros(now), limit)
	})
	return list, wrap("tombstones", err)
}

// Purged forgets tombstones: their objects are deleted.
func (l *Ledger) Purged(ctx context.Context, keys ...string) error {
	return wrap("forget tombstones", l.db.Group(ctx, "tombstones", func(ctx context.Context, tx *database.Tx) error {
		for _, key := range keys {
			if err := run(ctx, tx, "DELETE FROM ledger_tombstones WHERE key = ?", key); err != nil {
				return err
			}
		}
		return nil
	}))
}
