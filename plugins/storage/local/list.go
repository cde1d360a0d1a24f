package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path"
	"slices"
	"strings"

	"github.com/rivergate/rivergate/sdk"
)

// listed is one key in a tier.
type listed struct {
	key  string
	tier *tier
}

// List takes the next keys of each tier in order and merges them. Nothing is read but the folders in which they lie.
func (l *Local) List(ctx context.Context, prefix, after string, limit int) ([]sdk.Object, bool, error) {
	var objects []sdk.Object
	for {
		page, more, err := l.page(ctx, prefix, after, limit+1-len(objects))
		if err != nil {
			return nil, false, err
		}
		for _, at := range page {
			after = at.key
			info, t, err := l.stat(at.key, nil)
			if missing(err) {
				continue // deleted meanwhile
			}
			if err != nil {
				return nil, false, err
			}
			if len(objects) == limit {
				return objects, true, nil
			}
			objects = append(objects, describe(at.key, t, info))
		}
		if !more {
			return objects, false, nil
		}
	}
}

// page is the next keys of all tiers, each once.
func (l *Local) page(ctx context.Context, prefix, after string, limit int) (page []listed, more bool, err error) {
	for _, t := range l.tiers {
		w := &walk{ctx: ctx, tier: t, prefix: prefix, after: after, limit: limit}
		if err := w.begin(); err != nil {
			return nil, false, t.failure(fmt.Sprintf("list %q", prefix), err)
		}
		for _, key := range w.keys {
			page = append(page, listed{key, t})
		}
		more = more || len(w.keys) == limit
	}
	slices.SortFunc(page, func(a, b listed) int { return strings.Compare(a.key, b.key) })
	page = slices.CompactFunc(page, func(a, b listed) bool { return a.key == b.key })
	if len(page) > limit {
		page, more = page[:limit], true
	}
	return page, more, nil
}

// walk goes through the folders of a tier in the order of the keys, from after on.
type walk struct {
	ctx           context.Context
	tier          *tier
	prefix, after string
	limit         int
	keys          []string
}

// begin starts in the folder of the whole segments of prefix.
func (w *walk) begin() error {
	slash := strings.LastIndexByte(w.prefix, '/')
	if slash < 0 {
		return w.folder(".", "")
	}
	base := w.prefix[:slash+1]
	if strings.HasPrefix(base, "/") || strings.Contains(base, "//") {
		return nil // no key is like that
	}
	return w.folder(path.Dir(pathOf(base+"x")), base)
}

// folder walks one folder, in which all keys begin with base.
func (w *walk) folder(name, base string) error {
	floor := "" // the order of the last entry that was dealt with
	for {
		entries, more, err := w.entries(name, base, floor)
		if err != nil || len(entries) == 0 {
			return err
		}
		for _, e := range entries {
			floor = e.order()
			key := base + e.begins()
			if e.folder {
				if err := w.folder(path.Join(name, e.name), key); err != nil {
					return err
				}
			} else if key > w.after && strings.HasPrefix(key, w.prefix) {
				w.keys = append(w.keys, key)
			}
			if len(w.keys) == w.limit {
				return nil
			}
		}
		if !more {
			return nil
		}
	}
}

// nameBatch is how many names are read from a folder at a time.
const nameBatch = 4096

// entries are the first entries of a folder after floor behind which there may be keys that are wanted, in order. More are
// never kept than a page has, however many the folder holds.
func (w *walk) entries(name, base, floor string) (kept []entry, more bool, err error) {
	dir, err := w.tier.root.Open(name)
	if err != nil {
		if missing(err) {
			return nil, false, nil
		}
		return nil, false, err
	}
	defer dir.Close() // only read
	byOrder := func(a, b entry) int { return strings.Compare(a.order(), b.order()) }
	trim := func() {
		slices.SortFunc(kept, byOrder)
		if len(kept) > w.limit {
			kept, more = kept[:w.limit], true
		}
	}
	for {
		if w.ctx.Err() != nil {
			return nil, false, context.Cause(w.ctx)
		}
		names, err := dir.Readdirnames(nameBatch)
		for _, n := range names {
			e, ok := parseName(n)
			if ok && e.order() > floor && w.wanted(base, e) {
				kept = append(kept, e)
			}
		}
		if len(kept) > w.limit+nameBatch {
			trim()
		}
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil && !errors.Is(err, os.ErrNotExist) {
			return nil, false, err
		}
		if len(names) == 0 {
			break
		}
	}
	trim()
	return kept, more, nil
}

// wanted tells whether there may be keys behind an entry with the prefix, and after the key that the list goes on from.
func (w *walk) wanted(base string, e entry) bool {
	key := base + e.begins()
	if !e.folder {
		return key > w.after && strings.HasPrefix(key, w.prefix)
	}
	if !strings.HasPrefix(key, w.prefix) && !strings.HasPrefix(w.prefix, key) {
		return false
	}
	return key > w.after || strings.HasPrefix(w.after, key)
}
