package main

import (
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/rivergate/rivergate/sdk/protocol"
)

// keys are proper ones, of letters that make trouble.
func keys() *rapid.Generator[string] {
	letter := rapid.SampledFrom([]string{"a", "b", "A", "0", "~", "+", "%", ".", "-", "!", "é", "e\u0301", "\u212a", "\x01", " ", "\\", ":", "😀"})
	segment := rapid.Custom(func(t *rapid.T) string {
		s := strings.Repeat("x", rapid.SampledFrom([]int{0, 0, 0, 63, 64, 65, 128, 200}).Draw(t, "long"))
		return s + strings.Join(rapid.SliceOfN(letter, 1, 4).Draw(t, "letters"), "")
	})
	return rapid.Custom(func(t *rapid.T) string {
		return strings.Join(rapid.SliceOfN(segment, 1, 3).Draw(t, "segments"), "/")
	}).Filter(func(key string) bool { return protocol.CheckKey(key) == nil })
}

func TestEachKeyHasAPathOfItsOwnWhateverTheFileSystemThinksOfCase(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		a, b := keys().Draw(t, "a"), keys().Draw(t, "b")
		pa, pb := pathOf(a), pathOf(b)
		require.True(t, filepath.IsLocal(pa), pa)
		require.Equal(t, strings.ToLower(pa), pa)
		require.Equal(t, a == b, pa == pb)
		require.False(t, strings.HasPrefix(pb, pa+"/"), "an object's file is no other's folder")
		for part := range strings.SplitSeq(pa, "/") {
			require.LessOrEqual(t, len(part), 3*segmentSize+2)
			require.NotEqual(t, byte('.'), part[0])
			for i := range len(part) {
				require.Less(t, part[i], byte(0x7f))
			}
		}
	})
}

// keyOf puts a path together again by what parseName says of its parts.
func keyOf(t require.TestingT, path string) string {
	key := ""
	for part := range strings.SplitSeq(path, "/") {
		e, ok := parseName(part)
		require.True(t, ok, part)
		key += e.begins()
	}
	return key
}

func TestAPathSaysItsKey(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		key := keys().Draw(t, "key")
		require.Equal(t, key, keyOf(t, pathOf(key)))
	})
	for _, name := range []string{"", "+", "~0", "A", "a~0", "%4", "%4A", "%61", "a%2fb", ".a", "a.", "%00", "a=", strings.Repeat("x", 65)} {
		_, ok := parseName(name)
		require.False(t, ok, name)
	}
}

func TestTheOrderOfNamesIsTheOrderOfKeys(t *testing.T) {
	orders := func(path string) (out []string) {
		for part := range strings.SplitSeq(path, "/") {
			e, _ := parseName(part)
			out = append(out, e.order())
		}
		return out
	}
	rapid.Check(t, func(t *rapid.T) {
		a, b := keys().Draw(t, "a"), keys().Draw(t, "b")
		require.Equal(t, strings.Compare(a, b), slices.Compare(orders(pathOf(a)), orders(pathOf(b))), "%q %q", a, b)
	})
}
