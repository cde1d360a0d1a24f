package pluginstore

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"

	"github.com/rivergate/rivergate/host/pluginhost"
	"github.com/rivergate/rivergate/sdk/protocol"
)

// Change is an exchange of one plugin's files: binary, signature and lock entry.
type Change struct {
	Kind protocol.Kind `json:"kind"`
	Name string        `json:"name"`
	From Side          `json:"from"`
	To   Side          `json:"to"`
}

// Side is the state of a plugin's files before or after an exchange.
type Side struct {
	SHA256 string `json:"sha256,omitempty"` // of the binary; empty: there is none
	Signed bool   `json:"signed,omitempty"` // there is a signature beside the kept bytes
	Entry  *Entry `json:"entry,omitempty"`  // nil: the lock file says nothing
}

// File is the name of the plugin's binary.
func (c *Change) File() string { return pluginhost.BinaryName(c.Kind, c.Name) }

// locks tells whether the side's lock entry is for exactly these bytes.
func (d *Side) locks(sum string) bool { return d.Entry != nil && d.Entry.SHA256 == sum }

// commit makes the exchange. From the moment in which the pending file is there, a kill does not stop it: whoever comes
// next finishes it. The bytes of both sides have been kept before. The store is held.
func (s *Store) commit(c *Change) error {
	text, err := json.MarshalIndent(c, "", "  ")
	if err != nil {
		return fmt.Errorf("encode the exchange: %w", err)
	}
	s.step("kept")
	if err := writeFile(s.pending(), 0o644, bytes.NewReader(text)); err != nil {
		return fmt.Errorf("begin the exchange: %w", err)
	}
	s.step("committed")
	return s.finish(c)
}

// finish makes the files those of the exchange's To, and forgets the exchange. It may be repeated.
func (s *Store) finish(c *Change) error {
	if err := s.finishBinary(c); err != nil {
		return fmt.Errorf("exchange %s: %w", s.installed(c.File()), err)
	}
	s.step("exchanged")
	l, _, err := s.ReadLock()
	if err != nil {
		return err
	}
	l.set(c.Kind, c.Name, c.To.Entry)
	if err := s.writeLock(l); err != nil {
		return err
	}
	s.step("locked")
	if err := removeFile(s.pending()); err != nil {
		return fmt.Errorf("end the exchange: %w", err)
	}
	s.step("done")
	return nil
}

func (s *Store) finishBinary(c *Change) error {
	target := s.installed(c.File())
	have, err := hashOf(target)
	if err != nil {
		return err
	}
	if !slices.Contains([]string{"", c.From.SHA256, c.To.SHA256}, have) {
		return nil // exchanged by hand meanwhile: the lock file will not fit, and everybody is told so
	}
	signature := target + pluginhost.SignatureSuffix
	if c.To.SHA256 == "" {
		return errors.Join(removeFile(target), removeFile(signature))
	}
	kept := s.kept(c.File(), c.To.SHA256)
	if c.To.Signed {
		err = copyFile(signature, kept+pluginhost.SignatureSuffix, 0o644)
	} else {
		err = removeFile(signature)
	}
	if err != nil {
		return err
	}
	s.step("signature")
	if have == c.To.SHA256 {
		return nil
	}
	sum, err := hashOf(kept)
	if err != nil {
		return err
	}
	if sum != c.To.SHA256 {
		return fmt.Errorf("%s is missing or was changed", kept)
	}
	return copyFile(target, kept, 0o755)
}

// readPending returns the exchange that has begun and not ended; nil: there is none.
func (s *Store) readPending() (*Change, []byte, error) {
	text, err := readGuarded(s.pending())
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil, nil
	}
	if err != nil {
		return nil, nil, fmt.Errorf("unfinished exchange of a plugin: %w", err)
	}
	decoder := json.NewDecoder(bytes.NewReader(text))
	decoder.DisallowUnknownFields()
	c := &Change{}
	if err := decoder.Decode(c); err != nil {
		return nil, text, fmt.Errorf("%s, which describes an unfinished exchange of a plugin, is damaged (%w): remove it, and see rivergate plugins", s.pending(), err)
	}
	ours := pluginhost.CheckName(c.Name) == nil && filepath.Base(c.File()) == c.File()
	for _, side := range []Side{c.From, c.To} {
		ours = ours && (side.SHA256 == "" || hashForm.MatchString(side.SHA256))
		ours = ours && (side.Entry == nil || side.Entry.Kind == c.Kind && side.Entry.Name == c.Name && hashForm.MatchString(side.Entry.SHA256))
	}
	if !ours {
		return nil, text, fmt.Errorf("%s describes no exchange of a plugin: remove it, and see rivergate plugins", s.pending())
	}
	return c, text, nil
}

// recover finishes what a killed command has begun. The store is held.
func (s *Store) recover() error {
	s.clearLeftovers()
	c, _, err := s.readPending()
	if err != nil || c == nil {
		return err
	}
	if err := s.finish(c); err != nil {
		return fmt.Errorf("finish the exchange of %s %s that was interrupted: %w", c.Kind, c.Name, err)
	}
	return nil
}

// clearLeftovers removes what killed commands had fetched or half written. The store is held.
func (s *Store) clearLeftovers() {
	for _, pattern := range []string{
		filepath.Join(s.dir, versionsDir, stagingPrefix+"*"),
		filepath.Join(s.dir, ".rivergate-*"),
		filepath.Join(filepath.Dir(s.lock), "."+filepath.Base(s.lock)+".*"),
	} {
		left, _ := filepath.Glob(pattern) // the patterns are well formed
		for _, path := range left {
			_ = os.RemoveAll(path)
		}
	}
}

// keep puts the bytes of an installed plugin, and its signature, where going back finds them. The store is held.
func (s *Store) keep(file, sum string) (signed bool, err error) {
	from, to := s.installed(file), s.kept(file, sum)
	if err := os.MkdirAll(filepath.Dir(to), 0o755); err != nil { // #nosec G301 -- as the plugin folder
		return false, fmt.Errorf("keep the former version: %w", err)
	}
	signed = exists(from + pluginhost.SignatureSuffix)
	if signed {
		err = copyFile(to+pluginhost.SignatureSuffix, from+pluginhost.SignatureSuffix, 0o644)
	} else {
		err = removeFile(to + pluginhost.SignatureSuffix)
	}
	if err == nil {
		err = copyFile(to, from, 0o755)
	}
	if err != nil {
		return false, fmt.Errorf("keep the former version: %w", err)
	}
	got, err := hashOf(to)
	if err == nil && got != sum {
		err = fmt.Errorf("%s changed meanwhile", from)
	}
	if err != nil {
		return false, fmt.Errorf("keep the former version: %w", errors.Join(err, os.Remove(to)))
	}
	return signed, nil
}

// settle removes the kept bytes that no former version in the lock file needs.
func (s *Store) settle() error {
	l, _, err := s.ReadLock()
	if err != nil {
		return err
	}
	kept, _ := filepath.Glob(filepath.Join(s.dir, versionsDir, "rivergate-*", "*"))
	for _, path := range kept {
		file, sum := filepath.Base(filepath.Dir(path)), trimSignature(filepath.Base(path))
		needed := slices.ContainsFunc(l.Plugins, func(e Entry) bool {
			return e.File() == file && e.Former != nil && e.Former.SHA256 == sum
		})
		if !needed {
			_ = os.Remove(path)
		}
	}
	return nil
}
