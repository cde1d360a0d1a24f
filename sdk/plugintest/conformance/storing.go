package conformance

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"sync/atomic"

	"github.com/rivergate/rivergate/sdk/protocol"
	"github.com/rivergate/rivergate/sdk/wire"
)

func checkPut(ctx context.Context, s *suite) error {
	return s.onStore(ctx, "put", func(st *store) error {
		etags := map[string]bool{}
		for i, size := range []int{0, 1, 1000, 64 << 10, 1<<20 - 1, 1 << 20, 1<<20 + 1, 12<<20 + 3} {
			for _, known := range []bool{true, false} {
				content := data(uint64(2*i), size)
				put := protocol.Put{Key: fmt.Sprintf("size/%d", size), Size: int64(size), ContentType: "text/plain"}
				if !known {
					content = data(uint64(2*i+1), size)
					put.Size = -1
				}
				o, err := st.put(ctx, put, bytes.NewReader(content))
				if err != nil {
					return st.p.failed(fmt.Sprintf("Put of %d bytes, said to be %d", size, put.Size), err, putChange)
				}
				if err := st.holds(ctx, put.Key, content); err != nil {
					return err
				}
				if size > 0 && etags[o.ETag] {
					return fail("another ETag for other content", o.ETag+" again", "make the ETag of what changes with the content")
				}
				etags[o.ETag] = true
			}
		}
		if err := st.absent(ctx, "never", "it was never put"); err != nil {
			return err
		}
		for range 2 {
			within, cancel := s.within(ctx)
			err := st.p.client.Delete(within, instance, st.prefix+"size/1000")
			cancel()
			if err != nil {
				return st.p.failed("Delete", err, "delete; what is not there needs none")
			}
			if err := st.absent(ctx, "size/1000", "it was deleted"); err != nil {
				return err
			}
		}
		return nil
	})
}

func checkRanges(ctx context.Context, s *suite) error {
	return s.onStore(ctx, "ranges", func(st *store) error {
		content := data(7, 3<<20+7)
		end := int64(len(content))
		for _, near := range []bool{false, true} { // in frames, and where the plugin offers it, beside the call
			wire.TakeNear(st.p.client, near)
			if _, err := st.keep(ctx, "object", content); err != nil {
				return err
			}
		}
		if _, err := st.keep(ctx, "empty", nil); err != nil {
			return err
		}
		const change = "give From to From+Length, as far as there is an object; ErrRange when From is at or beyond its end"
		for _, pair := range [][2]int64{
			{0, -1}, {0, 1}, {0, end}, {0, end + 5}, {1, -1}, {1 << 20, 1 << 20}, {1<<20 - 1, 3}, {end - 1, -1}, {end - 1, 1}, {end - 1, 100}, {5, 1<<20 + 9},
		} {
			part := protocol.Range{From: pair[0], Length: pair[1]}
			to := end
			if part.Length >= 0 {
				to = min(end, part.From+part.Length)
			}
			for _, near := range []bool{false, true} { // likewise, or read from its file by the host itself
				wire.TakeNear(st.p.client, near)
				unlike, err := st.compare(ctx, "object", part, content[part.From:to])
				if err != nil {
					return st.p.failed(fmt.Sprintf("Get of %d bytes from %d of %d", part.Length, part.From, end), err, change)
				}
				if unlike != "" {
					return fail(fmt.Sprintf("bytes %d to %d", part.From, to), unlike, change)
				}
			}
		}
		for _, pair := range [][2]int64{{end, -1}, {end, 1}, {end + 1, 1}, {1 << 50, -1}} {
			part := protocol.Range{From: pair[0], Length: pair[1]}
			if _, err := st.get(ctx, "object", part, nil); !errors.Is(err, protocol.ErrRange) {
				return st.unlike(fmt.Sprintf("ErrRange for what begins at byte %d of %d", part.From, end), "Get", err, change)
			}
		}
		if got, err := st.get(ctx, "empty", protocol.Whole(), nil); err != nil || len(got) > 0 {
			return st.unlike("no byte of an empty object", "Get", err, "an empty object has a whole too")
		}
		return nil
	})
}

