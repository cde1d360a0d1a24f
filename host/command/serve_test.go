package command

import (
	"bufio"
	"bytes"
	"context"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// serving is a host in this process, without a plugin.
type serving struct {
	url    string
	stop   context.CancelFunc
	code   chan int
	stderr *lines
}

// lines is a writer that may be read meanwhile.
type lines struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *lines) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *lines) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

// serve starts a host and waits until it says where it listens.
func serve(t *testing.T, dir string, environ ...string) *serving {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	s := &serving{stop: cancel, code: make(chan int, 1), stderr: &lines{}}
	out, in := io.Pipe()
	program := Program{
		Version: "1.2.3", Args: []string{"serve", "--hints"}, Stdin: strings.NewReader(""), Stdout: in, Stderr: s.stderr,
		Environ: append([]string{
			"RIVERGATE_LISTEN=127.0.0.1:0", "RIVERGATE_DATA_DIR=" + dir, "RIVERGATE_PLUGIN_DIR=" + t.TempDir(), "GOMEMLIMIT=off",
		}, environ...),
	}
	go func() {
		code := program.Run(ctx)
		in.Close()
		s.code <- code
	}()
	t.Cleanup(func() {
		cancel()
		s.end(t)
	})
	reader := bufio.NewReader(out)
	for s.url == "" {
		line, err := reader.ReadString('\n')
		require.NoError(t, err, "the host ended before it listened: %s", s.stderr)
		s.url = regexp.MustCompile(`http://[0-9.:]*[0-9]`).FindString(line)
	}
	go io.Copy(io.Discard, reader) //nolint:errcheck // ends with the pipe
	return s
}

// end waits for the end and returns the exit code.
func (s *serving) end(t *testing.T) int {
	t.Helper()
	select {
	case code := <-s.code:
		s.code <- code
		return code
	case <-time.After(30 * time.Second):
		t.Fatalf("the host does not end: %s", s.stderr)
		return -1
	}
}

// ask makes a request on a connection of its own.
func ask(t *testing.T, method, url, body string) (int, string) {
	t.Helper()
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}, Timeout: 10 * time.Second}
	request, err := http.NewRequestWithContext(t.Context(), method, url, strings.NewReader(body))
	require.NoError(t, err)
	answer, err := client.Do(request)
	require.NoError(t, err)
	defer answer.Body.Close()
	raw, err := io.ReadAll(answer.Body)
	require.NoError(t, err)
	return answer.StatusCode, string(raw)
}

const oneRow = `{"uuid":"u","row":{"data":{"n":1}}}`

func TestAHostWithoutAPusherSaysWhatToSet(t *testing.T) {
	s := serve(t, t.TempDir())
	status, body := ask(t, "POST", s.url+"/data", oneRow)
	require.Equal(t, 503, status)
	require.Contains(t, body, "PLUGIN_")
	require.Contains(t, body, "_ENABLED")
	status, _ = ask(t, "GET", s.url+"/health", "")
	require.Equal(t, 200, status)
	s.stop()
	require.Equal(t, 0, s.end(t), s.stderr)
	require.Contains(t, s.stderr.String(), "stopped in good order")
}

func TestHeldRowsAreStillThereAfterARestart(t *testing.T) {
	dir := t.TempDir()
	s := serve(t, dir, "RIVERGATE_GATEWAY_HOLD=true")
	status, body := ask(t, "POST", s.url+"/data", oneRow)
	require.Equal(t, 202, status, body)
	id := regexp.MustCompile(`dlv-[0-9a-z]+`).FindString(body)
	require.NotEmpty(t, id)
	s.stop()
	require.Equal(t, 0, s.end(t), s.stderr)

	s = serve(t, dir, "RIVERGATE_GATEWAY_HOLD=true")
	status, body = ask(t, "GET", s.url+"/api/v1/gateway/deliveries/"+id, "")
	require.Equal(t, 200, status, body)
	require.Contains(t, body, `"uuid":"u"`)
}

func TestASecondHostOnTheSameFolderIsRefused(t *testing.T) {
	dir := t.TempDir()
	serve(t, dir)
	r := rivergateWith(t, []string{"RIVERGATE_LISTEN=127.0.0.1:0", "RIVERGATE_DATA_DIR=" + dir}, "", "serve")
	require.Equal(t, exitFailed, r.code)
	require.Contains(t, r.stderr, "another host (process ")
	require.Contains(t, r.stderr, "RIVERGATE_DATA_DIR")
}

