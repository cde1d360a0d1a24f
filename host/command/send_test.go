package command

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// gate is a host that takes batches, after whatever a test puts in the way.
type gate struct {
	mu     sync.Mutex
	faults []func(w http.ResponseWriter) // one request each, first come first served
	keys   []string                      // of every request
	bodies []string                      // of accepted requests
}

func (g *gate) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, _ := io.ReadAll(r.Body)
	g.mu.Lock()
	defer g.mu.Unlock()
	g.keys = append(g.keys, r.Header.Get("Idempotency-Key"))
	if len(g.faults) > 0 {
		fault := g.faults[0]
		g.faults = g.faults[1:]
		fault(w)
		return
	}
	g.bodies = append(g.bodies, string(body))
	w.WriteHeader(http.StatusAccepted)
	_, _ = io.WriteString(w, `{"success":true,"message":"Rows accepted","data":{"delivery_id":"dlv-1"}}`)
}

func answer(status int, header map[string]string, body string) func(http.ResponseWriter) {
	return func(w http.ResponseWriter) {
		for name, value := range header {
			w.Header().Set(name, value)
		}
		w.WriteHeader(status)
		_, _ = io.WriteString(w, body)
	}
}

// hangUp breaks the connection without an answer.
func hangUp(http.ResponseWriter) { panic(http.ErrAbortHandler) }

func open(t *testing.T, faults ...func(http.ResponseWriter)) (*gate, string) {
	t.Helper()
	g := &gate{faults: faults}
	server := httptest.NewServer(g)
	t.Cleanup(server.Close)
	return g, server.URL
}

func TestRowsAreSentInBatchesByteForByte(t *testing.T) {
	g, url := open(t)
	r := rivergate(t, url, "{\"b\":1.50,\"a\":\"<é>\"}\n\n  {\"n\":1}\r\n{\"n\":2}", "send", "--uuid", "u", "--batch", "2", "--key", "k")
	require.Equal(t, 0, r.code, r.stderr)
	require.Equal(t, []string{
		`{"uuid":"u","rows":[{"data":{"b":1.50,"a":"<é>"}},{"data":{"n":1}}]}`,
		`{"uuid":"u","rows":[{"data":{"n":2}}]}`,
	}, g.bodies)
	require.Equal(t, []string{"k-1", "k-2"}, g.keys)
	require.Contains(t, r.stdout, "standard input: 3 rows accepted in 2 requests")
}

func TestTheLengthOfAUUIDIsCountedInCharacters(t *testing.T) {
	g, url := open(t)
	r := rivergate(t, url, `{"n":1}`, "send", "--uuid", strings.Repeat("ü", maxUUID))
	require.Equal(t, 0, r.code, r.stderr)
	require.Len(t, g.bodies, 1)
	require.Equal(t, exitMistake, rivergate(t, url, `{"n":1}`, "send", "--uuid", strings.Repeat("ü", maxUUID+1)).code)
}

func TestCSVKeepsColumnsInOrderAndValuesAsText(t *testing.T) {
	g, url := open(t)
	file := filepath.Join(t.TempDir(), "rows.csv")
	require.NoError(t, os.WriteFile(file, []byte("\ufefftime,sample,note,well\n1.50,s1,\"a \"\"b\"\"\nc\",0\n2,s1,,\n"), 0o600))
	r := rivergate(t, url, "", "send", file, "--uuid-field", "sample", "--index-field", "well")
	require.Equal(t, 0, r.code, r.stderr)
	require.Equal(t, []string{
		`{"uuid":"s1","rows":[{"index":0,"data":{"time":"1.50","sample":"s1","note":"a \"b\"\nc","well":"0"}},{"data":{"time":"2","sample":"s1","note":"","well":""}}]}`,
	}, g.bodies)
}

func TestRowsOfOneUUIDStayTogetherAndInOrder(t *testing.T) {
	g, url := open(t)
	input := `{"id":"a","n":1}
{"id":7,"n":2}
{"id":"a","n":3}
{"id":7,"n":4}
{"id":"a","n":5}
`
	r := rivergate(t, url, input, "send", "--uuid-field", "id", "--batch", "2")
	require.Equal(t, 0, r.code, r.stderr)
	require.Equal(t, []string{
		`{"uuid":"a","rows":[{"data":{"id":"a","n":1}},{"data":{"id":"a","n":3}}]}`,
		`{"uuid":"7","rows":[{"data":{"id":7,"n":2}},{"data":{"id":7,"n":4}}]}`,
		`{"uuid":"a","rows":[{"data":{"id":"a","n":5}}]}`,
	}, g.bodies)
}

