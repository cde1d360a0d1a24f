// Command rivergate-pusher-postgres delivers rows to a PostgreSQL table, each exactly once in effect.
package main

import "github.com/rivergate/rivergate/sdk"

var plugin = sdk.Plugin{
	Name:    "postgres",
	Version: "1.0.0",
	Author:  "Rivergate",
	Summary: "Copies rows into a PostgreSQL table, each exactly once in effect.",
	Pusher:  func() sdk.Pusher { return new(Postgres) },
}

func main() { sdk.Serve(plugin) }
