package command

import (
	"bytes"
	"context"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) {
	goleak.VerifyTestMain(m,
		// fasthttp's own: the one sleeps up to 10 s before it sees that its server has stopped, the other keeps the time.
		goleak.IgnoreAnyFunction("github.com/valyala/fasthttp.(*workerPool).Start.func2"),
		goleak.IgnoreAnyFunction("github.com/valyala/fasthttp.updateServerDate.func1"),
	)
}

// run is one run of the program and what it said.
type run struct {
	code           int
	stdout, stderr string
	waits          []time.Duration // between retries; no time passes
}

// rivergate runs a command line against a host at url ("": none named).
func rivergate(t *testing.T, url, stdin string, args ...string) run {
	t.Helper()
	return rivergateWith(t, []string{"RIVERGATE_URL=" + url}, stdin, args...)
}

func rivergateWith(t *testing.T, environ []string, stdin string, args ...string) run {
	t.Helper()
	var r run
	var stdout, stderr bytes.Buffer
	transport := &http.Transport{DisableKeepAlives: true}
	r.code = Program{
		Version: "1.2.3", Commit: "abc", Args: args, Environ: environ,
		Stdin: strings.NewReader(stdin), Stdout: &stdout, Stderr: &stderr,
		HTTP: &http.Client{Transport: transport, Timeout: 10 * time.Second},
		Wait: func(ctx context.Context, d time.Duration) error {
			r.waits = append(r.waits, d)
			return ctx.Err()
		},
	}.Run(t.Context())
	r.stdout, r.stderr = stdout.String(), stderr.String()
	return r
}

// answering is a host that gives one answer to one route.
func answering(t *testing.T, method, path string, status int, body string) string {
	t.Helper()
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method != method || r.URL.Path != path {
			w.WriteHeader(http.StatusNotFound)
			_, _ = w.Write([]byte(`{"success":false,"error":{"code":"NOT_FOUND","message":"No such route","request_id":"r1"}}`))
			return
		}
		w.WriteHeader(status)
		_, _ = w.Write([]byte(body))
	}))
	t.Cleanup(server.Close)
	return server.URL
}

func TestHelpNamesEveryCommandAndTheExitCodes(t *testing.T) {
	r := rivergate(t, "", "", "--help")
	require.Equal(t, 0, r.code)
	for _, word := range []string{"serve", "check", "plugins", "pushers", "deadletters", "send", "version", "Exit codes", "--json"} {
		require.Contains(t, r.stdout, word)
	}
	require.NotContains(t, r.stdout, "config-table")
}

func TestEveryCommandHasAnExample(t *testing.T) {
	c := &cli{}
	for _, group := range c.root().Commands() {
		if group.Hidden || group.Name() == "version" {
			continue
		}
		if !group.HasSubCommands() {
			require.NotEmpty(t, group.Example, group.CommandPath())
		}
		for _, cmd := range group.Commands() {
			require.NotEmpty(t, cmd.Example, cmd.CommandPath())
			require.NotEmpty(t, cmd.Short, cmd.CommandPath())
		}
	}
}

func TestAMistakenCommandLineExitsWithTwo(t *testing.T) {
	for name, args := range map[string][]string{
		"unknown command":    {"pushrs"},
		"unknown flag":       {"send", "--uid", "x"},
		"missing argument":   {"pushers", "pause"},
		"group alone":        {"deadletters"},
		"no choice":          {"deadletters", "replay"},
		"two choices":        {"deadletters", "delete", "dl-1", "--all"},
		"bad time":           {"deadletters", "list", "--since", "yesterday"},
		"negative rate":      {"deadletters", "replay", "--all", "--rate", "-1"},
		"no uuid":            {"send"},
		"two uuids":          {"send", "--uuid", "a", "--uuid-field", "b"},
		"bad address":        {"pushers", "list", "--url", "ftp://x"},
		"unknown format":     {"send", "--uuid", "a", "--format", "xml"},
		"file is not there":  {"send", "--uuid", "a", "/nowhere/rows.jsonl"},
		"batch out of range": {"send", "--uuid", "a", "--batch", "0"},
	} {
		t.Run(name, func(t *testing.T) {
			r := rivergate(t, "http://127.0.0.1:1", "", args...)
			require.Equal(t, exitMistake, r.code, r.stderr)
			require.NotEmpty(t, r.stderr+r.stdout)
		})
	}
}

