package main

import (
	"context"
	"errors"
	"maps"
	"os"
	"path/filepath"
	"time"

	"github.com/rivergate/rivergate/host/e2e/rig"
)

// options describe a host with a data folder of its own below the scratch folder.
func (b *bench) options(env map[string]string) (rig.Options, error) {
	dir, err := os.MkdirTemp(b.dir, "h")
	if err != nil {
		return rig.Options{}, err
	}
	all := map[string]string{
		"RIVERGATE_JOURNAL_MAX_BYTES": "40GiB", // the cap is not what is measured
		"RIVERGATE_LOG_LEVEL":         "info",
	}
	maps.Copy(all, env)
	return rig.Options{DataDir: filepath.Join(dir, "data"), Log: filepath.Join(dir, "host.log"), Env: all}, nil
}

// withHost runs f against a fresh host, ends the host and removes its data.
func (b *bench) withHost(ctx context.Context, env map[string]string, f func(*rig.Host) error) error {
	dir, err := b.onHost(ctx, env, f)
	return errors.Join(err, os.RemoveAll(dir))
}

// onHost is withHost that leaves the data in dir.
func (b *bench) onHost(ctx context.Context, env map[string]string, f func(*rig.Host) error) (dir string, err error) {
	o, err := b.options(env)
	if err != nil {
		return "", err
	}
	dir = filepath.Dir(o.DataDir)
	h, err := b.Start(ctx, o)
	if err != nil {
		return dir, err
	}
	defer end(h)
	return dir, f(h)
}

// end stops a host in good order, so that its plugins are gone before the data is removed; a deaf one is killed.
func end(h *rig.Host) {
	h.Forget()
	_, _ = h.Terminate(20 * time.Second) // already gone, or killed: both are an end
	h.KillGroup()
}

var hold = map[string]string{"RIVERGATE_GATEWAY_HOLD": "true"}
