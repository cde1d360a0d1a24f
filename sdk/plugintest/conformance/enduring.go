package conformance

import (
	"bytes"
	"cmp"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"hash"
	"io"
	"math/rand/v2"

	"github.com/rivergate/rivergate/sdk/protocol"
	"github.com/rivergate/rivergate/sdk/wire"
)

func checkKilled(ctx context.Context, s *suite) error {
	return s.onStore(ctx, "killed", func(st *store) error {
		former := data(1, 3<<20)
		if _, err := st.keep(ctx, "there", former); err != nil {
			return err
		}
		for _, key := range []string{"there", "fresh"} {
			for _, at := range []int{0, 1000, 4 << 20, 20 << 20} {
				when := fmt.Sprintf("kill -9 after %d bytes of a Put", at)
				body := &breaking{from: noise(2, at), err: io.EOF, hook: st.p.kill}
				if _, err := st.put(ctx, protocol.Put{Key: key, Size: -1}, body); err == nil || !wire.IsGone(err) {
					return during(st.unlike("a Put that fails with its process", "Put", err, "acknowledge nothing before the body has ended"), "%s", when)
				}
				if err := st.again(ctx); err != nil {
					return during(err, "started again after %s", when)
				}
				look := func() error {
					if key == "fresh" {
						return st.absent(ctx, key, "the process died in the middle of its Put")
					}
					return st.holds(ctx, key, former)
				}
				if err := look(); err != nil {
					return during(err, "%s", when)
				}
			}
		}
		keys, err := st.keys(ctx, "")
		if err != nil || len(keys) != 1 {
			return st.unlike("the one object that was put", fmt.Sprintf("List (%q)", keys), err, "let nothing unfinished be seen")
		}
		acknowledged := data(3, 5<<20)
		if _, err := st.keep(ctx, "there", acknowledged); err != nil {
			return err
		}
		st.p.kill()
		if err := st.again(ctx); err != nil {
			return err
		}
		return during(st.holds(ctx, "there", acknowledged), "kill -9 right after an acknowledged Put")
	})
}

const (
	// largeSize is beyond what may be held in memory, and growthMax what a process may grow by while it moves that.
	largeSize = 160 << 20
	growthMax = 64 << 20
)

// endless is so many bytes without holding them.
type endless struct {
	left int64
	from *rand.ChaCha8
	sum  hash.Hash
}

func newEndless(size int64) *endless {
	return &endless{left: size, from: rand.NewChaCha8([32]byte{1}), sum: sha256.New()}
}

func (e *endless) Read(p []byte) (int, error) {
	if e.left == 0 {
		return 0, io.EOF
	}
	p = p[:min(int64(len(p)), e.left)]
	_, _ = e.from.Read(p) // never fails
	_, _ = e.sum.Write(p)
	e.left -= int64(len(p))
	return len(p), nil
}

func checkLarge(ctx context.Context, s *suite) error {
	return s.onStore(ctx, "large", func(st *store) error {
		large := cmp.Or(s.opts.large, largeSize)
		if most := st.abilities.MaxObject; most > 0 && most < large {
			return skipf("it takes objects of %d bytes at most", most)
		}
		const change = "pass bytes on as they come, in buffers of a bounded size"
		// Once through, so that what is made once is there.
		if _, err := st.keep(ctx, "small", data(1, 9<<20)); err != nil {
			return err
		}
		if err := st.holds(ctx, "small", data(1, 9<<20)); err != nil {
			return err
		}
		before := st.p.memory("VmRSS")
		for _, size := range []int64{large, -1} {
			source := newEndless(large)
			// Not bounded by the time for one answer: bytes move all the while.
			_, err := st.p.client.Put(ctx, instance, protocol.Put{Key: st.prefix + "large", Size: size}, source)
			if err != nil {
				return st.p.failed(fmt.Sprintf("Put of %d MiB", large>>20), err, change)
			}
			_, content, err := st.open(ctx, "large", protocol.Whole())
			if err != nil {
				return st.p.failed(fmt.Sprintf("Get of %d MiB", large>>20), err, change)
			}
			sum := sha256.New()
			n, err := io.Copy(sum, content)
			if err := errors.Join(err, content.Close()); err != nil {
				return st.p.failed(fmt.Sprintf("Get of %d MiB", large>>20), err, change)
			}
			if n != large || !bytes.Equal(sum.Sum(nil), source.sum.Sum(nil)) {
				return fail("the bytes that were put", fmt.Sprintf("%d bytes, or others", n), change)
			}
		}
		if peak := st.p.memory("VmHWM"); before > 0 && peak > 0 {
			s.note = fmt.Sprintf("%d MiB twice in and out; resident memory %d MiB before, %d MiB at most", large>>20, before>>20, peak>>20)
			if peak-before > growthMax {
				return fail(fmt.Sprintf("at most %d MiB more resident memory than before", growthMax>>20), fmt.Sprintf("%d MiB more", (peak-before)>>20), change)
			}
		}
		return nil
	})
}

func checkTwo(ctx context.Context, s *suite) error {
	return s.onStore(ctx, "two", func(st *store) error {
		const change = "share what is stored with another process of the same configuration, and clear away nothing that a living one is at work on"
		content := data(1, 6<<20)
		var other *store
		var otherErr error
		// The other one starts while the first is in the middle of a Put.
		body := &breaking{from: bytes.NewReader(content), err: io.EOF, hook: func() {
			p, err := s.ready(ctx)
			if otherErr = err; err == nil {
				other = &store{s: s, p: p, prefix: st.prefix}
				otherErr = other.meet(ctx)
			}
		}}
		_, err := st.put(ctx, protocol.Put{Key: "key", Size: -1}, body)
		if other != nil {
			defer func() { s.end(other.p) }() // who is the other one by then
		}
		if otherErr != nil {
			return during(addChange(otherErr, change), "a second process beside the first")
		}
		if err != nil {
			return during(st.p.failed("Put", err, change), "a second process began beside it")
		}
		if err := other.holds(ctx, "key", content); err != nil {
			return during(err, "seen by a second process")
		}
		if _, err := other.keep(ctx, "key", content[:1000]); err != nil {
			return during(err, "a second process")
		}
		if err := st.holds(ctx, "key", content[:1000]); err != nil {
			return during(err, "put by a second process")
		}
		// What the first has open goes on while it is drained.
		_, reading, err := st.open(ctx, "key", protocol.Whole())
		if err != nil {
			return st.p.failed("Get", err, change)
		}
		got, err := io.ReadAll(reading)
		if err := errors.Join(err, reading.Close()); err != nil || !bytes.Equal(got, content[:1000]) {
			return st.unlike("what was put", "Get", err, change)
		}
		for _, when := range []string{"the first Drain", "a second Drain"} {
			if err := s.drain(ctx, st.p, instance); err != nil {
				return during(err, "%s", when)
			}
		}
		if err := s.unknown(ctx, st.p, instance, "an instance that was drained"); err != nil {
			return err
		}
		st.p, other.p = other.p, st.p // the rest is cleared away by the one that lives on
		return nil
	})
}
