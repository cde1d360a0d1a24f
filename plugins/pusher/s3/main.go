// Command rivergate-pusher-s3 gathers rows on disk and puts them into an S3 bucket as objects, each row in exactly one.
package main

import (
	"runtime/debug"

	"github.com/rivergate/rivergate/sdk"
)

var plugin = sdk.Plugin{
	Name:    "s3",
	Version: version,
	Author:  "Rivergate",
	Summary: "Puts rows into an S3 bucket as JSON Lines or Parquet objects, each exactly once.",
	// The batches that wait for the disk are synced together.
	Parallel: 8,
	Pusher:   func() sdk.Pusher { return new(S3) },
}

const version = "1.0.0"

// garbagePercent: little is kept between batches, so at Go's own 100 the collector runs every few megabytes and takes a tenth of the time.
const garbagePercent = 400

func main() {
	debug.SetGCPercent(garbagePercent)
	sdk.Serve(plugin)
}
