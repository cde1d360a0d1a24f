package seal

import (
	"bytes"
	"errors"
	"fmt"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/hashicorp/go-hclog"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/rivergate/rivergate/services/platform/database"
	"github.com/rivergate/rivergate/services/platform/database/databasetest"
)

func TestObjectsOfOneOrgCannotBeReadWithAnothersKey(t *testing.T) {
	databasetest.Each(t, func(t *testing.T, db *database.DB) {
		k, err := Open(t.Context(), db, Given(master(t)), Options{})
		require.NoError(t, err)
		_, one := sealed(t, k, 1, []byte("x"))
		_, two := sealed(t, k, 2, []byte("x"))
		a, err := parseID(one)
		require.NoError(t, err)
		b, err := parseID(two)
		require.NoError(t, err)
		require.NotEqual(t, a.key(), b.key())
		_, again := sealed(t, k, 1, []byte("x"))
		c, err := parseID(again)
		require.NoError(t, err)
		require.Equal(t, a.key(), c.key(), "one key an org")
		require.NotEqual(t, a.salt(), c.salt(), "and one salt an object")
	})
}

// A row that somebody copied to another org's key does not unwrap there.
func TestAWrappedKeyIsBoundToItsOrgAndID(t *testing.T) {
	m := master(t)
	row := wrappedKey{id: "0123456789abcdef", wrapped: m.wrap(1, "0123456789abcdef", make([]byte, keySize))}
	_, err := m.unwrap(1, row)
	require.NoError(t, err)
	_, err = m.unwrap(2, row)
	require.ErrorIs(t, err, ErrCorrupt)
	row.id = "0123456789abcdee"
	_, err = m.unwrap(1, row)
	require.ErrorIs(t, err, ErrCorrupt)
	_, err = master(t).unwrap(1, wrappedKey{id: "0123456789abcdef", wrapped: row.wrapped})
	require.ErrorIs(t, err, ErrCorrupt)
}

func TestHostsThatBeginAtOnceAgreeOnTheMasterAndOnOneKeyForEachOrg(t *testing.T) {
	databasetest.Each(t, func(t *testing.T, db *database.DB) {
		m := master(t)
		hosts := make([]*Keys, 4)
		for i := range hosts {
			var err error
			hosts[i], err = Open(t.Context(), db, Given(m), Options{})
			require.NoError(t, err)
		}
		var all sync.WaitGroup
		ids := make([]string, 16)
		errs := make([]error, len(ids))
		for i := range ids {
			all.Go(func() { ids[i], errs[i] = hosts[i%len(hosts)].NewID(t.Context(), 5) })
		}
		all.Wait()
		require.NoError(t, errors.Join(errs...))
		keys := map[string]bool{}
		for _, text := range ids {
			i, err := parseID(text)
			require.NoError(t, err)
			keys[i.key()] = true
		}
		require.Len(t, keys, 1)
	})
}

func TestAWrongMasterKeyIsToldAtStart(t *testing.T) {
	databasetest.Each(t, func(t *testing.T, db *database.DB) {
		right, wrong := master(t), master(t)
		_, err := Open(t.Context(), db, Given(right), Options{}) // no org has a key yet
		require.NoError(t, err)
		_, err = Open(t.Context(), db, Given(wrong), Options{})
		require.ErrorIs(t, err, ErrMaster)
		require.ErrorContains(t, err, right.Fingerprint())
		require.ErrorContains(t, err, wrong.Fingerprint())
		_, err = Open(t.Context(), db, Given(wrong, right), Options{})
		require.NoError(t, err, "a former one is taken")
		_, err = Open(t.Context(), db, Given(), Options{})
		require.ErrorContains(t, err, "no master key")
	})
}

func TestAfterARotationOldObjectsAreReadAndTheOldMasterIsOfNoUse(t *testing.T) {
	databasetest.Each(t, func(t *testing.T, db *database.DB) {
		before, after := master(t), master(t)
		k, err := Open(t.Context(), db, Given(before), Options{})
		require.NoError(t, err)
		const orgs = 1050 // more than a page
		plain := []byte("what was written before")
		stored, keyID := sealed(t, k, 1, plain)
		for org := uint64(2); org <= orgs; org++ {
			_, err = k.RotateOrg(t.Context(), org)
			require.NoError(t, err)
		}
		n, err := k.Rotate(t.Context(), after)
		require.NoError(t, err)
		require.Equal(t, orgs, n)
		require.Equal(t, after.Fingerprint(), k.Master())
		n, err = k.Rotate(t.Context(), after)
		require.NoError(t, err)
		require.Zero(t, n, "nothing is left to do")

		_, err = Open(t.Context(), db, Given(before), Options{})
		require.ErrorIs(t, err, ErrMaster)
		fresh, err := Open(t.Context(), db, Given(after), Options{})
		require.NoError(t, err)
		for _, k := range []*Keys{k, fresh} {
			got, err := opened(t.Context(), k, 1, keyID, int64(len(plain)), 0, -1, from(stored))
			require.NoError(t, err)
			require.Equal(t, plain, got)
			sealed(t, k, orgs+1, plain)
		}
	})
}

