// Package seal encrypts objects at rest: AES-256-GCM in chunks, so that reading a range costs its chunks only. Each object has a
// key of its own, derived from a data key of its org; those lie in the database, wrapped by a master key that does not.
package seal

import (
	"cmp"
	"context"
	"crypto/rand"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"strings"
	"sync"
	"time"

	"github.com/hashicorp/go-hclog"

	"github.com/rivergate/rivergate/services/platform/database"
)

// Options of Open.
type Options struct {
	// Recheck is how long a key is used to read without looking whether it is still in the database: after DeleteOrg on another
	// host, objects can be read here for so long. 0: 10 s. New objects never get a key that was deleted.
	Recheck time.Duration
	// Alone: no other process changes the keys of this database, so an org's newest one is looked up once.
	Alone bool
	// Dir is the folder of a Development source, where RotateMaster makes the new key; empty: the source gives it.
	Dir string
	Log hclog.Logger // nil: none
}

const (
	usualRecheck = 10 * time.Second
	maxCached    = 10_000 // keys of orgs in memory
)

// Keys seals and opens objects. It may be used by many at once.
type Keys struct {
	store   *store
	source  Source
	recheck time.Duration
	alone   bool
	dir     string
	log     hclog.Logger
	now     func() time.Time
	buffers buffers
	life    context.Context // of requests; until Close
	end     context.CancelFunc

	mu      sync.Mutex
	masters map[string]Master // by fingerprint
	wraps   string            // fingerprint of the one that the database is wrapped with
	cache   map[cacheKey]*orgKey
	newest  map[uint64]*orgKey // by org, the key for new objects; of who is alone
	changes int                // of keys, by this process
}

type cacheKey struct {
	org uint64
	id  string
}

// orgKey is a data key.
type orgKey struct {
	id     [keyIDSize]byte
	secret secret
	seen   time.Time // when it was in the database
}

// secret gives a key. As a function, it is nothing that printing could show.
type secret func() []byte

func hide(key []byte) secret { return func() []byte { return key } }

// Open makes the tables. Close it after the last object. ErrMaster, with what to set, when the keys there are wrapped by a master key that source does not give.
func Open(ctx context.Context, db *database.DB, source Source, o Options) (*Keys, error) {
	k := &Keys{
		store: &store{db}, source: source, recheck: cmp.Or(o.Recheck, usualRecheck), alone: o.Alone, dir: o.Dir, log: o.Log, now: time.Now,
		masters: map[string]Master{}, cache: map[cacheKey]*orgKey{}, newest: map[uint64]*orgKey{},
	}
	if k.log == nil {
		k.log = hclog.NewNullLogger()
	}
	if err := k.start(ctx); err != nil {
		return nil, fmt.Errorf("open the keys of the objects: %w", err)
	}
	k.life, k.end = context.WithCancel(context.WithoutCancel(ctx))
	return k, nil
}

// Close ends what its routes still do.
func (k *Keys) Close() error {
	k.end()
	return nil
}

func (k *Keys) start(ctx context.Context) error {
	if err := k.store.migrate(ctx); err != nil {
		return err
	}
	masters, err := k.source()
	if err != nil {
		return err
	}
	if len(masters) == 0 || masters[0].fingerprint == "" {
		return errors.New("there is no master key")
	}
	wraps, err := k.store.claim(ctx, masters[0].Fingerprint())
	if err != nil {
		return err
	}
	if err := k.learn(masters, wraps); err != nil {
		return err
	}
	if wraps != masters[0].Fingerprint() {
		k.log.Info("the keys of the organisations are wrapped by a former master key; rotate them", "former", wraps, "new", masters[0].Fingerprint())
	}
	return nil
}

// learn remembers the masters and which of them wraps.
func (k *Keys) learn(masters []Master, wraps string) error {
	k.mu.Lock()
	defer k.mu.Unlock()
	var have []string
	for _, m := range masters {
		k.masters[m.Fingerprint()] = m
		have = append(have, m.Fingerprint())
	}
	if _, ok := k.masters[wraps]; !ok {
		return fmt.Errorf("%w: its keys are wrapped by the one with fingerprint %s, this host has %s; give it that one, or restore the database that belongs to this one",
			ErrMaster, wraps, strings.Join(have, " and "))
	}
	k.wraps = wraps
	return nil
}

