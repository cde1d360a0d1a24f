package command

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strings"

	"github.com/spf13/cobra"

	"github.com/rivergate/rivergate/host/pluginhost"
	"github.com/rivergate/rivergate/host/pluginstore"
	"github.com/rivergate/rivergate/sdk/protocol"
)

const pluginsPath = "/api/v1/plugins"

// hostPlugin is what the commands need of a plugin in the host's answers.
type hostPlugin struct {
	Name     string `json:"name"`
	Kind     string `json:"kind"`
	Binary   string `json:"binary"`
	Version  string `json:"version"`
	SHA256   string `json:"sha256"`
	State    string `json:"state"`
	PID      int    `json:"pid"`
	Attached string `json:"attached,omitempty"`
}

// upgraded is what upgrade prints as JSON.
type upgraded struct {
	Plugin    string           `json:"plugin"`
	Installed *installedAnswer `json:"installed,omitempty"` // when a file or an address was given
	Instances []hostPlugin     `json:"instances"`           // as they run now
	// Reverted: an instance did not take the new version, so the former one is back in the folder, the lock file and every
	// instance. Error says why.
	Reverted bool   `json:"reverted,omitempty"`
	Error    string `json:"error,omitempty"`

	unsure []hostPlugin // no answer came, so that they may have changed over
}

func (c *cli) upgradeCommand() *cobra.Command {
	o := pluginstore.InstallOptions{}
	cmd := &cobra.Command{
		Use:   "upgrade NAME [FILE|URL]",
		Short: "Change a running host over to another version of a plugin, while rows flow",
		Long: `Install a version of a plugin, as rivergate plugins install does, and let the running host change over to it: the new process
is started, verified, configured and found healthy, then rows go to it, then the old one ends. No row is lost. When an
instance does not take the new version, the former binary and lock entry are put back, and the reason is told.

NAME is a plugin or an instance of it; all instances of the plugin change over. Where a pusher and a storage have the same name,
it is pusher/NAME or storage/NAME. Without a file or address they change over to
what lies in the plugin folder. The command runs on the host's machine, with its variables.

` + exitCodesHelp,
		Example: `  rivergate plugins upgrade acme ./rivergate-pusher-acme
  rivergate plugins upgrade acme https://example.com/2.1.0/rivergate-pusher-acme --sha256 9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08
  rivergate plugins rollback acme && rivergate plugins upgrade acme`,
		Args: cobra.RangeArgs(1, 2),
		RunE: func(cmd *cobra.Command, args []string) error {
			if len(args) == 2 {
				o.Source = args[1]
			} else if o.SHA256+o.Signature+o.Name != "" {
				return mistake("--sha256, --signature and --name are for the file or address of the new version, and none is given")
			}
			return c.upgrade(cmd.Context(), args[0], o)
		},
	}
	installFlags(cmd, &o)
	return cmd
}

func (c *cli) upgrade(ctx context.Context, name string, o pluginstore.InstallOptions) error {
	host, err := c.client()
	if err != nil {
		return err
	}
	kind, plugin, instances, err := runningInstances(ctx, host, name)
	if err != nil {
		return err
	}
	if o.Name != "" && o.Name != plugin {
		return mistake("--name is %s, and %s is to be upgraded", o.Name, plugin)
	}
	u := &upgraded{Plugin: plugin}
	var store *pluginstore.Store
	var done *pluginstore.Installed
	if o.Source != "" {
		o.Kind, o.Expect, o.KeepAll = kind, plugin, true
		if _, store, done, err = c.doInstall(ctx, o); err != nil {
			return err
		}
		answer := installedJSON(store, done)
		u.Installed = &answer
	}

	failed := changeOver(ctx, host, instances, done, u)
	// What was begun is brought to an end, also when the command is interrupted.
	after := context.WithoutCancel(ctx)
	if failed != nil {
		u.Error = failed.Error()
		if done != nil {
			failed = putBack(after, host, store, done, u, failed)
		}
	} else if store != nil {
		if err := store.Settle(after); err != nil {
			return err
		}
	}
	if c.json {
		if err := c.printJSON(u); err != nil {
			return err
		}
		if failed != nil {
			return &exitError{code: exitFailed}
		}
		return nil
	}
	if failed != nil {
		return failed
	}
	if done != nil {
		c.printInstalled(store, done, "installed")
	}
	for _, p := range u.Instances {
		fmt.Fprintf(c.Stdout, "%s runs version %s (process %d, sha256 %s)\n", p.Name, p.Version, p.PID, short(p.SHA256, 13))
	}
	return nil
}

