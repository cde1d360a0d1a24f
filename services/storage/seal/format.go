package seal

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/hkdf"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"encoding/hex"
	"fmt"
)

// A sealed object, version 1:
//
//	header  "RGSEAL" version(1) log2 of the chunk size(1) key id(8) salt(16)          32 bytes
//	chunk   nonce(12) ciphertext(chunk size; the last one: 0 to chunk size) tag(16)   one or more
//
// The object's key is HKDF-SHA256(org key, salt, "rivergate object" header): whoever changes a byte of the header gets another
// key. The additional data of a chunk are its number and whether it is the last (the STREAM construction of Hoang, Reyhanitabar,
// Rogaway and Vizár 2015), so chunks cannot change places, be left out, cut off or added. Nonces are random, not the chunk's
// number alone: an upload in parts may send a part again with other bytes under the same key, and a nonce must not come twice.
const (
	magic     = "RGSEAL"
	version   = 1
	chunkBits = 16
	keyIDSize = 8
	saltSize  = 16
	nonceSize = 12
	tagSize   = 16

	idSize     = 2 + keyIDSize + saltSize
	headerSize = len(magic) + idSize
	overhead   = nonceSize + tagSize
	keySize    = 32

	// ChunkSize is how many bytes of plaintext a chunk has, all but the last.
	ChunkSize = 1 << chunkBits
)

// id is what makes a reader of an object: the header without its magic. Its text is the ledger's File.KeyID. Since that row
// holds the salt, an object that was put in another's place is found out.
type id [idSize]byte

func newID(keyID [keyIDSize]byte, salt [saltSize]byte) (i id) {
	i[0], i[1] = version, chunkBits
	copy(i[2:], keyID[:])
	copy(i[2+keyIDSize:], salt[:])
	return i
}

func (i id) String() string { return base64.RawURLEncoding.EncodeToString(i[:]) }

// key is the id of the org's key, as in the database.
func (i id) key() string { return hex.EncodeToString(i[2 : 2+keyIDSize]) }

func (i id) salt() []byte { return i[2+keyIDSize:] }

func (i id) header() []byte { return append([]byte(magic), i[:]...) }

func parseID(text string) (i id, err error) {
	raw, err := base64.RawURLEncoding.Strict().DecodeString(text)
	if err != nil || len(raw) != idSize {
		return i, fmt.Errorf("%w: %q is no key id of a sealed object", ErrCorrupt, text)
	}
	copy(i[:], raw)
	if i[0] != version || i[1] != chunkBits {
		return i, fmt.Errorf("%w: it has version %d with chunks of 2^%d bytes, this host reads version %d with 2^%d", ErrCorrupt, i[0], i[1], version, chunkBits)
	}
	return i, nil
}

// cipherOf makes the cipher of one object from the key of its org.
func (i id) cipherOf(orgKey []byte) (cipher.AEAD, error) {
	key, err := hkdf.Key(sha256.New, orgKey, i.salt(), "rivergate object"+string(i.header()), keySize)
	if err != nil {
		return nil, err
	}
	return newGCM(key)
}

func newGCM(key []byte) (cipher.AEAD, error) {
	block, err := aes.NewCipher(key)
	if err != nil {
		return nil, err
	}
	return cipher.NewGCM(block)
}

// place is the additional data of chunk number n.
func place(aad *[9]byte, n int64, last bool) []byte {
	binary.BigEndian.PutUint64(aad[:], uint64(n))
	aad[8] = 0
	if last {
		aad[8] = 1
	}
	return aad[:]
}

// chunks is how many chunks size bytes of plaintext make: at least one.
func chunks(size int64) int64 { return max(1, (size+ChunkSize-1)/ChunkSize) }

// StoredSize is how many bytes a sealed object of size bytes has.
func StoredSize(size int64) int64 { return int64(headerSize) + size + overhead*chunks(size) }

// PlainSize is the opposite of StoredSize. ok is false when no sealed object has that many bytes.
func PlainSize(stored int64) (size int64, ok bool) {
	body := stored - int64(headerSize)
	n := (body + ChunkSize + overhead - 1) / (ChunkSize + overhead)
	size = body - n*overhead
	return size, stored >= 0 && size >= 0 && StoredSize(size) == stored
}

// StoredPart is how many bytes SealPart makes of a part of size bytes that begins at byte from.
func StoredPart(from, size int64, last bool) int64 {
	if size == 0 && !last {
		return 0
	}
	n := size + overhead*chunks(size)
	if from == 0 {
		n += int64(headerSize)
	}
	return n
}

// storedAt is where chunk number n begins in the stored object.
func storedAt(n int64) int64 { return int64(headerSize) + n*(ChunkSize+overhead) }
