// Command rivergate-pusher-null counts rows and throws them away. Benchmarks use it to measure the way to a plugin in its
// own process without the cost of a destination, and to make one destination fail while another is watched.
package main

import "github.com/rivergate/rivergate/sdk"

func main() {
	sdk.Serve(sdk.Plugin{
		Name:    "null",
		Version: "1.0.0",
		Author:  "Rivergate",
		Summary: "Counts rows in a shared page and discards them.",
		Pusher:  func() sdk.Pusher { return new(Null) },
	})
}
