package inspect

import (
	"bytes"
	"encoding/csv"
	"errors"
	"fmt"
	"io"
	"strings"
	"unicode/utf8"
)

const (
	maxHeader  = 256 << 10 // bytes of a CSV header, or of the first object in JSON
	maxColumns = 10_000
)

// csvHeader reads the first line of a CSV file.
type csvHeader struct {
	comma rune // 0: found out
	head  []byte
	found []string
}

var byteOrderMark = []byte("\xef\xbb\xbf")

func (h *csvHeader) feed(p []byte, ended bool) (settled bool, err error) {
	room := maxHeader - len(h.head)
	h.head = append(h.head, p[:min(len(p), room)]...)
	line, whole := firstRecord(bytes.TrimPrefix(h.head, byteOrderMark))
	switch {
	case whole:
	case ended:
		line = bytes.TrimPrefix(h.head, byteOrderMark)
	case len(p) >= room:
		return false, fmt.Errorf("the header of the CSV file does not end within %d bytes", maxHeader)
	default:
		return false, nil
	}
	h.head = nil
	h.found, err = parseHeader(line, h.comma)
	return true, err
}

// firstRecord returns the first line that is not empty; a line ends where no quotes are open.
func firstRecord(b []byte) (line []byte, whole bool) {
	start, quoted := 0, false
	for i, c := range b {
		switch {
		case c == '"':
			quoted = !quoted
		case (c == '\n' || c == '\r') && !quoted:
			if len(bytes.TrimSpace(b[start:i])) > 0 {
				return b[start:i], true
			}
			start = i + 1
		}
	}
	return nil, false
}

func parseHeader(line []byte, comma rune) ([]string, error) {
	switch {
	case bytes.HasPrefix(line, []byte("\xff\xfe")), bytes.HasPrefix(line, []byte("\xfe\xff")):
		return nil, errors.New("the CSV file is in UTF-16; store it as UTF-8")
	case bytes.IndexByte(line, 0) >= 0:
		return nil, errors.New("the header of the CSV file has a NUL in it: it is no text")
	case !utf8.Valid(line):
		return nil, errors.New("the header of the CSV file is not UTF-8; store the file as UTF-8")
	case len(bytes.TrimSpace(line)) == 0:
		return nil, errors.New("the CSV file is empty: it has no header")
	}
	if comma == 0 {
		comma = separator(line)
	}
	r := csv.NewReader(bytes.NewReader(line))
	r.Comma = comma
	names, err := r.Read()
	if err != nil && !errors.Is(err, io.EOF) {
		return nil, fmt.Errorf("the header of the CSV file: %w", err)
	}
	if len(names) > maxColumns {
		return nil, fmt.Errorf("the CSV file has %d columns, %d are allowed", len(names), maxColumns)
	}
	for i, name := range names {
		names[i] = strings.Clone(strings.TrimSpace(name))
	}
	return names, nil
}

// separator is the one that there are most of outside quotes, a comma when there is none.
func separator(line []byte) rune {
	best, most, quoted := ',', 0, false
	count := map[byte]int{}
	for _, c := range line {
		if c == '"' {
			quoted = !quoted
		} else if !quoted {
			count[c]++
		}
	}
	for _, c := range []byte{',', ';', '\t', '|'} {
		if count[c] > most {
			best, most = rune(c), count[c]
		}
	}
	return best
}

func (h *csvHeader) names() (names, warnings []string) { return h.found, unnamed(h.found) }
