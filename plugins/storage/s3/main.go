// Command rivergate-storage-s3 keeps objects in a bucket of S3 or of a server that speaks its protocol.
package main

import (
	"runtime/debug"

	"github.com/rivergate/rivergate/sdk"
)

var plugin = sdk.Plugin{
	Name:    "s3",
	Version: version,
	Author:  "Rivergate",
	Summary: "Keeps objects in a bucket of S3 or of a server that speaks its protocol.",
	Storage: func() sdk.Storage { return new(S3) },
}

const version = "1.0.0"

// memoryGoal makes the collector work harder before idle memory grows: what is kept is a handful of parts.
const memoryGoal = 64 << 20

func main() {
	debug.SetMemoryLimit(memoryGoal)
	sdk.Serve(plugin)
}
