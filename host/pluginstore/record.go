package pluginstore

import (
	"context"
	"fmt"
	"slices"

	"github.com/rivergate/rivergate/host/pluginhost"
	"github.com/rivergate/rivergate/sdk/protocol"
)

// LockOptions say what Lock does.
type LockOptions struct {
	Names     []string // plugins, as acme or pusher/acme; empty: all
	Check     bool     // change nothing, start nothing
	Prune     bool     // entries without a binary leave the lock file
	Keys      Keys     // plugins need a signature of one of them
	Introduce Introducer
}

// What Lock finds, or has done, about one plugin.
const (
	Unchanged = "unchanged" // the lock file is right
	Added     = "added"     // it is not in the lock file
	Changed   = "changed"   // the lock file has another hash
	Missing   = "missing"   // the lock file has it, the folder does not
	Removed   = "removed"   // so was its entry
	Refused   = "refused"   // it cannot be run, so it is not recorded; Problem says why
)

// Locked is what Lock says about one plugin.
type Locked struct {
	Kind    protocol.Kind `json:"kind"`
	Name    string        `json:"name"`
	What    string        `json:"what"`
	Version string        `json:"version,omitempty"`
	SHA256  string        `json:"sha256,omitempty"` // of the binary in the folder
	Was     *Release      `json:"was,omitempty"`    // in the lock file before
	Problem string        `json:"problem,omitempty"`
}

// Lock records the binaries of the plugin folder in the lock file, or, with Check, tells where the two differ. The list is
// sorted by kind and name. A plugin that cannot be run is Refused and the others are recorded.
func (s *Store) Lock(ctx context.Context, o LockOptions) ([]Locked, error) {
	if !o.Check {
		release, err := s.hold(ctx)
		if err != nil {
			return nil, err
		}
		defer release()
	}
	l, _, err := s.ReadLock()
	if err != nil {
		return nil, err
	}
	// A plugin that the lock file knows with this hash is not asked again for its version.
	want := func(f pluginhost.Found) bool {
		e := l.find(f.Kind, f.Name)
		return !o.Check && named(o.Names, f.Kind, f.Name) && (e == nil || e.SHA256 != f.SHA256)
	}
	found, err := o.Introduce(ctx, s.dir, s.verifySignature(o.Keys), want)
	if err != nil {
		return nil, err
	}
	if err := s.checkNames(o.Names, found, l); err != nil {
		return nil, err
	}

	var list []Locked
	for _, f := range found {
		if named(o.Names, f.Kind, f.Name) {
			list = append(list, record(l, f))
		}
	}
	for _, e := range slices.Clone(l.Plugins) {
		there := slices.ContainsFunc(found, func(f pluginhost.Found) bool { return f.Kind == e.Kind && f.Name == e.Name })
		if there || !named(o.Names, e.Kind, e.Name) {
			continue
		}
		gone := Locked{Kind: e.Kind, Name: e.Name, What: Missing, Version: e.Version, Was: &e.Release}
		if o.Prune && !o.Check {
			l.set(e.Kind, e.Name, nil)
			gone.What = Removed
		}
		list = append(list, gone)
	}
	slices.SortFunc(list, func(a, b Locked) int {
		return compareEntries(Entry{Kind: a.Kind, Name: a.Name}, Entry{Kind: b.Kind, Name: b.Name})
	})
	changed := slices.ContainsFunc(list, func(p Locked) bool { return p.What == Added || p.What == Changed || p.What == Removed })
	if o.Check || !changed {
		return list, nil
	}
	if err := s.writeLock(l); err != nil {
		return nil, err
	}
	return list, s.settle()
}

// record holds one binary against the lock file and notes it there.
func record(l *LockFile, f pluginhost.Found) Locked {
	p := Locked{Kind: f.Kind, Name: f.Name, Version: printable(f.Version), SHA256: f.SHA256, Problem: f.Problem, What: Added}
	e := l.find(f.Kind, f.Name)
	if e != nil {
		was := e.Release
		p.Was, p.What = &was, Changed
	}
	switch {
	case f.Problem != "":
		p.What = Refused
		return p
	case e != nil && e.SHA256 == f.SHA256:
		p.What, p.Version = Unchanged, e.Version
		return p
	}
	// What was kept for going back was the former of other bytes than these; it stays, until the next install.
	entry := Entry{Kind: f.Kind, Name: f.Name, Release: Release{Version: p.Version, SHA256: f.SHA256, Source: "local"}}
	if e != nil {
		entry.Former = e.Former
	}
	l.set(f.Kind, f.Name, &entry)
	return p
}

// named tells whether a plugin is among the names; none are all.
func named(names []string, kind protocol.Kind, plugin string) bool {
	return len(names) == 0 || slices.ContainsFunc(names, func(n string) bool {
		k, p := split(n)
		return p == plugin && (k == "" || k == string(kind))
	})
}

// checkNames refuses a name that neither the folder nor the lock file knows.
func (s *Store) checkNames(names []string, found []pluginhost.Found, l *LockFile) error {
	for _, n := range names {
		one := []string{n}
		known := slices.ContainsFunc(found, func(f pluginhost.Found) bool { return named(one, f.Kind, f.Name) }) ||
			slices.ContainsFunc(l.Plugins, func(e Entry) bool { return named(one, e.Kind, e.Name) })
		if !known {
			return &UnknownError{Name: n, Dir: s.dir, Lock: s.lock}
		}
	}
	return nil
}

// UnknownError: no plugin has the name.
type UnknownError struct{ Name, Dir, Lock string }

func (e *UnknownError) Error() string {
	return fmt.Sprintf("there is no plugin %s, neither in %s nor in %s", e.Name, e.Dir, e.Lock)
}

// State is what the lock file and the signature say about a binary of the folder, without starting it.
type State struct {
	Lock   string  `json:"lock"` // "locked", "differs", "not locked"
	Signer *Signer `json:"signer,omitempty"`
	// Problem says why the lock file or the signature does not let it run; empty when they do, or do not matter.
	Problem string `json:"problem,omitempty"`
}

// The words of State.Lock.
const (
	StateLocked   = "locked"
	StateDiffers  = "differs"
	StateUnlocked = "not locked"
)

// States judges what was found in the plugin folder. The error is that of the lock file.
func (s *Store) States(found []pluginhost.Found, keys Keys) (map[string]State, error) {
	l, _, err := s.ReadLock()
	if err != nil {
		return nil, err
	}
	states := map[string]State{}
	v := &verifier{store: s, keys: keys, signed: map[string]Signer{}}
	for _, f := range found {
		if f.SHA256 == "" {
			continue
		}
		st := State{Lock: StateUnlocked}
		if e := l.find(f.Kind, f.Name); e != nil {
			st.Lock = StateLocked
			if e.SHA256 != f.SHA256 {
				st.Lock = StateDiffers
			}
		}
		if len(keys) > 0 {
			signer, err := v.signature(pluginhost.Binary{Kind: f.Kind, Plugin: f.Name, Source: f.Path, Path: f.Path, SHA256: f.SHA256})
			if err != nil {
				st.Problem = err.Error()
			} else {
				st.Signer = &signer
			}
		}
		states[f.Path] = st
	}
	return states, nil
}
