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

const twoPushers = `{"success":true,"message":"Pushers listed","data":{"pushers":[
 {"name":"file","binary":"rivergate-pusher-file","version":"1.0.0","sha256":"ab","state":"running","reason":"","lag_rows":0,"lag_bytes":0,"oldest_age_ms":0,"delivered_total":1234567,"dead_total":0,"rows_per_second":1500.4,"restarts":0,"last_error":""},
 {"name":"lake","binary":"rivergate-pusher-postgres","version":"1.0.0","sha256":"cd","state":"backing_off","reason":"connection refused","lag_rows":52000,"lag_bytes":13312000,"oldest_age_ms":93500,"delivered_total":10,"dead_total":3,"rows_per_second":0,"restarts":4,"last_error":""}]}}`

func TestPushersAreListedAsATable(t *testing.T) {
	url := answering(t, "GET", pushersPath, 200, twoPushers)
	r := rivergate(t, url, "", "pushers", "list")
	require.Equal(t, 0, r.code, r.stderr)
	require.Equal(t, `NAME  STATE        WAITING     BYTES  OLDEST     RATE  DELIVERED  DEAD  RESTARTS  WHY
file  running            0                    1,500/s  1,234,567     0         0
lake  backing_off   52,000  12.7 MiB   1m34s      0/s         10     3         4  connection refused
`, r.stdout)
}

func TestJSONKeepsTheHostsOwnNumbers(t *testing.T) {
	url := answering(t, "GET", deadLettersPath, 200,
		`{"success":true,"message":"Listed","data":{"items":[{"id":"dlq-1","data":{"n":12345678901234567890.10}}],"next_cursor":""}}`)
	r := rivergate(t, url, "", "deadletters", "list", "--json")
	require.Equal(t, 0, r.code, r.stderr)
	require.Contains(t, r.stdout, "12345678901234567890.10")
	require.True(t, json.Valid([]byte(r.stdout)))
}

func TestPausingNamesThePusherAndTheOrg(t *testing.T) {
	var got *http.Request
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		got = r
		_, _ = io.WriteString(w, `{"success":true,"message":"Pusher file paused","data":{"name":"file"}}`)
	}))
	defer server.Close()
	r := rivergate(t, server.URL, "", "pushers", "pause", "file", "--org", "7")
	require.Equal(t, 0, r.code, r.stderr)
	require.Equal(t, "Pusher file paused\n", r.stdout)
	require.Equal(t, "POST /api/v1/gateway/pushers/file/pause", got.Method+" "+got.URL.Path)
	require.Equal(t, "7", got.Header.Get("X-Org-ID"))

	r = rivergate(t, server.URL, "", "pushers", "forget", "file")
	require.Equal(t, 0, r.code, r.stderr)
	require.Equal(t, "DELETE /api/v1/gateway/pushers/file", got.Method+" "+got.URL.Path)
}

const oneDead = `{"id":"dlq-2a","pusher":"lake","delivery_id":"dlv-1","uuid":"u","index":3,"data":{"b":1,"a":2.50},"class":"rejected","code":"23502","message":"null value","attempts":1,"first_failed_at":"2026-01-31T12:00:00Z","failed_at":"2026-01-31T12:00:01Z"}`

func TestDeadLettersAreListedAndShown(t *testing.T) {
	url := answering(t, "GET", deadLettersPath, 200, `{"success":true,"message":"Listed","data":{"items":[`+oneDead+`],"next_cursor":"abc"}}`)
	r := rivergate(t, url, "", "deadletters", "list", "--pusher", "lake")
	require.Equal(t, 0, r.code, r.stderr)
	require.Equal(t, `ID      PUSHER  CLASS     CODE   UUID  INDEX  ATTEMPTS  FAILED                MESSAGE
dlq-2a  lake    rejected  23502  u         3         1  2026-01-31T12:00:01Z  null value

More: --cursor abc
`, r.stdout)

	url = answering(t, "GET", deadLettersPath+"/dlq-2a", 200, `{"success":true,"message":"Found","data":`+oneDead+`}`)
	r = rivergate(t, url, "", "deadletters", "show", "dlq-2a")
	require.Equal(t, 0, r.code, r.stderr)
	require.Contains(t, r.stdout, "class         rejected\n")
	require.Contains(t, r.stdout, `{"b":1,"a":2.50}`)
}

