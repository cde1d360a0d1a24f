package delivery

import "slices"

// span is the positions [from, to).
type span struct{ from, to uint64 }

// settled is the set of rows that are done: everything before the cursor, and spans beyond it.
//
//	0 ──────────────── cursor ····· [span) ·· [span) ····
//
// Spans are sorted, disjoint, and never touch the cursor or each other. Their number is bounded by the rows that are read
// and not yet settled, since something unsettled lies before each.
type settled struct {
	cursor uint64
	spans  []span
}

// add marks [from, to) as settled.
func (s *settled) add(from, to uint64) {
	from = max(from, s.cursor)
	if from >= to {
		return
	}
	if from == s.cursor {
		s.cursor = to
		n := 0
		for n < len(s.spans) && s.spans[n].from <= s.cursor {
			s.cursor = max(s.cursor, s.spans[n].to)
			n++
		}
		s.spans = s.spans[n:]
		return
	}
	n := len(s.spans)
	if n == 0 || from > s.spans[n-1].to { // beyond all: the usual case
		s.spans = append(s.spans, span{from, to})
		return
	}
	// first: the first span that [from, to) touches; last: one past the last.
	first, _ := slices.BinarySearchFunc(s.spans, from, func(a span, at uint64) int {
		if a.to < at {
			return -1
		}
		return 1
	})
	last := first
	for last < n && s.spans[last].from <= to {
		from, to = min(from, s.spans[last].from), max(to, s.spans[last].to)
		last++
	}
	s.spans = slices.Replace(s.spans, first, last, span{from, to})
}

// count is how many positions of [from, to) are settled.
func (s *settled) count(from, to uint64) int {
	n := uint64(0)
	if from < s.cursor {
		n = min(to, s.cursor) - from
	}
	for _, a := range s.overlapping(from, to) {
		n += min(a.to, to) - max(a.from, from)
	}
	return int(n)
}

// overlapping returns the spans beyond the cursor that share a position with [from, to).
func (s *settled) overlapping(from, to uint64) []span {
	first, _ := slices.BinarySearchFunc(s.spans, from, func(a span, at uint64) int {
		if a.to <= at {
			return -1
		}
		return 1
	})
	last := first
	for last < len(s.spans) && s.spans[last].from < to {
		last++
	}
	return s.spans[first:last]
}

// within returns the settled parts of [from, to), in order.
func (s *settled) within(from, to uint64) []span {
	var parts []span
	if from < s.cursor {
		parts = append(parts, span{from, min(to, s.cursor)})
	}
	for _, a := range s.overlapping(from, to) {
		parts = append(parts, span{max(a.from, from), min(a.to, to)})
	}
	return parts
}
