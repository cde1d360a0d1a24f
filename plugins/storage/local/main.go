// Command rivergate-storage-local keeps objects as files in folders of this machine.
package main

import "github.com/rivergate/rivergate/sdk"

var plugin = sdk.Plugin{
	Name:    "local",
	Version: version,
	Author:  "Rivergate",
	Summary: "Keeps objects as files in folders of this machine, one per tier.",
	Storage: func() sdk.Storage { return new(Local) },
}

const version = "1.0.0"

func main() { sdk.Serve(plugin) }
