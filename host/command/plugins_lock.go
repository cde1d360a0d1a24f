package command

import (
	"context"
	"fmt"
	"slices"

	"github.com/spf13/cobra"

	"github.com/rivergate/rivergate/host/pluginstore"
)

func (c *cli) lockCommand() *cobra.Command {
	o := pluginstore.LockOptions{}
	cmd := &cobra.Command{
		Use:   "lock [NAME…]",
		Short: "Record the plugins of the plugin folder in the lock file",
		Long: `Write name, version, SHA-256 and source of the plugins in RIVERGATE_PLUGIN_DIR to the lock file (RIVERGATE_PLUGIN_LOCK, by
default plugins.lock in that folder), and print what changed. Each plugin that is new there is started for a moment and
asked for its version; where RIVERGATE_PLUGIN_KEYS is set, only with a valid signature. Keep the file with your
configuration: whatever RIVERGATE_PLUGIN_POLICY says, a plugin that it names runs with that hash only.

` + exitCodesHelp,
		Example: `  rivergate plugins lock                 record all of them
  rivergate plugins lock acme            only this one
  rivergate plugins lock --check         do folder and lock file agree? (for CI; exit code 1: no)
  rivergate plugins lock --prune         forget those whose binary is gone`,
		RunE: func(cmd *cobra.Command, names []string) error {
			if o.Check && o.Prune {
				return mistake("--check changes nothing, so --prune does not go with it")
			}
			o.Names = names
			return c.lockPlugins(cmd.Context(), o)
		},
	}
	cmd.Flags().BoolVar(&o.Check, "check", false, "change nothing; exit with 1 when folder and lock file differ")
	cmd.Flags().BoolVar(&o.Prune, "prune", false, "remove entries of plugins that are not in the folder")
	return cmd
}

// tones of what can happen to an entry.
var lockTones = map[string]tone{
	pluginstore.Added: good, pluginstore.Changed: doubtful, pluginstore.Missing: doubtful, pluginstore.Removed: doubtful, pluginstore.Refused: bad,
}

func (c *cli) lockPlugins(ctx context.Context, o pluginstore.LockOptions) error {
	cfg, store, keys, err := c.store()
	if err != nil {
		return err
	}
	o.Keys, o.Introduce = keys, c.introducer(cfg)
	list, err := store.Lock(ctx, o)
	if err != nil {
		return err
	}
	differs := slices.ContainsFunc(list, func(p pluginstore.Locked) bool { return p.What != pluginstore.Unchanged })
	failed := slices.ContainsFunc(list, func(p pluginstore.Locked) bool { return p.What == pluginstore.Refused })
	if c.json {
		err = c.printJSON(map[string]any{"lock": store.LockPath(), "differs": differs, "plugins": notNil(list)})
	} else {
		c.printLocked(store, list, o.Check, differs)
	}
	if err == nil && (failed || o.Check && differs) {
		err = &exitError{code: exitFailed}
	}
	return err
}

func (c *cli) printLocked(store *pluginstore.Store, list []pluginstore.Locked, check, differs bool) {
	if !differs {
		fmt.Fprintf(c.Stdout, "%s is up to date: %s.\n", store.LockPath(), some(int64(len(list)), "plugin"))
		return
	}
	var rows [][]cell
	for _, p := range list {
		if p.What == pluginstore.Unchanged {
			continue
		}
		was := ""
		if p.Was != nil {
			was = release(*p.Was)
		}
		rows = append(rows, []cell{
			text(p.Name), text(string(p.Kind)), {text: p.What, tone: lockTones[p.What]}, text(p.Version), text(short(p.SHA256, 13)), text(was), text(p.Problem),
		})
	}
	c.table([]string{"NAME", "KIND", "CHANGE", "VERSION", "SHA256", "WAS", "PROBLEM"}, rows)
	if check {
		fmt.Fprintf(c.Stdout, "\nThe plugin folder and %s differ. rivergate plugins lock records the folder as it is.\n", store.LockPath())
	}
}

// release is a version with the beginning of its hash, for people.
func release(r pluginstore.Release) string {
	if r.Version == "" {
		return short(r.SHA256, 13)
	}
	return r.Version + " " + short(r.SHA256, 13)
}
