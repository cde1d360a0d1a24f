package command

import (
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// builtPusher compiles a pusher of the tree under the name that the contract asks for.
func builtPusher(t *testing.T, folder string) string {
	t.Helper()
	if testing.Short() {
		t.Skip("builds a plugin")
	}
	binary := filepath.Join(t.TempDir(), "rivergate-pusher-"+filepath.Base(folder))
	goBuild(t, "-o", binary, "./"+folder)
	return binary
}

// refusing is a destination that answers 422 to rows with the member "bad".
func refusing(t *testing.T) string {
	t.Helper()
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		if err != nil || strings.Contains(string(body), `"bad"`) {
			w.WriteHeader(http.StatusUnprocessableEntity)
		}
	}))
	t.Cleanup(server.Close)
	return server.URL
}

type runEvent struct {
	Event  string
	PID    int `json:"pid"`
	OldPID int `json:"old_pid"`
	How    string
	Reason string
	Plugin struct {
		Name, Version string
		PID           int `json:"pid"`
	}
	Rows []rowOutcome

	Healthy  bool
	Crashed  bool
	Message  string
	Schema   json.RawMessage
	Problems []struct{ Variable, Reason string }
}

func runEvents(t *testing.T, stdout string) (events []runEvent) {
	t.Helper()
	for line := range strings.Lines(stdout) {
		var e runEvent
		require.NoError(t, json.Unmarshal([]byte(line), &e), "%s", line)
		events = append(events, e)
	}
	return events
}

func eventNames(events []runEvent) (list []string) {
	for _, e := range events {
		list = append(list, e.Event)
	}
	return list
}

func TestPluginRunShowsTheOutcomeOfEachRowAndWhatTheHostWouldDo(t *testing.T) {
	binary, url := builtPusher(t, "plugins/pusher/http"), refusing(t)
	rows := filepath.Join(t.TempDir(), "rows.jsonl")
	require.NoError(t, os.WriteFile(rows, []byte("{\"n\":1}\n{\"n\":2}\n"), 0o600))
	input := strings.Join([]string{
		`{"a":1}`, `.uuid other`, `.index 4`, `{"bad":1}`, `.batch`, `{"a":1}`, `{"a":2}`, `.send`, `.again`, `.file ` + rows, `.health`, `.schema`,
	}, "\n")
	r := rivergate(t, "", input, "plugin", "run", binary, "--config", "url="+url, "--config", "TOKEN=t0psecret", "--json")
	require.Equal(t, exitDone, r.code, r.stderr)
	events := runEvents(t, r.stdout)
	require.Equal(t, []string{"plugin", "outcomes", "outcomes", "outcomes", "outcomes", "outcomes", "health", "schema"}, eventNames(events))
	require.Equal(t, "http", events[0].Plugin.Name)
	require.NotEmpty(t, events[0].Plugin.Version)

	one := events[1].Rows
	require.Len(t, one, 1)
	require.Equal(t, rowOutcome{Row: 1, UUID: "by-hand", Position: 1, Class: "delivered", Host: "done"}, one[0])
	refused := events[2].Rows[0]
	require.Equal(t, "other", refused.UUID)
	require.Equal(t, "rejected", refused.Class)
	require.Equal(t, "http_422", refused.Code)
	require.Contains(t, refused.Host, "dead letters")
	require.Equal(t, events[3].Rows, events[4].Rows, ".again sends the same rows at the same positions")
	require.Len(t, events[3].Rows, 2)
	require.EqualValues(t, 3, events[3].Rows[0].Position)
	require.Len(t, events[5].Rows, 2)
	require.EqualValues(t, 5, events[5].Rows[0].Position)
	require.True(t, events[6].Healthy)
	require.Contains(t, string(events[7].Schema), `"url"`)
	require.NotContains(t, r.stdout+r.stderr, "t0psecret")

	text := rivergate(t, "", input, "plugin", "run", binary, "--config", "url="+url)
	require.Equal(t, exitDone, text.code, text.stderr)
	require.Contains(t, text.stdout, "row 1  position 2  rejected  http_422")
	require.Contains(t, text.stdout, "→ into the dead letters")
	require.Contains(t, text.stderr, "plugin started", "the log appears in between")
}

