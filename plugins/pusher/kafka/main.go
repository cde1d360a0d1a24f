// Command rivergate-pusher-kafka produces rows to a Kafka topic and waits until the broker has them.
package main

import (
	"runtime/debug"

	"github.com/rivergate/rivergate/sdk"
)

var plugin = sdk.Plugin{
	Name:    "kafka",
	Version: "1.0.0",
	Author:  "Rivergate",
	Summary: "Produces rows to a Kafka topic with an idempotent producer, in order per uuid.",
	// As many as a window has: the broker is to have something to do while it acknowledges.
	Parallel: 64,
	Pusher:   func() sdk.Pusher { return new(Kafka) },
}

// garbagePercent: little is kept between batches, so at Go's own 100 the collector runs every few megabytes and takes a tenth of the time.
const garbagePercent = 400

func main() {
	debug.SetGCPercent(garbagePercent)
	sdk.Serve(plugin)
}
