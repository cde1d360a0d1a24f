package main

import (
	"context"
	"errors"
	"fmt"
	"path"
	"path/filepath"
	"syscall"

	"github.com/rivergate/rivergate/sdk"
)

// Local keeps each object in a file: written beside its place, synced, and renamed into it. An object lies in the folder of one
// tier; while it moves, or after a crash in the middle of that, in two, and then the hotter one counts.
type Local struct {
	Path     string `config:"path" default:"data/objects" doc:"Folder of the objects. A relative path starts in the folder in which the host was started; the host fills it with the objects folder of RIVERGATE_DATA_DIR." example:"/srv/rivergate/objects"`
	WarmPath string `config:"warm_path" doc:"Folder of the tier warm, perhaps on a cheaper disk; by default warm in PATH."`
	ColdPath string `config:"cold_path" doc:"Folder of the tier cold; by default cold in PATH."`

	log     sdk.Logger
	tiers   []*tier // the hottest first
	keys    *locks
	uploads *locks
}

// Open makes the folders and clears away what killed processes left in them. Another process may be at work there: during an
// upgrade it is.
func (l *Local) Open(_ context.Context, env sdk.Env) error {
	l.log = env.Log
	for _, t := range []struct {
		tier        sdk.Tier
		field, path string
	}{
		{sdk.TierHot, "path", filepath.Join(l.Path, "hot")},
		{sdk.TierWarm, "warm_path", or(l.WarmPath, filepath.Join(l.Path, "warm"))},
		{sdk.TierCold, "cold_path", or(l.ColdPath, filepath.Join(l.Path, "cold"))},
	} {
		opened, err := openTier(t.tier, t.path)
		if err != nil {
			return sdk.FieldError(t.field, errors.Join(fmt.Errorf("%s: %w", t.path, err), l.release()))
		}
		for _, before := range l.tiers {
			if before.same(opened) {
				err := fmt.Errorf("%s is the folder of the tier %s too: each tier needs one of its own", t.path, before.tier)
				return sdk.FieldError(t.field, errors.Join(err, opened.close(), l.release()))
			}
		}
		l.tiers = append(l.tiers, opened)
	}
	var err error
	if l.keys, err = openLocks(l.tiers[0].root, lockFolder); err == nil {
		l.uploads, err = openLocks(l.tiers[0].root, path.Join(lockFolder, "uploads"))
	}
	if err != nil {
		return sdk.FieldError("path", errors.Join(err, l.release()))
	}
	for _, t := range l.tiers {
		swept, err := t.sweep()
		if err != nil {
			l.log.Warn("what a killed process left cannot be removed", "tier", t.tier, "error", err)
		}
		if swept > 0 {
			l.log.Info("removed what a killed process left", "tier", t.tier, "files", swept)
		}
	}
	return nil
}

func or(path, standard string) string {
	if path == "" {
		return standard
	}
	return path
}

// Health tells whether the folders are there and can be written.
func (l *Local) Health(context.Context) error {
	const writeAndSearch = 2 | 1 // W_OK and X_OK of access(2)
	for _, t := range l.tiers {
		if err := syscall.Access(t.path, writeAndSearch); err != nil {
			return fmt.Errorf("the folder of the tier %s, %s, cannot be written: %w", t.tier, t.path, err)
		}
	}
	return nil
}

// Close removes this process's own temporary folders.
func (l *Local) Close(context.Context) error { return l.release() }

func (l *Local) release() error {
	errs := []error{l.keys.close(), l.uploads.close()}
	for _, t := range l.tiers {
		errs = append(errs, t.close())
	}
	l.tiers, l.keys, l.uploads = nil, nil, nil
	return errors.Join(errs...)
}

// Abilities of a folder.
func (l *Local) Abilities() sdk.Abilities {
	return sdk.Abilities{Tiers: []sdk.Tier{sdk.TierHot, sdk.TierWarm, sdk.TierCold}, Local: true}
}

// tierOf finds the folder of a tier.
func (l *Local) tierOf(tier sdk.Tier) (*tier, error) {
	if tier == "" {
		tier = sdk.TierHot
	}
	for _, t := range l.tiers {
		if t.tier == tier {
			return t, nil
		}
	}
	return nil, fmt.Errorf("%w: there is no tier %s", sdk.ErrUnsupported, tier)
}
