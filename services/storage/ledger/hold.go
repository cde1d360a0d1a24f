package ledger

import (
	"context"
	"crypto/rand"
	"database/sql"
	"encoding/hex"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/rivergate/rivergate/sdk/protocol"
	"github.com/rivergate/rivergate/services/platform/database"
)

// maxBytes is above what any org has; with it, no sum overflows.
const maxBytes = 1 << 60

// Hold is a reservation. It ends with Commit, Move or Release; call Release in any case, it does nothing after the others.
type Hold struct {
	l   *Ledger
	id  int64
	org uint64
	key string

	plan Reservation // until Reserve
	by   grouping    // how it is made and grows

	as, only string // see As and Only

	mu    sync.Mutex
	bytes int64
}

// ID names the hold for Ledger.Hold.
func (h *Hold) ID() int64 { return h.id }

// Key is what the object is to be stored as. No other object has or had it.
func (h *Hold) Key() string { return h.key }

// Bytes is what is reserved now.
func (h *Hold) Bytes() int64 {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.bytes
}

// Reserve makes room: *QuotaError when there is none. ErrExists: a key that was promised to be fresh is not.
func (l *Ledger) Reserve(ctx context.Context, r Reservation) (*Hold, error) {
	h, err := l.Plan(r)
	if err != nil {
		return nil, err
	}
	if err := h.Reserve(ctx, r.Bytes); err != nil {
		return nil, err
	}
	return h, nil
}

// Plan is a hold of which only the key is certain. Nothing is reserved, and nobody else knows of it, before Hold.Reserve.
func (l *Ledger) Plan(r Reservation) (*Hold, error) {
	key := r.ObjectName
	if !r.Fresh {
		var random [4]byte
		if _, err := rand.Read(random[:]); err != nil {
			return nil, err
		}
		key += "~" + hex.EncodeToString(random[:])
	}
	if err := protocol.CheckKey(key); err != nil {
		return nil, err
	}
	h := &Hold{l: l, org: r.Org, key: key, plan: r, by: l.db.Group}
	if r.Lease == 0 {
		// It ends with this process anyway, so there is no need to wait for the disk. A power cut may then leave an object of which the
		// ledger does not know, when it falls between the object and its row: reconcile finds it.
		h.by = l.db.GroupUnsynced
	}
	return h, nil
}

// Reserve makes room for so many bytes, whatever the plan said of them. Errors are those of Ledger.Reserve; after one, it may be tried
// again.
func (h *Hold) Reserve(ctx context.Context, bytes int64) error {
	l, r := h.l, h.plan
	if bytes < 0 {
		return fmt.Errorf("reserve %d bytes: cannot be negative", bytes)
	}
	now := l.now()
	row := holdRow{org: r.Org, kind: r.Kind, objectName: r.ObjectName, key: h.key, asked: bytes, free: r.Free, created: now}
	if r.Lease == 0 {
		row.owner = l.owner
	} else {
		row.expires = now.Add(r.Lease)
	}
	err := l.changeBy(ctx, h.by, r.Org, func(ctx context.Context, tx *database.Tx) (err error) {
		if row.credit = 0; r.Overwrite && !r.Free {
			if row.credit, err = charged(ctx, tx, r.Org, r.ObjectName); err != nil {
				return err
			}
		}
		row.bytes = row.need()
		if err := l.reserve(ctx, tx, r.Org, row.bytes, r.Free || row.credit > 0 && row.bytes == 0); err != nil {
			return err
		}
		h.id, err = insertHold(ctx, tx, &row)
		return err
	})
	if err != nil {
		return wrap("reserve", err)
	}
	h.mu.Lock()
	h.bytes = row.bytes
	h.mu.Unlock()
	if r.Lease == 0 {
		l.mu.Lock()
		l.held[h.id] = true
		l.mu.Unlock()
	}
	return nil
}

// Hold opens one again that was made with Reservation.Lease above 0, in this process or in another one. ErrHoldLost.
func (l *Ledger) Hold(ctx context.Context, org uint64, id int64) (*Hold, error) {
	h := &Hold{l: l, id: id, org: org, by: l.db.Group}
	err := l.db.Reader().QueryRowContext(ctx, "SELECT key, bytes FROM ledger_holds WHERE id = ? AND org = ? AND owner = ''", id, int64(org)).Scan(&h.key, &h.bytes)
	if errors.Is(err, sql.ErrNoRows) {
		return nil, ErrHoldLost
	}
	if err != nil {
		return nil, wrap("reservation", err)
	}
	return h, nil
}

// Grow asks for n bytes more. A *QuotaError leaves the hold as it is.
func (h *Hold) Grow(ctx context.Context, n int64) error {
	if n < 0 {
		return fmt.Errorf("reserve %d bytes more: cannot be negative", n)
	}
	var bytes int64
	err := h.l.changeBy(ctx, h.by, h.org, func(ctx context.Context, tx *database.Tx) error {
		row, err := holdOf(ctx, tx, h.org, h.id)
		if err != nil {
			return err
		}
		row.asked += n
		more := row.need() - row.bytes
		if row.asked > maxBytes {
			more = maxBytes + 1
		}
		if err := h.l.reserve(ctx, tx, h.org, more, row.free || more == 0); err != nil {
			return err
		}
		bytes = row.bytes + more
		return run(ctx, tx, "UPDATE ledger_holds SET asked = ?, bytes = ? WHERE id = ?", row.asked, bytes, h.id)
	})
	if err != nil {
		return wrap("reserve", err)
	}
	h.mu.Lock()
	h.bytes = bytes
	h.mu.Unlock()
	return nil
}

