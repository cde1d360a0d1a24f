package pluginstore

import (
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"strings"
	"unicode"

	"aead.dev/minisign"

	"github.com/rivergate/rivergate/host/pluginhost"
)

// maxSignature bounds what is read of a signature or a key, bytes.
const maxSignature = 64 << 10

// keyLength is that of a public key in base64: algorithm, id and key are 42 bytes.
const keyLength = 56

// Key is a minisign public key whose signatures are trusted.
type Key struct {
	public minisign.PublicKey
	From   string // the file that it was read from; empty: it was given itself
}

// ID is the key's number as minisign writes it.
func (k Key) ID() string { return keyID(k.public.ID()) }

func keyID(id uint64) string { return fmt.Sprintf("%016X", id) }

func (k Key) String() string {
	if k.From == "" {
		return k.ID()
	}
	return k.ID() + " (" + k.From + ")"
}

// Keys are the trusted keys. Empty: signatures are not asked for.
type Keys []Key

// ParseKeys reads RIVERGATE_PLUGIN_KEYS: each a public key, or a file with one.
func ParseKeys(list []string) (Keys, error) {
	var keys Keys
	for _, text := range list {
		k, err := parseKey(text)
		if err != nil {
			return nil, err
		}
		keys = append(keys, k)
	}
	return keys, nil
}

func parseKey(text string) (Key, error) {
	var k Key
	if raw, err := base64.StdEncoding.DecodeString(text); err == nil && len(text) == keyLength && strings.HasPrefix(string(raw), "Ed") {
		if err := k.public.UnmarshalText([]byte(text)); err != nil {
			return k, fmt.Errorf("%q is no minisign public key: %w", text, err)
		}
		return k, nil
	}
	content, err := readSmall(text)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return k, fmt.Errorf("%q is neither a file nor a minisign public key (%d characters that begin with RW)", shorten(text), keyLength)
	case err != nil:
		return k, fmt.Errorf("read the public key: %w", err)
	case strings.Contains(string(content), "secret key"):
		return k, fmt.Errorf("%s holds a secret key, which belongs on the publisher's machine only: name the file with the public key, minisign.pub", text)
	}
	if err := k.public.UnmarshalText(content); err != nil {
		return k, fmt.Errorf("%s holds no minisign public key: %w", text, err)
	}
	k.From = text
	return k, nil
}

func readSmall(path string) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer func() { _ = f.Close() }()
	text, err := io.ReadAll(io.LimitReader(f, maxSignature+1))
	if err == nil && len(text) > maxSignature {
		err = fmt.Errorf("%s is too large for a key or a signature", path)
	}
	return text, err
}

// Signer is who signed a binary.
type Signer struct {
	Key     string `json:"key"`     // its number
	Comment string `json:"comment"` // the trusted comment: signed as well
}

// verify checks the signature of what it reads. Its errors say what to do.
func (keys Keys) verify(from io.Reader, signature []byte) (Signer, error) {
	var s minisign.Signature
	if err := s.UnmarshalText(signature); err != nil {
		return Signer{}, fmt.Errorf("it is no minisign signature (%w)", err)
	}
	if s.Algorithm != minisign.HashEdDSA {
		return Signer{}, errors.New("it has minisign's legacy form, which is not accepted: sign again with minisign 0.11 or newer, or with -H")
	}
	var key *Key
	for i := range keys {
		if keys[i].public.ID() == s.KeyID {
			key = &keys[i]
		}
	}
	if key == nil {
		return Signer{}, fmt.Errorf("it was made with the key %s, which is not in RIVERGATE_PLUGIN_KEYS: that has %s", keyID(s.KeyID), keys)
	}
	r := minisign.NewReader(from)
	if _, err := io.Copy(io.Discard, r); err != nil {
		return Signer{}, fmt.Errorf("read what was signed: %w", err)
	}
	if !r.Verify(key.public, signature) {
		return Signer{}, fmt.Errorf("it does not fit the file: one of the two was changed after the signing with key %s, or they do not belong together", key.ID())
	}
	return Signer{Key: key.ID(), Comment: printable(s.TrustedComment)}, nil
}

func (keys Keys) String() string {
	names := make([]string, len(keys))
	for i, k := range keys {
		names[i] = k.String()
	}
	return strings.Join(names, ", ")
}

// verifyFile checks a file against a signature file. missing is what to do when there is none.
func (keys Keys) verifyFile(path, signature, missing string) (Signer, error) {
	text, err := readSmall(signature)
	if errors.Is(err, fs.ErrNotExist) {
		return Signer{}, fmt.Errorf("RIVERGATE_PLUGIN_KEYS is set, so a plugin needs a signature, and there is no %s: %s", signature, missing)
	}
	if err != nil {
		return Signer{}, fmt.Errorf("read the signature: %w", err)
	}
	f, err := os.Open(path)
	if err != nil {
		return Signer{}, fmt.Errorf("read what was signed: %w", err)
	}
	defer func() { _ = f.Close() }()
	signer, err := keys.verify(f, text)
	if err != nil {
		return Signer{}, fmt.Errorf("signature %s: %w", signature, err)
	}
	return signer, nil
}

// printable takes from what a publisher or a plugin says what would move the cursor of whoever reads it.
func printable(s string) string {
	return shorten(strings.Map(func(r rune) rune {
		if unicode.IsPrint(r) {
			return r
		}
		return ' '
	}, s))
}

func trimSignature(file string) string { return strings.TrimSuffix(file, pluginhost.SignatureSuffix) }
