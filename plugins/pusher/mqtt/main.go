// Command rivergate-pusher-mqtt publishes rows to an MQTT 5 broker with QoS 1.
package main

import "github.com/rivergate/rivergate/sdk"

var plugin = sdk.Plugin{
	Name:    "mqtt",
	Version: "1.0.0",
	Author:  "Rivergate",
	Summary: "Publishes rows to an MQTT 5 broker with QoS 1, each acknowledged with its reason.",
	Pusher:  func() sdk.Pusher { return new(MQTT) },
}

func main() { sdk.Serve(plugin) }
