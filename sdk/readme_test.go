package sdk_test

import (
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/rivergate/rivergate/sdk"
	"github.com/rivergate/rivergate/sdk/protocol"
)

func readmeText(t *testing.T) string {
	t.Helper()
	text, err := os.ReadFile("README.md")
	require.NoError(t, err)
	return string(text)
}

// The first block is a plugin, the second its test: built and run as a package of this module, which an overlay
// puts where no file is.
func TestTheCodeOfTheReadmeWorks(t *testing.T) {
	blocks := regexp.MustCompile("(?s)```go\n(.*?)```").FindAllStringSubmatch(readmeText(t), -1)
	require.Len(t, blocks, 2)
	dir := t.TempDir()
	replace := map[string]string{}
	for i, name := range []string{"main.go", "main_test.go"} {
		file := filepath.Join(dir, name)
		require.NoError(t, os.WriteFile(file, []byte(blocks[i][1]), 0o600))
		at, err := filepath.Abs(filepath.Join("internal/readme", name))
		require.NoError(t, err)
		replace[at] = file
	}
	overlay, err := json.Marshal(map[string]any{"Replace": replace})
	require.NoError(t, err)
	overlayFile := filepath.Join(dir, "overlay.json")
	require.NoError(t, os.WriteFile(overlayFile, overlay, 0o600))

	binary := filepath.Join(dir, "readme.test")
	build := exec.Command("go", "test", "-c", "-vet=off", "-ldflags=-s -w", "-overlay", overlayFile, "-o", binary, "./internal/readme")
	out, err := build.CombinedOutput()
	require.NoError(t, err, "%s", out)
	out, err = exec.Command(binary, "-test.v").CombinedOutput()
	require.NoError(t, err, "%s", out)
	require.Contains(t, string(out), "--- PASS: TestARefusedRowIsRejectedAloneAndARetryChangesNothing")

	format := exec.Command("gofmt", "-l", dir)
	out, err = format.CombinedOutput()
	require.NoError(t, err)
	require.Empty(t, string(out), "the code is not formatted")
}

func TestTheReadmeKnowsEveryClassAndVersion(t *testing.T) {
	text := readmeText(t)
	for _, class := range []sdk.Class{sdk.Retry, sdk.Throttled, sdk.Rejected, sdk.Unauthenticated, sdk.Duplicate, sdk.Skipped} {
		require.Contains(t, text, "\n| `"+strings.ToUpper(class.String())+"` |")
	}
	for _, version := range protocol.Versions() {
		require.Regexp(t, regexp.MustCompile(`(?m)^\| `+string('0'+rune(version))+` \| 0\.\d+ \| `), text)
	}
	for _, variable := range []string{"RIVERGATE_PLUGIN=c9f1d3a0-rows-in-kept-safe-out", "PLUGIN_PROTOCOL_VERSIONS", "PLUGIN_UNIX_SOCKET_DIR", "PLUGIN_CLIENT_CERT", "RIVERGATE_HOST_PID", "RIVERGATE_LOG_LEVEL"} {
		require.Contains(t, text, variable)
	}
}

func TestEveryLinkOfTheReadmeLeadsSomewhere(t *testing.T) {
	text := readmeText(t)
	headings := map[string]bool{}
	for _, m := range regexp.MustCompile(`(?m)^#+ (.+)$`).FindAllStringSubmatch(text, -1) {
		anchor := regexp.MustCompile(`[^a-z0-9 -]`).ReplaceAllString(strings.ToLower(m[1]), "")
		headings["#"+strings.ReplaceAll(anchor, " ", "-")] = true
	}
	links := regexp.MustCompile(`\]\(([^)\s]+)\)`).FindAllStringSubmatch(text, -1)
	require.Greater(t, len(links), 10)
	for _, link := range links {
		if strings.HasPrefix(link[1], "#") {
			require.Contains(t, headings, link[1])
			continue
		}
		require.FileExists(t, filepath.Join(link[1], map[bool]string{true: "README.md"}[filepath.Ext(link[1]) == ""]))
	}
}
