package main

import (
	"crypto/rand"
	"encoding/pem"
	"io"
	"log"
	"maps"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// store is a bucket of the test's own on a real server; the plugin makes it.
type store struct {
	address, key, secret, bucket string
	ca                           string // PEM file of a server that is spoken to with TLS; empty: without
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
		"url": s.scheme() + "://" + s.address, "bucket": s.bucket, "create_bucket": true, "region": "us-east-1", "access_key": s.key, "secret_key": s.secret,
	}
	if s.ca != "" {
		config["ca_file"] = s.ca
	}
	maps.Copy(config, more)
	return config
}

func (s *store) scheme() string {
	if s.ca != "" {
		return "https"
	}
	return "http"
}

// quiet: that clients go away is part of the contract.
var quiet = log.New(io.Discard, "", 0)

// proxy passes requests to the server.
func (s *store) proxy() *httputil.ReverseProxy {
	to := &url.URL{Scheme: "http", Host: s.address}
	return &httputil.ReverseProxy{Rewrite: func(r *httputil.ProxyRequest) {
		r.SetURL(to)
		r.Out.Host = r.In.Host // as it was signed
	}, ErrorLog: quiet}
}

// behind puts h in front of the server.
func (s *store) behind(t *testing.T, h http.Handler) {
	t.Helper()
	server := httptest.NewServer(h)
	t.Cleanup(server.Close)
	s.address = server.Listener.Addr().String()
}

// behindTLS puts a certificate of an authority that nobody knows in front of the server.
func (s *store) behindTLS(t *testing.T) {
	t.Helper()
	server := httptest.NewUnstartedServer(s.proxy())
	server.Config.ErrorLog = quiet
	server.StartTLS()
	t.Cleanup(server.Close)
	s.address, s.ca = server.Listener.Addr().String(), filepath.Join(t.TempDir(), "ca.pem")
	require.NoError(t, os.WriteFile(s.ca, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: server.Certificate().Raw}), 0o600))
	t.Setenv("SSL_CERT_FILE", s.ca) // for clients that have a signed URL; read once in a process
}
