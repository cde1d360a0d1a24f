package cache

import (
	"context"
	"fmt"
	"net"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/rivergate/rivergate/sdk/settings"
)

func TestMain(m *testing.M) {
	quiet()                                                                                                  // before any client that may say something
	goleak.VerifyTestMain(m, goleak.IgnoreAnyFunction("github.com/valyala/fasthttp.updateServerDate.func1")) // of the library, for ever
}

// missing skips the test, and fails it where CI=true.
func missing(t testing.TB, what string) {
	t.Helper()
	const how = "%s: needs a real Redis; deploy/services run redis -- go test ./services/storage/cache"
	if os.Getenv("CI") == "true" {
		t.Fatalf(how, what)
	}
	t.Skipf(how, what)
}

// ourDatabase of the shared server is for these tests alone.
const ourDatabase = 11

// rig is a cache under test.
type rig struct {
	*Cache
	t     testing.TB
	clock *handClock // nil: real time
}

// handClock goes when it is told to.
type handClock struct{ ns atomic.Int64 }

func newHandClock() *handClock {
	c := &handClock{}
	c.ns.Store(time.Now().UnixNano())
	return c
}

func (c *handClock) now() time.Time          { return time.Unix(0, c.ns.Load()) }
func (c *handClock) advance(d time.Duration) { c.ns.Add(int64(d)) }
func (c *handClock) set(at time.Time)        { c.ns.Store(at.UnixNano()) }

// each runs a test on both stores: what one does, the other does.
func each(t *testing.T, o Options, test func(t *testing.T, r *rig)) {
	t.Helper()
	if o.OrgBytes == 0 {
		o.OrgBytes = 64 << 20
	}
	if o.TotalBytes == 0 {
		o.TotalBytes = 1 << 30
	}
	t.Run("memory", func(t *testing.T) { test(t, open(t, o)) })
	t.Run("redis", func(t *testing.T) { o.URL = settings.Secret(shared(t)); test(t, open(t, o)) })
}

// byHand is a cache whose time only goes when it is told to.
var byHand = Options{now: newHandClock().now}

func open(t testing.TB, o Options) *rig {
	t.Helper()
	r := &rig{t: t}
	if o.now != nil {
		r.clock = newHandClock()
		o.now = r.clock.now
	}
	c, err := Open(context.Background(), o)
	require.NoError(t, err)
	r.Cache = c
	t.Cleanup(func() { require.NoError(t, c.Close()) })
	return r
}

// shared is the address of the server that all tests share, with nothing in our database.
func shared(t testing.TB) string {
	t.Helper()
	address := os.Getenv("RIVERGATE_TEST_REDIS_ADDR")
	if address == "" {
		missing(t, "RIVERGATE_TEST_REDIS_ADDR is not set")
	}
	url := fmt.Sprintf("redis://%s/%d", address, ourDatabase)
	client := connect(t, url)
	require.NoError(t, client.FlushDB(context.Background()).Err())
	return url
}

func connect(t testing.TB, url string) *redis.Client {
	t.Helper()
	options, err := redis.ParseURL(url)
	require.NoError(t, err)
	options.MaxRetries = -1
	client := redis.NewClient(options)
	t.Cleanup(func() { require.NoError(t, client.Close()) })
	return client
}

// server is a Redis of one test, which may fill it and kill it.
type server struct {
	t       testing.TB
	address string
	process *exec.Cmd
	options []string
}

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
	t.Cleanup(s.kill)
	return s
}

// run starts the process and waits for an answer.
func (s *server) run() {
	s.t.Helper()
	s.process = exec.Command("redis-server", s.options...)
	require.NoError(s.t, s.process.Start())
	client := connect(s.t, "redis://"+s.address)
	require.Eventually(s.t, func() bool {
		err := client.Ping(context.Background()).Err()
		return err == nil || strings.HasPrefix(err.Error(), "NOAUTH")
	}, 30*time.Second, 10*time.Millisecond)
}

// kill ends the process with SIGKILL.
func (s *server) kill() {
	if s.process != nil {
		require.NoError(s.t, s.process.Process.Kill())
		_ = s.process.Wait() // it was killed
		s.process = nil
	}
}

func (r *rig) put(org uint64, key, value string, keep ...Keep) Entry {
	r.t.Helper()
	keep = append(keep, Keep{})
	e, err := r.Set(context.Background(), org, key, []byte(value), keep[0])
	require.NoError(r.t, err)
	return e
}

// value is empty when there is none.
func (r *rig) value(org uint64, key string) string {
	r.t.Helper()
	e, ok, err := r.Get(context.Background(), org, key)
	require.NoError(r.t, err)
	require.Equal(r.t, ok, e.Value != nil)
	return string(e.Value)
}

func (r *rig) deleted(org uint64, key string) bool {
	r.t.Helper()
	there, err := r.Delete(context.Background(), org, key)
	require.NoError(r.t, err)
	return there
}

func (r *rig) invalidated(org uint64, tag string) int {
	r.t.Helper()
	n, err := r.InvalidateTag(context.Background(), org, tag)
	require.NoError(r.t, err)
	return n
}

func (r *rig) swept() {
	r.t.Helper()
	require.NoError(r.t, r.store.sweep(context.Background(), r.now()))
}
