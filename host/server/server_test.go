package server

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/hashicorp/go-hclog"
	"github.com/stretchr/testify/require"

	"github.com/rivergate/rivergate/services/gateway/delivery"
	"github.com/rivergate/rivergate/services/platform/api"
)

func TestABodyOf17MiBIsRefusedAndTheConnectionStaysUsable(t *testing.T) {
	r := start(t)
	c := r.dial()
	big := []byte(`{"uuid":"u","row":{"data":{"a":"` + strings.Repeat("x", 17<<20) + `"}}}`)
	for range 2 {
		require.Contains(t, c.send("POST", "/data", "", big).failure(t, 413).Message, "16777216 bytes")
		c.works()
		var chunks bytes.Buffer
		for part := range bytes.SplitAfterSeq(big, []byte(strings.Repeat("x", 1<<20))) {
			if len(part) > 0 {
				fmt.Fprintf(&chunks, "%x\r\n%s\r\n", len(part), part)
			}
		}
		chunks.WriteString("0\r\n\r\n")
		c.send("POST", "/data", "Transfer-Encoding: chunked\r\n", chunks.Bytes()).failure(t, 413)
		c.works()
	}
	a := c.send("POST", "/data", "Expect: 100-continue\r\n", []byte(oneRow))
	require.Equal(t, 100, a.StatusCode, "go on, it says first")
	response, err := http.ReadResponse(c.in, nil)
	require.NoError(t, err)
	defer response.Body.Close()
	_, err = io.Copy(io.Discard, response.Body)
	require.NoError(t, err)
	require.Equal(t, 202, response.StatusCode)
	c.works()
}

func TestAConnectionWithAHugeBodyIsClosedBehindTheAnswer(t *testing.T) {
	r := start(t)
	c := r.dial()
	_, err := io.WriteString(c, "POST /data HTTP/1.1\r\nHost: rivergate\r\nContent-Length: 1099511627776\r\n\r\n"+strings.Repeat("x", 16<<10))
	require.NoError(t, err)
	response, err := http.ReadResponse(c.in, nil)
	require.NoError(t, err)
	defer response.Body.Close()
	require.Equal(t, 413, response.StatusCode)
	require.True(t, response.Close)
}

func TestABodyThatNobodyReadsIsNotTheNextRequest(t *testing.T) {
	r := start(t)
	c := r.dial()
	smuggled := []byte("GET /test/panic HTTP/1.1\r\nHost: rivergate\r\n\r\n" + strings.Repeat("x", 20_000))
	for _, request := range [][3]string{
		{"POST", "/nowhere", ""}, {"PUT", "/data", ""}, {"BREW", "/data", ""}, {"GET", "/health", ""}, {"POST", "/data", "Content-Type: text/plain\r\n"},
		{"POST", "/data", "X-Org-ID: 0\r\n"}, {"POST", "/data", "Idempotency-Key: ü\r\n"}, {"GET", "/test/panic", ""}, {"HEAD", "/health", ""},
	} {
		c.send(request[0], request[1], request[2], smuggled)
		c.works()
	}
}

func TestErrorsOfTheRouterComeInTheEnvelope(t *testing.T) {
	r := start(t)
	c := r.dial()
	c.get("/nowhere").failure(t, 404)
	a := c.send("PUT", "/data", "", []byte("{}"))
	a.failure(t, 405)
	require.Equal(t, "POST", a.Header.Get("Allow"))
	a = c.send("PATCH", "/api/v1/gateway/dead-letters", "", nil)
	a.failure(t, 405)
	require.ElementsMatch(t, []string{"GET", "HEAD", "DELETE"}, strings.Split(strings.ReplaceAll(a.Header.Get("Allow"), " ", ""), ","))
	c.send("BREW", "/data", "", nil).failure(t, 405)
	c.send("POST", "/data", "Content-Type: text/plain\r\n", []byte("x")).failure(t, 415)
	require.Equal(t, 200, c.send("HEAD", "/health", "", nil).StatusCode)
	r.dial().send("GET", "/health", "X-Long: "+strings.Repeat("x", headerBytes)+"\r\n", nil).failure(t, 431)
}

