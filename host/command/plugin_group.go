package command

import "github.com/spf13/cobra"

// pluginCommand holds what the author of a plugin needs; plugins is the operator's.
func (c *cli) pluginCommand() *cobra.Command {
	return group("plugin", "Try a plugin",
		"For authors of plugins: try a binary by hand.\n\n"+exitCodesHelp,
		c.pluginRunCommand())
}
