// Command rivergate-pusher-witness writes down every row that it is given, and misbehaves when a row or a file asks for it.
// The end-to-end tests compare what it wrote with what was accepted.
package main

import "github.com/rivergate/rivergate/sdk"

func main() {
	sdk.Serve(sdk.Plugin{
		Name:    "witness",
		Version: "1.0.0",
		Author:  "Rivergate",
		Summary: "Writes rows down; crashes, hangs or rejects when a row asks for it.",
		Pusher:  func() sdk.Pusher { return new(Witness) },
	})
}
