package e2e

import (
	"bufio"
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

func decode(t *testing.T, raw []byte, into any) {
	t.Helper()
	require.NoError(t, json.Unmarshal(raw, into), "%s", raw)
}

func TestABodyOf17MiBIsRefusedAndTheConnectionStaysUsable(t *testing.T) {
	t.Parallel()
	w := newWorld(t, nil).withFile("file")
	w.start()
	conn, err := net.DialTimeout("tcp", w.host.Addr, 5*time.Second)
	require.NoError(t, err)
	defer conn.Close()
	require.NoError(t, conn.SetDeadline(time.Now().Add(30*time.Second)))
	answers := bufio.NewReader(conn)

	big := batch("big", 0, 1, nil)
	big = bytes.Replace(big, []byte("xxx"), bytes.Repeat([]byte("x"), 17<<20), 1)
	for round := range 2 {
		sent := make(chan error, 1)
		go func() { sent <- sendPost(conn, "/data/batch", big) }()
		status, body := readAnswer(t, answers)
		require.Equal(t, http.StatusRequestEntityTooLarge, status, "%s", body)
		require.Contains(t, string(body), "REQUEST_ENTITY_TOO_LARGE")
		require.NoError(t, <-sent, "the host takes the body off the connection")
		require.NoError(t, sendPost(conn, "/data/batch", batch("small", round, 1, nil)))
		status, body = readAnswer(t, answers)
		require.Equal(t, http.StatusAccepted, status, "%s", body)
	}
	w.caughtUp(30*time.Second, "file")
	require.Equal(t, upTo(0, 2), sequences(t, w.out("file")), "nothing of the refused body was accepted")
}

func sendPost(w io.Writer, path string, body []byte) error {
	head := fmt.Sprintf("POST %s HTTP/1.1\r\nHost: rivergate\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n", path, len(body))
	if _, err := io.WriteString(w, head); err != nil {
		return err
	}
	_, err := w.Write(body)
	return err
}

func readAnswer(t *testing.T, r *bufio.Reader) (status int, body []byte) {
	t.Helper()
	res, err := http.ReadResponse(r, nil)
	require.NoError(t, err)
	defer res.Body.Close()
	body, err = io.ReadAll(res.Body)
	require.NoError(t, err)
	return res.StatusCode, body
}

func TestBadInputIsRefusedWholeOnAConnectionThatStaysUsable(t *testing.T) {
	t.Parallel()
	w := newWorld(t, nil).withFile("file")
	w.start()
	conn, err := net.DialTimeout("tcp", w.host.Addr, 5*time.Second)
	require.NoError(t, err)
	defer conn.Close()
	require.NoError(t, conn.SetDeadline(time.Now().Add(60*time.Second)))
	answers := bufio.NewReader(conn)

	good := `{"data":{"seq":0}}`
	tooMany := `{"uuid":"u","rows":[` + strings.TrimSuffix(strings.Repeat(good+",", 10_001), ",") + `]}`
	deep := `{"uuid":"u","rows":[{"data":{"a":` + strings.Repeat("[", 200) + strings.Repeat("]", 200) + `}}]}`
	for _, c := range []struct {
		name, body string
		status     int
		names      string // what the answer must name
	}{
		{"not JSON", `{"uuid":"u","rows":[` + good, 400, ""},
		{"an empty body", ``, 400, ""},
		{"invalid UTF-8", "{\"uuid\":\"u\",\"rows\":[{\"data\":{\"a\":\"\xff\"}}]}", 400, ""},
		{"no uuid", `{"rows":[` + good + `]}`, 422, "uuid"},
		{"an empty uuid", `{"uuid":"","rows":[` + good + `]}`, 422, "uuid"},
		{"no rows", `{"uuid":"u","rows":[]}`, 422, "rows"}, // defect 12
		{"too many rows", tooMany, 422, "rows"},
		{"a negative index", `{"uuid":"u","rows":[` + good + `,{"index":-1,"data":{}}]}`, 422, "rows[1].index"}, // defect 4
		{"a fractional index", `{"uuid":"u","rows":[{"index":1.5,"data":{}}]}`, 422, "rows[0].index"},
		{"data that is no object", `{"uuid":"u","rows":[` + good + `,` + good + `,{"data":[1]}]}`, 422, "rows[2].data"},
		{"nesting beyond 128", deep, 0, ""},
	} {
		require.NoError(t, sendPost(conn, "/data/batch", []byte(c.body)))
		status, body := readAnswer(t, answers)
		if c.status == 0 {
			require.Contains(t, []int{400, 422}, status, "%s: %s", c.name, body)
		} else {
			require.Equal(t, c.status, status, "%s: %s", c.name, body)
		}
		require.Contains(t, string(body), c.names, c.name)
		require.Contains(t, string(body), `"request_id"`, c.name)
	}
	require.NoError(t, sendPost(conn, "/data/batch", batch("good", 0, 1, nil)))
	status, body := readAnswer(t, answers)
	require.Equal(t, http.StatusAccepted, status, "%s", body)
	w.caughtUp(30*time.Second, "file")
	require.Equal(t, []int{0}, sequences(t, w.out("file")), "nothing of a refused request was accepted")
}
