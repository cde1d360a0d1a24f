package main

import (
	"crypto/rand"
	"maps"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// store is a bucket of the test's own on a real server; the plugin makes it.
type store struct {
	address, key, secret, bucket string
}

// newStore skips the test without a server, and fails it where CI=true.
func newStore(t testing.TB) *store {
	t.Helper()
	text := os.Getenv("RIVERGATE_TEST_S3_URL")
	if text == "" {
		const what = "RIVERGATE_TEST_S3_URL is not set: needs a real S3 server; deploy/services run s3 -- go test ./plugins/storage/s3"
		if os.Getenv("CI") == "true" {
			t.Fatal(what)
		}
		t.Skip(what)
	}
	u, err := url.Parse(text)
	require.NoError(t, err)
	s := &store{address: u.Host, key: u.User.Username(), bucket: "t-" + strings.ToLower(rand.Text()[:16])}
	s.secret, _ = u.User.Password()
	return s
}

func (s *store) config(more map[string]any) map[string]any {
	config := map[string]any{
		"url": "http://" + s.address, "bucket": s.bucket, "create_bucket": true, "region": "us-east-1", "access_key": s.key, "secret_key": s.secret,
	}
	maps.Copy(config, more)
	return config
}

// proxy passes requests to the server.
func (s *store) proxy() *httputil.ReverseProxy {
	to := &url.URL{Scheme: "http", Host: s.address}
	return &httputil.ReverseProxy{Rewrite: func(r *httputil.ProxyRequest) {
		r.SetURL(to)
		r.Out.Host = r.In.Host // as it was signed
	}}
}

// behind puts h in front of the server.
func (s *store) behind(t *testing.T, h http.Handler) {
	t.Helper()
	server := httptest.NewServer(h)
	t.Cleanup(server.Close)
	at, err := url.Parse(server.URL)
	require.NoError(t, err)
	s.address = at.Host
}
