package command

import (
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// root is the top of the repository, where go.mod is.
func root(t *testing.T) string {
	t.Helper()
	out, err := exec.CommandContext(t.Context(), "go", "env", "GOMOD").Output()
	require.NoError(t, err)
	return filepath.Dir(strings.TrimSpace(string(out)))
}

func readDocument(t *testing.T, path string) string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(root(t), path))
	require.NoError(t, err)
	return string(text)
}

func goBuild(t *testing.T, args ...string) {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), "go", append([]string{"build"}, args...)...)
	cmd.Dir, cmd.Env = root(t), append(os.Environ(), "CGO_ENABLED=0")
	out, err := cmd.CombinedOutput()
	require.NoError(t, err, "%s", out)
}

func TestTheTableOfVariablesIsUpToDate(t *testing.T) {
	if testing.Short() {
		t.Skip("builds the plugins")
	}
	dir := t.TempDir()
	for _, kind := range []string{"pusher", "storage"} {
		plugins, err := filepath.Glob(filepath.Join(root(t), "plugins", kind, "*/main.go"))
		require.NoError(t, err)
		require.NotEmpty(t, plugins)
		for _, main := range plugins {
			name := filepath.Base(filepath.Dir(main))
			goBuild(t, "-o", filepath.Join(dir, "rivergate-"+kind+"-"+name), "./plugins/"+kind+"/"+name)
		}
	}
	table, err := variablesTable(t.Context(), dir)
	require.NoError(t, err)
	document := readDocument(t, "README.md")
	want, err := replaceTable([]byte(document), table)
	require.NoError(t, err)
	require.Equal(t, string(want), document, "README.md is behind the code: make docs")
}

func TestTheExamplePluginCompiles(t *testing.T) {
	document := readDocument(t, "README.md")
	block := regexp.MustCompile("(?s)```go\n(.*?)```").FindStringSubmatch(document)
	require.Len(t, block, 2, "README.md has no Go block")

	// An overlay puts the block where no file is: into the module, without a trace in it.
	dir := t.TempDir()
	source := filepath.Join(dir, "main.go")
	require.NoError(t, os.WriteFile(source, []byte(block[1]), 0o600))
	overlay, err := json.Marshal(map[string]any{"Replace": map[string]string{filepath.Join(root(t), "plugins/pusher/acme-example/main.go"): source}})
	require.NoError(t, err)
	overlayFile := filepath.Join(dir, "overlay.json")
	require.NoError(t, os.WriteFile(overlayFile, overlay, 0o600))
	binary := filepath.Join(dir, "rivergate-pusher-acme")
	goBuild(t, "-overlay", overlayFile, "-o", binary, "./plugins/pusher/acme-example")

	d, err := describe(t.Context(), binary)
	require.NoError(t, err)
	require.Equal(t, "acme", d.Name)
	fields, err := schemaFields("PLUGIN_ACME_", d.ConfigSchema)
	require.NoError(t, err)
	require.Len(t, fields, 2)
	require.Equal(t, "PLUGIN_ACME_URL", fields[0].Variable)
	require.True(t, fields[0].Required)
	require.Equal(t, "secret", fields[1].Type)
}

func TestEveryDirectDependencyIsExplained(t *testing.T) {
	required := map[string]bool{}
	for _, line := range regexp.MustCompile(`(?m)^(?:require )?\t?(\S+\.\S+/\S*|\S+\.\S+) v\S+$`).FindAllStringSubmatch(readDocument(t, "go.mod"), -1) {
		required[line[1]] = true
	}
	require.NotEmpty(t, required)
	explained := map[string]bool{}
	for _, line := range regexp.MustCompile("(?m)^\\| `([^`]+)` \\|").FindAllStringSubmatch(readDocument(t, "deploy/DEPENDENCIES.md"), -1) {
		explained[line[1]] = true
	}
	require.Equal(t, required, explained)
}

func TestEveryCommandIsInTheReadme(t *testing.T) {
	document := readDocument(t, "README.md")
	c := &cli{}
	for _, cmd := range c.root().Commands() {
		if !cmd.Hidden && cmd.Name() != "help" && cmd.Name() != "completion" {
			require.True(t, strings.Contains(document, "`rivergate "+cmd.Name()), "README.md does not name rivergate %s", cmd.Name())
		}
	}
}
