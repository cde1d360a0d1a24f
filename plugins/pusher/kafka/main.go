// Command rivergate-pusher-kafka produces rows to a Kafka topic and waits until the broker has them.
package main

import "github.com/rivergate/rivergate/sdk"

var plugin = sdk.Plugin{
	Name:    "kafka",
	Version: "1.0.0",
	Author:  "Rivergate",
	Summary: "Produces rows to a Kafka topic with an idempotent producer, in order per uuid.",
	Pusher:  func() sdk.Pusher { return new(Kafka) },
}

func main() { sdk.Serve(plugin) }
