package files

import "bytes"

// needle finds one text of up to 255 bytes in many others. It looks at one byte in as many as the text has (Horspool's method), where
// bytes.Index stops at each byte that is like the first one: in a file that is packed, one in 256.
type needle struct {
	text []byte
	skip [256]uint8 // how far the text may be moved on when this byte lies below its last one
}

func newNeedle(text string) *needle {
	n := &needle{text: []byte(text)}
	last := len(text) - 1
	for i := range n.skip {
		n.skip[i] = uint8(len(text))
	}
	for i := range last {
		n.skip[text[i]] = uint8(last - i)
	}
	return n
}

// in is the place of the text in s, or -1.
func (n *needle) in(s []byte) int {
	last := len(n.text) - 1
	for i := last; i < len(s); i += int(n.skip[s[i]]) {
		if s[i] == n.text[last] && bytes.Equal(s[i-last:i], n.text[:last]) {
			return i - last
		}
	}
	return -1
}