func TestWhatBreaksInsideIsLoggedAndNotShown(t *testing.T) {
	r := start(t)
	c := r.dial()
	for _, path := range []string{"/test/panic", "/test/broken"} {
		a := c.send("GET", path, "X-Request-ID: id-of-"+path[6:]+"\r\n", nil)
		a.failure(t, 500)
		require.NotContains(t, string(a.body), "secret")
		require.NotContains(t, string(a.body), "goroutine")
		c.works()
	}
	r.stop()
	require.Contains(t, r.log.String(), "id-of-panic")
	require.Contains(t, r.log.String(), "goroutine")
	require.Contains(t, r.log.String(), "id-of-broken")
	require.NotContains(t, r.log.String(), "path=/data", "no line a request at info")
}

func TestRequestsAreLoggedAtDebugWithoutTheirSecrets(t *testing.T) {
	var log bytes.Buffer
	r := start(t, func(o *Options) { o.Log = hclog.New(&hclog.LoggerOptions{Output: &log, Level: hclog.Debug}) })
	r.dial().send("POST", "/data?wait=1ms", "X-Internal-Token: hunter2\r\nX-Request-ID: q\r\nAuthorization: Bearer hunter2\r\n", []byte(oneRow))
	r.stop()
	require.Contains(t, log.String(), "path=/data")
	require.Contains(t, log.String(), "request_id=q")
	require.NotContains(t, log.String(), "hunter2")
}

func TestRequestIDsAreTakenOrMade(t *testing.T) {
	r := start(t)
	c := r.dial()
	seen := map[string]bool{}
	for sent, kept := range map[string]bool{
		"": false, "a-b_c.d:e/f": true, strings.Repeat("x", 128): true, strings.Repeat("x", 129): false, "a b": false, "<script>": false, "é": false,
	} {
		got := c.send("GET", "/health", "X-Request-ID: "+sent+"\r\n", nil).Header.Get("X-Request-ID")
		require.Equal(t, kept, got == sent, sent)
		require.NotEmpty(t, got)
		require.False(t, seen[got])
		seen[got] = true
	}
}

func TestARequestThatWaitsEndsWhenTheServerStops(t *testing.T) {
	r := start(t)
	c := r.dial()
	type result struct {
		status int
		err    error
	}
	done := make(chan result, 1)
	go func() {
		_, err := fmt.Fprintf(c, "POST /data?wait=5m HTTP/1.1\r\nHost: rivergate\r\nContent-Length: %d\r\n\r\n%s", len(oneRow), oneRow)
		if err != nil {
			done <- result{err: err}
			return
		}
		response, err := http.ReadResponse(c.in, nil)
		if err != nil {
			done <- result{err: err}
			return
		}
		defer response.Body.Close()
		done <- result{status: response.StatusCode}
	}()
	reader := r.journal.Read(0)
	defer reader.Close()
	_, err := reader.Next(t.Context()) // the row is accepted: the request waits for its delivery now
	require.NoError(t, err)
	r.stop()
	require.Equal(t, result{status: 202}, <-done)
}

func TestAServerThatIsStoppedBeforeItServesStops(t *testing.T) {
	r := newServer(t)
	stopped, cancel := context.WithCancel(t.Context())
	cancel()
	for range 20 {
		l, err := r.server.Listen(t.Context())
		require.NoError(t, err)
		require.NoError(t, r.server.Serve(stopped, l))
	}
}

func TestAConnectionThatSaysNothingDoesNotKeepTheServer(t *testing.T) {
	r := start(t, func(o *Options) { o.ShutdownTimeout = 150 * time.Millisecond })
	c := r.dial()
	c.works()          // this one is idle: closed at once
	silent := r.dial() // accepted, as the next one is
	r.dial().works()
	began := time.Now()
	r.stop()
	require.Less(t, time.Since(began), 5*time.Second)
	require.NoError(t, silent.Close())
}

