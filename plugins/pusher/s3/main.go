// Command rivergate-pusher-s3 gathers rows on disk and puts them into an S3 bucket as objects, each row in exactly one.
package main

import "github.com/rivergate/rivergate/sdk"

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

func main() { sdk.Serve(plugin) }
