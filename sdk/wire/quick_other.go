//go:build !linux || race

package wire

import "net"

// quick has no quicker way here. The race detector learns from package syscall which side of a socket was first.
func quick(c net.Conn) net.Conn { return c }
