package seal

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
)

// Rotate wraps the keys of all orgs with next, in one transaction: after a crash either the old or the new master key is that of
// the database. Objects are not touched. Hosts that run go on when their Source gives next as well. rewrapped counts the keys; 0
// when next is the master key already.
func (k *Keys) Rotate(ctx context.Context, next Master) (rewrapped int, err error) {
	if next.fingerprint == "" {
		return 0, errors.New("rotate the master key: there is no new one")
	}
	rewrapped, err = k.store.rewrap(ctx, next.Fingerprint(), func(org uint64, row wrappedKey) ([]byte, error) {
		m, err := k.master(row.master)
		if err != nil {
			return nil, err
		}
		secret, err := m.unwrap(org, row)
		if err != nil {
			return nil, err
		}
		return next.wrap(org, row.id, secret), nil
	})
	if err != nil {
		return 0, fmt.Errorf("rotate the master key: %w", err)
	}
	if err := k.learn([]Master{next}, next.Fingerprint()); err != nil {
		return 0, err
	}
	k.log.Info("master key rotated", "new", next.Fingerprint(), "keys", rewrapped)
	return rewrapped, nil
}

// errNoNewMaster: the first key of the source is the one that wraps already.
var errNoNewMaster = errors.New("there is no new master key")

// RotateMaster is Rotate to the first key of the source, read again; with Options.Dir, to a new one that is made there.
func (k *Keys) RotateMaster(ctx context.Context) (rewrapped int, err error) {
	if k.dir != "" {
		return k.RotateDevelopment(ctx, k.dir)
	}
	masters, err := k.source()
	if err != nil {
		return 0, err
	}
	wraps, err := k.store.wraps(ctx)
	if err != nil {
		return 0, err
	}
	if len(masters) == 0 || masters[0].Fingerprint() == wraps {
		return 0, errNoNewMaster
	}
	if err := k.learn(masters, wraps); err != nil {
		return 0, err
	}
	return k.Rotate(ctx, masters[0])
}

// RotateOrg gives an org a new data key, for objects from now on. Old objects can be read as before.
func (k *Keys) RotateOrg(ctx context.Context, org uint64) (keyID string, err error) {
	keyID, err = k.add(ctx, org, true)
	if err != nil {
		return "", fmt.Errorf("new key for org %d: %w", org, err)
	}
	k.log.Info("organisation has a new key", "org", org, "key", keyID)
	return keyID, nil
}

// DeleteOrg deletes the keys of an org: what was sealed for it cannot be read again, by nobody, ErrKeyGone. Other hosts notice
// within Options.Recheck. Copies of the database that were made before still have the keys, wrapped: once those must be useless
// too, rotate the master key and destroy the old one. What the org stores from now on gets a new key.
func (k *Keys) DeleteOrg(ctx context.Context, org uint64) (deleted int, err error) {
	deleted, err = k.store.deleteOrg(ctx, org)
	k.changed(org) // also after an error: it may have happened
	if err != nil {
		return 0, fmt.Errorf("delete the keys of org %d: %w", org, err)
	}
	k.mu.Lock()
	for at := range k.cache {
		if at.org == org {
			delete(k.cache, at)
		}
	}
	k.mu.Unlock()
	k.log.Info("keys of an organisation deleted", "org", org, "keys", deleted)
	return deleted, nil
}

// add makes a key for an org and makes it the current one: always with replace, else when there is none.
func (k *Keys) add(ctx context.Context, org uint64, replace bool) (keyID string, err error) {
	var name [keyIDSize]byte
	secret := make([]byte, keySize)
	rand.Read(name[:])
	rand.Read(secret)
	keyID = hex.EncodeToString(name[:])
	defer k.changed(org) // also after an error: it may have happened
	for {
		wraps, err := k.store.wraps(ctx) // another host may have rotated
		if err != nil {
			return "", err
		}
		m, err := k.master(wraps)
		if err != nil {
			return "", err
		}
		row := wrappedKey{id: keyID, wrapped: m.wrap(org, keyID, secret), master: wraps}
		switch err := k.store.add(ctx, org, row, replace, k.now()); {
		case errors.Is(err, errRotated):
		case errors.Is(err, errHasKey): // another host was first
			return "", nil
		default:
			return keyID, err
		}
	}
}
