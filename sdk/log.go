package sdk

import "github.com/hashicorp/go-hclog"

// Logger is the structured logger of a plugin. What it writes reaches the host's log under the plugin's name, whatever
// its length.
type Logger = hclog.Logger
