package ledger

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"time"

	"github.com/rivergate/rivergate/sdk/protocol"
	"github.com/rivergate/rivergate/services/platform/database"
)

// Objects is what Reconcile needs of a backend, as protocol.Storage has it.
type Objects interface {
	List(ctx context.Context, prefix, after string, limit int) (objects []protocol.Object, more bool, err error)
	Stat(ctx context.Context, key string) (protocol.Object, error)
	Delete(ctx context.Context, key string) error
}

// ReconcileOptions says how far Reconcile goes.
type ReconcileOptions struct {
	Prefix string // of the objects that are ours; those beside it are left alone
	Fix    bool   // repair what is found
}

// Report is what Reconcile found. Each list holds the first of its sort, at most 1000; the counts are complete. What files and
// objects do while it runs is no finding.
type Report struct {
	Orgs        int // looked at
	Files       int64
	Objects     int64
	Books       []Difference // sums that are not those of the files and holds
	Orphans     Finding      // objects that belong to nothing
	Missing     Finding      // files without an object
	Sizes       Finding      // files whose object has another size than was stored
	StaleHolds  Finding      // held by nobody, and no sweeper released them
	StaleGraves Finding      // tombstones that no sweeper deleted the object of
	Fixed       bool         // all of the above is repaired, but for Sizes: those need a person
}

// Difference is a sum in the books of an org that is wrong.
type Difference struct {
	Org            uint64
	What           string // used, reserved, parts or counts
	Written, Right int64
}

// Finding is some keys.
type Finding struct {
	Count int64
	Bytes int64
	Keys  []string
}

// Empty: there is nothing to repair.
func (r *Report) Empty() bool {
	return len(r.Books) == 0 && r.Orphans.Count+r.Missing.Count+r.Sizes.Count+r.StaleHolds.Count+r.StaleGraves.Count == 0
}

const (
	findingKeys   = 1000
	reconcilePage = 1000
	stale         = 15 * time.Minute // what a sweeper should have seen to by then
)

func (f *Finding) add(key string, bytes int64) {
	f.Count++
	f.Bytes += bytes
	if len(f.Keys) < findingKeys {
		f.Keys = append(f.Keys, key)
	}
}

// Reconcile compares the books with themselves and with the backend, page by page in the order of keys. It may run beside uploads.
// With Fix, it deletes objects without a file and files without an object, releases and buries what is stale, and writes the right sums.
func (l *Ledger) Reconcile(ctx context.Context, objects Objects, o ReconcileOptions) (Report, error) {
	r := Report{Fixed: o.Fix}
	for _, step := range []func(context.Context, Objects, ReconcileOptions, *Report) error{l.staleHolds, l.staleGraves, l.compare, l.books} {
		if err := step(ctx, objects, o, &r); err != nil {
			return r, wrap("reconcile", err)
		}
	}
	return r, nil
}

func (l *Ledger) staleHolds(ctx context.Context, _ Objects, o ReconcileOptions, r *Report) error {
	before := micros(l.now().Add(-stale))
	for after := int64(0); ; {
		found, err := l.holds(ctx, "id > ? AND "+dead+" ORDER BY id LIMIT ?", after, before, before, reconcilePage)
		if err != nil || len(found) == 0 {
			return err
		}
		for _, h := range found {
			after = h.id
			var key string
			var bytes int64
			err := l.db.Reader().QueryRowContext(ctx, "SELECT key, bytes FROM ledger_holds WHERE id = ?", h.id).Scan(&key, &bytes)
			if errors.Is(err, sql.ErrNoRows) {
				continue
			}
			if err != nil {
				return err
			}
			r.StaleHolds.add(key, bytes)
			if o.Fix {
				if err := l.release(ctx, h.org, h.id, true); err != nil {
					return err
				}
			}
		}
	}
}

func (l *Ledger) staleGraves(ctx context.Context, objects Objects, o ReconcileOptions, r *Report) error {
	before := l.now().Add(-stale)
	if o.Fix { // those of holds that were just released, too
		before = l.now()
	}
	for after := ""; ; {
		var keys []string
		var since []time.Time
		if err := database.Each(ctx, l.db.Reader(), func(rows *sql.Rows) error {
			var at int64
			err := rows.Scan(&after, &at)
			keys, since = append(keys, after), append(since, fromMicros(at))
			return err
		}, "SELECT key, since FROM ledger_tombstones WHERE key > ? AND since <= ? ORDER BY key LIMIT ?", after, micros(before), reconcilePage); err != nil || len(keys) == 0 {
			return err
		}
		for i, key := range keys {
			if l.now().Sub(since[i]) >= stale {
				r.StaleGraves.add(key, 0)
			}
			if o.Fix {
				if err := objects.Delete(ctx, key); err != nil {
					return fmt.Errorf("delete the object of a tombstone: %w", err)
				}
			}
		}
		if o.Fix {
			if err := l.Purged(ctx, keys...); err != nil {
				return err
			}
		}
	}
}

