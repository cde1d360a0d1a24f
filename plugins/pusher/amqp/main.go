// Command rivergate-pusher-amqp publishes rows to RabbitMQ and waits for the broker's confirms.
package main

import "github.com/rivergate/rivergate/sdk"

var plugin = sdk.Plugin{
	Name:    "amqp",
	Version: "1.0.0",
	Author:  "Rivergate",
	Summary: "Publishes rows to RabbitMQ as persistent messages, each confirmed by the broker.",
	Pusher:  func() sdk.Pusher { return new(AMQP) },
}

func main() { sdk.Serve(plugin) }