// master returns the one of that fingerprint; when it is not known, the source is asked again.
func (k *Keys) master(fingerprint string) (Master, error) {
	k.mu.Lock()
	m, ok := k.masters[fingerprint]
	k.mu.Unlock()
	if ok {
		return m, nil
	}
	masters, err := k.source()
	if err != nil {
		return Master{}, err
	}
	if err := k.learn(masters, fingerprint); err != nil {
		return Master{}, err
	}
	return k.master(fingerprint)
}

// Master is the fingerprint of the master key that the database is wrapped with, as far as this host knows.
func (k *Keys) Master() string {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.wraps
}

// current returns the key for new objects of an org, as the database has it now. The first object of an org makes one.
func (k *Keys) current(ctx context.Context, org uint64) (*orgKey, error) {
	for {
		key, changes := k.known(org)
		if key != nil {
			return key, nil
		}
		asked := k.now()
		row, err := k.store.current(ctx, org)
		if err == nil {
			if key, err = k.keep(org, row, asked); err == nil {
				k.remember(org, key, changes)
			}
			return key, err
		}
		if !errors.Is(err, ErrKeyGone) {
			return nil, err
		}
		if _, err = k.add(ctx, org, false); err != nil {
			return nil, err
		}
	}
}

// known is the key for new objects of an org, if nobody can have changed it since it was looked up, and how many changes there were.
func (k *Keys) known(org uint64) (*orgKey, int) {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.newest[org], k.changes
}

// remember keeps what was looked up when there had been so many changes.
func (k *Keys) remember(org uint64, key *orgKey, changes int) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if !k.alone || k.changes != changes {
		return
	}
	if len(k.newest) >= maxCached {
		clear(k.newest)
	}
	k.newest[org] = key
}

// changed forgets what is the newest key of an org, after each change of it in the database.
func (k *Keys) changed(org uint64) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.changes++
	delete(k.newest, org)
}

// find returns a key of an org for reading.
func (k *Keys) find(ctx context.Context, org uint64, keyID string) (*orgKey, error) {
	asked := k.now()
	if key := k.cached(org, keyID); key != nil && asked.Sub(key.seen) < k.recheck {
		return key, nil
	}
	row, err := k.store.find(ctx, org, keyID)
	if err != nil {
		k.forget(org, keyID)
		return nil, err
	}
	return k.keep(org, row, asked)
}

func (k *Keys) cached(org uint64, keyID string) *orgKey {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.cache[cacheKey{org, keyID}]
}

// keep makes a key of what the database had at that time, and keeps it in memory.
func (k *Keys) keep(org uint64, row wrappedKey, seen time.Time) (*orgKey, error) {
	key := &orgKey{seen: seen}
	if known := k.cached(org, row.id); known != nil {
		key.id, key.secret = known.id, known.secret
	} else {
		m, err := k.master(row.master)
		if err != nil {
			return nil, err
		}
		plain, err := m.unwrap(org, row)
		if err != nil {
			return nil, err
		}
		key.secret = hide(plain)
		if _, err := hex.Decode(key.id[:], []byte(row.id)); err != nil {
			return nil, fmt.Errorf("key %q of org %d: %w", row.id, org, err)
		}
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	for other := range k.cache {
		if len(k.cache) < maxCached {
			break
		}
		delete(k.cache, other) // any: it costs one more look into the database
	}
	k.cache[cacheKey{org, row.id}] = key
	return key, nil
}

func (k *Keys) forget(org uint64, keyID string) {
	k.mu.Lock()
	defer k.mu.Unlock()
	delete(k.cache, cacheKey{org, keyID})
}

// additional data of a wrapped key: it is of no use for another org or under another id.
func wrapPlace(org uint64, keyID string) []byte {
	return append(binary.BigEndian.AppendUint64([]byte("rivergate org key"), org), keyID...)
}

func (m Master) wrap(org uint64, keyID string, secret []byte) []byte {
	nonce := make([]byte, nonceSize, nonceSize+keySize+tagSize)
	rand.Read(nonce)
	return m.wrapper().Seal(nonce, nonce, secret, wrapPlace(org, keyID))
}

func (m Master) unwrap(org uint64, row wrappedKey) ([]byte, error) {
	if len(row.wrapped) == nonceSize+keySize+tagSize {
		if secret, err := m.wrapper().Open(nil, row.wrapped[:nonceSize], row.wrapped[nonceSize:], wrapPlace(org, row.id)); err == nil {
			return secret, nil
		}
	}
	return nil, fmt.Errorf("%w: key %s of org %d in the database cannot be unwrapped by master key %s", ErrCorrupt, row.id, org, m.Fingerprint())
}
