package pluginstore

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"path/filepath"
	"strings"
	"sync"

	"github.com/hashicorp/go-hclog"

	"github.com/rivergate/rivergate/host/pluginhost"
)

// The policies: which binaries may run. What the lock file says about a plugin counts in each of them.
const (
	PolicyLocked = "locked" // those in the lock file
	PolicyPinned = "pinned" // those, and those with PLUGIN_<NAME>_SHA256
	PolicyAny    = "any"    // every one
)

// Verifier gives what a plugin host asks before each start: the policy, the lock file and the keys in one. An exchange that
// a killed command has left is finished first; where that fails, both of its sides are trusted, and the log says why.
func Verifier(ctx context.Context, dir, lockPath, policy string, keys []string, log hclog.Logger) (Verify, error) {
	s, err := Open(dir, lockPath)
	if err != nil {
		return nil, err
	}
	trusted, err := ParseKeys(keys)
	if err != nil {
		return nil, fmt.Errorf("RIVERGATE_PLUGIN_KEYS: %w", err)
	}
	if err := s.Recover(ctx); err != nil && log != nil {
		log.Warn("an exchange of a plugin was interrupted and cannot be finished", "error", err)
	}
	return s.Verify(policy, trusted), nil
}

// Verify judges binaries by the policy, the lock file as it is at that moment, and, where there are keys, by their
// signatures. Nothing is started, and what it returns may be called by many at once.
func (s *Store) Verify(policy string, keys Keys) Verify {
	v := &verifier{store: s, policy: policy, keys: keys, signed: map[string]Signer{}}
	return v.verify
}

// verifySignature judges by the signature alone: for plugins that are about to get into the lock file.
func (s *Store) verifySignature(keys Keys) Verify {
	v := &verifier{store: s, unlocked: true, keys: keys, signed: map[string]Signer{}}
	return v.verify
}

type verifier struct {
	store    *Store
	policy   string
	unlocked bool // the lock file does not matter
	keys     Keys

	mu     sync.Mutex
	signed map[string]Signer // by hash of the binary and of the signature: what is verified stays so
}

func (v *verifier) verify(_ context.Context, b pluginhost.Binary) (pluginhost.Trust, error) {
	var by []string
	if !v.unlocked {
		word, err := v.lock(b)
		if err != nil {
			return "", err
		}
		if word != "" {
			by = append(by, word)
		}
	}
	if len(v.keys) > 0 {
		if _, err := v.signature(b); err != nil {
			return "", err
		}
		by = append(by, "signed")
	}
	if len(by) == 0 {
		return pluginhost.TrustAny, nil
	}
	return pluginhost.Trust(strings.Join(by, ", ")), nil
}

// lock holds the binary against the lock file and the policy. An exchange writes file after file, so a refusal counts only
// when nothing of it has moved since.
func (v *verifier) lock(b pluginhost.Binary) (word string, err error) {
	var lockText, pendingText []byte
	for attempt := 0; ; attempt++ {
		l, text, exists, lockErr := v.store.readLock()
		c, begun, pendingErr := v.store.readPending()
		if err := errors.Join(lockErr, pendingErr); err != nil {
			return "", err
		}
		if attempt > 0 && (attempt > 3 || bytes.Equal(text, lockText) && bytes.Equal(begun, pendingText)) {
			return "", err
		}
		lockText, pendingText = text, begun
		if c != nil && c.Kind == b.Kind && c.Name == b.Plugin && (c.From.locks(b.SHA256) || c.To.locks(b.SHA256)) {
			return "locked", nil
		}
		entry := l.find(b.Kind, b.Plugin)
		if !exists {
			entry = nil
		}
		if word, err = v.judge(b, entry, exists); err == nil {
			return word, nil
		}
	}
}

func (v *verifier) judge(b pluginhost.Binary, entry *Entry, exists bool) (word string, err error) {
	switch {
	case entry != nil && entry.SHA256 == b.SHA256:
		return "locked", nil
	case entry != nil:
		return "", &DiffersError{Path: b.Source, SHA256: b.SHA256, Lock: v.store.lock, Entry: *entry}
	case b.Pin != "" && v.policy != PolicyLocked:
		return "pinned", nil
	case v.policy == PolicyAny:
		return "", nil
	}
	return "", &UnlockedError{Path: b.Source, Plugin: b.Plugin, SHA256: b.SHA256, Lock: v.store.lock, NoLock: !exists, Policy: v.policy}
}

// signature checks the private copy against the signature beside the file in the plugin folder.
func (v *verifier) signature(b pluginhost.Binary) (Signer, error) {
	beside := b.Source + pluginhost.SignatureSuffix
	signer, err := v.signatureIn(b, beside)
	if err == nil {
		return signer, nil
	}
	// In the middle of an exchange the one may be there before the other; the right one lies with the kept bytes.
	if c, _, pendingErr := v.store.readPending(); pendingErr == nil && c != nil && c.Kind == b.Kind && c.Name == b.Plugin {
		if signer, err := v.signatureIn(b, v.store.kept(c.File(), b.SHA256)+pluginhost.SignatureSuffix); err == nil {
			return signer, nil
		}
	}
	return Signer{}, err
}

func (v *verifier) signatureIn(b pluginhost.Binary, path string) (Signer, error) {
	text, err := readSmall(path)
	if err != nil {
		// verifyFile words it
		return v.keys.verifyFile(b.Path, path, "get it from the publisher of "+filepath.Base(b.Source))
	}
	sum := sha256.Sum256(text)
	id := b.SHA256 + hex.EncodeToString(sum[:])
	v.mu.Lock()
	signer, done := v.signed[id]
	v.mu.Unlock()
	if done {
		return signer, nil
	}
	if signer, err = v.keys.verifyFile(b.Path, path, ""); err != nil {
		return Signer{}, err
	}
	v.mu.Lock()
	defer v.mu.Unlock()
	v.signed[id] = signer
	return signer, nil
}
