package pluginstore

import (
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"syscall"

	"github.com/rivergate/rivergate/host/pluginhost"
	"github.com/rivergate/rivergate/sdk/protocol"
)

// InstallOptions say what Install takes.
type InstallOptions struct {
	Source    string        // a path, or an https address
	SHA256    string        // that the file must have, hex; needed for an address where there are no keys
	Signature string        // a path or an address; empty: Source with .minisig, where there are keys
	Name      string        // to install it under; empty: the name that it gives itself
	Expect    string        // the name that it has to give itself unless Name is set; empty: any
	Kind      protocol.Kind // that it has to be of; empty: any that this host runs
	Keys      Keys
	Introduce Introducer
	HTTP      *http.Client            // nil: one of our own
	Progress  func(read, total int64) // total 0: unknown; nil: nobody looks
	// KeepAll leaves every kept version, so that Revert can undo this; Settle then ends it.
	KeepAll bool
}

// Installed is what Install has done.
type Installed struct {
	Change
	Path      string  `json:"path"`
	Signer    *Signer `json:"signer,omitempty"`
	Unchanged bool    `json:"unchanged,omitempty"` // this very version was there, and in the lock file
	// NotKept says why there is no going back to what was there before; empty: there is, or nothing was there.
	NotKept string `json:"not_kept,omitempty"`
}

// Install fetches a plugin, verifies it, starts it for a moment so that it says who it is, and puts it into the plugin
// folder and the lock file. Until the last step nothing changes; after an error nothing has changed.
func (s *Store) Install(ctx context.Context, o InstallOptions) (*Installed, error) {
	from, err := parseSource(o.Source)
	if err != nil {
		return nil, err
	}
	want := strings.ToLower(strings.TrimSpace(o.SHA256))
	if want != "" && !hashForm.MatchString(want) {
		return nil, fmt.Errorf("%q is not a SHA-256 of 64 hexadecimal digits", shorten(o.SHA256))
	}
	if from.url != nil && want == "" && len(o.Keys) == 0 {
		return nil, &NoHashError{Source: from.String()}
	}
	if o.Name != "" {
		if err := pluginhost.CheckName(o.Name); err != nil {
			return nil, err
		}
	}
	release, err := s.hold(ctx)
	if err != nil {
		return nil, err
	}
	defer release()
	if _, _, err := s.ReadLock(); err != nil {
		return nil, err
	}

	got, err := s.stage(ctx, o, from, want)
	if got != nil {
		defer func() { _ = os.RemoveAll(got.dir) }()
	}
	if err != nil {
		return nil, err
	}
	name, err := s.name(ctx, o, got)
	if err != nil {
		return nil, err
	}
	done, err := s.exchange(got, name, from.String())
	if err != nil || o.KeepAll {
		return done, err
	}
	return done, s.settle()
}

// NoHashError: an address was given, and nothing to know the file by.
type NoHashError struct{ Source string }

func (e *NoHashError) Error() string {
	return fmt.Sprintf("nothing says what %s has to be: give its SHA-256 with --sha256, or set RIVERGATE_PLUGIN_KEYS to the publisher's key", e.Source)
}

// staged is a plugin that was fetched and verified.
type staged struct {
	dir    string // its own, private
	path   string
	sum    string
	signer *Signer
	found  pluginhost.Found
}

// The name under which a plugin is asked who it is.
const stagedName = "staged"

// stage fetches a plugin and verifies its hash and signature. Nothing of it is run before.
func (s *Store) stage(ctx context.Context, o InstallOptions, from source, want string) (*staged, error) {
	versions := filepath.Join(s.dir, versionsDir)
	if err := os.MkdirAll(versions, 0o755); err != nil { // #nosec G301 -- as the plugin folder
		return nil, fmt.Errorf("make a folder for the plugin: %w", err)
	}
	dir, err := os.MkdirTemp(versions, stagingPrefix)
	if err != nil {
		return nil, fmt.Errorf("make a folder for the plugin: %w", err)
	}
	got := &staged{dir: dir, path: filepath.Join(dir, pluginhost.BinaryName(protocol.KindPusher, stagedName))}
	f := &fetcher{client: o.HTTP, progress: o.Progress}
	if got.sum, err = fetchTo(ctx, f, from, MaxBinary, got.path, 0o700); err != nil {
		return got, err
	}
	s.step("fetched")
	if want != "" && got.sum != want {
		return got, &HashError{What: from.String(), Want: want, Got: got.sum}
	}
	if len(o.Keys) == 0 && o.Signature == "" {
		return got, nil
	}
	if len(o.Keys) == 0 {
		return got, errors.New("a signature was given and RIVERGATE_PLUGIN_KEYS names no key to check it with")
	}
	signature := from.with(pluginhost.SignatureSuffix)
	if o.Signature != "" {
		if signature, err = parseSource(o.Signature); err != nil {
			return got, fmt.Errorf("signature: %w", err)
		}
	}
	f.progress = nil
	beside := got.path + pluginhost.SignatureSuffix
	_, err = fetchTo(ctx, f, signature, maxSignature, beside, 0o600)
	if errors.Is(err, errNotThere) {
		return got, fmt.Errorf("RIVERGATE_PLUGIN_KEYS is set, so a plugin needs a signature, and there is no %s: --signature names another file or address", signature)
	}
	if err != nil {
		return got, fmt.Errorf("signature: %w", err)
	}
	signer, err := o.Keys.verifyFile(got.path, beside, "")
	if err != nil {
		return got, errors.New(strings.ReplaceAll(err.Error(), beside, signature.String()))
	}
	got.signer = &signer
	return got, nil
}