// compare walks through files and objects side by side.
func (l *Ledger) compare(ctx context.Context, objects Objects, o ReconcileOptions, r *Report) error {
	rows := pages(func(after string) ([]File, bool, error) {
		list, err := files(ctx, l.db.Reader(), "key > ? ORDER BY key LIMIT ?", after, reconcilePage)
		return list, len(list) == reconcilePage, err
	}, func(f *File) string { return f.Key })
	stored := pages(func(after string) ([]protocol.Object, bool, error) {
		return objects.List(ctx, o.Prefix, after, reconcilePage)
	}, func(obj *protocol.Object) string { return obj.Key })

	file, err := rows.next()
	if err != nil {
		return err
	}
	object, err := stored.next()
	if err != nil {
		return err
	}
	for file != nil || object != nil {
		nextFile, nextObject := object == nil || file != nil && file.Key <= object.Key, file == nil || object != nil && object.Key <= file.Key
		switch {
		case nextFile && nextObject:
			if file.StoredSize != object.Size {
				err = l.size(ctx, objects, file, r)
			}
		case nextFile:
			err = l.withoutObject(ctx, objects, o, file, r)
		default:
			err = l.withoutFile(ctx, objects, o, object, r)
		}
		if nextFile && err == nil {
			r.Files++
			file, err = rows.next()
		}
		if nextObject && err == nil {
			r.Objects++
			object, err = stored.next()
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// paged goes through a list of which it holds one page.
type paged[T any] struct {
	page []T
	at   int
	last string
	more bool
	read func(after string) ([]T, bool, error)
	key  func(*T) string
}

func pages[T any](read func(after string) ([]T, bool, error), key func(*T) string) *paged[T] {
	return &paged[T]{read: read, key: key, more: true}
}

// next is the next one, nil at the end.
func (p *paged[T]) next() (*T, error) {
	for p.at == len(p.page) {
		if !p.more {
			return nil, nil //nolint:nilnil // the end
		}
		page, more, err := p.read(p.last)
		if err != nil {
			return nil, err
		}
		p.page, p.at, p.more = page, 0, more && len(page) > 0
	}
	one := &p.page[p.at]
	p.at++
	p.last = p.key(one)
	return one, nil
}

// withoutObject looks again at a file whose object was not in the list.
func (l *Ledger) withoutObject(ctx context.Context, objects Objects, o ReconcileOptions, f *File, r *Report) error {
	if _, err := objects.Stat(ctx, f.Key); !errors.Is(err, protocol.ErrNotFound) {
		return err // it came after the list went by
	}
	now, err := l.ByID(ctx, f.Org, f.ID)
	if errors.Is(err, ErrNotFound) || err == nil && now.Key != f.Key {
		return nil
	}
	if err != nil {
		return err
	}
	r.Missing.add(f.Key, f.Size)
	if !o.Fix {
		return nil
	}
	_, err = l.DeleteVersion(ctx, now)
	if errors.Is(err, ErrNotFound) || errors.Is(err, ErrChanged) {
		return nil
	}
	if err != nil {
		return err
	}
	return l.Purged(ctx, f.Key)
}

// withoutFile looks again at an object whose file was not in the list. An upload has its hold before its object, and whatever took the
// object out of the books left a tombstone before it was deleted.
func (l *Ledger) withoutFile(ctx context.Context, objects Objects, o ReconcileOptions, object *protocol.Object, r *Report) error {
	for range 2 { // the second time it may be gone: its tombstone went between list and question
		var known bool
		if err := l.db.Reader().QueryRowContext(ctx, `SELECT EXISTS (SELECT 1 FROM ledger_files WHERE key = ?) OR EXISTS (SELECT 1 FROM ledger_holds WHERE key = ?)
			OR EXISTS (SELECT 1 FROM ledger_tombstones WHERE key = ?)`, object.Key, object.Key, object.Key).Scan(&known); err != nil || known {
			return err
		}
		if _, err := objects.Stat(ctx, object.Key); err != nil {
			if errors.Is(err, protocol.ErrNotFound) {
				return nil
			}
			return err
		}
	}
	r.Orphans.add(object.Key, object.Size)
	if !o.Fix {
		return nil
	}
	return objects.Delete(ctx, object.Key)
}

// size looks again at a file whose object has another size.
func (l *Ledger) size(ctx context.Context, objects Objects, f *File, r *Report) error {
	now, err := l.ByID(ctx, f.Org, f.ID)
	if errors.Is(err, ErrNotFound) || err == nil && now.Key != f.Key {
		return nil
	}
	if err != nil {
		return err
	}
	object, err := objects.Stat(ctx, f.Key)
	if errors.Is(err, protocol.ErrNotFound) || err == nil && object.Size == now.StoredSize {
		return nil
	}
	if err == nil {
		r.Sizes.add(f.Key, object.Size-now.StoredSize)
	}
	return err
}