func TestAnAddressThatIsTakenEndsTheHost(t *testing.T) {
	taken, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0")
	require.NoError(t, err)
	defer taken.Close()
	r := rivergateWith(t, []string{"RIVERGATE_LISTEN=" + taken.Addr().String(), "RIVERGATE_DATA_DIR=" + t.TempDir(), "RIVERGATE_PLUGIN_DIR=" + t.TempDir()}, "", "serve")
	require.Equal(t, exitFailed, r.code)
	require.Contains(t, r.stderr, "address already in use")
	require.Contains(t, r.stderr, "RIVERGATE_LISTEN")
}

func TestServeAndCheckRefuseTheSameThingsAlike(t *testing.T) {
	file := filepath.Join(t.TempDir(), "file")
	require.NoError(t, os.WriteFile(file, nil, 0o600))
	environ := []string{
		"RIVERGATE_LISTN=127.0.0.1:1", "RIVERGATE_AUTH=jwt", "PLUGIN_FILE_ENABLED=true", "RIVERGATE_PLUGIN_DIR=" + t.TempDir(),
	}
	want := `rivergate: 3 problems with the configuration:
  PLUGIN_FILE_ENABLED: there is no plugin file: the plugin folder `
	serve, check := rivergateWith(t, environ, "", "serve"), rivergateWith(t, environ, "", "check")
	require.Equal(t, exitMistake, serve.code)
	require.Equal(t, exitMistake, check.code)
	require.Equal(t, serve.stderr, check.stderr)
	require.Contains(t, serve.stderr, want)
	require.Contains(t, serve.stderr, "Did you mean RIVERGATE_LISTEN?")

	for _, dir := range []string{file, filepath.Join(file, "below")} {
		environ = []string{"RIVERGATE_DATA_DIR=" + dir, "RIVERGATE_PLUGIN_DIR=" + t.TempDir(), "RIVERGATE_LISTEN=127.0.0.1:0"}
		serve, check = rivergateWith(t, environ, "", "serve"), rivergateWith(t, environ, "", "check")
		require.Equal(t, exitMistake, serve.code)
		require.Equal(t, serve.stderr, check.stderr)
		require.Contains(t, serve.stderr, "RIVERGATE_DATA_DIR")
	}
}

func TestCheckOfARightConfigurationLeavesNothingBehind(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "data")
	environ := []string{"RIVERGATE_DATA_DIR=" + dir, "RIVERGATE_PLUGIN_DIR=" + t.TempDir(), "RIVERGATE_INTERNAL_TOKEN=sesame", "PLUGIN_OTHER_PATH=x"}
	r := rivergateWith(t, environ, "", "check")
	require.Equal(t, 0, r.code, r.stderr)
	require.Contains(t, r.stdout, "The configuration is right")
	require.Contains(t, r.stderr, "PLUGIN_OTHER_PATH")
	require.NoDirExists(t, dir)

	r = rivergateWith(t, environ, "", "check", "--json")
	require.Equal(t, 0, r.code, r.stderr)
	require.Contains(t, r.stdout, `"ok": true`)
	require.Contains(t, r.stdout, `"value": "***"`)
	require.NotContains(t, r.stdout, "sesame")
}

func TestPluginsListsTheFolderAlsoWithoutAHost(t *testing.T) {
	dir := t.TempDir()
	require.NoError(t, os.WriteFile(filepath.Join(dir, "rivergate-pusher-acme"), []byte("#!/bin/true"), 0o755))
	environ := []string{"RIVERGATE_PLUGIN_DIR=" + dir, "RIVERGATE_URL=http://127.0.0.1:1", "PLUGIN_LAKE_ENABLED=true", "PLUGIN_LAKE_USE=acme"}
	r := rivergateWith(t, environ, "", "plugins")
	require.Equal(t, 0, r.code, r.stderr)
	lines := strings.Split(r.stdout, "\n")
	require.Len(t, lines, 6)
	require.Equal(t, []string{"NAME", "PLUGIN", "KIND", "ENABLED", "SHA256", "PROBLEM"}, strings.Fields(lines[0]))
	require.Equal(t, []string{"acme", "pusher", "no", "3da6c261bfe4…"}, strings.Fields(lines[1])[:4])
	require.Equal(t, []string{"lake", "acme", "pusher", "yes", "3da6c261bfe4…"}, strings.Fields(lines[2])[:5])
	require.Contains(t, lines[1], "handshake", "a file that is no plugin says so instead of a version")
	require.Equal(t, "No host answers at http://127.0.0.1:1, so states are not known.", lines[4])
}

func TestATemplateBecomesWhatAShellExpands(t *testing.T) {
	require.Equal(t, "out/*/*.jsonl", shellPattern("out/{org}/{date}.jsonl"))
	require.Equal(t, "out/rows.jsonl", shellPattern("out/rows.jsonl"))
}
