package command

import (
	"errors"
	"fmt"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/rivergate/rivergate/sdk/settings"
	"github.com/rivergate/rivergate/services/gateway"
)

func (c *cli) reloadCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "reload [NAME]",
		Short: "Let a running host read its configuration again",
		Long: `Let a running host read its configuration again, as SIGHUP does. The environment of a process cannot change, so what
changes is the env file (RIVERGATE_ENV_FILE, --env-file) and the files in the plugin folder. Only instances whose
configuration changed are touched, and the answer lists them; with a mistake in it nothing changes.

With NAME, only that instance gets a new process, of the binary that is on disk now.

` + exitCodesHelp,
		Example: "  rivergate reload\n  rivergate reload postgres\n  rivergate reload --json | jq .failed",
		Args:    cobra.MaximumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			if len(args) == 1 {
				return c.reloadOne(cmd, args[0])
			}
			return c.reloadAll(cmd)
		},
	}
	c.clientFlags(cmd)
	return cmd
}

func (c *cli) reloadOne(cmd *cobra.Command, name string) error {
	host, err := c.client()
	if err != nil {
		return err
	}
	var answer gateway.Reloaded
	if _, err := host.call(cmd.Context(), http.MethodPost, pluginsPath+"/"+url.PathEscape(name)+"/reload", nil, nil, &answer); err != nil {
		return err
	}
	if c.json {
		return c.printJSON(answer)
	}
	fmt.Fprintf(c.Stdout, "%s runs version %s as process %d.\n", name, answer.Plugin.Version, answer.Plugin.PID)
	return nil
}

func (c *cli) reloadAll(cmd *cobra.Command) error {
	host, err := c.client()
	if err != nil {
		return err
	}
	var r gateway.Reloading
	_, err = host.call(cmd.Context(), http.MethodPost, pluginsPath+"/reload", nil, nil, &r)
	var refused *apiError
	if errors.As(err, &refused) && refused.Status == http.StatusUnprocessableEntity {
		return c.refusedConfiguration(refused)
	}
	if err != nil {
		return err
	}
	if c.json {
		err = c.printJSON(r)
	} else {
		c.printReloading(&r)
	}
	if err == nil && len(r.Failed) > 0 {
		err = &exitError{code: exitFailed}
	}
	return err
}

// refusedConfiguration prints every problem that the host found.
func (c *cli) refusedConfiguration(refused *apiError) error {
	if c.json {
		if err := c.printJSON(map[string]any{"problems": notNil(refused.Details.Errors)}); err != nil {
			return err
		}
		return &exitError{code: exitMistake}
	}
	problems := make([]settings.Problem, len(refused.Details.Errors))
	for i, e := range refused.Details.Errors {
		problems[i] = settings.Problem{Variable: e.Field, Reason: e.Reason}
	}
	printProblems(c.Stderr, "rivergate: nothing was changed, "+some(int64(len(problems)), "problem")+" with the configuration:", problems)
	return &exitError{code: exitMistake}
}

func (c *cli) printReloading(r *gateway.Reloading) {
	touched := false
	for _, list := range []struct {
		what  string
		names []string
	}{
		{"started", r.Started}, {"stopped", r.Stopped}, {"new process", r.Replaced}, {"changed", r.Changed}, {"unchanged", r.Unchanged},
	} {
		if len(list.names) > 0 {
			touched = touched || list.what != "unchanged"
			fmt.Fprintf(c.Stdout, "%-13s %s\n", list.what, strings.Join(list.names, ", "))
		}
	}
	for _, name := range slices.Sorted(maps.Keys(r.Failed)) {
		fmt.Fprintf(c.Stdout, "%-13s %s: %s\n", "failed", name, r.Failed[name])
	}
	if len(r.NeedsRestart) > 0 {
		fmt.Fprintf(c.Stdout, "%-13s %s\n", "after restart", strings.Join(r.NeedsRestart, ", "))
	}
	if !touched && len(r.Failed) == 0 {
		fmt.Fprintln(c.Stdout, "Nothing has changed for any instance.")
	}
	warnings := make([]settings.Problem, len(r.Warnings))
	for i, w := range r.Warnings {
		warnings[i] = settings.Problem(w)
	}
	printProblems(c.Stderr, "Warnings:", warnings)
}
