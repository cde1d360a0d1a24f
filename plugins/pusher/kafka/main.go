// Command rivergate-pusher-kafka produces rows to a Kafka topic and waits until the broker has them.
package main

import (
	"runtime"

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

// ballast is memory that is never touched, so it takes none of the machine's; the collector counts it and waits for so much more
// garbage. What is alive here is small and short-lived: collecting took a quarter of the processor time.
const ballast = 64 << 20

func main() {
	defer runtime.KeepAlive(make([]byte, ballast))
	sdk.Serve(plugin)
}
