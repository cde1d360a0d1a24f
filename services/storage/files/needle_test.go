package files

import (
	"bytes"
	"testing"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"
)

func TestANeedleIsFoundWhereBytesIndexFindsIt(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		few := rapid.SampledFrom([]byte("\n-ab")) // so that parts of the text are everywhere
		text := rapid.SliceOfN(few, 1, 75).Draw(t, "text")
		before, after := rapid.SliceOf(few).Draw(t, "before"), rapid.SliceOf(few).Draw(t, "after")
		n := newNeedle(string(text))
		for _, s := range [][]byte{before, after, append(append(bytes.Clone(before), text...), after...)} {
			require.Equal(t, bytes.Index(s, text), n.in(s))
		}
	})
}
