package command

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"

	"github.com/hashicorp/go-hclog"

	"github.com/rivergate/rivergate/host/config"
	"github.com/rivergate/rivergate/host/pluginhost"
	"github.com/rivergate/rivergate/host/pluginstore"
	"github.com/rivergate/rivergate/sdk/protocol"
)

// scratchVerifier is what a plugin host asks before each start, for commands that start plugins although the configuration
// may be broken: what that says about trust counts all the same, and when it is broken itself nothing is started.
func (c *cli) scratchVerifier(ctx context.Context, cfg *config.Config) pluginstore.Verify {
	if wrong := config.EnvFile(c.Environ); len(wrong) > 0 {
		return func(context.Context, pluginhost.Binary) (pluginhost.Trust, error) {
			return "", fmt.Errorf("what the env file says of policy and keys is not known: %s", wrong[0].Reason)
		}
	}
	verify, err := pluginstore.Verifier(ctx, cfg.PluginDir, cfg.LockFile(), cfg.Policy(), cfg.PluginKeys, nil)
	if err != nil {
		return func(context.Context, pluginhost.Binary) (pluginhost.Trust, error) { return "", err }
	}
	return verify
}

// store opens the plugin folder with its lock file and the trusted keys. Problems of the configuration that have nothing to
// do with them do not matter here.
func (c *cli) store() (*config.Config, *pluginstore.Store, pluginstore.Keys, error) {
	cfg, problems := config.Load(c.Environ)
	// Where the host's part or the env file cannot be read, neither policy nor keys are known.
	if cfg.Listen == "" || len(config.EnvFile(c.Environ)) > 0 {
		return nil, nil, nil, c.refuse(problems, nil)
	}
	keys, err := pluginstore.ParseKeys(cfg.PluginKeys)
	if err != nil {
		return nil, nil, nil, mistake("RIVERGATE_PLUGIN_KEYS: %w", err)
	}
	store, err := pluginstore.Open(cfg.PluginDir, cfg.PluginLock)
	return cfg, store, keys, err
}

// introducer lists the plugins of any folder, and starts those that are wanted for a moment.
func (c *cli) introducer(cfg *config.Config) pluginstore.Introducer {
	return func(ctx context.Context, dir string, verify pluginstore.Verify, want func(pluginhost.Found) bool) (found []pluginhost.Found, err error) {
		run, err := os.MkdirTemp("", "rivergate-")
		if err != nil {
			return nil, fmt.Errorf("make a folder for the plugins: %w", err)
		}
		defer func() { err = errors.Join(err, os.RemoveAll(run)) }()
		host, err := pluginhost.New(pluginhost.Options{
			Dir: dir, RunDir: run, MTLS: cfg.PluginMTLS, HostVersion: c.build().Version, Log: hclog.NewNullLogger(), Verify: verify,
			Triggers: true, // it is only asked what it is
		})
		if err != nil {
			return nil, err
		}
		defer func() { err = errors.Join(err, host.Stop(context.WithoutCancel(ctx))) }()
		if found, err = host.Discover(); err != nil {
			return nil, err
		}
		var picked []pluginhost.Found
		var places []int
		for i, f := range found {
			if f.Problem == "" && want(f) {
				f.Pin = pinned(cfg, f)
				picked, places = append(picked, f), append(places, i)
			}
		}
		if len(picked) > 0 {
			err = host.Introduce(ctx, picked)
		}
		for i, place := range places {
			found[place] = picked[i]
		}
		return found, errors.Join(err, ctx.Err())
	}
}

// pinned is the hash of a binary when an instance pins it: what nobody pinned is not started under the policy pinned, not even to
// be asked for its version.
func pinned(cfg *config.Config, f pluginhost.Found) string {
	for i := range cfg.Instances {
		if in := &cfg.Instances[i]; f.Kind == protocol.KindPusher && in.Plugin() == f.Name && strings.EqualFold(in.SHA256, f.SHA256) {
			return f.SHA256
		}
	}
	if b := cfg.Backend; b != nil && f.Kind == protocol.KindStorage && b.Name == f.Name && strings.EqualFold(b.SHA256, f.SHA256) {
		return f.SHA256
	}
	return ""
}