func TestAClientThatDoesNotReadItsStreamDoesNotKeepTheHost(t *testing.T) {
	r := start(t, func(o *Options) { o.ShutdownTimeout = 150 * time.Millisecond })
	begun := make(chan struct{})
	r.pusher.letters = func(yield func(delivery.DeadLetter, error) bool) {
		close(begun)
		for yield(delivery.DeadLetter{Data: []byte(`{}`)}, nil) {
		}
	}
	c := r.dial()
	_, err := io.WriteString(c, "GET /api/v1/gateway/dead-letters/export HTTP/1.1\r\nHost: rivergate\r\n\r\n")
	require.NoError(t, err)
	<-begun
	r.stop()
	ended := make(chan error, 1)
	go func() { ended <- r.service.Close() }()
	select {
	case err := <-ended:
		require.NoError(t, err)
	case <-time.After(10 * time.Second):
		require.Fail(t, "the host waits for a client that does not read")
	}
	require.NoError(t, c.Close())
}

func TestHealthRoutesAnswerBareObjects(t *testing.T) {
	var failing []NotReady
	r := start(t, func(o *Options) {
		o.Ready = func() []NotReady { return failing }
		o.Status = func() Parts {
			return Parts{Plugins: map[string]PluginState{"file": {"pusher", "running"}}, Journal: Journal{Bytes: 10, Segments: 1, OldestAgeMS: 5}}
		}
	})
	c := r.dial()
	read := func(path string, status int) (m map[string]any) {
		a := c.get(path)
		require.Equal(t, status, a.StatusCode)
		require.NoError(t, json.Unmarshal(a.body, &m))
		return m
	}
	health := read("/health", 200)
	require.Equal(t, "healthy", health["status"])
	require.Equal(t, "1.2.3", health["version"])
	require.True(t, strings.HasSuffix(health["timestamp"].(string), "Z"))
	require.Equal(t, map[string]any{"status": "ready"}, read("/ready", 200))
	status := read("/status", 200)
	require.Equal(t, "healthy", status["status"])
	require.Equal(t, map[string]any{"bytes": 10., "segments": 1., "oldest_age_ms": 5.}, status["journal"])
	require.Equal(t, map[string]any{"kind": "pusher", "state": "running"}, status["plugins"].(map[string]any)["file"])
	for _, member := range []string{"service", "version", "uptime_seconds", "targets", "engines", "connectors", "cache"} {
		require.Contains(t, read("/", 200), member)
	}
	failing = []NotReady{{"journal", "disk full"}}
	require.Equal(t, []any{map[string]any{"part": "journal", "reason": "disk full"}}, read("/ready", 503)["failing"])
	require.Equal(t, "degraded", read("/status", 200)["status"])

	c.works()
	metrics := c.get("/metrics")
	require.Equal(t, 200, metrics.StatusCode)
	require.Contains(t, string(metrics.body), "rivergate_intake_rows_total 1")
}

func TestServeSaysWhenThePortIsTaken(t *testing.T) {
	r := start(t)
	other := newServer(t, func(o *Options) { o.Listen = r.addr })
	_, err := other.server.Listen(context.Background())
	require.ErrorContains(t, err, r.addr)
}

func TestTheCallerIsWhoTheHeadersSay(t *testing.T) {
	r := start(t)
	a := r.dial().send("GET", "/test/caller", "X-Org-ID: 3\r\nX-User-ID: 4\r\nX-Workspace-ID: 5\r\nX-Request-ID: r\r\n", nil)
	var e api.Envelope[api.Caller]
	require.NoError(t, json.Unmarshal(a.body, &e))
	require.Equal(t, api.Caller{OrgID: 3, UserID: 4, WorkspaceID: 5, RequestID: "r"}, e.Data)
}
