package settings

import "github.com/rivergate/rivergate/sdk/internal/document"

// ParseBytes reads a size: digits, and perhaps B, KiB, MiB, GiB or TiB.
func ParseBytes(text string) (Bytes, error) {
	n, err := document.ParseBytes(text)
	return Bytes(n), err
}

// String is the shortest exact form: 16MiB, 1500.
func (b Bytes) String() string { return document.FormatBytes(int64(b)) }
