// Package positions is sets of row positions, for pushers that know again what is at their destination already.
package positions

import (
	"bytes"
	"errors"
	"fmt"
	"hash/crc32"
	"slices"
	"strconv"
	"strings"
)

// maxRanges bounds the memory of a set of positions: 4 MiB. Rows come nearly in order, so a set is one long range and a few
// short ones behind it; with ORGS, there is a gap for the rows of each other organisation.
const maxRanges = 1 << 18

// span is the positions from first to last, both in it.
type span struct{ first, last uint64 }

// Set is a set of row positions, kept as sorted ranges that do not touch. When there are too many, the oldest eighth is
// forgotten: the host has settled those rows long ago.
type Set struct {
	spans []span
}

// find is the index of the first span that ends at position or after it.
func (s *Set) find(position uint64) int {
	// Most look-ups are at the end.
	if n := len(s.spans); n == 0 || s.spans[n-1].last < position {
		return n
	}
	i, _ := slices.BinarySearchFunc(s.spans, position, func(s span, at uint64) int {
		switch {
		case s.last < at:
			return -1
		case s.last > at:
			return 1
		}
		return 0
	})
	return i
}

// Has tells whether the position is in the set.
func (s *Set) Has(position uint64) bool {
	i := s.find(position)
	return i < len(s.spans) && s.spans[i].first <= position
}

// Add puts the positions from first to last into the set.
func (s *Set) Add(first, last uint64) {
	from := s.find(first)
	if from > 0 && s.spans[from-1].last+1 == first {
		from--
	}
	to := from
	for to < len(s.spans) && s.spans[to].first <= last+1 {
		first = min(first, s.spans[to].first)
		last = max(last, s.spans[to].last)
		to++
	}
	s.spans = slices.Replace(s.spans, from, to, span{first, last})
	if len(s.spans) > maxRanges {
		drop := len(s.spans) / 8
		s.spans = slices.Delete(s.spans, 0, drop)
	}
}

// Text is the set as text, a range a line after the title, and a checksum at the end:
//
//	rivergate-positions 1
//	1000-1999
//	2100-2100
//	end 5f3a0c11
func (s *Set) Text(title string) []byte {
	var text bytes.Buffer
	text.WriteString(title)
	for _, s := range s.spans {
		fmt.Fprintf(&text, "%d-%d\n", s.first, s.last)
	}
	fmt.Fprintf(&text, "end %s\n", checksum(text.Bytes()))
	return text.Bytes()
}

// Parse reads what Text wrote, and gives what stands after it.
func Parse(title string, text []byte) (s Set, rest []byte, err error) {
	rest, ok := bytes.CutPrefix(text, []byte(title))
	if !ok {
		return Set{}, nil, errors.New("is of an unknown version")
	}
	for {
		line, after, found := bytes.Cut(rest, []byte("\n"))
		if !found {
			return Set{}, nil, errors.New("has no end line")
		}
		if sum, ok := bytes.CutPrefix(line, []byte("end ")); ok {
			if want := checksum(text[:len(text)-len(rest)]); string(sum) != want {
				return Set{}, nil, fmt.Errorf("is damaged (checksum %s, not %s)", want, sum)
			}
			return s, after, nil
		}
		first, last, _ := strings.Cut(string(line), "-")
		next, err := parseSpan(first, last)
		if err != nil {
			return Set{}, nil, err
		}
		s.Add(next.first, next.last)
		rest = after
	}
}

func parseSpan(first, last string) (span, error) {
	a, err := strconv.ParseUint(first, 10, 64)
	if err != nil {
		return span{}, fmt.Errorf("read a range: %w", err)
	}
	b, err := strconv.ParseUint(last, 10, 64)
	if err != nil {
		return span{}, fmt.Errorf("read a range: %w", err)
	}
	if b < a {
		return span{}, fmt.Errorf("has a range that ends before it begins: %d-%d", a, b)
	}
	return span{a, b}, nil
}

func checksum(text []byte) string { return fmt.Sprintf("%08x", crc32.ChecksumIEEE(text)) }
