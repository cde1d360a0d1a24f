package conformance

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"strconv"
	"strings"
	"sync"

	"github.com/rivergate/rivergate/sdk/protocol"
)

// store is a storage under test, and the part of it that belongs to one rule.
type store struct {
	s         *suite
	p         *process
	prefix    string
	abilities protocol.Abilities
}

// onStore runs a rule on a configured storage. What it stored is removed afterwards.
func (s *suite) onStore(ctx context.Context, rule string, check func(*store) error) error {
	p, err := s.ready(ctx)
	if err != nil {
		return err
	}
	st := &store{s: s, p: p, prefix: fmt.Sprintf("conformance-%d/%s/", s.position, rule)}
	defer func() {
		st.clean(ctx)
		s.end(st.p)
	}()
	if err := st.meet(ctx); err != nil {
		return err
	}
	return check(st)
}

func (st *store) meet(ctx context.Context) error {
	if err := st.s.healthy(ctx, st.p, instance); err != nil {
		return err
	}
	ctx, cancel := st.s.within(ctx)
	defer cancel()
	var err error
	if st.abilities, err = st.p.client.Abilities(ctx, instance); err != nil {
		return st.p.failed("Abilities", err, "say what the instance can do; the tier hot is always there")
	}
	return nil
}

// clean removes what the rule has left, as far as the plugin lets it.
func (st *store) clean(ctx context.Context) {
	ctx, cancel := st.s.within(ctx)
	defer cancel()
	for {
		objects, more, err := st.p.client.List(ctx, instance, st.prefix, "", 1000)
		if err != nil {
			return
		}
		for _, o := range objects {
			if st.p.client.Delete(ctx, instance, o.Key) != nil {
				return
			}
		}
		if !more {
			return
		}
	}
}

// again is another process in the place of one that was killed.
func (st *store) again(ctx context.Context) error {
	p, err := st.s.ready(ctx)
	if err != nil {
		return err
	}
	st.p.destroy()
	st.p = p
	return st.meet(ctx)
}

// settled waits for all calls to have ended in the plugin, which Drain does, and has the instance configured again.
func (st *store) settled(ctx context.Context) error {
	if err := st.s.drain(ctx, st.p, instance); err != nil {
		return err
	}
	if err := st.s.configure(ctx, st.p, instance); err != nil {
		return err
	}
	return st.s.healthy(ctx, st.p, instance)
}

// noise is size bytes that differ by seed.
func noise(seed uint64, size int) io.Reader {
	return io.LimitReader(rand.NewChaCha8([32]byte(binary.LittleEndian.AppendUint64(make([]byte, 24), seed))), int64(size))
}

// data is noise in memory. Where memory of its own is not needed, noise costs the race detector much less.
func data(seed uint64, size int) []byte {
	b := make([]byte, size)
	_, _ = io.ReadFull(noise(seed, size), b) // never fails
	return b
}

func (st *store) put(ctx context.Context, put protocol.Put, body io.Reader) (protocol.Object, error) {
	ctx, cancel := st.s.within(ctx)
	defer cancel()
	put.Key = st.prefix + put.Key
	return st.p.client.Put(ctx, instance, put, body)
}

const putChange = "store what body gives, to its end, under the very key, and answer with key and size"

// keep puts an object that the rule needs.
func (st *store) keep(ctx context.Context, key string, content []byte) (protocol.Object, error) {
	o, err := st.put(ctx, protocol.Put{Key: key, Size: int64(len(content))}, bytes.NewReader(content))
	if err != nil {
		return o, st.p.failed(fmt.Sprintf("Put of %s with %d bytes", quote(key), len(content)), err, putChange)
	}
	return o, nil
}

func (st *store) open(ctx context.Context, key string, part protocol.Range) (protocol.Object, io.ReadCloser, error) {
	return st.p.client.Get(ctx, instance, st.prefix+key, part)
}

// get reads a part as a whole, into the memory of into as far as that goes.
func (st *store) get(ctx context.Context, key string, part protocol.Range, into []byte) ([]byte, error) {
	ctx, cancel := st.s.within(ctx)
	defer cancel()
	_, content, err := st.open(ctx, key, part)
	if err != nil {
		return nil, err
	}
	got := bytes.NewBuffer(into[:0])
	_, err = got.ReadFrom(content)
	return got.Bytes(), errors.Join(err, content.Close())
}

// compare says how a part of an object is not what is wanted; "": it is.
func (st *store) compare(ctx context.Context, key string, part protocol.Range, want []byte) (string, error) {
	ctx, cancel := st.s.within(ctx)
	defer cancel()
	_, content, err := st.open(ctx, key, part)
	if err != nil {
		return "", err
	}
	unlike, err := differ(content, want)
	return unlike, errors.Join(err, content.Close())
}

