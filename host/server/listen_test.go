package server

import (
	"net"
	"testing"

	"github.com/stretchr/testify/require"
	"github.com/valyala/fasthttp"
)

func networks(t *testing.T, cidrs ...string) (out []*net.IPNet) {
	t.Helper()
	for _, c := range cidrs {
		_, n, err := net.ParseCIDR(c)
		require.NoError(t, err)
		out = append(out, n)
	}
	return out
}

func TestOnlyLoopbackIsListenedOnWithoutKnowingWhomToTrust(t *testing.T) {
	for _, good := range []string{"127.0.0.1:8080", "127.1.2.3:0", "[::1]:80", "localhost:8080"} {
		require.NoError(t, CheckListen(good, nil), good)
	}
	for _, bad := range []string{"0.0.0.0:8080", ":8080", "[::]:8080", "192.168.1.2:80", "example.org:80"} {
		require.ErrorContains(t, CheckListen(bad, nil), "RIVERGATE_TRUSTED_PROXIES", bad)
		require.NoError(t, CheckListen(bad, networks(t, "10.0.0.0/8")), bad)
	}
	require.ErrorContains(t, CheckListen("8080", nil), "RIVERGATE_LISTEN")
	_, err := New(Options{Listen: "0.0.0.0:0", Log: newServer(t).server.log, Gatherer: newServer(t).server.o.Gatherer})
	require.ErrorContains(t, err, "RIVERGATE_TRUSTED_PROXIES")
}

// ask sends a request from an address of choice.
func ask(r *rig, from, path string, headers ...string) (int, string) {
	var ctx fasthttp.RequestCtx
	var request fasthttp.Request
	request.Header.SetMethod("GET")
	request.SetRequestURI(path)
	for i := 0; i < len(headers); i += 2 {
		request.Header.Set(headers[i], headers[i+1])
	}
	ctx.Init(&request, &net.TCPAddr{IP: net.ParseIP(from)}, nil)
	r.server.Handler()(&ctx)
	return ctx.Response.StatusCode(), string(ctx.Response.Body())
}

func TestContextHeadersAreBelievedFromTrustedAddressesOnly(t *testing.T) {
	r := newServer(t, func(o *Options) {
		o.Listen, o.Trusted = "0.0.0.0:0", networks(t, "10.0.0.0/8", "fd00::/8")
	})
	for _, from := range []string{"10.1.2.3", "127.0.0.1", "fd00::1"} {
		status, body := ask(r, from, "/test/caller", "X-Org-ID", "7")
		require.Equal(t, 200, status, body)
		require.Contains(t, body, `"OrgID":7`)
		status, body = ask(r, from, "/test/caller")
		require.Equal(t, 400, status, "only a host on loopback alone goes without an org")
		require.Contains(t, body, `"field":"X-Org-ID"`)
	}
	status, _ := ask(r, "192.168.0.1", "/test/caller", "X-Org-ID", "7")
	require.Equal(t, 401, status)
	status, _ = ask(r, "192.168.0.1", "/health")
	require.Equal(t, 200, status)
}

func TestInternalRoutesNeedTheirTokenOnceTheListenerIsNotLoopback(t *testing.T) {
	open := func(o *Options) { o.Listen, o.Trusted = "0.0.0.0:0", networks(t, "10.0.0.0/8") }
	const token = "X-Internal-Token"
	status, _ := ask(newServer(t), "127.0.0.1", "/internal/test")
	require.Equal(t, 200, status, "a loopback host needs none")

	r := newServer(t, open, func(o *Options) { o.InternalToken = "right" })
	status, _ = ask(r, "10.0.0.1", "/internal/test", "X-Org-ID", "1", token, "right")
	require.Equal(t, 200, status)
	for _, headers := range [][]string{nil, {token, "wrong"}, {token, ""}} {
		status, body := ask(r, "10.0.0.1", "/internal/test", append([]string{"X-Org-ID", "1"}, headers...)...)
		require.Equal(t, 401, status)
		require.NotContains(t, body, "right")
	}
	status, _ = ask(r, "10.0.0.1", "/internal/nowhere")
	require.Equal(t, 401, status, "without the token nobody learns what is there")

	status, _ = ask(newServer(t, open), "10.0.0.1", "/internal/test", "X-Org-ID", "1", token, "")
	require.Equal(t, 401, status, "no token configured: nobody passes")
}
