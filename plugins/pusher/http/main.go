// Command rivergate-pusher-http posts rows to another gateway, or to anything that takes its request body.
package main

import "github.com/rivergate/rivergate/sdk"

const version = "1.0.0"

var plugin = sdk.Plugin{
	Name:    "http",
	Version: version,
	Author:  "Rivergate",
	Summary: "Posts rows as {uuid, rows}, so that one gateway can feed another.",
	Pusher:  func() sdk.Pusher { return new(HTTP) },
}

func main() { sdk.Serve(plugin) }