// oddKeys are what people call files, and what they should not.
func oddKeys() []string {
	return []string{
		"plain", "Plain", "PLAIN", "folder/a", "folder/A", "folder.d/a", "a b", " lead", "trail ", "dot.", ".dot", "..two", "two..", "a.b.c",
		"caf\u00e9", "cafe\u0301", "\u212a", "k", "K", "\u0130stanbul", "日本語", "😀", "\u202ertl", "a+b", "a%20b", "a%2Fb", "%", "a?b=c", "a#b", "a&b", "a;b", "a:b",
		`back\slash`, `"quoted"`, "'single'", "<tag>", "a|b", "a*b", "tab\there", "line\nbreak", "\x01", "\x7f", "nested/one/two/three/four/five",
		"nested", "nested/one", "con", "nul", "aux.txt", "a~b", "~", "~0", "-", "--", "_", "a=b", "a@b", "a,b", "(x)", "[x]", "{x}", "$x", "!x", "^x", "`x",
		strings.Repeat("n", 255), strings.Repeat("n", 256), strings.Repeat("é", 200), strings.Repeat("A", 300) + "/b", strings.Repeat("s/", 100) + "deep",
	}
}

func checkKeys(ctx context.Context, s *suite) error {
	return s.onStore(ctx, "keys", func(st *store) error {
		const change = "keep each key as it is, apart from every other one, or refuse it with the class KEY; never change one"
		keys := oddKeys()
		keys = append(keys, strings.Repeat("l", protocol.MaxKey-len(st.prefix)))
		var kept []string
		for i, key := range keys {
			_, err := st.put(ctx, protocol.Put{Key: key, Size: -1}, bytes.NewReader(data(uint64(i), 100)))
			if errors.Is(err, protocol.ErrKey) {
				continue
			}
			if err != nil {
				return st.p.failed("Put of "+quote(key), err, change)
			}
			kept = append(kept, key)
		}
		for i, key := range keys {
			if !slices.Contains(kept, key) {
				if err := st.absent(ctx, key, "its Put was refused"); err != nil {
					return addChange(err, change)
				}
				continue
			}
			if err := st.holds(ctx, key, data(uint64(i), 100)); err != nil {
				return addChange(err, change)
			}
		}
		listed, err := st.keys(ctx, "")
		if err != nil {
			return err
		}
		slices.Sort(kept)
		if !slices.Equal(listed, kept) {
			return fail(fmt.Sprintf("a list of the %d keys that were kept", len(kept)), unequal(listed, kept), change)
		}
		s.note = fmt.Sprintf("%d of %d odd keys kept, the others refused", len(kept), len(keys))
		if !slices.Contains(kept, "plain") || !slices.Contains(kept, "folder/a") {
			return fail("plain and folder/a kept", "one of them refused", change)
		}
		return nil
	})
}

func unequal(got, want []string) string {
	for i := range max(len(got), len(want)) {
		switch {
		case i >= len(got):
			return fmt.Sprintf("%d keys; %s is missing", len(got), quote(want[i]))
		case i >= len(want):
			return fmt.Sprintf("%d keys; %s is too much", len(got), quote(got[i]))
		case got[i] != want[i]:
			return fmt.Sprintf("%s in the place of %s", quote(got[i]), quote(want[i]))
		}
	}
	return "the same"
}

func checkList(ctx context.Context, s *suite) error {
	return s.onStore(ctx, "list", func(st *store) error {
		var all []string
		for i := range 90 {
			all = append(all, fmt.Sprintf("a-%02d", i), fmt.Sprintf("a/%02d/x", i), fmt.Sprintf("a0%02d", i))
		}
		all = append(all, "a!", "b", "b/c", "b-c", "b0", "é", "z/z/z")
		all = slices.DeleteFunc(all, func(key string) bool {
			_, err := st.put(ctx, protocol.Put{Key: key, Size: 1}, bytes.NewReader([]byte{1}))
			return errors.Is(err, protocol.ErrKey) // b beside b/c
		})
		slices.Sort(all)
		const change = "order by the bytes of the whole key (a-1 before a/1 before a01), and go on exactly after the given one"
		for _, limit := range []int{1000, 100, 7} {
			for _, prefix := range []string{"", "a", "a/", "a/0", "a/05/x", "b", "z/z/z", "none"} {
				for _, after := range []string{"", "a", "a-50", "a/", "a/41/x", "a/41/y", "a040", "zz"} {
					want := slices.DeleteFunc(slices.Clone(all), func(key string) bool { return !strings.HasPrefix(key, prefix) || key <= after })
					got, err := st.page(ctx, prefix, after, limit)
					if err != nil {
						return during(err, "prefix %q after %q, %d at a time", prefix, after, limit)
					}
					if !slices.Equal(got, want) {
						return during(fail(fmt.Sprintf("%d keys in order", len(want)), unequal(got, want), change), "prefix %q after %q, %d at a time", prefix, after, limit)
					}
				}
			}
		}
		return nil
	})
}

