package journal

import (
	"encoding/binary"
	"hash/maphash"
	"sync"
	"time"
)

// keyEntry is an accepted request with an idempotency key: 64 bytes on disk, the last 4 of them spare.
type keyEntry struct {
	key, digest [16]byte
	position    uint64
	at          int64 // nanoseconds since 1970
	rows        uint32
}

const keyEntrySize = 64

func (e *keyEntry) append(b []byte) []byte {
	b = append(b, e.key[:]...)
	b = append(b, e.digest[:]...)
	b = binary.LittleEndian.AppendUint64(b, e.position)
	b = binary.LittleEndian.AppendUint64(b, uint64(e.at))
	b = binary.LittleEndian.AppendUint32(b, e.rows)
	return append(b, make([]byte, keyEntrySize-52)...)
}

func decodeKeys(b []byte) []keyEntry {
	keys := make([]keyEntry, len(b)/keyEntrySize)
	for i := range keys {
		e, k := b[i*keyEntrySize:], &keys[i]
		copy(k.key[:], e)
		copy(k.digest[:], e[16:])
		k.position = binary.LittleEndian.Uint64(e[32:])
		k.at = int64(binary.LittleEndian.Uint64(e[40:]))
		k.rows = binary.LittleEndian.Uint32(e[48:])
	}
	return keys
}

// keyring holds the newest keys in memory, about 90 bytes each. Entries come in order of time and leave in that order, when
// they are too old or too many.
type keyring struct {
	mu    sync.Mutex
	max   int
	ttl   time.Duration
	seed  maphash.Seed
	place map[uint64]uint64 // hash of the key → number of the entry
	chunk [][]keyEntry      // entries from number base on
	base  uint64            // number of chunk[0][0]
	from  uint64            // oldest entry
	to    uint64            // after the newest
}

const keyChunk = 2048

func newKeyring(limit int, ttl time.Duration) *keyring {
	return &keyring{max: limit, ttl: ttl, seed: maphash.MakeSeed(), place: make(map[uint64]uint64)}
}

func (k *keyring) hash(key [16]byte) uint64 { return maphash.Comparable(k.seed, key) }

func (k *keyring) entry(n uint64) *keyEntry {
	n -= k.base
	return &k.chunk[n/keyChunk][n%keyChunk]
}

func (k *keyring) add(e *keyEntry) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.expire(e.at)
	for k.from < k.to && k.to-k.from >= uint64(k.max) {
		k.drop()
	}
	if (k.to-k.base)%keyChunk == 0 {
		k.chunk = append(k.chunk, make([]keyEntry, 0, keyChunk))
	}
	last := len(k.chunk) - 1
	k.chunk[last] = append(k.chunk[last], *e)
	k.place[k.hash(e.key)] = k.to
	k.to++
}

// expire drops what is older than the time keys are kept.
func (k *keyring) expire(now int64) {
	for k.from < k.to && k.entry(k.from).at+int64(k.ttl) <= now {
		k.drop()
	}
}

func (k *keyring) drop() {
	h := k.hash(k.entry(k.from).key)
	if k.place[h] == k.from {
		delete(k.place, h)
	}
	k.from++
	if k.from-k.base == keyChunk {
		k.chunk[0] = nil
		k.chunk = k.chunk[1:]
		k.base = k.from
	}
}

func (k *keyring) get(key [16]byte, now time.Time) (Accepted, bool) {
	k.mu.Lock()
	defer k.mu.Unlock()
	n, ok := k.place[k.hash(key)]
	if !ok {
		return Accepted{}, false
	}
	e := k.entry(n)
	if e.key != key || e.at+int64(k.ttl) <= now.UnixNano() {
		return Accepted{}, false
	}
	return Accepted{Position: e.position, Rows: int(e.rows), BodyDigest: e.digest, At: time.Unix(0, e.at).UTC()}, true
}

// oldest is the receive time before which no key is remembered.
func (k *keyring) oldest(now time.Time) int64 {
	k.mu.Lock()
	defer k.mu.Unlock()
	oldest := now.UnixNano() - int64(k.ttl)
	if k.to-k.from >= uint64(k.max) && k.from < k.to {
		oldest = max(oldest, k.entry(k.from).at)
	}
	return oldest
}