func TestPluginRunSeesThePluginDieAndComeBack(t *testing.T) {
	binary := builtPusher(t, "plugins/testdata/crash")
	r := rivergate(t, "", `{"poison":true}`+"\n"+`{"a":1}`+"\n.crash\n.drain\n"+`{"a":2}`+"\n", "plugin", "run", binary, "--json")
	require.Equal(t, exitDone, r.code, r.stderr)
	events := runEvents(t, r.stdout)
	require.Equal(t, []string{"plugin", "ended", "restarted", "outcomes", "restarted", "restarted", "outcomes"}, eventNames(events))
	require.True(t, events[1].Crashed)
	require.Contains(t, events[1].How, "panic")
	pid := events[0].Plugin.PID
	for _, i := range []int{2, 4, 5} {
		require.Equal(t, pid, events[i].OldPID, "event %d", i)
		require.NotEqual(t, pid, events[i].PID)
		pid = events[i].PID
	}
	require.Equal(t, "delivered", events[3].Rows[0].Class)
}

func TestPluginRunKillsAPluginThatNeverAcknowledges(t *testing.T) {
	binary := builtPusher(t, "plugins/testdata/hang")
	r := rivergate(t, "", `{"poison":true}`+"\n", "plugin", "run", binary, "--timeout", "200ms", "--json")
	require.Equal(t, exitDone, r.code, r.stderr)
	events := runEvents(t, r.stdout)
	require.Equal(t, []string{"plugin", "ended", "restarted"}, eventNames(events))
	require.Contains(t, events[1].How, "acknowledged nothing for 200ms")
}

func TestPluginRunTakesSettingsFromFilesAndTheEnvironment(t *testing.T) {
	binary, url := builtPusher(t, "plugins/pusher/http"), refusing(t)
	dir := t.TempDir()
	object, lines := filepath.Join(dir, "config.json"), filepath.Join(dir, "config.env")
	require.NoError(t, os.WriteFile(object, []byte(`{"url":"`+url+`","concurrency":2,"request_timeout":"5s","forward_context":true}`), 0o600))
	require.NoError(t, os.WriteFile(lines, []byte("# settings\nURL="+url+"\nPLUGIN_HTTP_CONCURRENCY=2\nrequest_timeout=5s\n"), 0o600))
	file := filepath.Join(dir, "env")
	require.NoError(t, os.WriteFile(file, []byte("PLUGIN_THIRD_URL="+url+"\n"), 0o600))
	for name, args := range map[string][]string{
		"the env file":    {"--env-prefix", "PLUGIN_THIRD_", "--env-file", file},
		"a JSON object":   {"--config-file", object},
		"lines":           {"--config-file", lines},
		"the environment": {"--env-prefix", "PLUGIN_OTHER_"},
	} {
		t.Run(name, func(t *testing.T) {
			environ := []string{"PLUGIN_OTHER_URL=" + url, "PLUGIN_OTHER_ENABLED=true", "PLUGIN_OTHER_BATCH_ROWS=7"}
			r := rivergateWith(t, environ, `{"a":1}`, append([]string{"plugin", "run", binary, "--json"}, args...)...)
			require.Equal(t, exitDone, r.code, r.stderr)
			require.Equal(t, "delivered", runEvents(t, r.stdout)[1].Rows[0].Class)
		})
	}
}

func TestRowsBeforeABadLineOfAFileAreSentAsTheirOwnBatch(t *testing.T) {
	binary, url := builtPusher(t, "plugins/pusher/http"), refusing(t)
	file := filepath.Join(t.TempDir(), "rows.jsonl")
	require.NoError(t, os.WriteFile(file, []byte("{\"n\":1}\n{\"n\":2}\nnonsense\n"), 0o600))
	r := rivergateWith(t, nil, ".file "+file+"\n{\"n\":3}\n", "plugin", "run", binary, "--json", "--config", "url="+url)
	events := runEvents(t, r.stdout)
	require.Equal(t, []string{"plugin", "outcomes", "error", "outcomes"}, eventNames(events))
	require.Len(t, events[1].Rows, 2)
	require.Contains(t, events[2].Message, "line 3")
	require.Len(t, events[3].Rows, 1)
}

