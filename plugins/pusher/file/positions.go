package main

import "slices"

// maxRanges bounds the memory of a set of positions: 4 MiB. Rows come nearly in order, so a set is one long range and a few
// short ones behind it; with ORGS, there is a gap for the rows of each other organisation.
const maxRanges = 1 << 18

// span is the positions from first to last, both in it.
type span struct{ first, last uint64 }

// positions is a set of row positions, kept as sorted ranges that do not touch. When there are too many, the oldest eighth is
// forgotten: the host has settled those rows long ago.
type positions struct {
	spans []span
}

// find is the index of the first span that ends at position or after it.
func (p *positions) find(position uint64) int {
	// Most look-ups are at the end.
	if n := len(p.spans); n == 0 || p.spans[n-1].last < position {
		return n
	}
	i, _ := slices.BinarySearchFunc(p.spans, position, func(s span, at uint64) int {
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

func (p *positions) has(position uint64) bool {
	i := p.find(position)
	return i < len(p.spans) && p.spans[i].first <= position
}

// add puts the positions from first to last into the set.
func (p *positions) add(first, last uint64) {
	from := p.find(first)
	if from > 0 && p.spans[from-1].last+1 == first {
		from--
	}
	to := from
	for to < len(p.spans) && p.spans[to].first <= last+1 {
		first = min(first, p.spans[to].first)
		last = max(last, p.spans[to].last)
		to++
	}
	p.spans = slices.Replace(p.spans, from, to, span{first, last})
	if len(p.spans) > maxRanges {
		drop := len(p.spans) / 8
		p.spans = slices.Delete(p.spans, 0, drop)
	}
}
