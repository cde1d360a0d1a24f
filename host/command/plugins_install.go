package command

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"github.com/rivergate/rivergate/host/pluginstore"
	"github.com/rivergate/rivergate/sdk/protocol"
)

// installFlags are those of install, which upgrade takes too.
func installFlags(cmd *cobra.Command, o *pluginstore.InstallOptions) {
	cmd.Flags().StringVar(&o.SHA256, "sha256", "", "SHA-256 that the file must have; an address needs it unless RIVERGATE_PLUGIN_KEYS is set")
	cmd.Flags().StringVar(&o.Signature, "signature", "", "file or address of the signature (default: that of the plugin with .minisig)")
	cmd.Flags().StringVar(&o.Name, "name", "", "name to install it under (default: what the plugin calls itself)")
}

func (c *cli) installCommand() *cobra.Command {
	o := pluginstore.InstallOptions{}
	cmd := &cobra.Command{
		Use:   "install FILE|URL",
		Short: "Verify a plugin and put it into the plugin folder and the lock file",
		Long: `Fetch a plugin from a file or an https address, verify its hash and, where RIVERGATE_PLUGIN_KEYS is set, its signature,
start it for a moment so that it says who it is, and put it into RIVERGATE_PLUGIN_DIR and the lock file, a pusher as
rivergate-pusher-NAME, a storage as rivergate-storage-NAME. The version that it replaces is kept for rivergate plugins rollback. A kill at any moment leaves the old state or the new one.

A host that runs goes on with what it runs, until rivergate plugins upgrade or a restart of the plugin.

` + exitCodesHelp,
		Example: `  rivergate plugins install ./rivergate-pusher-acme
  rivergate plugins install https://example.com/rivergate-pusher-acme --sha256 9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08
  RIVERGATE_PLUGIN_KEYS=acme.pub rivergate plugins install https://example.com/rivergate-pusher-acme`,
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			o.Source = args[0]
			return c.install(cmd.Context(), o)
		},
	}
	installFlags(cmd, &o)
	return cmd
}

func (c *cli) install(ctx context.Context, o pluginstore.InstallOptions) error {
	_, store, done, err := c.doInstall(ctx, o)
	if err != nil {
		return err
	}
	if c.json {
		return c.printJSON(installedJSON(store, done))
	}
	c.printInstalled(store, done, "installed")
	return nil
}

// doInstall installs with what the configuration says.
func (c *cli) doInstall(ctx context.Context, o pluginstore.InstallOptions) (pluginstore.Keys, *pluginstore.Store, *pluginstore.Installed, error) {
	cfg, store, keys, err := c.store()
	if err != nil {
		return nil, nil, nil, err
	}
	o.Keys, o.Introduce, o.HTTP = keys, c.introducer(cfg), c.HTTP
	line := newProgress(c.Stderr, 0)
	o.Progress = func(read, total int64) {
		now := time.Now()
		if !line.terminal || now.Sub(line.drawn) < redraw {
			return
		}
		line.drawn = now
		if total > 0 {
			line.draw(fmt.Sprintf("%3d %%  %s of %s", read*100/total, size(read), size(total)))
		} else {
			line.draw(size(read))
		}
	}
	done, err := store.Install(ctx, o)
	line.end()
	var noHash *pluginstore.NoHashError
	if errors.As(err, &noHash) {
		err = &exitError{code: exitMistake, err: err}
	}
	return keys, store, done, err
}

// installedAnswer is what install, rollback and upgrade print as JSON.
type installedAnswer struct {
	Kind      string               `json:"kind"`
	Name      string               `json:"name"`
	Version   string               `json:"version"`
	SHA256    string               `json:"sha256"`
	Source    string               `json:"source"`
	Path      string               `json:"path"`
	Lock      string               `json:"lock"`
	Signer    *pluginstore.Signer  `json:"signer,omitempty"`
	Former    *pluginstore.Release `json:"former,omitempty"`
	NotKept   string               `json:"not_kept,omitempty"`
	Unchanged bool                 `json:"unchanged,omitempty"`
}

func installedJSON(store *pluginstore.Store, done *pluginstore.Installed) installedAnswer {
	e := done.To.Entry
	return installedAnswer{
		Kind: string(done.Kind), Name: done.Name, Version: e.Version, SHA256: e.SHA256, Source: e.Source, Path: done.Path, Lock: store.LockPath(),
		Signer: done.Signer, Former: e.Former, NotKept: done.NotKept, Unchanged: done.Unchanged,
	}
}

func (c *cli) printInstalled(store *pluginstore.Store, done *pluginstore.Installed, what string) {
	e := done.To.Entry
	if done.Unchanged {
		what = "was there already"
	}
	name := done.Name
	if done.Kind != protocol.KindPusher {
		name = string(done.Kind) + "/" + name
	}
	fmt.Fprintf(c.Stdout, "%s %s %s: %s\n  sha256  %s, in %s\n", name, e.Version, what, done.Path, e.SHA256, store.LockPath())
	if done.Signer != nil {
		fmt.Fprintf(c.Stdout, "  signed  by key %s: %s\n", done.Signer.Key, done.Signer.Comment)
	}
	switch {
	case e.Former != nil:
		fmt.Fprintf(c.Stdout, "  former  %s is kept: rivergate plugins rollback %s\n", release(*e.Former), name)
	case done.NotKept != "":
		fmt.Fprintf(c.Stdout, "  former  not kept: %s\n", done.NotKept)
	}
}

func (c *cli) rollbackCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "rollback NAME",
		Short: "Go back to the version of a plugin that the last install replaced",
		Long: `Put the former binary of a plugin back, with its signature and its entry in the lock file. What is there now is kept in
its place: a second rollback returns to it. A host that runs changes over with rivergate plugins upgrade NAME.

` + exitCodesHelp,
		Example: "  rivergate plugins rollback acme && rivergate plugins upgrade acme",
		Args:    cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			_, store, keys, err := c.store()
			if err != nil {
				return err
			}
			done, err := store.Rollback(cmd.Context(), args[0], keys)
			if err != nil {
				return err
			}
			if c.json {
				return c.printJSON(installedJSON(store, done))
			}
			c.printInstalled(store, done, "is back")
			return nil
		},
	}
}
