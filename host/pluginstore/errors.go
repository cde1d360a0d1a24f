package pluginstore

import (
	"fmt"
)

// DiffersError: the binary is not the one that the lock file names.
type DiffersError struct {
	Path   string
	SHA256 string
	Lock   string
	Entry  Entry
}

func (e *DiffersError) Error() string {
	version := ""
	if e.Entry.Version != "" {
		version = " for version " + e.Entry.Version
	}
	text := fmt.Sprintf("%s has the SHA-256 %s, but %s says %s%s: if this change is meant, rivergate plugins lock %s accepts it; if not, ",
		e.Path, e.SHA256, e.Lock, e.Entry.SHA256, version, e.Entry.Name)
	return text + "install the right one again with rivergate plugins install"
}

// UnlockedError: the policy asks for the lock file, and the binary is not in it.
type UnlockedError struct {
	Path, Plugin, SHA256 string
	Lock                 string
	NoLock               bool // there is no lock file at all
	Policy               string
}

func (e *UnlockedError) Error() string {
	why := "it is not in the lock file " + e.Lock
	if e.NoLock {
		why = "there is no lock file " + e.Lock
	}
	text := fmt.Sprintf("%s (SHA-256 %s): %s, and RIVERGATE_PLUGIN_POLICY is %s: rivergate plugins lock %s records it", e.Path, e.SHA256, why, e.Policy, e.Plugin)
	if e.Policy == PolicyPinned {
		text += ", or PLUGIN_<NAME>_SHA256 pins it"
	}
	return text
}

// HashError: a file is not the one that was asked for.
type HashError struct {
	What      string
	Want, Got string
}

func (e *HashError) Error() string {
	return fmt.Sprintf("%s has the SHA-256 %s, and %s was asked for: it is damaged, or another file", e.What, e.Got, e.Want)
}

// NoFormerError: there is nothing to go back to.
type NoFormerError struct {
	Entry *Entry // nil: the lock file does not know the plugin
	Name  string
	Lock  string
}

func (e *NoFormerError) Error() string {
	if e.Entry == nil {
		return fmt.Sprintf("%s is not in the lock file %s, so no former version is known", e.Name, e.Lock)
	}
	return fmt.Sprintf("no former version of %s is kept: rivergate plugins install keeps the one that it replaces", e.Name)
}

// AmbiguousError: plugins of several kinds have the name.
type AmbiguousError struct {
	Name  string
	Kinds []string
}

func (e *AmbiguousError) Error() string {
	return fmt.Sprintf("several plugins are called %s: say %s/%s", e.Name, e.Kinds[0], e.Name)
}