func TestWhatOthersWroteCannotSteerTheTerminal(t *testing.T) {
	letter := strings.NewReplacer(`"null value"`, `"one\u001b[2J\ntwo\u009b31m"`, `"uuid":"u"`, `"uuid":"\u001b]0;x\u0007u"`).Replace(oneDead)
	url := answering(t, "GET", deadLettersPath, 200, `{"success":true,"message":"Listed","data":{"items":[`+letter+`],"next_cursor":""}}`)
	list := rivergate(t, url, "", "deadletters", "list")
	require.Contains(t, list.stdout, "one [2J two 31m\n")
	url = answering(t, "GET", deadLettersPath+"/dlq-2a", 200, `{"success":true,"message":"Found","data":`+letter+`}`)
	show := rivergate(t, url, "", "deadletters", "show", "dlq-2a")
	require.Contains(t, show.stdout, "one [2J two 31m\n")
	for _, r := range []run{list, show} {
		require.Equal(t, 0, r.code, r.stderr)
		require.NotContains(t, r.stdout, "\x1b")
		require.NotContains(t, r.stdout, "\u009b")
		require.NotContains(t, r.stdout, "\a")
	}
}

func TestReplayAndDeleteSayWhatTheyActOn(t *testing.T) {
	var method, path string
	var body map[string]any
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		method, path, body = r.Method, r.URL.Path, nil
		raw, _ := io.ReadAll(r.Body)
		_ = json.Unmarshal(raw, &body)
		_, _ = io.WriteString(w, `{"success":true,"message":"Done","data":{"replayed":1200}}`)
	}))
	defer server.Close()

	r := rivergate(t, server.URL, "", "deadletters", "replay", "dlq-1", "dlq-2", "--rate", "5", "--to", "file")
	require.Equal(t, 0, r.code, r.stderr)
	require.Equal(t, "1,200 rows on the way again; those that succeed leave the list.\n", r.stdout)
	require.Equal(t, "POST "+deadLettersPath+"/replay", method+" "+path)
	require.Equal(t, map[string]any{"ids": []any{"dlq-1", "dlq-2"}, "to": "file", "rate_per_second": 5.0}, body)

	r = rivergate(t, server.URL, "", "deadletters", "replay", "--class", "poison", "--since", "2026-01-31T12:00:00+01:00")
	require.Equal(t, 0, r.code, r.stderr)
	require.Equal(t, map[string]any{"filter": map[string]any{"class": "poison", "since": "2026-01-31T11:00:00Z"}}, body)

	r = rivergate(t, server.URL, "", "deadletters", "delete", "--all")
	require.Equal(t, 0, r.code, r.stderr)
	require.Equal(t, "DELETE "+deadLettersPath, method+" "+path)
	require.Equal(t, map[string]any{"filter": map[string]any{}}, body)
}

func TestDeadLettersAreExportedByteForByte(t *testing.T) {
	url := answering(t, "GET", deadLettersPath+"/export", 200, oneDead+"\n"+oneDead+"\n")
	r := rivergate(t, url, "", "deadletters", "export")
	require.Equal(t, 0, r.code, r.stderr)
	require.Equal(t, oneDead+"\n"+oneDead+"\n", r.stdout)

	file := filepath.Join(t.TempDir(), "dead.jsonl")
	require.Equal(t, 0, rivergate(t, url, "", "deadletters", "export", "-o", file).code)
	written, err := os.ReadFile(file)
	require.NoError(t, err)
	require.Equal(t, oneDead+"\n"+oneDead+"\n", string(written))
}
