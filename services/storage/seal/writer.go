package seal

import (
	"context"
	"crypto/cipher"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
)

// Seal begins a new object of org. What the returned reader gives is what is to be stored, StoredSize(n) bytes for n of body; an
// error of body comes through as it is. keyID goes into the ledger with the object: Open needs it.
func (k *Keys) Seal(ctx context.Context, org uint64, body io.Reader) (sealed io.Reader, keyID string, err error) {
	keyID, err = k.NewID(ctx, org)
	if err != nil {
		return nil, "", err
	}
	sealed, err = k.SealPart(ctx, org, keyID, 0, true, body)
	return sealed, keyID, err
}

// NewID makes the key id of a new object of org, for an upload in parts.
func (k *Keys) NewID(ctx context.Context, org uint64) (string, error) {
	key, err := k.current(ctx, org)
	if err != nil {
		return "", fmt.Errorf("seal an object of org %d: %w", org, err)
	}
	var salt [saltSize]byte
	rand.Read(salt[:])
	return newID(key.id, salt).String(), nil
}

// SealPart seals part of an object: the bytes from `from`, a multiple of ChunkSize, to the end of body. All parts but the last
// have a multiple of ChunkSize bytes. The sealed parts in their order are the sealed object. Parts may be sealed in any order,
// at once, and again.
func (k *Keys) SealPart(ctx context.Context, org uint64, keyID string, from int64, last bool, body io.Reader) (sealed io.Reader, err error) {
	if from < 0 || from%ChunkSize != 0 {
		return nil, fmt.Errorf("seal an object of org %d: a part begins at byte %d, which is no multiple of %d", org, from, ChunkSize)
	}
	object, err := parseID(keyID)
	if err != nil {
		return nil, fmt.Errorf("seal an object of org %d: %w", org, err)
	}
	key, err := k.find(ctx, org, object.key())
	if err != nil {
		return nil, fmt.Errorf("seal an object of org %d: %w", org, err)
	}
	gcm, err := object.cipherOf(key.secret())
	if err != nil {
		return nil, fmt.Errorf("seal an object of org %d: %w", org, err)
	}
	s := &sealer{body: body, gcm: gcm, first: from / ChunkSize, next: from / ChunkSize, last: last, buffers: &k.buffers}
	if from == 0 {
		s.rest = object.header()
	}
	return s, nil
}

// sealer reads plaintext and gives sealed bytes.
type sealer struct {
	body    io.Reader
	gcm     cipher.AEAD
	first   int64 // number of the first chunk
	next    int64 // number of the chunk to come
	last    bool  // the object ends with body
	buffers *buffers
	buffer  *buffer // nil until used, and at the end
	carry   []byte  // the first byte of the chunk to come, when it was read already
	rest    []byte  // sealed, and not given yet
	ended   error   // how body ended
	err     error   // that, once all before it is in rest
	aad     [9]byte
}

func (s *sealer) Read(p []byte) (n int, err error) {
	for n < len(p) {
		if len(s.rest) > 0 {
			k := copy(p[n:], s.rest)
			n, s.rest = n+k, s.rest[k:]
			continue
		}
		if s.err != nil {
			s.end()
			break
		}
		if into := p[n:]; len(into) >= ChunkSize+overhead {
			n += len(s.fill(into)) // sealed where it is wanted: no copy
		} else {
			s.rest = s.fill(nil)
		}
	}
	if n == 0 && len(p) > 0 {
		return 0, s.err
	}
	return n, nil
}

// fill seals one chunk, into the memory given or else into its own, and sets err when no other follows. To know that, it reads a
// byte of the next one.
func (s *sealer) fill(into []byte) []byte {
	if s.buffer == nil {
		s.buffer = s.buffers.get()
	}
	plain := s.buffer[nonceSize : nonceSize+ChunkSize+1]
	n := copy(plain, s.carry)
	s.carry = s.carry[:0]
	for n < len(plain) && s.ended == nil {
		var k int
		k, s.ended = s.body.Read(plain[n:]) // not io.ReadFull: it cannot tell an end from a body that was cut off
		n += k
	}
	if n == len(plain) {
		n = ChunkSize
		s.carry = append(s.carry, plain[n])
	} else {
		s.err = s.ended
	}
	switch {
	case s.err == nil:
	case !errors.Is(s.err, io.EOF):
		return nil
	case !s.last && n == 0:
		return nil
	case !s.last && n != ChunkSize:
		s.err = fmt.Errorf("seal a part: it ends at byte %d of a chunk; all but the last have a multiple of %d", n, ChunkSize)
		return nil
	case s.last && n == 0 && s.next == s.first && s.first > 0:
		s.err = errors.New("seal a part: the last one is empty")
		return nil
	}
	if into == nil {
		into = s.buffer[:]
	}
	rand.Read(into[:nonceSize])
	sealed := s.gcm.Seal(into[:nonceSize], into[:nonceSize], plain[:n], place(&s.aad, s.next, s.last && s.err != nil))
	s.next++
	return sealed
}

func (s *sealer) end() {
	s.buffers.put(s.buffer)
	s.buffer = nil
}