// Keep lets a hold that was made with Reservation.Lease live d from now. The others need none. ErrHoldLost.
func (h *Hold) Keep(ctx context.Context, d time.Duration) error {
	return wrap("keep a reservation", h.l.change(ctx, h.org, func(ctx context.Context, tx *database.Tx) error {
		n, err := changed(ctx, tx, "UPDATE ledger_holds SET expires = ? WHERE id = ? AND owner = ''", micros(h.l.now().Add(d)), h.id)
		if err == nil && n == 0 {
			err = ErrHoldLost
		}
		return err
	}))
}

// Commit makes f visible and charges f.Size, in one transaction. Org, Kind, ObjectName, Key and Free are those of the hold; ID, Created
// and Accessed are set here; an empty Tier is hot. replaced is the file that was there (its key is a tombstone now).
//
// ErrExists, ErrHoldLost and *QuotaError (f.Size is more than was reserved) leave everything as it was: Release. database.ErrUnknown: it may have
// happened; leave hold and object alone, the sweeper will find out.
func (h *Hold) Commit(ctx context.Context, f File, mode Mode) (file File, replaced *File, err error) {
	if f.Size < 0 || f.Size > maxBytes {
		return File{}, nil, fmt.Errorf("commit: a size of %d bytes", f.Size)
	}
	err = h.l.change(ctx, h.org, func(ctx context.Context, tx *database.Tx) (err error) {
		file, replaced, err = h.l.commit(ctx, tx, h, f, mode)
		return err
	})
	if errors.Is(err, database.ErrUnknown) {
		file, replaced, err = h.recall(ctx, err)
	}
	if err != nil {
		return File{}, nil, wrap("commit", err)
	}
	h.end()
	return file, replaced, nil
}

// recall finds out whether a commit happened whose answer was lost.
func (h *Hold) recall(ctx context.Context, lost error) (File, *File, error) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), finishTime)
	defer cancel()
	var f File
	there := false
	err := h.l.db.Write(ctx, func(tx *database.Tx) (err error) { // Write, since it waits for a server that restarts
		if err := h.l.lock(ctx, tx, h.org); err != nil { // and for the transaction in question, should it still run
			return err
		}
		f, err = one(ctx, tx, "org = ? AND key = ?", int64(h.org), h.key)
		there = err == nil
		if errors.Is(err, ErrNotFound) {
			_, err = holdOf(ctx, tx, h.org, h.id)
		}
		return err
	})
	switch {
	case err != nil:
		return File{}, nil, lost
	case there:
		return f, nil, nil
	}
	return File{}, nil, errors.New("the connection to the database was lost before it happened")
}

// Move makes old, whose object was copied to h's key, point there; the hold was made with Free and old.ObjectName. The former key becomes
// a tombstone. ErrChanged when old is not the newest any more, ErrHoldLost: Release.
func (h *Hold) Move(ctx context.Context, old File, tier protocol.Tier, storedSize int64, keyID string) (File, error) {
	f := old
	f.Key, f.Tier, f.StoredSize, f.KeyID, f.TierChanged = h.key, tier, storedSize, keyID, h.l.now().UTC().Truncate(time.Microsecond)
	err := h.l.change(ctx, h.org, func(ctx context.Context, tx *database.Tx) error {
		if _, err := takeHold(ctx, tx, h.org, h.id); err != nil {
			return err
		}
		if err := repoint(ctx, tx, &old, &f); err != nil {
			return err
		}
		return bury(ctx, tx, h.org, old.Key, h.l.now())
	})
	if err != nil {
		return File{}, wrap("move", err)
	}
	h.end()
	return f, nil
}

// Release gives the bytes back and leaves a tombstone of the key: delete the object and call Purged, or leave that to the sweeper. It
// does nothing when the hold has ended. It is done although ctx has ended; when it fails, the keeper does it later.
func (h *Hold) Release(ctx context.Context) error {
	h.end()
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), finishTime)
	defer cancel()
	return wrap("release a reservation", h.l.release(ctx, h.org, h.id, false))
}

// end: the process does not need it any more.
func (h *Hold) end() {
	h.l.mu.Lock()
	delete(h.l.held, h.id)
	h.l.mu.Unlock()
}

// release ends a hold; with dead, only when nobody keeps it alive.
func (l *Ledger) release(ctx context.Context, org uint64, id int64, dead bool) error {
	return l.change(ctx, org, func(ctx context.Context, tx *database.Tx) error {
		if dead {
			if alive, err := l.alive(ctx, tx, id); alive || err != nil {
				return err
			}
		}
		row, err := takeHold(ctx, tx, org, id)
		if errors.Is(err, ErrHoldLost) {
			return nil
		}
		if err != nil {
			return err
		}
		if err := run(ctx, tx, "UPDATE ledger_orgs SET reserved = reserved - ? WHERE org = ?", row.bytes, int64(org)); err != nil {
			return err
		}
		now, due := l.now(), l.now()
		if dead { // what its process had sent to the backend may still arrive there
			due = now.Add(late)
		}
		return buryLater(ctx, tx, org, row.key, now, due)
	})
}

// wrap says what was being done, but for errors that say it all.
func wrap(doing string, err error) error {
	var quota *QuotaError
	switch {
	case err == nil:
		return nil
	case errors.As(err, &quota), errors.Is(err, ErrNotFound), errors.Is(err, ErrExists), errors.Is(err, ErrHoldLost), errors.Is(err, ErrChanged):
		return err
	}
	return fmt.Errorf("ledger: %s: %w", doing, err)
}
