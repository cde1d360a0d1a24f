// Package noise prints on standard output while the program initialises, before the SDK has a chance to take it away.
package noise

import "fmt"

// Made is true, and loud about it: a line, and half a line that the handshake would be glued to.
var Made = func() bool {
	fmt.Println("noise: a library prints a banner")
	fmt.Print("noise: loading 1")
	return true
}()
