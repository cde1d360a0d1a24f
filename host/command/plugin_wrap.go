package command

import (
	"context"
	"errors"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/rivergate/rivergate/host/scaffold"
)

func (c *cli) pluginWrapPythonCommand() *cobra.Command {
	var w scaffold.Wrapping
	var sdk string
	cmd := &cobra.Command{
		Use:   "wrap-python FOLDER",
		Short: "Make a plugin of a pusher that ran inside the former gateway",
		Long: `Make a plugin file of a folder with pusher.py, whose class Pusher is made with a logger and has a method push(uuid, rows). The
code runs unchanged, in a thread, so it may block; what it prints goes to the host's log; an exception means that the rows of
that request are sent again. Its rows have .index and .data, and are dicts with the same. A requirements.txt in the folder is
built in.

The variables under the plugin's prefix that the code reads (PLUGIN_RIFFYN_API_KEY) become settings of the same names: set
them as before. Any other variable is handed on when PLUGIN_<NAME>_PASS_ENV names it.

` + exitCodesHelp,
		Example: `  rivergate plugin wrap-python path/to/plugins/riffyn
  rivergate plugin wrap-python path/to/plugins/lims --include path/to/shared.py --variable PLUGIN_LIMS_URL`,
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			w.Folder = args[0]
			return c.pluginWrapPython(cmd.Context(), w, sdk)
		},
	}
	cmd.Flags().StringVar(&w.Name, "name", "", "name of the plugin (default: the folder's)")
	cmd.Flags().StringVar(&w.Output, "output", "", "file to write (default bin/plugins/rivergate-pusher-NAME)")
	cmd.Flags().StringVar(&w.Version, "plugin-version", "0.1.0", "version of the plugin")
	cmd.Flags().StringArrayVar(&w.Variables, "variable", nil, "a variable that the code reads, and whose name does not stand in it; again for more")
	cmd.Flags().StringArrayVar(&w.Include, "include", nil, "a module, package or folder outside the folder that the code imports; again for more")
	cmd.Flags().StringVar(&sdk, "sdk", "", "version of the SDK, or folder of a source checkout (default: what this binary was built from)")
	return cmd
}

func (c *cli) pluginWrapPython(ctx context.Context, w scaffold.Wrapping, sdk string) error {
	var err error
	var wrapped *scaffold.Wrapped
	if w.SDK, err = scaffold.FindSDK(sdk, c.build().Version, places()...); err == nil {
		wrapped, err = scaffold.Wrap(ctx, w)
	}
	var refused *scaffold.Mistake
	var step *scaffold.StepError
	switch {
	case errors.As(err, &refused):
		return mistake("%w", err)
	case errors.As(err, &step):
		fmt.Fprintf(c.Stderr, "%s\n", step.Output)
		return &exitError{code: exitFailed, err: fmt.Errorf("the plugin could not be made: %w", err)}
	case err != nil:
		return &exitError{code: exitFailed, err: err}
	}
	if c.json {
		return c.printJSON(wrapped)
	}
	fmt.Fprintf(c.Stdout, "%s\nWhat it needs: %s --help. To hold it against the contract, with a destination that may get test rows:\n  rivergate conformance %s --config KEY=VALUE\n",
		wrapped.Said, wrapped.Output, wrapped.Output)
	return nil
}