func checkOnlyNew(ctx context.Context, s *suite) error {
	return s.onStore(ctx, "only-new", func(st *store) error {
		const writers = 16
		const change = "make existence and creation one step (link, If-None-Match), not a question before a Put"
		for round := range 3 {
			key := fmt.Sprintf("key-%d", round)
			bodies := make([][]byte, writers)
			for i := range bodies {
				bodies[i] = data(uint64(i), 100_000*(round+1))
			}
			var first atomic.Int64
			first.Store(-1)
			for i, err := range together(writers, func(i int) error {
				_, err := st.put(ctx, protocol.Put{Key: key, Size: int64(len(bodies[i])), OnlyNew: true}, bytes.NewReader(bodies[i]))
				if err == nil && !first.CompareAndSwap(-1, int64(i)) {
					return fail("one winner", "two", change)
				}
				return err
			}) {
				var failed *failure
				if errors.As(err, &failed) {
					return during(failed, "%d writers at once with OnlyNew", writers)
				}
				if err != nil && !errors.Is(err, protocol.ErrPrecondition) {
					return during(st.unlike("one winner, and ErrPrecondition for the rest", "Put", err, change), "writer %d of %d at once", i, writers)
				}
			}
			if first.Load() < 0 {
				return fail("one winner", "none", change)
			}
			if err := st.holds(ctx, key, bodies[first.Load()]); err != nil {
				return addChange(err, change)
			}
			if _, err := st.put(ctx, protocol.Put{Key: key, Size: -1, OnlyNew: true}, strings.NewReader("late")); !errors.Is(err, protocol.ErrPrecondition) {
				return st.unlike("ErrPrecondition where there is an object", "Put", err, change)
			}
		}
		return nil
	})
}

func checkOverwrite(ctx context.Context, s *suite) error {
	return s.onStore(ctx, "overwrite", func(st *store) error {
		const writers, rounds, size = 3, 6, 1<<20 + 500_000
		const change = "let a Put become visible in one step (rename, complete), never by writing into what others read"
		version := func(n byte) []byte { return bytes.Repeat([]byte{n}, size) }
		if _, err := st.keep(ctx, "key", version(0)); err != nil {
			return err
		}
		stop, readers := make(chan struct{}), make(chan error, 1)
		go func() {
			readers <- errors.Join(together(3, func(int) error {
				var got []byte
				for {
					select {
					case <-stop:
						return nil
					default:
					}
					var err error
					if got, err = st.get(ctx, "key", protocol.Whole(), got); err != nil {
						return st.p.failed("Get while others put", err, change)
					}
					if len(got) != size || bytes.Count(got, got[:1]) != size {
						return fail("one version of the object, whole", fmt.Sprintf("%d bytes, not all of one version", len(got)), change)
					}
				}
			})...)
		}()
		errs := together(writers, func(w int) error {
			for r := range rounds {
				if _, err := st.put(ctx, protocol.Put{Key: "key", Size: size}, bytes.NewReader(version(byte(1+w*rounds+r)))); err != nil {
					return st.p.failed("Put while others put and read", err, change)
				}
			}
			return nil
		})
		close(stop)
		for _, err := range append(errs, <-readers) {
			if err != nil {
				return err
			}
		}
		got, err := st.get(ctx, "key", protocol.Whole(), nil)
		if err != nil || len(got) != size || got[0] == 0 {
			return st.unlike("the last version", "Get", err, change)
		}
		return nil
	})
}

func checkBody(ctx context.Context, s *suite) error {
	return s.onStore(ctx, "body", func(st *store) error {
		former := data(1, 5000)
		for _, key := range []string{"there", "fresh"} {
			for _, known := range []bool{true, false} {
				for _, at := range []int{0, 10, 2 << 20, 20 << 20} {
					put := protocol.Put{Key: key, Size: -1}
					if known {
						put.Size = int64(at)
					}
					if key == "there" {
						if _, err := st.keep(ctx, key, former); err != nil {
							return err
						}
					}
					when := fmt.Sprintf("a body that fails after %d bytes", at)
					if _, err := st.put(ctx, put, &breaking{from: noise(2, at), err: errBreak}); !errors.Is(err, errBreak) {
						return during(st.unlike("the error of the body", "Put", err, "take no end of a stream for the end of a body"), "%s", when)
					}
					if err := st.unharmed(ctx, key, former, when); err != nil {
						return err
					}
				}
			}
		}
		return nil
	})
}

// unharmed demands that a Put that failed has left things as they were, now and when all of it has ended.
func (st *store) unharmed(ctx context.Context, key string, former []byte, when string) error {
	look := func() error {
		if key == "fresh" {
			return st.absent(ctx, key, "its Put failed")
		}
		return st.holds(ctx, key, former)
	}
	if err := look(); err != nil {
		return during(err, "%s", when)
	}
	if err := st.settled(ctx); err != nil {
		return during(err, "%s", when)
	}
	return during(look(), "%s, and Drain", when)
}

