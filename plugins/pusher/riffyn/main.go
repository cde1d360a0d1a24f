// Command rivergate-pusher-riffyn writes rows into the runs of Riffyn Nexus experiments.
package main

import "github.com/rivergate/rivergate/sdk"

const version = "1.0.0"

var plugin = sdk.Plugin{
	Name:         "riffyn",
	Version:      version,
	Author:       "Rivergate",
	Summary:      "Writes rows into the runs of Riffyn Nexus experiments, well by well.",
	NeedsTrigger: true,
	MaxBatchRows: 1000, // a call with as many keys is large enough
	Pusher:       func() sdk.Pusher { return new(Riffyn) },
}

func main() { sdk.Serve(plugin) }
