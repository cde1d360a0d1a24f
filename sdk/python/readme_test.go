package python_test

import (
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/stretchr/testify/require"
)

// reader does what README.md says, in a shell, with the host and the SDK's environment on the PATH.
type reader struct {
	t      *testing.T
	dir    string
	path   string
	readme string
}

func newReader(t *testing.T) *reader {
	t.Helper()
	text, err := os.ReadFile("README.md")
	require.NoError(t, err)
	programs := filepath.Join(t.TempDir(), "bin")
	run(t, root, "go", "build", "-o", filepath.Join(programs, "rivergate"), "./host")
	return &reader{t: t, dir: t.TempDir(), path: programs + ":" + filepath.Join(environment(t), "bin") + ":" + os.Getenv("PATH"), readme: string(text)}
}

// block is the only one in a language below a heading.
func (r *reader) block(heading, language string) string {
	r.t.Helper()
	_, section, found := strings.Cut(r.readme, "# "+heading+"\n")
	require.True(r.t, found, "README.md has no %q", heading)
	section, _, _ = strings.Cut(section, "\n## ")
	blocks := regexp.MustCompile("(?s)```"+language+"\n(.*?)```").FindAllStringSubmatch(section, -1)
	require.Len(r.t, blocks, 1, "blocks of %s below %q", language, heading)
	return blocks[0][1]
}

func (r *reader) write(name, text string) {
	r.t.Helper()
	path := filepath.Join(r.dir, name)
	require.NoError(r.t, os.MkdirAll(filepath.Dir(path), 0o700))
	require.NoError(r.t, os.WriteFile(path, []byte(text), 0o600))
}

// sh runs a block; what the reader fills in is replaced.
func (r *reader) sh(script string, replace ...string) string {
	r.t.Helper()
	script = strings.NewReplacer(replace...).Replace(script)
	cmd := exec.CommandContext(r.t.Context(), "/bin/bash", "-euo", "pipefail", "-c", script)
	cmd.Dir = r.dir
	cmd.Env = append(os.Environ(), "PATH="+r.path, "XDG_CACHE_HOME="+built, "RIVERGATE_PLUGIN_DIR="+filepath.Join(r.dir, "plugins"))
	out, err := cmd.CombinedOutput()
	require.NoError(r.t, err, "%s\n%s", script, out)
	return string(out)
}

// destination takes what is POSTed to it.
func destination(t *testing.T) (url string, posts *atomic.Int64) {
	t.Helper()
	posts = &atomic.Int64{}
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		posts.Add(1)
		w.WriteHeader(http.StatusAccepted)
	}))
	t.Cleanup(server.Close)
	return server.URL, posts
}

func TestTheReadmesRepositoryIsMadeTestedAndBuilt(t *testing.T) {
	r := newReader(t)
	checkout, err := filepath.Abs(root)
	require.NoError(t, err)
	// No release has been published that pip could fetch.
	said := r.sh(r.block("Write a Rivergate plugin in Python", "sh"), "plugin new acme", "plugin new acme --sdk "+checkout)
	require.Contains(t, said, "passed")
	require.FileExists(t, filepath.Join(r.dir, "rivergate-pusher-acme", "bin", "rivergate-pusher-acme"))
}

func TestTheReadmesPluginAndItsTestWorkWordForWord(t *testing.T) {
	r := newReader(t)
	url, posts := destination(t)
	address := strings.TrimPrefix(url, "http://")
	r.write("acme.py", r.block("A pusher", "python"))
	r.write("test_acme.py", strings.ReplaceAll(r.block("Testing", "python"), "127.0.0.1:9999", address))
	r.write("requirements.txt", "")
	require.Contains(t, r.sh("python -m pytest -q && mypy --strict acme.py test_acme.py"), "1 passed")
	require.EqualValues(t, 1, posts.Load())

	said := r.sh(r.block("One file", "sh"), "127.0.0.1:9999", address)
	require.NotContains(t, said, "FAIL")
	require.FileExists(t, filepath.Join(r.dir, "plugins", "rivergate-pusher-acme"))
	require.Greater(t, posts.Load(), int64(1), "rows of the conformance suite")
}

func TestTheReadmesFormerPusherIsWrapped(t *testing.T) {
	r := newReader(t)
	for _, name := range []string{"pusher.py", "naming.py", "settings.py"} {
		text, err := os.ReadFile(filepath.Join(root, "plugins/testdata/pyformer/plugins/former", name))
		require.NoError(t, err)
		r.write(filepath.Join("path/to/plugins/riffyn", name), strings.NewReplacer("FORMER", "RIFFYN", "former", "riffyn").Replace(string(text)))
	}
	checkout, err := filepath.Abs(root)
	require.NoError(t, err)
	said := r.sh(r.block("A pusher of the former gateway", "sh"), "wrap-python", "wrap-python --sdk "+checkout)
	require.Contains(t, said, "PLUGIN_RIFFYN_API_KEY")
	require.FileExists(t, filepath.Join(r.dir, "bin", "plugins", "rivergate-pusher-riffyn"))
}
