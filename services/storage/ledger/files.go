package ledger

import (
	"context"
	"time"

	"github.com/rivergate/rivergate/sdk/protocol"
	"github.com/rivergate/rivergate/services/platform/database"
)

// Find returns an org's file. ErrNotFound.
func (l *Ledger) Find(ctx context.Context, org uint64, objectName string) (File, error) {
	f, err := one(ctx, l.db.Reader(), "org = ? AND object_name = ?", int64(org), objectName)
	return f, wrap("find a file", err)
}

// ByID returns an org's file. ErrNotFound.
func (l *Ledger) ByID(ctx context.Context, org uint64, id int64) (File, error) {
	f, err := one(ctx, l.db.Reader(), "org = ? AND id = ?", int64(org), id)
	return f, wrap("find a file", err)
}

// Delete makes a file invisible, gives its bytes back and leaves a tombstone of its key, in one transaction: delete the object and call
// Purged, or leave that to the sweeper. ErrNotFound.
func (l *Ledger) Delete(ctx context.Context, org uint64, objectName string) (f File, err error) {
	err = l.change(ctx, org, func(ctx context.Context, tx *database.Tx) (err error) {
		f, err = l.take(ctx, tx, "org = ? AND object_name = ?", int64(org), objectName)
		return err
	})
	return f, wrap("delete a file", err)
}

// DeleteVersion is Delete of that very version. ErrChanged: it was overwritten or moved since; ErrNotFound.
func (l *Ledger) DeleteVersion(ctx context.Context, f File) (File, error) {
	var gone File
	err := l.change(ctx, f.Org, func(ctx context.Context, tx *database.Tx) error {
		now, err := one(ctx, tx, "org = ? AND id = ?", int64(f.Org), f.ID)
		if err != nil {
			return err
		}
		if now.Key != f.Key {
			return ErrChanged
		}
		gone, err = l.take(ctx, tx, "org = ? AND id = ?", int64(f.Org), f.ID)
		return err
	})
	return gone, wrap("delete a file", err)
}

// SetTier notes that the object's class was changed where it is. ErrChanged: the file is another one since.
func (l *Ledger) SetTier(ctx context.Context, f File, tier protocol.Tier) (File, error) {
	old := f
	f.Tier, f.TierChanged = tier, l.now().UTC().Truncate(time.Microsecond)
	err := l.change(ctx, f.Org, func(ctx context.Context, tx *database.Tx) error { return repoint(ctx, tx, &old, &f) })
	return f, wrap("set the tier of a file", err)
}

// SetDataSource notes which data source uses the file; 0: none. ErrNotFound.
func (l *Ledger) SetDataSource(ctx context.Context, org uint64, id, dataSource int64) error {
	return wrap("set the data source of a file", l.change(ctx, org, func(ctx context.Context, tx *database.Tx) error {
		n, err := changed(ctx, tx, "UPDATE ledger_files SET data_source = ? WHERE org = ? AND id = ?", dataSource, int64(org), id)
		if err == nil && n == 0 {
			err = ErrNotFound
		}
		return err
	}))
}

// Expired returns files of an org (0: of all) whose time has come, at most limit, the oldest first. Delete each with DeleteVersion.
func (l *Ledger) Expired(ctx context.Context, org uint64, limit int) ([]File, error) {
	list, err := files(ctx, l.db.Reader(), "expires > 0 AND expires <= ? AND (? = 0 OR org = ?) ORDER BY expires LIMIT ?",
		micros(l.now()), int64(org), int64(org), limit)
	return list, wrap("expired files", err)
}

// Idle returns files of an org (0: of all) in a tier that nobody has read since before, at most limit, those longest unread first. after
// is the last file of the answer before; an empty one at the start.
func (l *Ledger) Idle(ctx context.Context, org uint64, tier protocol.Tier, before time.Time, after File, limit int) ([]File, error) {
	list, err := files(ctx, l.db.Reader(), "tier = ? AND accessed < ? AND (accessed, id) > (?, ?) AND (? = 0 OR org = ?) ORDER BY accessed, id LIMIT ?",
		string(tier), micros(before), micros(after.Accessed), after.ID, int64(org), int64(org), limit)
	return list, wrap("idle files", err)
}

// A read is noted when the last that was noted is that long ago; and no more reads than that wait to be written.
const (
	touchEvery = time.Hour
	touchedMax = 10_000
)

// Touch notes that f was read now. The keeper writes it before long: File.Accessed is right within an hour or so, unless the
// process dies.
func (l *Ledger) Touch(f File) {
	now := l.now()
	if now.Sub(f.Accessed) < touchEvery {
		return
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.touched) < touchedMax {
		l.touched[f.ID] = now
	}
}
