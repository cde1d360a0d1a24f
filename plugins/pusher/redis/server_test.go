package main

import (
	"context"
	"crypto/rand"
	"fmt"
	"net"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/rivergate/rivergate/sdk/plugintest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// missing skips the test, and fails it where CI=true.
func missing(t testing.TB, what string) {
	t.Helper()
	const how = "%s: needs a real Redis; deploy/services run redis -- go test ./plugins/pusher/redis"
	if os.Getenv("CI") == "true" {
		t.Fatalf(how, what)
	}
	t.Skipf(how, what)
}

// server is a Redis and a connection of the test's own.
type server struct {
	*redis.Client
	t       testing.TB
	address string
	prefix  string // of every key of this test
	process *exec.Cmd
	options []string
}

// shared is the server that all tests share; each keeps to keys of its own.
func shared(t testing.TB) *server {
	t.Helper()
	address := os.Getenv("RIVERGATE_TEST_REDIS_ADDR")
	if address == "" {
		missing(t, "RIVERGATE_TEST_REDIS_ADDR is not set")
	}
	s := &server{t: t, address: address}
	s.connect()
	t.Cleanup(func() {
		for _, pattern := range []string{s.prefix + "*", "positions-" + s.prefix + "*"} {
			keys, err := s.Keys(context.Background(), pattern).Result()
			require.NoError(t, err)
			if len(keys) > 0 {
				require.NoError(t, s.Del(context.Background(), keys...).Err())
			}
		}
	})
	return s
}

// alone starts a server for one test, which may fill it, lock it and kill it.
func alone(t testing.TB, options ...string) *server {
	t.Helper()
	if _, err := exec.LookPath("redis-server"); err != nil {
		missing(t, "there is no redis-server")
	}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	port := listener.Addr().(*net.TCPAddr).Port
	require.NoError(t, listener.Close())
	s := &server{t: t, address: "127.0.0.1:" + strconv.Itoa(port)}
	s.options = append([]string{"--bind", "127.0.0.1", "--port", strconv.Itoa(port), "--dir", t.TempDir(), "--save", "", "--loglevel", "warning"}, options...)
	s.connect()
	s.run()
	t.Cleanup(s.kill)
	return s
}

func (s *server) connect() {
	s.prefix = "t" + strings.ToLower(rand.Text()[:12]) + ":"
	s.Client = redis.NewClient(&redis.Options{Addr: s.address, MaxRetries: -1})
	s.t.Cleanup(func() { require.NoError(s.t, s.Client.Close()) })
}

// run starts the process and waits for an answer.
func (s *server) run() {
	s.t.Helper()
	s.process = exec.Command("redis-server", s.options...)
	require.NoError(s.t, s.process.Start())
	require.Eventually(s.t, func() bool {
		err := s.Ping(context.Background()).Err()
		return err == nil || isAnswer(err) && !strings.HasPrefix(err.Error(), "LOADING")
	}, 10*time.Second, 10*time.Millisecond)
}

// kill ends the process with SIGKILL.
func (s *server) kill() {
	if s.process != nil {
		require.NoError(s.t, s.process.Process.Kill())
		_ = s.process.Wait() // it was killed
		s.process = nil
	}
}

func (s *server) config(more ...any) map[string]any {
	config := map[string]any{"url": "redis://" + s.address, "key": s.prefix + "{org}", "positions": "positions-" + s.prefix}
	for i := 0; i < len(more); i += 2 {
		config[more[i].(string)] = more[i+1]
	}
	return config
}

func (s *server) start(more ...any) *plugintest.Harness {
	s.t.Helper()
	return plugintest.Start(s.t, plugin, s.config(more...))
}

func (s *server) set(parameter, value string) {
	s.t.Helper()
	require.NoError(s.t, s.ConfigSet(context.Background(), parameter, value).Err())
}

// entries of the stream, in its order.
func (s *server) entries(key string) []map[string]any {
	s.t.Helper()
	found, err := s.XRange(context.Background(), key, "-", "+").Result()
	require.NoError(s.t, err)
	var all []map[string]any
	for _, e := range found {
		all = append(all, e.Values)
	}
	return all
}

func (s *server) positions(key string) []uint64 {
	s.t.Helper()
	var all []uint64
	for _, e := range s.entries(key) {
		n, err := strconv.ParseUint(fmt.Sprint(e["position"]), 10, 64)
		require.NoError(s.t, err)
		all = append(all, n)
	}
	return all
}
