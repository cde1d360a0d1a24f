package pluginstore

import (
	"context"
	"fmt"

	"github.com/rivergate/rivergate/host/pluginhost"
)

// Rollback goes back to the former version of a plugin: binary, signature and lock entry. What was there becomes the former
// version, so that a second Rollback returns to it. name is acme, or pusher/acme. Where there are keys the former version
// needs a signature of one of them.
func (s *Store) Rollback(ctx context.Context, name string, keys Keys) (*Installed, error) {
	release, err := s.hold(ctx)
	if err != nil {
		return nil, err
	}
	defer release()
	l, _, err := s.ReadLock()
	if err != nil {
		return nil, err
	}
	entry, err := s.one(l, name)
	if err != nil {
		return nil, err
	}
	done := &Installed{Change: Change{Kind: entry.Kind, Name: entry.Name}}
	file := done.File()
	done.Path = s.installed(file)
	former := *entry.Former
	kept := s.kept(file, former.SHA256)
	sum, err := hashOf(kept)
	if err != nil {
		return nil, err
	}
	switch sum {
	case former.SHA256:
	case "":
		return nil, fmt.Errorf("the former version of %s, %s, is not in %s any more: rivergate plugins install brings it back", entry.Name, former.SHA256, kept)
	default:
		return nil, &HashError{What: kept, Want: former.SHA256, Got: sum}
	}
	done.To = Side{SHA256: sum, Signed: exists(kept + pluginhost.SignatureSuffix), Entry: &Entry{Kind: entry.Kind, Name: entry.Name, Release: former}}
	if len(keys) > 0 {
		signer, err := keys.verifyFile(kept, kept+pluginhost.SignatureSuffix, "the former version was installed without one")
		if err != nil {
			return nil, err
		}
		done.Signer = &signer
	}

	if done.From.SHA256, err = hashOf(done.Path); err != nil {
		return nil, err
	}
	done.From.Entry = entry
	switch {
	case done.From.SHA256 == "":
	case done.From.locks(done.From.SHA256):
		now := entry.Release
		done.To.Entry.Former = &now
		if done.From.Signed, err = s.keep(file, done.From.SHA256); err != nil {
			return nil, err
		}
	default:
		// Nobody vouched for it; it is not offered for going back to.
		done.NotKept = "the file was not the one in the lock file"
		if done.From.Signed, err = s.keep(file, done.From.SHA256); err != nil {
			return nil, err
		}
	}
	if err := s.commit(&done.Change); err != nil {
		return nil, err
	}
	return done, s.settle()
}

// one finds the entry of the plugin that name means, which has a former version.
func (s *Store) one(l *LockFile, name string) (*Entry, error) {
	var found *Entry
	var kinds []string
	for i := range l.Plugins {
		if e := &l.Plugins[i]; named([]string{name}, e.Kind, e.Name) {
			found = e
			kinds = append(kinds, string(e.Kind))
		}
	}
	switch {
	case len(kinds) > 1:
		return nil, &AmbiguousError{Name: name, Kinds: kinds}
	case found == nil || found.Former == nil:
		return nil, &NoFormerError{Entry: found, Name: name, Lock: s.lock}
	}
	e := *found
	return &e, nil
}
