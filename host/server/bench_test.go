package server

import (
	"context"
	"fmt"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/gofiber/fiber/v2"
	"github.com/stretchr/testify/require"
	"github.com/valyala/fasthttp"

	"github.com/rivergate/rivergate/sdk/protocol"
	"github.com/rivergate/rivergate/services/platform/api"
)

// inFlight is how many requests run at once.
const inFlight = 64

// rowsOf is a request of rows with 256 bytes of data each.
func rowsOf(n int) (path string, body []byte) {
	row := `{"data":{"timeElapsed":"12.250","odMeasured":0.1234,"odSetpoint":0.5,"error":null,"pad":"` + strings.Repeat("x", 170) + `"}}`
	if n == 1 {
		return "/data", []byte(`{"uuid":"0123456789abcdef","row":` + row + `}`)
	}
	return "/data/batch", []byte(`{"uuid":"0123456789abcdef","rows":[` + strings.TrimSuffix(strings.Repeat(row+",", n), ",") + `]}`)
}

// benchServer lets the journal go on, whatever comes.
func benchServer(b *testing.B, changes ...change) *rig {
	r := newServer(b, changes...)
	var n atomic.Int64
	r.pusher.accepted = func(*protocol.Frame) {
		if n.Add(1)%256 == 0 {
			_, next := r.journal.Bounds()
			_ = r.journal.Release(next) // a benchmark that fills up says so by its answers
		}
	}
	return r
}

// together runs ask from many goroutines and reports rows per second.
func together(b *testing.B, rows int, ask func(next func() bool) error) {
	b.ReportAllocs()
	b.SetParallelism(inFlight / 2)
	var once sync.Once
	b.RunParallel(func(pb *testing.PB) {
		if err := ask(pb.Next); err != nil {
			once.Do(func() { b.Error(err) })
		}
	})
	b.ReportMetric(float64(rows)*float64(b.N)/b.Elapsed().Seconds(), "rows/s")
}

// BenchmarkHandler is the way of a request in this process, fsync of the journal included, without the network.
func BenchmarkHandler(b *testing.B) {
	r := benchServer(b)
	for _, rows := range []int{1, 100, 1000} {
		b.Run(fmt.Sprintf("rows=%d", rows), func(b *testing.B) {
			path, body := rowsOf(rows)
			together(b, rows, func(next func() bool) error {
				var ctx fasthttp.RequestCtx
				ctx.Init(&fasthttp.Request{}, &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1)}, nil)
				for next() {
					ctx.Request.Reset()
					ctx.Response.Reset()
					ctx.Request.Header.SetMethod("POST")
					ctx.Request.SetRequestURI(path)
					ctx.Request.Header.SetContentType(api.JSON)
					ctx.Request.SetBodyRaw(body)
					r.server.Handler()(&ctx)
					if ctx.Response.StatusCode() != 202 {
						return fmt.Errorf("answered %d: %s", ctx.Response.StatusCode(), ctx.Response.Body())
					}
				}
				return nil
			})
		})
	}
}

// BenchmarkLoopback is the same over TCP, beside a handler that does nothing: in Fiber as it comes (bodies buffered), and in
// this server (bodies streamed and drained). The load comes from this process too.
func BenchmarkLoopback(b *testing.B) {
	run := func(name, addr, path string, rows int) {
		b.Run(name, func(b *testing.B) {
			_, body := rowsOf(rows)
			client := &fasthttp.HostClient{Addr: addr, MaxConns: 2 * inFlight}
			defer client.CloseIdleConnections()
			together(b, rows, func(next func() bool) error {
				var request fasthttp.Request
				var response fasthttp.Response
				request.Header.SetMethod("POST")
				request.SetRequestURI("http://" + addr + path)
				request.Header.SetContentType(api.JSON)
				request.SetBodyRaw(body)
				for next() {
					if err := client.Do(&request, &response); err != nil {
						return err
					}
					if response.StatusCode() != 202 {
						return fmt.Errorf("answered %d: %s", response.StatusCode(), response.Body())
					}
				}
				return nil
			})
		})
	}
	app := fiber.New(fiber.Config{DisableStartupMessage: true})
	app.Post("/data", func(c *fiber.Ctx) error { return c.SendStatus(202) })
	plain, err := new(net.ListenConfig).Listen(b.Context(), "tcp", "127.0.0.1:0")
	require.NoError(b, err)
	go func() { _ = app.Listener(plain) }() // until Shutdown
	run("noop", plain.Addr().String(), "/data", 1)
	require.NoError(b, app.Shutdown())

	r := benchServer(b, func(o *Options) {
		o.Routes = append(o.Routes, api.Route{Method: "POST", Path: "/test/noop", ID: "noop", KeepsAnswers: true, Handler: func(c *fiber.Ctx) error {
			return c.SendStatus(202)
		}})
	})
	l, err := r.server.Listen(b.Context())
	require.NoError(b, err)
	ctx, cancel := context.WithCancel(context.Background())
	served := make(chan error, 1)
	go func() { served <- r.server.Serve(ctx, l) }()
	run("noop-streamed", l.Addr().String(), "/test/noop", 1)
	for _, rows := range []int{1, 100, 1000} {
		path, _ := rowsOf(rows)
		run(fmt.Sprintf("rows=%d", rows), l.Addr().String(), path, rows)
	}
	cancel()
	require.NoError(b, <-served)
}
