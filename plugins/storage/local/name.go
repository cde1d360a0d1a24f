package main

import "strings"

// A key becomes a path of files and folders that says the same on every file system, also where case or the form of Unicode
// does not count:
//
//	invoices/2026/May.pdf   invoices+/2026+/%4day.pdf
//
// A segment keeps a-z, 0-9, "_", "-" and inner dots; every other byte is %xx. A folder ends in "+", so that the objects a and a/b
// can both be there. Nothing of ours begins with a dot but the folders below. A segment of more than segmentBytes goes on in a
// folder: its first segmentBytes, and "~0" when the next byte is less than a slash, else "~1". With that, the order of the names
// in a folder is the order of the keys in it (entry.order).
const (
	folderMark  = '+'
	longMark    = '~'
	segmentSize = 64

	tempFolder   = ".temp"
	uploadFolder = ".uploads"
	lockFolder   = ".locks"
)

// pathOf is the path of a key, which is a proper one.
func pathOf(key string) string {
	var b strings.Builder
	b.Grow(len(key) + 16)
	for {
		segment, rest, more := strings.Cut(key, "/")
		appendSegment(&b, segment)
		if !more {
			return b.String()
		}
		b.WriteString(string(folderMark) + "/")
		key = rest
	}
}

func appendSegment(b *strings.Builder, segment string) {
	for len(segment) > segmentSize {
		escape(b, segment[:segmentSize])
		segment = segment[segmentSize:]
		b.WriteByte(longMark)
		if segment[0] < '/' {
			b.WriteString("0/")
		} else {
			b.WriteString("1/")
		}
	}
	escape(b, segment)
}

func escape(b *strings.Builder, s string) {
	const digits = "0123456789abcdef"
	for i := range len(s) {
		switch c := s[i]; {
		case 'a' <= c && c <= 'z', '0' <= c && c <= '9', c == '_', c == '-', c == '.' && i > 0 && i < len(s)-1:
			b.WriteByte(c)
		default:
			b.WriteByte('%')
			b.WriteByte(digits[c>>4])
			b.WriteByte(digits[c&15])
		}
	}
}

// entry is a name in a folder, and what it says of the keys behind it.
type entry struct {
	name   string
	text   string // of the segment, or of its beginning
	folder bool
	long   byte // of a folder: 0, or the digit after longMark
}

// parseName is not ok for a name that pathOf would not have made.
func parseName(name string) (e entry, ok bool) {
	e.name = name
	bare := name
	switch n := len(name); {
	case n > 1 && name[n-1] == folderMark:
		e.folder, bare = true, name[:n-1]
	case n > 2 && name[n-2] == longMark && (name[n-1] == '0' || name[n-1] == '1'):
		e.folder, e.long, bare = true, name[n-1], name[:n-2]
	}
	text := make([]byte, 0, len(bare))
	for i := 0; i < len(bare); i++ {
		c := bare[i]
		if c == '%' {
			if i+2 >= len(bare) {
				return e, false
			}
			high, low := hexValue(bare[i+1]), hexValue(bare[i+2])
			if high < 0 || low < 0 {
				return e, false
			}
			c = byte(high<<4 | low)
			i += 2
		}
		text = append(text, c)
	}
	e.text = string(text)
	if e.text == "" || strings.ContainsAny(e.text, "/\x00") || len(e.text) > segmentSize || e.long != 0 && len(e.text) != segmentSize {
		return e, false
	}
	var again strings.Builder
	escape(&again, e.text)
	return e, again.String() == bare
}

func hexValue(c byte) int {
	switch {
	case '0' <= c && c <= '9':
		return int(c - '0')
	case 'a' <= c && c <= 'f':
		return int(c-'a') + 10
	}
	return -1
}

// order is such that entries of one folder, sorted by it, are in the order of the keys behind them.
func (e entry) order() string {
	switch {
	case e.long == '0':
		return e.text + "\x00" // after the object of that text, before everything that goes on with a slash
	case e.folder && e.long == 0:
		return e.text + "/"
	case e.long == '1':
		return e.text + "0" // the byte after the slash
	}
	return e.text
}

// begins is what all keys behind a folder have in common, after what they have in common by the folder that it is in.
func (e entry) begins() string {
	if e.folder && e.long == 0 {
		return e.text + "/"
	}
	return e.text
}