// runningInstances asks the host which plugin a name means, and which instances it has.
func runningInstances(ctx context.Context, host *client, name string) (kind protocol.Kind, plugin string, instances []hostPlugin, err error) {
	var answer struct {
		Plugins []hostPlugin `json:"plugins"`
	}
	if _, err := host.call(ctx, http.MethodGet, pluginsPath, nil, nil, &answer); err != nil {
		return "", "", nil, err
	}
	kind, plugin = meant(answer.Plugins, name)
	attached := ""
	for _, p := range answer.Plugins {
		switch {
		case p.Binary != pluginhost.BinaryName(kind, plugin) || p.State == "disabled":
		case p.Attached != "":
			attached = p.Name
		default:
			instances = append(instances, p)
		}
	}
	switch {
	case len(instances) > 0:
		return kind, plugin, instances, nil
	case attached != "":
		err = fmt.Errorf("%s is attached to a process that the host did not start, so there is nothing to exchange", attached)
	default:
		err = &exitError{
			code: exitFailed, err: fmt.Errorf("the host at %s runs no instance of a plugin %s; nothing was changed", host.shown(), plugin),
			hint: "rivergate plugins install installs a plugin that does not run yet.",
		}
	}
	return "", "", nil, err
}

// meant is the plugin that a name stands for: acme, pusher/acme, storage/acme, or one of their instances. A name that stands for nothing
// is taken for that of a pusher.
func meant(running []hostPlugin, name string) (protocol.Kind, string) {
	kinds := []protocol.Kind{protocol.KindPusher, protocol.KindStorage}
	for _, kind := range kinds {
		if bare, ok := strings.CutPrefix(name, string(kind)+"/"); ok {
			name, kinds = bare, []protocol.Kind{kind}
		}
	}
	for _, kind := range kinds {
		for _, p := range running {
			plugin, ok := strings.CutPrefix(p.Binary, pluginhost.BinaryName(kind, ""))
			if ok && (p.Name == name || p.Name == pluginhost.InstanceName(kind, name)) {
				return kind, plugin
			}
		}
	}
	for _, kind := range kinds {
		for _, p := range running {
			if p.Binary == pluginhost.BinaryName(kind, name) {
				return kind, name
			}
		}
	}
	return kinds[0], name
}

// changeOver reloads one instance after the other until one fails. What runs anew is added to u.
func changeOver(ctx context.Context, host *client, instances []hostPlugin, done *pluginstore.Installed, u *upgraded) error {
	for _, p := range instances {
		now, err := reload(ctx, host, p.Name)
		if err != nil {
			if refused := (*apiError)(nil); !errors.As(err, &refused) {
				u.unsure = append(u.unsure, p)
			}
			return fmt.Errorf("%s did not change over: %w", p.Name, err)
		}
		u.Instances = append(u.Instances, *now)
		if done != nil && now.SHA256 != done.To.SHA256 {
			return fmt.Errorf("%s runs other bytes (sha256 %s) than those that were installed in %s: does the host have another RIVERGATE_PLUGIN_DIR?",
				p.Name, short(now.SHA256, 13), done.Path)
		}
	}
	return nil
}

func reload(ctx context.Context, host *client, name string) (*hostPlugin, error) {
	var answer struct {
		Plugin hostPlugin `json:"plugin"`
	}
	if _, err := host.call(ctx, http.MethodPost, pluginsPath+"/"+url.PathEscape(name)+"/reload", nil, nil, &answer); err != nil {
		return nil, err
	}
	return &answer.Plugin, nil
}

// putBack undoes an upgrade that failed: the files first, then the instances that had changed over.
func putBack(ctx context.Context, host *client, store *pluginstore.Store, done *pluginstore.Installed, u *upgraded, failed error) error {
	if err := store.Revert(ctx, done); err != nil {
		return &exitError{
			code: exitFailed, err: fmt.Errorf("%w; and the former version could not be put back: %w", failed, err),
			hint: "rivergate plugins shows what is there.",
		}
	}
	u.Reverted = true
	changed := append(u.Instances, u.unsure...)
	u.Instances = nil
	for _, p := range changed {
		if now, err := reload(ctx, host, p.Name); err != nil {
			failed = errors.Join(failed, fmt.Errorf("%s did not go back: %w", p.Name, err))
		} else {
			u.Instances = append(u.Instances, *now)
		}
	}
	back := "there was none before"
	if e := done.From.Entry; e != nil {
		back = release(e.Release) + " is back"
	} else if done.From.SHA256 != "" {
		back = short(done.From.SHA256, 13) + " is back"
	}
	return &exitError{code: exitFailed, err: failed, hint: fmt.Sprintf("In the plugin folder and the lock file %s %s.", done.Name, back)}
}