// fetchTo writes a source to a new file and returns its hash.
func fetchTo(ctx context.Context, f *fetcher, from source, limit int64, path string, mode os.FileMode) (sum string, err error) {
	temp := path + ".part"
	out, err := openPrivate(temp, mode)
	if err != nil {
		return "", fmt.Errorf("make a file for the plugin: %w", err)
	}
	digest := sha256.New()
	err = f.fetch(ctx, from, limit, io.MultiWriter(out, digest))
	if err = errors.Join(err, out.Close()); err != nil {
		return "", err
	}
	// A copy, made while nobody may fork, is what is run: a child that another part of this program forks during a long
	// download would hold the file open for writing, and running it would fail with "text file busy".
	if err := copyFile(path, temp, mode); err != nil {
		return "", fmt.Errorf("write the plugin: %w", err)
	}
	return hex.EncodeToString(digest.Sum(nil)), os.Remove(temp)
}

func openPrivate(path string, mode os.FileMode) (*os.File, error) {
	return os.OpenFile(path, os.O_CREATE|os.O_EXCL|os.O_WRONLY|syscall.O_CLOEXEC, mode)
}

// name lets the plugin say who it is, and finds the name to install it under.
func (s *Store) name(ctx context.Context, o InstallOptions, got *staged) (string, error) {
	if err := s.introduced(ctx, o, got); err != nil {
		return "", err
	}
	if o.Kind != "" && o.Kind != got.found.Kind {
		return "", fmt.Errorf("it is a plugin of the kind %s, and one of the kind %s was to be exchanged", got.found.Kind, o.Kind)
	}
	name := cmp.Or(o.Name, got.found.Says)
	if err := pluginhost.CheckName(name); err != nil {
		return "", fmt.Errorf("%w: the plugin calls itself so, --name gives it another", err)
	}
	if o.Name == "" && o.Expect != "" && o.Expect != name {
		return "", fmt.Errorf("the plugin calls itself %s, and %s was to be exchanged: --name %s does it all the same", name, o.Expect, o.Expect)
	}
	s.step("introduced")
	return name, nil
}

// introduced asks the staged plugin who it is: as a pusher, and when it says that it is of another kind, as one of that.
func (s *Store) introduced(ctx context.Context, o InstallOptions, got *staged) error {
	ask := func() (pluginhost.Found, error) {
		found, err := o.Introduce(ctx, got.dir, s.verifySignature(nil), func(pluginhost.Found) bool { return true })
		if err != nil {
			return pluginhost.Found{}, err
		}
		if len(found) != 1 || found[0].Problem == "" && found[0].SHA256 != got.sum {
			return pluginhost.Found{}, errors.New("the fetched plugin changed before it could be started")
		}
		return found[0], nil
	}
	found, err := ask()
	if err == nil && found.Other == protocol.KindStorage {
		if err := got.rename(pluginhost.BinaryName(found.Other, stagedName)); err != nil {
			return err
		}
		found, err = ask()
	}
	if err != nil {
		return err
	}
	switch {
	case found.Other != "":
		return &NoPluginError{Problem: fmt.Sprintf("its kind is %s, and this version of Rivergate runs pushers and storages", found.Other)}
	case found.Problem != "":
		return &NoPluginError{Problem: strings.ReplaceAll(found.Problem, got.path, "the file")}
	}
	got.found = found
	return nil
}

