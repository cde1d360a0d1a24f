package seal

import (
	"bytes"
	"context"
	"crypto/cipher"
	"errors"
	"fmt"
	"io"
	"sync"
)

// Fetch opens length bytes of a stored object from byte from; a negative length: to the end.
type Fetch func(ctx context.Context, from, length int64) (io.ReadCloser, error)

// Open gives length bytes of plaintext from byte from of an object with size bytes; a negative length, or one that reaches beyond
// the end: to the end. Only the chunks that are needed are fetched. No byte is given that is not proved to be what was written;
// what else is there ends in ErrCorrupt, errors of fetch come through. ErrKeyGone. The caller closes it.
func (k *Keys) Open(ctx context.Context, org uint64, keyID string, size, from, length int64, fetch Fetch) (io.ReadCloser, error) {
	o, err := k.open(ctx, org, keyID, size, from, length, fetch)
	if err != nil {
		return nil, fmt.Errorf("open a sealed object of org %d: %w", org, err)
	}
	return o, nil
}

func (k *Keys) open(ctx context.Context, org uint64, keyID string, size, from, length int64, fetch Fetch) (*opener, error) {
	if from < 0 || from > size {
		return nil, fmt.Errorf("byte %d of %d is wanted", from, size)
	}
	if length < 0 || length > size-from {
		length = size - from
	}
	object, err := parseID(keyID)
	if err != nil {
		return nil, err
	}
	key, err := k.find(ctx, org, object.key())
	if err != nil {
		return nil, err
	}
	gcm, err := object.cipherOf(key.secret())
	if err != nil {
		return nil, err
	}
	o := &opener{gcm: gcm, buffers: &k.buffers, final: chunks(size) - 1, tail: int(size - (chunks(size)-1)*ChunkSize)}
	if length == 0 && size > 0 {
		o.err = io.EOF
		return o, nil
	}
	o.next, o.until = from/ChunkSize, max(0, from+length-1)/ChunkSize
	o.skip, o.left = int(from%ChunkSize), length
	at := storedAt(o.next)
	if o.next == 0 {
		at, o.header = 0, object.header()
	}
	stored := int64(-1) // to the end when the last chunk is wanted: what was added behind it is found out
	if o.until < o.final {
		stored = storedAt(o.until+1) - at
	}
	o.stored, err = fetch(ctx, at, stored)
	return o, err
}

// opener reads sealed bytes and gives plaintext.
type opener struct {
	stored  io.ReadCloser // nil: none was needed
	gcm     cipher.AEAD
	header  []byte // to be found at the beginning; nil: it begins later
	next    int64  // number of the chunk to come
	until   int64  // number of the last chunk that is wanted
	final   int64  // number of the last chunk of the object
	tail    int    // bytes of plaintext in that
	skip    int    // bytes of plaintext that are not wanted at the beginning
	left    int64  // bytes of plaintext that are wanted yet
	buffers *buffers
	buffer  *buffer // nil until used, and at the end
	rest    []byte  // opened, and not given yet
	err     error   // how it ended
	aad     [9]byte
}

func (o *opener) Read(p []byte) (n int, err error) {
	for n < len(p) {
		if len(o.rest) > 0 {
			k := copy(p[n:], o.rest)
			n, o.rest = n+k, o.rest[k:]
			continue
		}
		if o.err != nil {
			o.end()
			break
		}
		if n > 0 && len(p)-n < ChunkSize {
			return n, nil // what is here is not held back by what is to come
		}
		if into := p[n:]; len(into) >= ChunkSize && o.skip == 0 && o.left >= ChunkSize {
			n += len(o.fill(into)) // opened where it is wanted: no copy
		} else {
			o.rest = o.fill(nil)
		}
	}
	if n == 0 && len(p) > 0 {
		return 0, o.err
	}
	return n, nil
}

// fill opens one chunk, into the memory given or else into its own, and sets err when no other is wanted.
func (o *opener) fill(into []byte) (plain []byte) {
	if o.buffer == nil {
		o.buffer = o.buffers.get()
	}
	if o.header != nil {
		head := o.buffer[:headerSize]
		if o.err = o.full(head, "the header"); o.err != nil {
			return nil
		}
		if !bytes.Equal(head, o.header) {
			o.err = fmt.Errorf("%w: its header is another one", ErrCorrupt)
			return nil
		}
		o.header = nil
	}
	size, last := ChunkSize, o.next == o.final
	if last {
		size = o.tail
	}
	chunk := o.buffer[:size+overhead]
	if o.err = o.full(chunk, "a chunk"); o.err != nil {
		return nil
	}
	if into == nil {
		into = chunk[nonceSize:]
	}
	plain, err := o.gcm.Open(into[:0], chunk[:nonceSize], chunk[nonceSize:], place(&o.aad, o.next, last))
	if err != nil {
		o.err = fmt.Errorf("%w: chunk %d is not what was written", ErrCorrupt, o.next)
		return nil
	}
	if last {
		if o.err = o.ended(); o.err != nil {
			return nil
		}
	}
	if o.next == o.until {
		o.err = io.EOF
	}
	o.next++
	plain = plain[o.skip:]
	plain = plain[:min(int64(len(plain)), o.left)]
	o.skip, o.left = 0, o.left-int64(len(plain))
	return plain
}

// full reads all of p. That the backend's stream ends before is damage; an error of the stream is not.
func (o *opener) full(p []byte, what string) error {
	for n := 0; n < len(p); {
		k, err := o.stored.Read(p[n:])
		n += k
		switch {
		case n == len(p):
		case errors.Is(err, io.EOF):
			return fmt.Errorf("%w: it ends in %s", ErrCorrupt, what)
		case err != nil:
			return fmt.Errorf("read a sealed object: %w", err)
		}
	}
	return nil
}

// ended makes sure that nothing follows.
func (o *opener) ended() error {
	var one [1]byte
	for {
		n, err := o.stored.Read(one[:])
		switch {
		case n > 0:
			return fmt.Errorf("%w: it goes on behind its end", ErrCorrupt)
		case errors.Is(err, io.EOF):
			return nil
		case err != nil:
			return fmt.Errorf("read a sealed object: %w", err)
		}
	}
}

func (o *opener) end() {
	o.buffers.put(o.buffer)
	o.buffer = nil
}

func (o *opener) Close() error {
	o.end()
	o.rest = nil
	if o.err == nil {
		o.err = errors.New("read a sealed object: it is closed")
	}
	if o.stored == nil {
		return nil
	}
	return o.stored.Close()
}

// buffer is for a chunk as it is stored; a sealer has the first byte of the next one in it as well.
type buffer [ChunkSize + overhead]byte

// buffers are used again.
type buffers struct{ pool sync.Pool }

func (b *buffers) get() *buffer {
	if buffer, ok := b.pool.Get().(*buffer); ok {
		return buffer
	}
	return new(buffer)
}

func (b *buffers) put(buffer *buffer) {
	if buffer != nil {
		b.pool.Put(buffer)
	}
}
