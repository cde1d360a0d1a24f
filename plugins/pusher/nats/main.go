// Command rivergate-pusher-nats publishes rows to a JetStream stream of NATS and waits for the server's acknowledgements.
package main

import "github.com/rivergate/rivergate/sdk"

var plugin = sdk.Plugin{
	Name:    "nats",
	Version: "1.0.0",
	Author:  "Rivergate",
	Summary: "Publishes rows to a NATS JetStream stream, which drops those that come again.",
	Pusher:  func() sdk.Pusher { return new(NATS) },
}

func main() { sdk.Serve(plugin) }