func TestAHostThatIsNotThereIsNamed(t *testing.T) {
	r := rivergate(t, "http://127.0.0.1:1", "", "pushers", "list")
	require.Equal(t, exitFailed, r.code)
	require.Contains(t, r.stderr, "cannot reach http://127.0.0.1:1")
	require.Contains(t, r.stderr, "RIVERGATE_URL")
	require.Empty(t, r.stdout)
}

func TestAPasswordInTheAddressIsNotShown(t *testing.T) {
	const url = "http://ops:sesame@127.0.0.1:1"
	for _, args := range [][]string{{"pushers", "list"}, {"plugins"}, {"plugins", "--json"}, {"send", "--uuid", "u", "--give-up", "1ms"}, {"pushers", "list", "--url", "ftp://ops:sesame@x"}} {
		r := rivergateWith(t, []string{"RIVERGATE_URL=" + url, "RIVERGATE_PLUGIN_DIR=" + t.TempDir()}, `{"a":1}`, args...)
		require.NotContains(t, r.stdout+r.stderr, "sesame", args)
	}
}

func TestAChangeMayTakeLongerThanAQuestion(t *testing.T) {
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		select {
		case <-time.After(300 * time.Millisecond):
		case <-r.Context().Done():
		}
		_, _ = w.Write([]byte(`{"success":true,"message":"Done","data":{}}`))
	}))
	defer server.Close()
	quick, slow := &http.Transport{ResponseHeaderTimeout: 50 * time.Millisecond, DisableKeepAlives: true}, &http.Transport{DisableKeepAlives: true}
	c := &client{base: server.URL, http: &http.Client{Transport: quick}, slow: &http.Client{Transport: slow}}
	_, err := c.call(t.Context(), http.MethodGet, "/", nil, nil, nil)
	require.Error(t, err)
	_, err = c.call(t.Context(), http.MethodPost, "/", nil, nil, nil)
	require.NoError(t, err)
}

func TestSomethingElseThatAnswersIsNotTakenForAHost(t *testing.T) {
	url := answering(t, "GET", pushersPath, 200, "<html>hello</html>")
	r := rivergate(t, url, "", "pushers", "list")
	require.Equal(t, exitFailed, r.code)
	require.Contains(t, r.stderr, "not Rivergate's")
}

func TestARefusalIsToldWithWhatToDo(t *testing.T) {
	url := answering(t, "POST", pushersPath+"/x/pause", 404, `{"success":false,"error":{"code":"NOT_FOUND","message":"No pusher x","request_id":"req-7"}}`)
	r := rivergate(t, url, "", "pushers", "pause", "x")
	require.Equal(t, exitFailed, r.code)
	require.Equal(t, "rivergate: the host answered 404: No pusher x\n  The host's log knows it as request req-7.\n", r.stderr)
}

func TestVersionSaysWhatItWasBuiltFrom(t *testing.T) {
	r := rivergate(t, "", "", "version")
	require.Equal(t, 0, r.code)
	require.Contains(t, r.stdout, "rivergate 1.2.3 (commit abc")
	require.Contains(t, r.stdout, "go1.")
	require.Contains(t, rivergate(t, "", "", "version", "--json").stdout, `"version": "1.2.3"`)
}

func TestNumbersAndTimesForPeople(t *testing.T) {
	require.Equal(t, "1,234,567", count(1234567))
	require.Equal(t, "123", count(123))
	require.Equal(t, "-1,234", count(-1234))
	require.Equal(t, "0 B", size(0))
	require.Equal(t, "1.5 MiB", size(3<<19))
	require.Equal(t, "", age(0))
	require.Equal(t, "2h3m", age(2*time.Hour+3*time.Minute+4*time.Second))
	require.Equal(t, "1.5s", age(1500*time.Millisecond))
	require.Equal(t, "0/s", rate(0))
	require.Equal(t, "12,346/s", rate(12345.6))
}

func TestRetryAfterHasTwoForms(t *testing.T) {
	now := time.Date(2026, 1, 31, 12, 0, 0, 0, time.UTC)
	require.Equal(t, 7*time.Second, retryAfter("7", now))
	require.Equal(t, 30*time.Second, retryAfter("Sat, 31 Jan 2026 12:00:30 GMT", now))
	require.Zero(t, retryAfter("Sat, 31 Jan 2026 11:00:00 GMT", now))
	require.Zero(t, retryAfter("soon", now))
}
