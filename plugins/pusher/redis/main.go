// Command rivergate-pusher-redis appends rows to Redis streams, each exactly once.
package main

import (
	"github.com/redis/go-redis/v9/logging"

	"github.com/rivergate/rivergate/sdk"
)

var plugin = sdk.Plugin{
	Name:    "redis",
	Version: "1.0.0",
	Author:  "Rivergate",
	Summary: "Appends rows to Redis streams, each exactly once.",
	Pusher:  func() sdk.Pusher { return new(Redis) },
	// A batch is one run of a script, and Redis serves nobody else meanwhile: some milliseconds for a thousand rows.
	MaxBatchRows: 1000,
}

func main() {
	logging.Disable() // what fails is said by outcomes and by Health
	sdk.Serve(plugin)
}
