package main

import (
	"bufio"
	"bytes"
	"compress/gzip"
	"context"
	"crypto/rand"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/klauspost/compress/zstd"
	"github.com/minio/minio-go/v7"
	"github.com/minio/minio-go/v7/pkg/credentials"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/rivergate/rivergate/sdk/plugintest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// store is a bucket of the test's own on a real server, and a spool folder.
type store struct {
	*minio.Client
	t                    testing.TB
	address, key, secret string
	bucket               string
	dir                  string
}

// newStore skips the test without a server, and fails it where CI=true.
func newStore(t testing.TB) *store {
	t.Helper()
	text := os.Getenv("RIVERGATE_TEST_S3_URL")
	if text == "" {
		const what = "RIVERGATE_TEST_S3_URL is not set: needs a real S3 server; deploy/services run s3 -- go test ./plugins/pusher/s3"
		if os.Getenv("CI") == "true" {
			t.Fatal(what)
		}
		t.Skip(what)
	}
	u, err := url.Parse(text)
	require.NoError(t, err)
	s := &store{t: t, address: u.Host, key: u.User.Username(), bucket: "t-" + strings.ToLower(rand.Text()[:16]), dir: t.TempDir()}
	s.secret, _ = u.User.Password()
	connections := &http.Transport{}
	t.Cleanup(connections.CloseIdleConnections)
	s.Client, err = minio.New(u.Host, &minio.Options{Creds: credentials.NewStaticV4(s.key, s.secret, ""), Region: "us-east-1", Transport: connections})
	require.NoError(t, err)
	require.NoError(t, s.MakeBucket(t.Context(), s.bucket, minio.MakeBucketOptions{}))
	return s
}

func (s *store) config(more map[string]any) map[string]any {
	config := map[string]any{"url": "http://" + s.address, "bucket": s.bucket, "region": "us-east-1", "access_key": s.key, "secret_key": s.secret,
		"path": "rows/org={org}/date={date}", "roll_interval": "20ms", "spool_dir": s.dir}
	maps.Copy(config, more)
	return config
}

// start runs the plugin in this process.
func (s *store) start(more map[string]any) *plugintest.Harness {
	s.t.Helper()
	return plugintest.Start(s.t, plugin, s.config(more))
}

// refusing is the URL of a proxy in front of the server, which refuses objects while it is told to.
func (s *store) refusing(refuses *atomic.Bool, status int, code string) string {
	s.t.Helper()
	connections := &http.Transport{}
	s.t.Cleanup(connections.CloseIdleConnections)
	onward := &httputil.ReverseProxy{Transport: connections, Rewrite: func(r *httputil.ProxyRequest) {
		r.Out.URL.Scheme, r.Out.URL.Host = "http", s.address // the Host that was signed stays
	}}
	door := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method != http.MethodPut || !refuses.Load() {
			onward.ServeHTTP(w, r)
			return
		}
		_, _ = io.Copy(io.Discard, r.Body)
		w.Header().Set("Content-Type", "application/xml")
		w.WriteHeader(status)
		fmt.Fprintf(w, "<Error><Code>%s</Code><Message>as the test wants it</Message></Error>", code)
	}))
	s.t.Cleanup(door.Close)
	return door.URL
}

// keys are those of all objects, in order.
func (s *store) keys() (all []string) {
	s.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), plugintest.Timeout)
	defer cancel()
	for o := range s.ListObjects(ctx, s.bucket, minio.ListObjectsOptions{Recursive: true}) {
		require.NoError(s.t, o.Err)
		all = append(all, o.Key)
	}
	return all
}

func (s *store) read(key string) []byte {
	s.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), plugintest.Timeout)
	defer cancel()
	o, err := s.GetObject(ctx, s.bucket, key, minio.GetObjectOptions{})
	require.NoError(s.t, err)
	defer o.Close()
	text, err := io.ReadAll(o)
	require.NoError(s.t, err)
	return text
}

// counts is how often each position is in the bucket's JSON lines.
func (s *store) counts() map[uint64]int {
	s.t.Helper()
	counts := map[uint64]int{}
	for _, key := range s.keys() {
		for line := range bytes.Lines(unpacked(s.t, key, s.read(key))) {
			var row struct{ Position uint64 }
			require.NoError(s.t, json.Unmarshal(line, &row), "%s: %s", key, line)
			counts[row.Position]++
		}
	}
	return counts
}

func unpacked(t testing.TB, key string, text []byte) []byte {
	t.Helper()
	switch filepath.Ext(key) {
	case ".gz":
		r, err := gzip.NewReader(bytes.NewReader(text))
		require.NoError(t, err)
		text, err = io.ReadAll(r)
		require.NoError(t, err)
	case ".zst":
		r, err := zstd.NewReader(nil)
		require.NoError(t, err)
		defer r.Close()
		text, err = r.DecodeAll(text, nil)
		require.NoError(t, err)
	}
	return text
}

// emptied waits until nothing is in the spool any more.
func (s *store) emptied() {
	s.t.Helper()
	require.Eventually(s.t, func() bool { return len(s.segments()) == 0 }, plugintest.Timeout, 5*time.Millisecond, "segments left in the spool")
}

// segments are the files that are not in the bucket yet.
func (s *store) segments() []string {
	s.t.Helper()
	found, err := filepath.Glob(filepath.Join(s.dir, plugintest.Instance, "*"+segmentSuffix))
	require.NoError(s.t, err)
	return found
}

func (s *store) requireOnce(first, last uint64) {
	s.t.Helper()
	counts := s.counts()
	for p := first; p <= last; p++ {
		require.Equal(s.t, 1, counts[p], "position %d", p)
	}
	require.Len(s.t, counts, int(last-first+1))
}

func lines(t testing.TB, text []byte) (all []string) {
	t.Helper()
	scanner := bufio.NewScanner(bytes.NewReader(text))
	for scanner.Scan() {
		all = append(all, scanner.Text())
	}
	require.NoError(t, scanner.Err())
	return all
}
