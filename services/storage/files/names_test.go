package files

import (
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/rivergate/rivergate/sdk/protocol"
	"github.com/rivergate/rivergate/services/platform/api"
)

func TestUniqueNames(t *testing.T) {
	at := time.Date(2026, 2, 3, 4, 5, 6, 0, time.FixedZone("", 7200))
	random := regexp.MustCompile(`[0-9a-f]{8}(\.|$)`)
	for name, want := range map[string]string{
		"report.csv":             "report_20260203_020506_X.csv",
		"data.tar.gz":            "data.tar_20260203_020506_X.gz",
		"no extension":           "no_extension_20260203_020506_X",
		"日本.csv":                 "___20260203_020506_X.csv",
		"a.":                     "a_20260203_020506_X",
		strings.Repeat("a", 255): strings.Repeat("a", 100) + "_20260203_020506_X",
	} {
		got := uniqueName(name, at)
		require.Equal(t, want, random.ReplaceAllString(got, "X$1"), name)
		require.NotEqual(t, got, uniqueName(name, at))
	}
}

func FuzzNames(f *testing.F) {
	for _, name := range []string{"a.csv", "../../etc/passwd", `C:\a`, "a/b", "日本.csv", "a\x00", ".hidden", "a//b", "/a", "a/.", strings.Repeat("x", 4000)} {
		f.Add(name)
	}
	unique := regexp.MustCompile(`^[A-Za-z0-9_-][A-Za-z0-9._-]{0,99}_20260203_040506_[0-9a-f]{8}(\.[A-Za-z0-9._-]{1,16})?$`)
	at := time.Date(2026, 2, 3, 4, 5, 6, 0, time.UTC)
	f.Fuzz(func(t *testing.T, name string) {
		if checkFileName("file", name) == nil {
			require.Regexp(t, unique, uniqueName(name, at))
		}
		folder, err := checkPath("path", name)
		if err == nil && folder != "" {
			require.NoError(t, protocol.CheckKey(userFolder(7, 3)+folder+"/"+uniqueName("a.csv", at)))
		}
		if checkName("object_name", name) == nil {
			require.NoError(t, protocol.CheckKey(name))
		}
		if err := ownName(&api.Caller{OrgID: 7, UserID: 3}, name); err == nil {
			require.True(t, strings.HasPrefix(name, "organizations/7/files/3/"))
		}
	})
}
