// Package stdio takes standard output away from everybody but the handshake. The host reads the first line of a plugin's
// standard output as the handshake, so one stray print, in whatever library or C code, would break the start.
//
// It does so while the program initialises, before main and before the init functions of the packages that come after it:
// by then it is too late to be asked. It touches nothing unless a host started the process.
package stdio

import "os"

// The variable that a host sets; package wire documents it, and cannot be imported here: what it imports would initialise
// first.
const (
	EnvCookie   = "RIVERGATE_PLUGIN"
	CookieValue = "c9f1d3a0-rows-in-kept-safe-out"
)

var handshake, failed = take()

// Handshake is the standard output with which the process was started; nil when no host started it. From then on
// file descriptor 1 and os.Stdout are standard error, whose lines reach the host's log: nothing is lost, also when the
// process crashes a moment later.
func Handshake() (*os.File, error) { return handshake, failed }

func take() (*os.File, error) {
	if os.Getenv(EnvCookie) != CookieValue {
		return nil, nil
	}
	file, err := redirect()
	if err != nil {
		return nil, err
	}
	// One os.File, one lock: a print does not land inside a long log line.
	os.Stdout = os.Stderr
	return file, nil
}
