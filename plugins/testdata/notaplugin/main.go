// Command notaplugin is a plain program with the name of a plugin. The environment variable NOTAPLUGIN (to be passed with
// PASS_ENV) tells what it does instead of a handshake:
//
//	greet     prints a line and ends with status 0 (the default)
//	fail      complains on standard error and ends with status 4
//	silent    ends at once without a word, status 0
//	hang      prints a line and never ends
//	handshake prints the handshake in HANDSHAKE, and never ends
//
// It proves that a failed start is explained, killed and reaped, and that the host and the other plugins serve on.
package main

import (
	"fmt"
	"os"
	"time"
)

// sleepForEver: an empty select would be found out as a deadlock.
func sleepForEver() {
	for {
		time.Sleep(time.Hour)
	}
}

func main() {
	switch os.Getenv("NOTAPLUGIN") {
	case "fail":
		fmt.Fprintln(os.Stderr, "cannot find my configuration")
		os.Exit(4)
	case "silent":
	case "hang":
		fmt.Println("Hello, I am a server and listen for ever")
		sleepForEver()
	case "handshake":
		fmt.Println(os.Getenv("HANDSHAKE"))
		sleepForEver()
	default:
		fmt.Println("Hello, world")
	}
}