func TestWhatTheFilePusherWroteCanBeSentAgain(t *testing.T) {
	g, url := open(t)
	input := `{"position":9,"org_id":1,"uuid":"u","index":4,"received_at":"2026-01-31T12:00:00Z","data":{"z":1.0}}
{"position":10,"org_id":1,"uuid":"u","index":null,"received_at":"2026-01-31T12:00:00Z","data":{"z":2}}
`
	r := rivergate(t, url, input, "send", "--wrapped", "--uuid-field", "uuid")
	require.Equal(t, 0, r.code, r.stderr)
	require.Equal(t, []string{`{"uuid":"u","rows":[{"index":4,"data":{"z":1.0}},{"data":{"z":2}}]}`}, g.bodies)
}

func TestPassingTroublesAreRepeatedUnderTheSameKey(t *testing.T) {
	g, url := open(t,
		hangUp,
		answer(503, map[string]string{"Retry-After": "7"}, `{"success":false,"error":{"code":"SERVICE_UNAVAILABLE","message":"Disk full"}}`),
		answer(429, nil, "not even JSON"),
		answer(502, nil, "<html>proxy</html>"),
	)
	r := rivergate(t, url, `{"n":1}`, "send", "--uuid", "u", "--key", "k", "--json")
	require.Equal(t, 0, r.code, r.stderr)
	require.Equal(t, []string{"k-1", "k-1", "k-1", "k-1", "k-1"}, g.keys)
	require.Len(t, g.bodies, 1)
	require.Len(t, r.waits, 4)
	require.Equal(t, 7*time.Second, r.waits[1])
	require.Less(t, r.waits[0], time.Second)
	var s sendSummary
	require.NoError(t, json.Unmarshal([]byte(r.stdout), &s))
	require.EqualValues(t, 1, s.Accepted)
	require.EqualValues(t, 5, s.Requests)
	require.EqualValues(t, 4, s.Retries)
	require.Zero(t, s.NotAccepted)
}

func TestAHostThatStaysAwayEndsTheRunAndNamesTheKey(t *testing.T) {
	g, url := open(t)
	g.faults = []func(http.ResponseWriter){
		answer(202, nil, `{"success":true,"data":{},"message":""}`),
		answer(503, map[string]string{"Retry-After": "3600"}, `{}`),
	}
	r := rivergate(t, url, "{\"n\":1}\n{\"n\":2}\n", "send", "--uuid", "u", "--batch", "1", "--give-up", "1m", "--key", "k")
	require.Equal(t, exitFailed, r.code)
	require.Contains(t, r.stderr, "gave up after 1m0s")
	require.Contains(t, r.stderr, "--key k")
	require.Contains(t, r.stdout, "1 row accepted")
	require.Contains(t, r.stdout, "line 2: not sent")
	require.Empty(t, r.waits)
}

func TestABadLineIsNamedAndWhatCameBeforeIsSent(t *testing.T) {
	for name, test := range map[string]struct{ line, reason string }{
		"not JSON":      {`{"n":`, "not JSON: unexpected end of JSON input"},
		"no object":     {`[1]`, "not a JSON object"},
		"no UTF-8":      {"{\"n\":\"\xff\"}", "not UTF-8"},
		"two objects":   {`{"n":1}{"n":2}`, "not JSON"},
		"no uuid":       {`{"n":1}`, `no field "id" for the uuid`},
		"empty uuid":    {`{"id":""}`, "the uuid is empty"},
		"uuid too long": {`{"id":"` + strings.Repeat("x", 129) + `"}`, "longer than 128"},
		"uuid a list":   {`{"id":["a"]}`, "neither a text nor a number"},
	} {
		t.Run(name, func(t *testing.T) {
			g, url := open(t)
			input := "{\"id\":\"a\"}\n" + test.line + "\n{\"id\":\"c\"}\n"
			r := rivergate(t, url, input, "send", "--uuid-field", "id")
			require.Equal(t, exitFailed, r.code)
			require.Contains(t, r.stderr, "line 2: ")
			require.Contains(t, r.stderr, test.reason)
			require.Equal(t, []string{`{"uuid":"a","rows":[{"data":{"id":"a"}}]}`}, g.bodies)

			g, url = open(t)
			r = rivergate(t, url, input, "send", "--uuid-field", "id", "--skip-bad")
			require.Equal(t, exitFailed, r.code)
			require.Len(t, g.bodies, 2)
			require.Contains(t, r.stdout, "2 rows accepted")
			require.Contains(t, r.stdout, "line 2: ")
			require.Contains(t, r.stdout, test.reason)
		})
	}
}