// Rotate is one transaction: what stops it in the middle leaves the old master key in force.
func TestARotationThatFailsChangesNothing(t *testing.T) {
	databasetest.Each(t, func(t *testing.T, db *database.DB) {
		before, after := master(t), master(t)
		k, err := Open(t.Context(), db, Given(before), Options{})
		require.NoError(t, err)
		stored, keyID := sealed(t, k, 1, []byte("x"))
		sealed(t, k, 2, []byte("x"))
		row, err := k.store.current(t.Context(), 2)
		require.NoError(t, err)
		// The second org's key is damaged: the first one was wrapped anew already when that comes out.
		require.NoError(t, k.store.add(t.Context(), 3, wrappedKey{"0123456789abcdef", row.wrapped, row.master}, true, time.Now()))
		_, err = k.Rotate(t.Context(), after)
		require.ErrorIs(t, err, ErrCorrupt)
		require.ErrorContains(t, err, "org 3")
		k, err = Open(t.Context(), db, Given(before), Options{})
		require.NoError(t, err)
		_, err = opened(t.Context(), k, 1, keyID, 1, 0, -1, from(stored))
		require.NoError(t, err)
	})
}

func TestOtherHostsGoOnWhileTheMasterKeyIsRotated(t *testing.T) {
	databasetest.Each(t, func(t *testing.T, db *database.DB) {
		before, after := master(t), master(t)
		admin, err := Open(t.Context(), db, Given(before), Options{})
		require.NoError(t, err)
		both, err := Open(t.Context(), db, Given(after, before), Options{})
		require.NoError(t, err)
		rereads := false
		late, err := Open(t.Context(), db, func() ([]Master, error) {
			if rereads {
				return []Master{after}, nil
			}
			return []Master{before}, nil
		}, Options{})
		require.NoError(t, err)
		old, err := Open(t.Context(), db, Given(before), Options{})
		require.NoError(t, err)
		stored, keyID := sealed(t, admin, 1, []byte("x"))
		_, err = admin.Rotate(t.Context(), after)
		require.NoError(t, err)
		rereads = true
		for org, k := range []*Keys{both, late} {
			_, err = opened(t.Context(), k, 1, keyID, 1, 0, -1, from(stored))
			require.NoError(t, err)
			sealed(t, k, uint64(org+2), []byte("x"))
		}
		_, _, err = old.Seal(t.Context(), 9, nil)
		require.ErrorIs(t, err, ErrMaster, "a host that has only the old one can seal nothing for a new org")
	})
}

func TestANewKeyOfAnOrgLeavesOldObjectsReadable(t *testing.T) {
	databasetest.Each(t, func(t *testing.T, db *database.DB) {
		k, err := Open(t.Context(), db, Given(master(t)), Options{})
		require.NoError(t, err)
		stored, one := sealed(t, k, 1, []byte("x"))
		_, err = k.RotateOrg(t.Context(), 1)
		require.NoError(t, err)
		_, two := sealed(t, k, 1, []byte("x"))
		a, _ := parseID(one)
		b, _ := parseID(two)
		require.NotEqual(t, a.key(), b.key())
		_, err = opened(t.Context(), k, 1, one, 1, 0, -1, from(stored))
		require.NoError(t, err)
	})
}

func TestAnOrgWhoseKeysWereDeletedIsUnreadableForEver(t *testing.T) {
	databasetest.Each(t, func(t *testing.T, db *database.DB) {
		m, now := master(t), time.Now()
		hosts := make([]*Keys, 2)
		for i := range hosts {
			var err error
			hosts[i], err = Open(t.Context(), db, Given(m), Options{Recheck: time.Minute})
			require.NoError(t, err)
			hosts[i].now = func() time.Time { return now }
		}
		here, there := hosts[0], hosts[1]
		stored, keyID := sealed(t, here, 1, []byte("x"))
		others, othersID := sealed(t, here, 2, []byte("x"))
		read := func(k *Keys) error {
			_, err := opened(t.Context(), k, 1, keyID, 1, 0, -1, from(stored))
			return err
		}
		require.NoError(t, read(there))
		n, err := here.DeleteOrg(t.Context(), 1)
		require.NoError(t, err)
		require.Equal(t, 1, n)
		n, err = here.DeleteOrg(t.Context(), 1)
		require.NoError(t, err)
		require.Zero(t, n)
		require.ErrorIs(t, read(here), ErrKeyGone)

		// The other host seals nothing with the key from now on, and stops reading when its minute is over.
		_, fresh := sealed(t, there, 1, []byte("x"))
		a, _ := parseID(keyID)
		b, _ := parseID(fresh)
		require.NotEqual(t, a.key(), b.key())
		now = now.Add(time.Minute)
		require.ErrorIs(t, read(there), ErrKeyGone)
		require.ErrorIs(t, read(here), ErrKeyGone, "also when the org has a new key")

		k, err := Open(t.Context(), db, Given(m), Options{})
		require.NoError(t, err)
		require.ErrorIs(t, read(k), ErrKeyGone, "after a restart")
		_, err = opened(t.Context(), k, 2, othersID, 1, 0, -1, from(others))
		require.NoError(t, err, "another org's is not touched")
	})
}

