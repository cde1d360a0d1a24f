// Command rivergate-pusher-file appends rows to files, each exactly once, synced before they are acknowledged.
package main

import "github.com/rivergate/rivergate/sdk"

var plugin = sdk.Plugin{
	Name:    "file",
	Version: "1.0.0",
	Author:  "Rivergate",
	Summary: "Appends rows to JSON Lines or CSV files, each exactly once.",
	Pusher:  func() sdk.Pusher { return new(File) },
}

func main() { sdk.Serve(plugin) }
