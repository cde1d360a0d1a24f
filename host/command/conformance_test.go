package command

import (
	"encoding/json"
	"encoding/xml"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/rivergate/rivergate/sdk/plugintest/conformance"
)

func buildTestPlugin(t *testing.T, name string) string {
	t.Helper()
	out := filepath.Join(t.TempDir(), name)
	build := exec.Command("go", "build", "-o", out, "./plugins/testdata/"+name)
	build.Dir = filepath.Join("..", "..")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	text, err := build.CombinedOutput()
	require.NoError(t, err, "%s", text)
	return out
}

func TestConformanceOfAGoodPluginExitsWithZero(t *testing.T) {
	binary := buildTestPlugin(t, "null")
	count, junit := filepath.Join(t.TempDir(), "count"), filepath.Join(t.TempDir(), "report.xml")
	r := rivergate(t, "", "", "conformance", binary, "--config", "COUNT_FILE="+count, "--rule", "drain", "--junit", junit)
	require.Equal(t, 0, r.code, r.stdout+r.stderr)
	require.Contains(t, r.stdout, "PASS     drain ")
	require.Contains(t, r.stdout, "null 1.0.0, protocol ")
	require.NotContains(t, r.stdout, "restart")
	require.Empty(t, r.stderr)
	report, err := os.ReadFile(junit)
	require.NoError(t, err)
	var suite struct {
		Cases []struct {
			Name string `xml:"name,attr"`
		} `xml:"testcase"`
	}
	require.NoError(t, xml.Unmarshal(report, &suite))
	require.Equal(t, "drain", suite.Cases[len(suite.Cases)-1].Name)

	config := filepath.Join(t.TempDir(), "config.json")
	require.NoError(t, os.WriteFile(config, []byte(`{"count_file":"`+count+`"}`), 0o600))
	r = rivergate(t, "", "", "conformance", binary, "--config-file", config, "--rule", "configure", "--json")
	require.Equal(t, 0, r.code, r.stdout+r.stderr)
	var said conformance.Report
	require.NoError(t, json.Unmarshal([]byte(r.stdout), &said), "nothing but JSON: %s", r.stdout)
	require.Equal(t, "null", said.Plugin)

	for says, args := range map[string][]string{
		"PLUGIN_NULL_COUNT_FILE is required": {binary},
		"there is no rule \"drian\"":         {binary, "--rule", "drian"},
		"KEY=VALUE is wanted":                {binary, "--config", "count_file"},
		"is not a JSON object":               {binary, "--config-file", binary},
		"--timeout must be more than 0":      {binary, "--timeout", "0s"},
		"takes the name of a variable":       {binary, "--pass-env", "A=b"},
		"there is no binary":                 {binary + "-gone"},
		"accepts 1 arg(s), received 0":       {},
	} {
		r := rivergate(t, "", "", append([]string{"conformance"}, args...)...)
		require.Equal(t, 2, r.code, "%v: %s", args, r.stdout)
		require.Contains(t, r.stderr, says)
	}
	require.NotContains(t, rivergate(t, "", "", "conformance", binary, "--config", "=secret").stderr, "secret")
}

func TestConformanceOfALyingPluginExitsWithOneAndSaysWhatToChange(t *testing.T) {
	binary := buildTestPlugin(t, "lying")
	r := rivergateWith(t, []string{"LIE=kind"}, "", "conformance", binary, "--rule", "describe", "--pass-env", "LIE")
	require.Equal(t, 1, r.code, r.stdout+r.stderr)
	require.Contains(t, r.stdout, "FAIL     describe ")
	require.Contains(t, r.stdout, "Came: engine")
	require.Contains(t, r.stdout, "Change: say one of these kinds")
	require.Empty(t, r.stderr)
	// Without --pass-env the plugin does not hear of the variable.
	r = rivergateWith(t, []string{"LIE=kind"}, "", "conformance", binary, "--rule", "describe")
	require.Equal(t, 0, r.code, r.stdout+r.stderr)
}

func TestConformanceListsItsRules(t *testing.T) {
	r := rivergate(t, "", "", "conformance", "--list")
	require.Equal(t, 0, r.code)
	for _, rule := range conformance.Rules() {
		require.Contains(t, r.stdout, rule.ID+" ")
		require.Contains(t, r.stdout, rule.Contract)
	}
	r = rivergate(t, "", "", "conformance", "--list", "--json")
	var said struct{ Rules []conformance.Rule }
	require.NoError(t, json.Unmarshal([]byte(r.stdout), &said))
	require.Len(t, said.Rules, len(conformance.Rules()))
}