func TestKeysInMemoryAreBounded(t *testing.T) {
	k := openKeys(t)
	for org := range uint64(maxCached + 10) {
		k.cache[cacheKey{org, "x"}] = &orgKey{}
	}
	sealed(t, k, 1, []byte("x"))
	require.LessOrEqual(t, len(k.cache), maxCached)
}

func TestWhatDatabaseErrorsAreToReadersIsAnErrorNotAKeyThatIsGone(t *testing.T) {
	db, err := database.Open(t.Context(), filepath.Join(t.TempDir(), "a.db"))
	require.NoError(t, err)
	k, err := Open(t.Context(), db, Given(master(t)), Options{Recheck: time.Nanosecond})
	require.NoError(t, err)
	stored, keyID := sealed(t, k, 1, []byte("x"))
	require.NoError(t, db.Close())
	_, err = opened(t.Context(), k, 1, keyID, 1, 0, -1, from(stored))
	require.Error(t, err)
	require.NotErrorIs(t, err, ErrKeyGone)
}

func TestNoKeyIsEverPrintedOrLogged(t *testing.T) {
	var log bytes.Buffer
	db, err := database.Open(t.Context(), filepath.Join(t.TempDir(), "a.db"))
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, db.Close()) })
	m, next := master(t), master(t)
	k, err := Open(t.Context(), db, Given(m), Options{Log: hclog.New(&hclog.LoggerOptions{Output: &log, Level: hclog.Trace})})
	require.NoError(t, err)
	stored, keyID := sealed(t, k, 1, []byte("x"))
	object, err := parseID(keyID)
	require.NoError(t, err)
	key := k.cached(1, object.key())
	secret := key.secret()
	_, err = k.Rotate(t.Context(), next)
	require.NoError(t, err)
	_, err = k.RotateOrg(t.Context(), 1)
	require.NoError(t, err)
	_, err = k.DeleteOrg(t.Context(), 1)
	require.NoError(t, err)
	_, gone := opened(t.Context(), k, 1, keyID, 1, 0, -1, from(stored))
	_, wrong := Open(t.Context(), db, Given(m), Options{})
	said := log.String()
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%x", "%d", "%q"} {
		said += fmt.Sprintf(verb+verb+verb+verb, m, &m, k, key) + fmt.Sprintf(verb, gone) + fmt.Sprintf(verb, wrong)
	}
	for _, key := range [][]byte{m.secret(), next.secret(), secret} {
		for _, form := range []string{fmt.Sprintf("%x", key[:4]), fmt.Sprintf("%X", key[:4]), strings.Trim(fmt.Sprint(key[:4]), "[]"), string(key[:4]), fmt.Sprintf("%#v", key[:4])[7:20]} {
			require.NotContains(t, said, form)
		}
	}
}

// Who is alone looks a key up once, and sees each change of its own at once.
func TestWhoIsAloneKnowsTheNewestKey(t *testing.T) {
	databasetest.Each(t, func(t *testing.T, db *database.DB) {
		k, err := Open(t.Context(), db, Given(master(t)), Options{Alone: true})
		require.NoError(t, err)
		key := func() string {
			_, keyID := sealed(t, k, 1, []byte("x"))
			object, err := parseID(keyID)
			require.NoError(t, err)
			return object.key()
		}
		first := key()
		require.Equal(t, first, key())
		require.NotNil(t, k.newest[1])
		var sealing sync.WaitGroup
		done := make(chan struct{})
		for range 4 { // who looks up while it changes
			sealing.Go(func() {
				for {
					select {
					case <-done:
						return
					default:
						_, err := k.NewID(t.Context(), 1)
						assert.NoError(t, err)
					}
				}
			})
		}
		for range 20 {
			second, err := k.RotateOrg(t.Context(), 1)
			require.NoError(t, err)
			require.Equal(t, second, key())
			_, err = k.DeleteOrg(t.Context(), 1)
			require.NoError(t, err)
			require.NotEqual(t, second, key(), "no new object has a key that was deleted")
		}
		close(done)
		sealing.Wait()
	})
}
