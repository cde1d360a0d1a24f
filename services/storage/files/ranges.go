package files

import (
	"fmt"
	"strings"
)

// span is the part of an object that an answer has.
type span struct{ from, length int64 }

// rangeOf reads a Range header (RFC 9110, section 14.2) for an object of size bytes. partial is false when the whole is to be
// sent: there is no range, it is not of bytes, malformed, or several are asked for, which a server may pass over.
// satisfiable is false when the range lies outside the object: 416.
func rangeOf(header string, size int64) (part span, partial, satisfiable bool) {
	whole := span{0, size}
	unit, set, ok := strings.Cut(header, "=")
	if !ok || !strings.EqualFold(strings.TrimSpace(unit), "bytes") || strings.IndexByte(set, ',') >= 0 {
		return whole, false, true
	}
	first, last, ok := strings.Cut(strings.Trim(set, " \t"), "-")
	if !ok {
		return whole, false, true
	}
	if first == "" { // the last n bytes
		n, ok := position(last)
		switch {
		case !ok:
			return whole, false, true
		case n == 0:
			return span{}, true, false
		case size == 0:
			return whole, false, true // all of nothing: it has no Content-Range
		}
		n = min(n, size)
		return span{size - n, n}, true, true
	}
	from, ok := position(first)
	if !ok {
		return whole, false, true
	}
	to := int64(1<<63 - 1)
	if last != "" {
		if to, ok = position(last); !ok || to < from {
			return whole, false, true
		}
	}
	if from >= size {
		return span{}, true, false
	}
	return span{from, min(to, size-1) - from + 1}, true, true
}

// position reads digits; those beyond any size are as good as the greatest number.
func position(text string) (int64, bool) {
	if text == "" {
		return 0, false
	}
	var n int64
	for i := range len(text) {
		d := text[i] - '0'
		if d > 9 {
			return 0, false
		}
		if n > (1<<63-10)/10 {
			n = (1<<63 - 10) / 10
		}
		n = n*10 + int64(d)
	}
	return n, true
}

func contentRange(part span, size int64) string {
	return fmt.Sprintf("bytes %d-%d/%d", part.from, part.from+part.length-1, size)
}