func differ(got io.Reader, want []byte) (string, error) {
	read, other := 0, -1
	buffer := make([]byte, 64<<10)
	for {
		n, err := got.Read(buffer)
		wanted := want[min(read, len(want)):min(read+n, len(want))]
		if other < 0 && !bytes.Equal(buffer[:len(wanted)], wanted) {
			at := 0
			for buffer[at] == wanted[at] {
				at++
			}
			other = read + at
		}
		read += n
		switch {
		case err != nil && !errors.Is(err, io.EOF):
			return "", err
		case err == nil:
		case read != len(want):
			return fmt.Sprintf("%d bytes", read), nil
		case other >= 0:
			return fmt.Sprintf("others, from byte %d on", other), nil
		default:
			return "", nil
		}
	}
}

// holds demands that a key has this content.
func (st *store) holds(ctx context.Context, key string, want []byte) error {
	unlike, err := st.compare(ctx, key, protocol.Whole(), want)
	if err != nil {
		return st.p.failed("Get of "+quote(key), err, "give back what was put")
	}
	if unlike != "" {
		return fail(fmt.Sprintf("the %d bytes that were put as %s", len(want), quote(key)), unlike, "give back what was put, byte for byte")
	}
	o, err := st.stat(ctx, key)
	if err != nil {
		return st.p.failed("Stat of "+quote(key), err, "describe what was put")
	}
	if o.Size != int64(len(want)) || o.ETag == "" || o.Modified.IsZero() {
		return fail(fmt.Sprintf("Stat of %s: %d bytes, an ETag, a time", quote(key), len(want)), fmt.Sprintf("%d bytes, ETag %q, %v", o.Size, o.ETag, o.Modified), "describe what was put")
	}
	return nil
}

func (st *store) stat(ctx context.Context, key string) (protocol.Object, error) {
	ctx, cancel := st.s.within(ctx)
	defer cancel()
	return st.p.client.Stat(ctx, instance, st.prefix+key)
}

// absent demands that there is nothing under a key, for whoever looks.
func (st *store) absent(ctx context.Context, key, why string) error {
	expected := fmt.Sprintf("no object %s: %s", quote(key), why)
	const change = "let an object be seen as a whole, once it is durable, or not at all; answer with the class NOT_FOUND"
	if _, err := st.stat(ctx, key); !errors.Is(err, protocol.ErrNotFound) {
		return st.unlike(expected, "Stat", err, change)
	}
	if _, err := st.get(ctx, key, protocol.Whole(), nil); !errors.Is(err, protocol.ErrNotFound) {
		return st.unlike(expected, "Get", err, change)
	}
	keys, err := st.keys(ctx, key)
	if err != nil {
		return err
	}
	for _, k := range keys {
		if k == key {
			return fail(expected, "List has it", change)
		}
	}
	return nil
}

// unlike is the failure of a call that had another outcome than was expected.
func (st *store) unlike(expected, call string, err error, change string) error {
	if err == nil {
		return fail(expected, call+" succeeds", change)
	}
	failed := &failure{}
	if errors.As(st.p.failed(call, err, change), &failed) {
		failed.expected = expected
		return failed
	}
	return err
}

// keys lists what of the rule begins with prefix.
func (st *store) keys(ctx context.Context, prefix string) ([]string, error) {
	return st.page(ctx, prefix, "", 1000)
}

// page lists it in pages.
func (st *store) page(ctx context.Context, prefix, after string, limit int) (keys []string, err error) {
	ctx, cancel := st.s.within(ctx)
	defer cancel()
	if after != "" {
		after = st.prefix + after
	}
	for {
		objects, more, err := st.p.client.List(ctx, instance, st.prefix+prefix, after, limit)
		if err != nil {
			return nil, st.p.failed("List", err, "list by the bytes of the keys, what comes after the given one and begins with the prefix, no more than the limit")
		}
		for _, o := range objects {
			keys = append(keys, strings.TrimPrefix(o.Key, st.prefix))
			after = o.Key
		}
		if !more {
			return keys, nil
		}
	}
}

// at once runs n of them and returns their errors.
func together(n int, run func(i int) error) []error {
	errs := make([]error, n)
	var all sync.WaitGroup
	for i := range n {
		all.Go(func() { errs[i] = run(i) })
	}
	all.Wait()
	return errs
}

func quote(key string) string {
	if len(key) > 60 {
		return fmt.Sprintf("%q… (%d bytes)", key[:60], len(key))
	}
	return strconv.Quote(key)
}

// breaking is a body that breaks off after some bytes.
type breaking struct {
	from io.Reader
	err  error
	hook func() // called before it breaks; nil: nothing
}

var errBreak = errors.New("the conformance suite broke the body off")

func (b *breaking) Read(p []byte) (int, error) {
	n, err := b.from.Read(p)
	if errors.Is(err, io.EOF) {
		if b.hook != nil {
			b.hook()
		}
		return n, b.err
	}
	return n, err
}

// memory is a figure of /proc/PID/status in bytes; 0 where there is none.
func (p *process) memory(name string) int64 {
	text, err := os.ReadFile("/proc/" + strconv.Itoa(p.cmd.Process.Pid) + "/status")
	if err != nil {
		return 0
	}
	for line := range strings.Lines(string(text)) {
		if rest, ok := strings.CutPrefix(line, name+":"); ok {
			n, _ := strconv.ParseInt(strings.TrimSuffix(strings.TrimSpace(rest), " kB"), 10, 64)
			return n << 10
		}
	}
	return 0
}