func TestPluginRunSaysWhatIsWrongBeforeAnythingIsSent(t *testing.T) {
	binary := builtPusher(t, "plugins/pusher/http")
	for name, c := range map[string]struct {
		args []string
		code int
		want string
	}{
		"an unknown setting":    {[]string{binary, "--config", "ulr=http://x"}, exitMistake, "PLUGIN_HTTP_URL"},
		"a setting without =":   {[]string{binary, "--config", "url"}, exitMistake, "KEY=VALUE"},
		"no such file":          {[]string{binary + "-not"}, exitMistake, "there is no plugin to run"},
		"no such config file":   {[]string{binary, "--config-file", binary + ".json"}, exitMistake, "--config-file"},
		"a level that is none":  {[]string{binary, "--log-level", "loud"}, exitMistake, "--log-level"},
		"a file that is no ELF": {[]string{"command.go"}, exitFailed, "chmod +x"},
	} {
		t.Run(name, func(t *testing.T) {
			r := rivergate(t, "", `{"a":1}`, append([]string{"plugin", "run"}, c.args...)...)
			require.Equal(t, c.code, r.code, r.stderr)
			require.Contains(t, r.stderr, c.want)
			require.NotContains(t, r.stdout, "delivered")
		})
	}
	r := rivergate(t, "", "nonsense\n.nothing\n[1]\n.batch\n{\"a\":1}\n", "plugin", "run", binary, "--config", "url=http://127.0.0.1:1")
	require.Equal(t, exitFailed, r.code, "a script learns that a line was not carried out")
	require.Contains(t, r.stdout, "not a JSON object")
	require.Contains(t, r.stdout, "no command .nothing")
	require.Contains(t, r.stdout, "1 row of .batch not sent")
}

func TestPluginRunHandsATriggerToAPluginThatNeedsOne(t *testing.T) {
	binary := builtPusher(t, "plugins/testdata/lying") // dies on a frame without the trigger of its uuid
	t.Setenv("LIE", "")
	wrapper := filepath.Join(t.TempDir(), "rivergate-pusher-lying")
	require.NoError(t, os.WriteFile(wrapper, []byte("#!/bin/sh\nLIE=trigger exec "+binary+"\n"), 0o755))
	file := filepath.Join(t.TempDir(), "trigger.json")
	require.NoError(t, os.WriteFile(file, []byte(`{"uuid":"9f86d081884c7d65","spec":{}}`), 0o600))
	input := strings.Join([]string{
		`{"a":1}`, `.trigger []`, `.trigger ` + file, `{"a":2}`, `.uuid other`, `{"a":3}`, `.trigger {"spec":[null]}`, `{"a":4}`, `.again`,
	}, "\n")
	r := rivergate(t, "", input, "plugin", "run", wrapper, "--json")
	events := runEvents(t, r.stdout)
	require.Equal(t, []string{"plugin", "error", "error", "outcomes", "outcomes", "outcomes", "outcomes"}, eventNames(events), r.stdout)
	require.Contains(t, events[1].Message, ".trigger, or --trigger")
	require.Equal(t, "9f86d081884c7d65", events[3].Rows[0].UUID)
	require.Equal(t, "other", events[4].Rows[0].UUID)

	r = rivergate(t, "", `{"a":1}`, "plugin", "run", wrapper, "--trigger", file, "--json")
	require.Equal(t, exitDone, r.code, r.stdout)
	r = rivergate(t, "", "", "plugin", "run", wrapper, "--trigger", "/no/such/file")
	require.Equal(t, exitMistake, r.code)
	require.Contains(t, r.stderr, "--trigger")
}
