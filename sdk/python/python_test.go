// Package python_test runs the Python SDK's own tests, and holds what it builds against the plugin contract.
package python_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/rivergate/rivergate/sdk"
	"github.com/rivergate/rivergate/sdk/plugintest"
	"github.com/rivergate/rivergate/sdk/plugintest/conformance"
	"github.com/rivergate/rivergate/sdk/protocol"
	"github.com/rivergate/rivergate/sdk/settings"
)

// root is the folder of the source tree, seen from here.
const root = "../.."

// environment is the folder of the Python environment that deploy/python makes. Where it cannot be made the test is
// skipped, and says what to install; with CI=true it fails.
func environment(t *testing.T) string {
	t.Helper()
	var said bytes.Buffer
	cmd := exec.CommandContext(t.Context(), filepath.Join(root, "deploy", "python"))
	cmd.Stderr = &said
	out, err := cmd.Output()
	if err != nil {
		if os.Getenv("CI") == "true" {
			t.Fatalf("no Python environment: %v\n%s", err, said.String())
		}
		t.Skipf("no Python environment: %v\n%s", err, said.String())
	}
	return strings.TrimSpace(string(out))
}

func run(t *testing.T, dir, program string, args ...string) string {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), program, args...)
	cmd.Dir = dir
	out, err := cmd.CombinedOutput()
	require.NoError(t, err, "%s %s\n%s", program, strings.Join(args, " "), out)
	return string(out)
}

// built is the folder of what tests share, made by TestMain.
var built string

func TestMain(m *testing.M) {
	var err error
	if built, err = os.MkdirTemp("", "rvg-python"); err != nil {
		panic(err)
	}
	code := m.Run()
	_ = os.RemoveAll(built)
	os.Exit(code)
}

// buildNull packs plugins/testdata/pynull, once.
func buildNull(t *testing.T) string {
	t.Helper()
	binary := filepath.Join(built, "rivergate-pusher-pynull")
	if _, err := os.Stat(binary); err == nil {
		return binary
	}
	run(t, root, filepath.Join(environment(t), "bin", "python"), "-m", "rivergate_sdk.build", "--output", binary,
		"--entry", "pynull:main", "--source", "plugins/testdata/pynull/pynull.py")
	return binary
}

func TestThePythonSDKPassesItsOwnTests(t *testing.T) {
	t.Log(run(t, ".", filepath.Join(environment(t), "bin", "python"), "-m", "pytest"))
}

func TestThePythonSDKIsTypedThroughout(t *testing.T) {
	run(t, ".", filepath.Join(environment(t), "bin", "mypy"))
	run(t, ".", filepath.Join(environment(t), "bin", "mypy"), "--no-incremental", "tests",
		filepath.Join(root, "plugins/testdata/pynull/pynull.py"), filepath.Join(root, "plugins/testdata/pylite/pylite.py"))
}

func TestABuiltPythonPluginKeepsTheContract(t *testing.T) {
	plugintest.Conform(t, buildNull(t), map[string]any{"count_file": filepath.Join(t.TempDir(), "counts")}, cached)
}

// cached keeps what the plugin unpacks out of the home of whoever runs the tests.
func cached(o *conformance.Options) {
	o.Env = append(o.Env, "XDG_CACHE_HOME="+built)
}

func TestAWrappedPusherOfTheFormerGatewayRunsUnchanged(t *testing.T) {
	binary := filepath.Join(t.TempDir(), "rivergate-pusher-former")
	run(t, root, filepath.Join(environment(t), "bin", "python"), "-m", "rivergate_sdk.wrap", "--output", binary, "--name", "former",
		"plugins/testdata/pyformer/plugins/former")
	file := filepath.Join(t.TempDir(), "pushed")
	config := map[string]any{"file": file, "api_key": "s3cret"}
	plugintest.Conform(t, binary, config, cached)

	require.NoError(t, os.Remove(file))
	command := exec.Command(binary)
	command.Env = []string{"PATH=" + os.Getenv("PATH"), "TMPDIR=" + t.TempDir(), "XDG_CACHE_HOME=" + built}
	h := plugintest.Start(t, command, config)
	outcomes := h.Deliver(
		plugintest.Indexed(plugintest.Frame("run-1", `{"b":"1.0","a":null}`, `{"c":2}`), 4, protocol.NoIndex),
		plugintest.Frame("run-2", `{"refuse":true}`, `{"d":4}`), plugintest.Frame("run-3", `{"e":5}`),
	)
	require.Len(t, outcomes, 2, "the rows of the request that raised, and no others: %+v", outcomes)
	for i, o := range outcomes {
		require.Equal(t, protocol.Retry, o.Class)
		require.Equal(t, i, o.Row)
		require.Equal(t, "ValueError: refused", o.Message)
	}
	pushed, err := os.ReadFile(file)
	require.NoError(t, err)
	require.Equal(t, `{"uuid": "run-1", "index": 4, "data": {"b": "1.0", "a": null}, "heading": "h"}
{"uuid": "run-1", "index": null, "data": {"c": 2}, "heading": "h"}
{"uuid": "run-3", "index": null, "data": {"e": 5}, "heading": "h"}
`, string(pushed))

	// What its code needs to be imported is missed under the plugin's name, before any row.
	command = exec.Command(binary)
	command.Env = []string{"PATH=" + os.Getenv("PATH"), "TMPDIR=" + t.TempDir(), "XDG_CACHE_HOME=" + built}
	problems := plugintest.Connect(t, command).Configure(nil)
	require.Len(t, problems, 1)
	require.Contains(t, problems[0].Reason, "PLUGIN_FORMER_API_KEY")
}

