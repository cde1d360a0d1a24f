package command

import "github.com/spf13/cobra"

// pluginCommand holds what the author of a plugin needs; plugins is the operator's.
func (c *cli) pluginCommand() *cobra.Command {
	return group("plugin", "Write and try a plugin",
		"For authors of plugins: write the repository of a new one, and try a binary by hand.\n\n"+exitCodesHelp,
		c.pluginNewCommand(), c.pluginRunCommand(), c.pluginWrapPythonCommand())
}
