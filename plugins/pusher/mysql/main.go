// Command rivergate-pusher-mysql inserts rows into a table of MariaDB or MySQL, each exactly once in effect.
package main

import "github.com/rivergate/rivergate/sdk"

var plugin = sdk.Plugin{
	Name:    "mysql",
	Version: "1.0.0",
	Author:  "Rivergate",
	Summary: "Inserts rows into a table of MariaDB or MySQL, each exactly once in effect.",
	Pusher:  func() sdk.Pusher { return new(MySQL) },
}

func main() { sdk.Serve(plugin) }
