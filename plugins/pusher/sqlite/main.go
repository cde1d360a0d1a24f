// Command rivergate-pusher-sqlite inserts rows into a table of an SQLite file, each exactly once.
package main

import "github.com/rivergate/rivergate/sdk"

var plugin = sdk.Plugin{
	Name:    "sqlite",
	Version: "1.0.0",
	Author:  "Rivergate",
	Summary: "Inserts rows into a table of an SQLite file, each exactly once.",
	Pusher:  func() sdk.Pusher { return new(SQLite) },
}

func main() { sdk.Serve(plugin) }
