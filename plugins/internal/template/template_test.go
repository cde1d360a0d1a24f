package template

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestMistakesAreNamed(t *testing.T) {
	for text, want := range map[string]string{
		"": "is empty", "a/{uid}": "{uid} is not known; there are {org}, {uuid}, {instance}", "a{uuid": "unmatched brace", "a}b": "unmatched brace", "{}": "{} is not known",
	} {
		_, err := Parse(text)
		require.ErrorContains(t, err, want, text)
	}
}

func TestATemplateKnowsWhetherItVaries(t *testing.T) {
	for text, want := range map[string]bool{"fixed": false, "x/{instance}": false, "x/{org}": true, "{uuid}": true} {
		parsed, err := Parse(text)
		require.NoError(t, err)
		require.Equal(t, want, parsed.Varies(), text)
	}
	parsed, err := Parse("a/{org}/b/{uuid}c")
	require.NoError(t, err)
	require.Equal(t, "a//b/c", parsed.Literals())
}

// Two texts that differ stay different, and nothing but plain bytes is left.
func FuzzEscape(f *testing.F) {
	for _, seed := range []string{"", "../a", "+/#", "%2F", "\x00", "é", "a.b*c"} {
		f.Add(seed, seed+"x")
	}
	f.Fuzz(func(t *testing.T, a, b string) {
		one, two := string(escape(nil, a, "-_")), string(escape(nil, b, "-_"))
		if (a == b) != (one == two) {
			t.Fatalf("%q and %q became %q and %q", a, b, one, two)
		}
		if strings.Trim(one, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_%") != "" {
			t.Fatalf("%q became %q", a, one)
		}
	})
}

func TestWordsBeyondThoseOfAllAreAskedFor(t *testing.T) {
	_, err := Parse("{date}")
	require.ErrorContains(t, err, "{date} is not known")
	parsed, err := Parse("rows/{date}/{hour}", Date, Hour)
	require.NoError(t, err)
	require.True(t, parsed.Varies())
	require.Equal(t, "rows/", parsed.Prefix())
	_, err = Parse("{day}", Date, Hour)
	require.ErrorContains(t, err, "there are {org}, {uuid}, {instance}, {date}, {hour}")
}

func TestANameIsOnePartOfAPathWhateverAClientSent(t *testing.T) {
	long := strings.Repeat("é", 128)
	for text, want := range map[string]string{"a-B_9.x": "a-B_9.x", "..": "%2E.", ".hidden": "%2Ehidden", "": "%", "a/b": "a%2Fb", "a\x00": "a%00"} {
		require.Equal(t, want, Name(text))
	}
	require.LessOrEqual(t, len(Name(long)), maxName)
	require.NotEqual(t, Name(long), Name(long+"x"))
}
