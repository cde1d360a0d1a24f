package ledger

import (
	"context"
	"database/sql"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/rivergate/rivergate/services/platform/database"
)

// forgotten is the age at which a hold of this process that nobody here knows of is released: the answer to its making, or its
// Release, was lost with the connection to the database.
const forgotten = 2 * time.Minute

// keep renews what this process holds, until ctx ends.
func (l *Ledger) keep(ctx context.Context) {
	tick := time.NewTicker(max(l.lease/4, time.Millisecond))
	defer tick.Stop()
	trouble := false
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		err := l.renew(ctx)
		if err == nil {
			err = l.releaseForgotten(ctx)
		}
		if err == nil {
			err = l.flushTouched(ctx)
		}
		switch {
		case ctx.Err() != nil:
			return
		case err != nil && !trouble:
			l.log.Error("the ledger cannot write; uploads under way are lost when this lasts longer than their lease", "lease", l.lease, "error", err)
		case err == nil && trouble:
			l.log.Info("the ledger writes again")
		}
		trouble = err != nil
	}
}

// renew says that this process lives.
func (l *Ledger) renew(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, finishTime)
	defer cancel()
	return l.db.Write(ctx, func(tx *database.Tx) error {
		return run(ctx, tx, "INSERT INTO ledger_hosts (owner, expires) VALUES (?, ?) ON CONFLICT (owner) DO UPDATE SET expires = excluded.expires",
			l.owner, micros(l.now().Add(l.lease)))
	})
}

// retire says that it does not.
func (l *Ledger) retire(ctx context.Context) error {
	return l.db.Write(ctx, func(tx *database.Tx) error {
		return run(ctx, tx, "UPDATE ledger_hosts SET expires = ? WHERE owner = ?", micros(l.now()), l.owner)
	})
}

// takeOver says it of all earlier processes of that name.
func (l *Ledger) takeOver(ctx context.Context, name string) error {
	if strings.ContainsAny(name, "/") {
		return fmt.Errorf("the name %q has a slash in it", name)
	}
	now := micros(l.now())
	return l.db.Write(ctx, func(tx *database.Tx) error { // '0' comes after '/'
		return run(ctx, tx, "UPDATE ledger_hosts SET expires = ? WHERE owner > ? AND owner < ? AND expires > ?", now, name+"/", name+"0", now)
	})
}

// releaseForgotten releases holds of this process that it does not know of.
func (l *Ledger) releaseForgotten(ctx context.Context) error {
	found, err := l.holds(ctx, "owner = ? AND created < ?", l.owner, micros(l.now().Add(-forgotten)))
	if err != nil {
		return err
	}
	for _, h := range found {
		l.mu.Lock()
		known := l.held[h.id]
		l.mu.Unlock()
		if known {
			continue
		}
		if err := l.release(ctx, h.org, h.id, false); err != nil {
			return err
		}
	}
	return nil
}

// held names a hold.
type held struct {
	id  int64
	org uint64
}

func (l *Ledger) holds(ctx context.Context, condition string, args ...any) ([]held, error) {
	var list []held
	err := database.Each(ctx, l.db.Reader(), func(rows *sql.Rows) error {
		var id, org int64
		err := rows.Scan(&id, &org)
		list = append(list, held{id, uint64(org)})
		return err
	}, "SELECT id, org FROM ledger_holds WHERE "+condition, args...)
	return list, err
}

// flushTouched writes what Touch noted.
func (l *Ledger) flushTouched(ctx context.Context) error {
	l.mu.Lock()
	touched := l.touched
	l.touched = make(map[int64]time.Time)
	l.mu.Unlock()
	for ids := range slices.Chunk(slices.Sorted(maps.Keys(touched)), 200) { // a short transaction each
		if err := l.db.Write(ctx, func(tx *database.Tx) error {
			for _, id := range ids {
				at := micros(touched[id])
				if err := run(ctx, tx, "UPDATE ledger_files SET accessed = ? WHERE id = ? AND accessed < ?", at, id, at); err != nil {
					return err
				}
			}
			return nil
		}); err != nil {
			return err // what it knew of reads is lost, which Touch allows
		}
	}
	return nil
}
