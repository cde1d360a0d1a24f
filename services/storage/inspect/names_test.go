package inspect

import (
	"regexp"
	"strings"
	"testing"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/stretchr/testify/require"
	"golang.org/x/text/unicode/norm"

	"github.com/rivergate/rivergate/sdk/protocol"
)

func TestNamesThatCannotBeUsed(t *testing.T) {
	long := strings.Repeat("ä", 2000)
	for name, why := range map[string]string{
		"": "is empty", long: "bytes", "a\x00b": "control", "a\nb": "control", `a\b`: "backslash", "a\xffb": "UTF-8", "a\u0085": "control",
	} {
		for _, check := range []func(string) (string, error){FileName, ObjectName, func(s string) (string, error) { return Folder(s + "x/" + s) }} {
			_, err := check(name)
			if name == "" && err == nil {
				continue // Folder of x/
			}
			require.ErrorIs(t, err, ErrName, "%.20q", name)
			require.ErrorContains(t, err, why, "%.20q", name)
			require.Less(t, len(err.Error()), 500, "an error does not repeat all of a long name")
		}
	}
	for _, name := range []string{".", "..", "a/b", "/a"} {
		_, err := FileName(name)
		require.ErrorIs(t, err, ErrName, name)
	}
	for _, name := range []string{"/a", "a//b", "../a", "a/../b", "a/..", "./a", "a/.", "..", "a/../../b"} {
		_, err := ObjectName(name)
		require.ErrorIs(t, err, ErrName, name)
		_, err = Folder(name)
		require.ErrorIs(t, err, ErrName, name)
	}
	_, err := ObjectName("a/")
	require.ErrorIs(t, err, ErrName)
}

func TestNamesThatLookTheSameAreTheSame(t *testing.T) {
	composed, apart := "Köln.csv", norm.NFD.String("Köln.csv")
	require.NotEqual(t, composed, apart)
	for _, check := range []func(string) (string, error){FileName, ObjectName, Folder} {
		for _, name := range []string{composed, apart} {
			got, err := check(name)
			require.NoError(t, err)
			require.Equal(t, composed, got)
		}
	}
	for path, want := range map[string]string{"": "", "/": "", "a": "a", "a/b/": "a/b", "... a": "... a"} {
		got, err := Folder(path)
		require.NoError(t, err, path)
		require.Equal(t, want, got)
	}
}

func TestUniqueNames(t *testing.T) {
	at := time.Date(2026, 2, 3, 4, 5, 6, 0, time.FixedZone("", 7200))
	for name, want := range map[string]string{
		"report.csv":             "report_20260203_020506_XXXXXXXX.csv",
		"Ein Bericht (2).CSV":    "Ein_Bericht_2_20260203_020506_XXXXXXXX.CSV",
		"data.tar.gz":            "data.tar_20260203_020506_XXXXXXXX.gz",
		"no extension":           "no_extension_20260203_020506_XXXXXXXX",
		".hidden":                "hidden_20260203_020506_XXXXXXXX",
		"日本.csv":                 "file_20260203_020506_XXXXXXXX.csv",
		"--rm":                   "rm_20260203_020506_XXXXXXXX",
		"a.this is no extension": "a.this_is_no_extension_20260203_020506_XXXXXXXX",
		"a.":                     "a_20260203_020506_XXXXXXXX",
		strings.Repeat("a", 255): strings.Repeat("a", 100) + "_20260203_020506_XXXXXXXX",
		"a.csv\u202egpj.exe":     "a.csv_gpj_20260203_020506_XXXXXXXX.exe",
	} {
		got := UniqueName(name, at)
		random := regexp.MustCompile(`[0-9a-f]{8}(\.|$)`)
		require.Equal(t, want, random.ReplaceAllString(got, "XXXXXXXX$1"), name)
		require.NotEqual(t, got, UniqueName(name, at))
	}
}

var uniqueName = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._-]{0,99}_20260203_040506_[0-9a-f]{8}(\.[A-Za-z0-9]{1,16})?$`)

func FuzzNames(f *testing.F) {
	for _, name := range []string{"a.csv", "../../etc/passwd", `C:\a`, "a/b", "日本.csv", "a\x00", "é.e\u0301", strings.Repeat("x", 300)} {
		f.Add(name)
	}
	at := time.Date(2026, 2, 3, 4, 5, 6, 0, time.UTC)
	f.Fuzz(func(t *testing.T, name string) {
		if clean, err := FileName(name); err == nil {
			require.Regexp(t, uniqueName, UniqueName(clean, at))
		} else {
			require.ErrorIs(t, err, ErrName)
		}
		clean, err := ObjectName(name)
		if err != nil {
			require.ErrorIs(t, err, ErrName)
			return
		}
		require.NoError(t, protocol.CheckKey(clean))
		require.True(t, utf8.ValidString(clean) && norm.NFC.IsNormalString(clean))
		require.False(t, strings.ContainsFunc(clean, unicode.IsControl))
		again, err := ObjectName(clean)
		require.NoError(t, err)
		require.Equal(t, clean, again)
	})
}
