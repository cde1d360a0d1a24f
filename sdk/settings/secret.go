package settings

import (
	"fmt"
	"io"
)

// mask is what is printed in place of a secret.
const mask = "***"

// Reveal returns the value. A Secret in an unexported field is out of reach for fmt, which then prints the bytes: keep
// secrets in exported fields, or call Reveal only where the value is used.
func (s Secret) Reveal() string { return string(s) }

// String hides the value; an empty secret is shown as empty, so that a missing one can be seen.
func (s Secret) String() string {
	if s == "" {
		return ""
	}
	return mask
}

// Format hides the value under every verb.
func (s Secret) Format(f fmt.State, _ rune) { _, _ = io.WriteString(f, s.String()) }

// GoString hides the value under %#v.
func (s Secret) GoString() string { return `"` + s.String() + `"` }

// MarshalText hides the value in JSON and in structured logs.
func (s Secret) MarshalText() ([]byte, error) { return []byte(s.String()), nil }