func checkCancel(ctx context.Context, s *suite) error {
	return s.onStore(ctx, "cancel", func(st *store) error {
		former := data(1, 8<<20)
		if _, err := st.keep(ctx, "there", former); err != nil {
			return err
		}
		for _, key := range []string{"there", "fresh"} {
			cancelled, cancel := context.WithCancel(ctx)
			_, err := st.put(cancelled, protocol.Put{Key: key, Size: -1}, &breaking{from: noise(2, 3<<20), err: context.Canceled, hook: cancel})
			cancel()
			if !errors.Is(err, context.Canceled) {
				return st.unlike("the cancel of the caller", "Put", err, "end with the context")
			}
			if err := st.unharmed(ctx, key, former, "a Put that was cancelled"); err != nil {
				return err
			}
		}
		for range 5 {
			cancelled, cancel := context.WithCancel(ctx)
			_, content, err := st.open(cancelled, "there", protocol.Whole())
			if err != nil {
				cancel()
				return st.p.failed("Get", err, "give back what was put")
			}
			_, err = io.ReadFull(content, make([]byte, 1000))
			cancel()
			if err := errors.Join(err, content.Close()); err != nil {
				return st.p.failed("Get", err, "give back what was put")
			}
		}
		if err := st.settled(ctx); err != nil {
			return during(err, "after Gets that were cancelled in the middle")
		}
		return st.holds(ctx, "there", former)
	})
}

func checkCopy(ctx context.Context, s *suite) error {
	return s.onStore(ctx, "copy", func(st *store) error {
		content := data(3, 2<<20+1)
		if _, err := st.keep(ctx, "from", content); err != nil {
			return err
		}
		const change = "make an object of the same bytes in the tier that was asked for, of itself too; ErrNotFound, ErrUnsupported"
		copied := func(from, to string, tier protocol.Tier) (protocol.Object, error) {
			ctx, cancel := s.within(ctx)
			defer cancel()
			return st.p.client.Copy(ctx, instance, st.prefix+from, protocol.Put{Key: st.prefix + to, Size: -1, Tier: tier})
		}
		if _, err := copied("none", "to", protocol.TierHot); !errors.Is(err, protocol.ErrNotFound) {
			return st.unlike("ErrNotFound for what is not there", "Copy", err, change)
		}
		tiers := append(slices.Clone(st.abilities.Tiers), protocol.TierHot)
		for _, tier := range tiers {
			for _, pair := range [][2]string{{"from", "to"}, {"from", "from"}, {"to", "to"}} {
				if _, err := copied(pair[0], pair[1], tier); err != nil {
					return st.p.failed(fmt.Sprintf("Copy of %s to %s, tier %s", pair[0], pair[1], tier), err, change)
				}
				if err := st.holds(ctx, pair[1], content); err != nil {
					return err
				}
				if o, err := st.stat(ctx, pair[1]); err != nil || o.Tier != tier {
					return st.unlike("the tier "+string(tier), fmt.Sprintf("Stat, with the tier %s,", o.Tier), err, change)
				}
			}
			if _, err := st.put(ctx, protocol.Put{Key: "tiered", Size: 3, Tier: tier}, strings.NewReader("new")); err != nil {
				return st.p.failed("Put into the tier "+string(tier), err, change)
			}
			if err := st.holds(ctx, "tiered", []byte("new")); err != nil {
				return err
			}
			if o, err := st.stat(ctx, "tiered"); err != nil || o.Tier != tier {
				return st.unlike("the tier "+string(tier), fmt.Sprintf("Stat, with the tier %s,", o.Tier), err, change)
			}
		}
		for _, tier := range []protocol.Tier{protocol.TierWarm, protocol.TierCold} {
			if slices.Contains(st.abilities.Tiers, tier) {
				continue
			}
			if _, err := st.put(ctx, protocol.Put{Key: "tiered", Size: 3, Tier: tier}, strings.NewReader("new")); !errors.Is(err, protocol.ErrUnsupported) {
				return st.unlike("ErrUnsupported for the tier "+string(tier)+", which it does not have", "Put", err, change)
			}
		}
		if got, err := st.keys(ctx, ""); err != nil || !slices.Equal(got, []string{"from", "tiered", "to"}) {
			return st.unlike("each object once, in whatever tier", fmt.Sprintf("List (%q)", got), err, change)
		}
		s.note = fmt.Sprintf("tiers %v", st.abilities.Tiers)
		return nil
	})
}