func TestAPythonPluginIsOneFileThatUnpacksIntoAFolderOfItsUserAlone(t *testing.T) {
	binary := buildNull(t)
	home, temporary := t.TempDir(), t.TempDir()
	version := func(more ...string) (string, error) {
		cmd := exec.CommandContext(t.Context(), binary, "--version")
		cmd.Env = append([]string{"PATH=" + os.Getenv("PATH"), "XDG_CACHE_HOME=" + home, "TMPDIR=" + temporary}, more...)
		out, err := cmd.CombinedOutput()
		return string(out), err
	}
	cache, second := filepath.Join(home, "rivergate-python"), filepath.Join(temporary, fmt.Sprintf("rivergate-python-%d", os.Geteuid()))
	for _, when := range []string{"first", "later"} {
		began := time.Now()
		out, err := version("SHIV_ROOT="+t.TempDir(), "SHIV_INTERPRETER=1") // shiv's own variables have no say
		require.NoError(t, err, out)
		require.Contains(t, out, "rivergate-pusher-pynull 1.0.0")
		t.Logf("%s start: %s", when, time.Since(began).Round(time.Millisecond))
	}
	info, err := os.Stat(cache)
	require.NoError(t, err)
	require.Equal(t, os.FileMode(0o700), info.Mode().Perm())
	require.NoFileExists(t, second)

	// What others could write is not run from: the next folder is taken, and without one it says why.
	require.NoError(t, os.Chmod(cache, 0o777)) //nolint:gosec // what must be refused
	out, err := version()
	require.NoError(t, err, out)
	require.DirExists(t, second)

	require.NoError(t, os.RemoveAll(second))
	require.NoError(t, os.Symlink(home, second))
	out, err = version()
	require.Error(t, err)
	require.Contains(t, out, cache+" is open to others")
	require.Contains(t, out, second+" is not a folder")
	require.Contains(t, out, "XDG_CACHE_HOME")
}

// everything is the Go form of the settings that describe.py declares.
type everything struct {
	Text   string            `config:"text" required:"true" doc:"Text, <b>&amp;</b> \"quoted\"." pattern:"^[a-z]+$" example:"abc"`
	Token  sdk.Secret        `config:"token" doc:"Key."`
	Flag   bool              `config:"flag" default:"true"`
	Count  int               `config:"count" default:"3" min:"1" max:"10"`
	Ratio  float64           `config:"ratio" default:"0.5" min:"0" max:"1.5"`
	Pause  time.Duration     `config:"pause" default:"1m30s" min:"100ms" max:"1h"`
	Size   sdk.Bytes         `config:"size" default:"16MiB" min:"1KiB" max:"1GiB"`
	Plain  sdk.Bytes         `config:"plain" default:"4096"`
	Names  []string          `config:"names" default:"a, b" enum:"a,b,c"`
	Labels map[string]string `config:"labels" default:"a=1,b=2"`
	Form   string            `config:"form" default:"jsonl" enum:"jsonl,csv"`
	URL    string            `config:"url" format:"uri" example:"http://example.com/é"`
}

func TestTheSchemaIsThatOfTheGoSDK(t *testing.T) {
	out := run(t, ".", filepath.Join(environment(t), "bin", "python"), "tests/describe.py")
	want, err := settings.Schema(everything{})
	require.NoError(t, err)
	var compact bytes.Buffer
	require.NoError(t, json.Compact(&compact, []byte(out)))
	require.Equal(t, string(want), compact.String())
}
