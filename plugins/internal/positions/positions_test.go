package positions

import (
	"bytes"
	"testing"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"
)

func TestPositionsKnowExactlyWhatWasAdded(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var set Set
		model := map[uint64]bool{}
		for range rapid.IntRange(0, 60).Draw(t, "steps") {
			first := rapid.Uint64Range(0, 200).Draw(t, "first")
			last := first + rapid.Uint64Range(0, 12).Draw(t, "more")
			set.Add(first, last)
			for p := first; p <= last; p++ {
				model[p] = true
			}
		}
		for p := range uint64(220) {
			if set.Has(p) != model[p] {
				t.Fatalf("position %d: %v, want %v in %v", p, set.Has(p), model[p], set.spans)
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
	var set Set
	for p := range uint64(maxRanges + 1) {
		set.Add(2*p, 2*p)
	}
	require.Less(t, len(set.spans), maxRanges)
	require.False(t, set.Has(0))
	require.True(t, set.Has(2*maxRanges))
	require.True(t, set.Has(maxRanges))
}

func TestASetIsReadBackAsItWasWrittenAndDamageIsSeen(t *testing.T) {
	const title = "rivergate-positions 1\n"
	var set Set
	set.Add(5, 9)
	set.Add(100, 100)
	text := set.Text(title)
	got, rest, err := Parse(title, append(bytes.Clone(text), "more\n"...))
	require.NoError(t, err)
	require.Equal(t, set, got)
	require.Equal(t, "more\n", string(rest))
	for i := range text {
		broken := bytes.Clone(text)
		broken[i] ^= 1
		if _, _, err := Parse(title, broken); err == nil {
			require.Equal(t, len(text)-1, i, "a flipped bit at %d of %q", i, text)
		}
		_, _, err := Parse(title, text[:i])
		require.Error(t, err, "cut at %d", i)
	}
}

// Whatever a disk gives back: no panic, and what is believed is written again as it was read.
func FuzzParse(f *testing.F) {
	const title = "rivergate-positions 1\n"
	var set Set
	set.Add(1, 2)
	f.Add(set.Text(title))
	f.Add([]byte(title + "9-1\nend 00000000\n"))
	f.Fuzz(func(t *testing.T, text []byte) {
		set, _, err := Parse(title, text)
		if err != nil {
			return
		}
		again, _, err := Parse(title, set.Text(title))
		require.NoError(t, err)
		require.Equal(t, set, again)
	})
}