// rename gives the staged file, and its signature, another name.
func (got *staged) rename(file string) error {
	path := filepath.Join(got.dir, file)
	if exists(got.path + pluginhost.SignatureSuffix) {
		if err := os.Rename(got.path+pluginhost.SignatureSuffix, path+pluginhost.SignatureSuffix); err != nil {
			return fmt.Errorf("name the signature: %w", err)
		}
	}
	if err := os.Rename(got.path, path); err != nil {
		return fmt.Errorf("name the plugin: %w", err)
	}
	got.path = path
	return nil
}

// NoPluginError: the file is none that this host can run.
type NoPluginError struct{ Problem string }

func (e *NoPluginError) Error() string { return "it cannot be run as a plugin: " + e.Problem }

// exchange keeps both versions and puts the new one in the place of the old one.
func (s *Store) exchange(got *staged, name, from string) (*Installed, error) {
	l, _, err := s.ReadLock()
	if err != nil {
		return nil, err
	}
	done := &Installed{Change: Change{Kind: got.found.Kind, Name: name}, Signer: got.signer}
	file := done.File()
	done.Path = s.installed(file)
	if done.From.SHA256, err = hashOf(done.Path); err != nil {
		return nil, err
	}
	done.From.Entry = l.find(done.Kind, name)
	entry := &Entry{Kind: done.Kind, Name: name, Release: Release{Version: printable(got.found.Version), SHA256: got.sum, Source: from}}
	done.To = Side{SHA256: got.sum, Signed: got.signer != nil, Entry: entry}
	if err := s.keepFormer(done, entry); err != nil {
		return nil, err
	}

	kept := s.kept(file, got.sum)
	if err := os.MkdirAll(filepath.Dir(kept), 0o755); err != nil { // #nosec G301 -- as the plugin folder
		return nil, fmt.Errorf("keep the new version: %w", err)
	}
	if done.To.Signed {
		err = copyFile(kept+pluginhost.SignatureSuffix, got.path+pluginhost.SignatureSuffix, 0o644)
	}
	if err = errors.Join(err, copyFile(kept, got.path, 0o755), syncDir(filepath.Dir(filepath.Dir(kept)))); err != nil {
		return nil, fmt.Errorf("keep the new version: %w", err)
	}
	return done, s.commit(&done.Change)
}

// keepFormer keeps what is there now, so that there is a way back. Bytes that the lock file does not agree with are not
// offered for going back to: nobody has vouched for them.
func (s *Store) keepFormer(done *Installed, entry *Entry) (err error) {
	from := &done.From
	switch {
	case from.SHA256 == "":
		return nil
	case from.SHA256 == entry.SHA256:
		done.Unchanged = from.locks(entry.SHA256)
		if from.Entry != nil {
			entry.Former = from.Entry.Former
		}
	case from.Entry == nil:
		entry.Former = &Release{SHA256: from.SHA256, Source: "local"}
	case from.locks(from.SHA256):
		former := from.Entry.Release
		entry.Former = &former
	default:
		done.NotKept = "the file was not the one in the lock file"
	}
	from.Signed, err = s.keep(done.File(), from.SHA256)
	return err
}

// Revert undoes an Install with KeepAll: binary, signature and lock entry are again what they were.
func (s *Store) Revert(ctx context.Context, done *Installed) error {
	release, err := s.hold(ctx)
	if err != nil {
		return err
	}
	defer release()
	if err := s.checkRevert(done); err != nil {
		return err
	}
	back := Change{Kind: done.Kind, Name: done.Name, From: done.To, To: done.From}
	if err := s.commit(&back); err != nil {
		return err
	}
	return s.settle()
}

// checkRevert refuses to undo what another command has changed meanwhile, or can no longer be undone: an exchange that is
// begun has to come to its end.
func (s *Store) checkRevert(done *Installed) error {
	l, _, err := s.ReadLock()
	if err != nil {
		return err
	}
	now := l.find(done.Kind, done.Name)
	have, err := hashOf(done.Path)
	if err != nil {
		return err
	}
	if now == nil || now.SHA256 != done.To.SHA256 || have != done.To.SHA256 {
		return fmt.Errorf("another command has exchanged %s meanwhile; it was left as it is", done.Path)
	}
	if done.From.SHA256 == "" {
		return nil
	}
	kept := s.kept(done.File(), done.From.SHA256)
	sum, err := hashOf(kept)
	if err != nil {
		return err
	}
	if sum != done.From.SHA256 || done.From.Signed && !exists(kept+pluginhost.SignatureSuffix) {
		return fmt.Errorf("the former version of %s, %s, is not kept any more: another command has let go of it", done.Name, done.From.SHA256)
	}
	return nil
}

// Settle removes what Install kept for Revert.
func (s *Store) Settle(ctx context.Context) error {
	release, err := s.hold(ctx)
	if err != nil {
		return err
	}
	defer release()
	return s.settle()
}
