//go:build !linux

package conformance

// killStrays finds processes that left their group by /proc, which other systems do not have.
func killStrays(string) {}