func TestBadLinesOfCSV(t *testing.T) {
	g, url := open(t)
	r := rivergate(t, url, "id,n\na,1\nb\nc,3\n", "send", "--format", "csv", "--uuid-field", "id", "--skip-bad")
	require.Equal(t, exitFailed, r.code)
	require.Len(t, g.bodies, 2)
	require.Contains(t, r.stdout, "line 3: wrong number of fields")

	r = rivergate(t, url, "id,id\n", "send", "--format", "csv", "--uuid", "u")
	require.Equal(t, exitFailed, r.code)
	require.Contains(t, r.stderr, "column 2")
	r = rivergate(t, url, "a,b\n", "send", "--format", "csv", "--uuid-field", "id")
	require.Contains(t, r.stderr, `no column "id"`)
}

func TestALineThatIsTooLongIsPassedOver(t *testing.T) {
	g, url := open(t)
	input := `{"n":"` + strings.Repeat("x", maxLine) + "\"}\n{\"n\":2}\n"
	r := rivergate(t, url, input, "send", "--uuid", "u", "--skip-bad")
	require.Equal(t, exitFailed, r.code)
	require.Equal(t, []string{`{"uuid":"u","rows":[{"data":{"n":2}}]}`}, g.bodies)
	require.Contains(t, r.stdout, "line 1: longer than 16.0 MiB")
}

func TestRowsThatTheHostRefusesAreNamedByLine(t *testing.T) {
	refusal := answer(422, nil, `{"success":false,"error":{"code":"UNPROCESSABLE_ENTITY","message":"2 rows are not right","details":{"errors":[{"field":"rows[1].data.Bad Key","reason":"not camelCase"}]}}}`)
	input := "{\"n\":1}\n{\"Bad Key\":2}\n{\"n\":3}\n"

	g, url := open(t, refusal)
	r := rivergate(t, url, input, "send", "--uuid", "u")
	require.Equal(t, exitFailed, r.code)
	require.Empty(t, g.bodies)
	require.Contains(t, r.stdout, "line 2: data.Bad Key: not camelCase")
	require.Contains(t, r.stdout, "3 rows not accepted")

	g, url = open(t, refusal)
	r = rivergate(t, url, input, "send", "--uuid", "u", "--skip-bad", "--key", "k")
	require.Equal(t, exitFailed, r.code)
	require.Equal(t, []string{`{"uuid":"u","rows":[{"data":{"n":1}},{"data":{"n":3}}]}`}, g.bodies)
	require.Equal(t, []string{"k-1", "k-1-1"}, g.keys)
	require.Contains(t, r.stdout, "2 rows accepted")
}

func TestLargeRowsMakeSmallBatches(t *testing.T) {
	g, url := open(t)
	row := `{"n":"` + strings.Repeat("x", 3<<20) + `"}`
	r := rivergate(t, url, strings.Repeat(row+"\n", 5), "send", "--uuid", "u")
	require.Equal(t, 0, r.code, r.stderr)
	require.Len(t, g.bodies, 3)
	for _, b := range g.bodies {
		require.Less(t, len(b), maxBody+1<<10)
	}
}

func TestManyUUIDsDoNotFillTheMemory(t *testing.T) {
	g, url := open(t)
	var input strings.Builder
	pad := strings.Repeat("x", 1<<20)
	for i := range 40 {
		fmt.Fprintf(&input, "{\"id\":\"%d\",\"pad\":%q}\n", i, pad)
	}
	r := rivergate(t, url, input.String(), "send", "--uuid-field", "id")
	require.Equal(t, 0, r.code, r.stderr)
	require.Len(t, g.bodies, 40)
}
