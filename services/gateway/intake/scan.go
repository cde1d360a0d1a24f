package intake

import (
	"encoding/binary"
	"math/bits"
	"unicode/utf8"
)

// The functions here pass over one piece of JSON at b[i] and return the place behind it, or -1 after noting what is wrong.
// b ends with Pad zero bytes that are not part of the body: a zero is valid nowhere, so that no function asks for the end,
// and eight bytes can be read at once from any place in the body.

const (
	ones      = 0x0101010101010101
	highs     = 0x8080808080808080
	quotes    = ones * '"'
	slashes   = ones * '\\'
	blanks    = ones * ' '
	laneShift = 3
)

// alnum marks letters and digits.
var alnum = func() (t [256]bool) {
	for c := range t {
		t[c] = c >= '0' && c <= '9' || c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z'
	}
	return t
}()

func (s *scanner) fail(at int, reason string) int {
	s.failedAt, s.reason = at, reason
	return -1
}

func space(b []byte, i int) int {
	for {
		switch b[i] {
		case ' ', '\t', '\r', '\n':
			i++
		default:
			return i
		}
	}
}

// value passes over any value; depth is the number of containers around it.
func (s *scanner) value(b []byte, i, depth int) int {
	switch c := b[i]; c {
	case '"':
		return s.str(b, i+1)
	case '{':
		return s.object(b, i, depth+1, false)
	case '[':
		return s.array(b, i, depth+1)
	case 't':
		if b[i+1] == 'r' && b[i+2] == 'u' && b[i+3] == 'e' {
			return i + 4
		}
		return s.fail(i, "not a JSON value")
	case 'f':
		if b[i+1] == 'a' && b[i+2] == 'l' && b[i+3] == 's' && b[i+4] == 'e' {
			return i + 5
		}
		return s.fail(i, "not a JSON value")
	case 'n':
		if b[i+1] == 'u' && b[i+2] == 'l' && b[i+3] == 'l' {
			return i + 4
		}
		return s.fail(i, "not a JSON value")
	default:
		return s.number(b, i)
	}
}

// number passes over a number, as RFC 8259 section 6 has it.
func (s *scanner) number(b []byte, i int) int {
	start := i
	if b[i] == '-' {
		i++
	}
	switch c := b[i]; {
	case c == '0':
		i++
	case c-'1' < 9:
		for i++; b[i]-'0' < 10; i++ {
		}
	case i == start:
		return s.fail(i, "a value is expected")
	default:
		return s.fail(i, "a digit is expected")
	}
	if b[i] == '.' {
		i++
		if b[i]-'0' >= 10 {
			return s.fail(i, "a digit is expected")
		}
		for i++; b[i]-'0' < 10; i++ {
		}
	}
	if b[i]|0x20 == 'e' {
		i++
		if b[i] == '+' || b[i] == '-' {
			i++
		}
		if b[i]-'0' >= 10 {
			return s.fail(i, "a digit is expected")
		}
		for i++; b[i]-'0' < 10; i++ {
		}
	}
	return i
}

// str passes over a string; i is behind its opening quote. Eight bytes at a time: a quote, a backslash, a control character
// or a byte beyond ASCII sets the top bit of its lane.
func (s *scanner) str(b []byte, i int) int {
	for {
		w := binary.LittleEndian.Uint64(b[i:])
		q, e := w^quotes, w^slashes
		m := ((q-ones)&^q | (e-ones)&^e | (w-blanks)&^w | w) & highs
		if m == 0 {
			i += 8
			continue
		}
		i += bits.TrailingZeros64(m) >> laneShift
		switch c := b[i]; {
		case c == '"':
			return i + 1
		case c == '\\':
			if i = s.escape(b, i); i < 0 {
				return -1
			}
		case c >= utf8.RuneSelf:
			if i = s.runes(b, i); i < 0 {
				return -1
			}
		case i >= s.end:
			return s.fail(i, "the string has no end")
		default:
			return s.fail(i, "a control character in a string must be escaped")
		}
	}
}

func (s *scanner) escape(b []byte, i int) int {
	switch b[i+1] {
	case '"', '\\', '/', 'b', 'f', 'n', 'r', 't':
		return i + 2
	case 'u':
		for k := i + 2; k < i+6; k++ {
			if c := b[k]; c-'0' >= 10 && (c|0x20)-'a' >= 6 {
				return s.fail(k, "four hexadecimal digits are expected")
			}
		}
		return i + 6
	}
	return s.fail(i+1, "no such escape in a string")
}

// runes passes over characters beyond ASCII.
func (s *scanner) runes(b []byte, i int) int {
	for b[i] >= utf8.RuneSelf {
		// The padding is no continuation byte: a sequence cut off by the end is invalid by itself.
		r, n := utf8.DecodeRune(b[i:])
		if r == utf8.RuneError && n <= 1 {
			return s.fail(i, "invalid UTF-8")
		}
		i += n
	}
	return i
}

func (s *scanner) array(b []byte, i, depth int) int {
	if depth > MaxDepth {
		return s.fail(i, tooDeep)
	}
	i = space(b, i+1)
	if b[i] == ']' {
		return i + 1
	}
	for {
		if i = s.value(b, i, depth); i < 0 {
			return -1
		}
		c := b[i]
		if c <= ' ' {
			i = space(b, i)
			c = b[i]
		}
		switch c {
		case ',':
			i++
			if b[i] <= ' ' {
				i = space(b, i)
			}
		case ']':
			return i + 1
		default:
			return s.fail(i, "a comma or ] is expected")
		}
	}
}

// object passes over an object. With keys its own members' names are held to camelCase.
func (s *scanner) object(b []byte, i, depth int, keys bool) int {
	if depth > MaxDepth {
		return s.fail(i, tooDeep)
	}
	i = space(b, i+1)
	if b[i] == '}' {
		return i + 1
	}
	for {
		if b[i] != '"' {
			return s.fail(i, "a member name in quotes is expected")
		}
		i++
		if keys {
			key := i
			if b[i]-'a' < 26 {
				for i++; alnum[b[i]]; i++ {
				}
			}
			if b[i] == '"' && i > key {
				i++
			} else {
				if i = s.str(b, i); i < 0 {
					return -1
				}
				s.badKey(key, i-1)
			}
		} else if i = s.str(b, i); i < 0 {
			return -1
		}
		if b[i] != ':' {
			if i = space(b, i); b[i] != ':' {
				return s.fail(i, "a colon is expected")
			}
		}
		i++
		c := b[i]
		if c <= ' ' {
			i = space(b, i)
			c = b[i]
		}
		if c == '"' {
			i = s.str(b, i+1)
		} else {
			i = s.value(b, i, depth)
		}
		if i < 0 {
			return -1
		}
		if c = b[i]; c <= ' ' {
			i = space(b, i)
			c = b[i]
		}
		switch c {
		case ',':
			i++
			if b[i] <= ' ' {
				i = space(b, i)
			}
		case '}':
			return i + 1
		default:
			return s.fail(i, "a comma or } is expected")
		}
	}
}
