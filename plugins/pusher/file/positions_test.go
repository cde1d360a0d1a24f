package main

import (
	"testing"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"
)

func TestPositionsKnowExactlyWhatWasAdded(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var set positions
		model := map[uint64]bool{}
		for range rapid.IntRange(0, 60).Draw(t, "steps") {
			first := rapid.Uint64Range(0, 200).Draw(t, "first")
			last := first + rapid.Uint64Range(0, 12).Draw(t, "more")
			set.add(first, last)
			for p := first; p <= last; p++ {
				model[p] = true
			}
		}
		for p := range uint64(220) {
			if set.has(p) != model[p] {
				t.Fatalf("position %d: %v, want %v in %v", p, set.has(p), model[p], set.spans)
			}
		}
		for i := 1; i < len(set.spans); i++ {
			if set.spans[i-1].last+1 >= set.spans[i].first {
				t.Fatalf("spans touch: %v", set.spans)
			}
		}
	})
}

func TestPositionsForgetTheOldestFirst(t *testing.T) {
	var set positions
	for p := range uint64(maxRanges + 1) {
		set.add(2*p, 2*p)
	}
	require.Less(t, len(set.spans), maxRanges)
	require.False(t, set.has(0))
	require.True(t, set.has(2*maxRanges))
	require.True(t, set.has(maxRanges))
}
