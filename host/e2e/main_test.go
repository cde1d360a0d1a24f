package e2e

import (
	"context"
	"flag"
	"fmt"
	"net/http"
	"os"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/rivergate/rivergate/host/e2e/rig"
)

// plugins are the folders of the plugins that the tests run.
var plugins = []string{
	"plugins/pusher/amqp",
	"plugins/pusher/file",
	"plugins/pusher/http",
	"plugins/pusher/kafka",
	"plugins/pusher/mqtt",
	"plugins/pusher/mysql",
	"plugins/pusher/nats",
	"plugins/pusher/postgres",
	"plugins/pusher/redis",
	"plugins/pusher/riffyn",
	"plugins/pusher/s3",
	"plugins/pusher/sqlite",
	"plugins/storage/local",
	"plugins/storage/s3",
	"plugins/testdata/witness",
	"plugins/testdata/crash",
	"plugins/testdata/hang",
	"plugins/testdata/slow",
	"plugins/testdata/flaky",
	"plugins/testdata/lying",
	"plugins/testdata/chatty",
}

// built is set by TestMain before any test runs, and only read afterwards.
var built struct {
	rig.Binaries
	skip string // why nothing was built
}

const buildDeadline = 10 * time.Minute // a cold cache

func TestMain(m *testing.M) {
	flag.Parse()
	os.Exit(run(m))
}

func run(m *testing.M) int {
	if testing.Short() {
		built.skip = "end-to-end tests are left out by -short"
		return m.Run()
	}
	dir, err := os.MkdirTemp("", "rge2e")
	if err != nil {
		fmt.Fprintln(os.Stderr, "end-to-end tests:", err)
		return 1
	}
	defer os.RemoveAll(dir)
	ctx, cancel := context.WithTimeout(context.Background(), buildDeadline)
	defer cancel()
	if built.Binaries, err = rig.Build(ctx, dir, plugins...); err != nil {
		fmt.Fprintln(os.Stderr, "end-to-end tests:", err)
		return 1
	}
	code := m.Run()
	http.DefaultClient.CloseIdleConnections()                                                 // to servers that keep them open, as SeaweedFS does
	sarama := goleak.IgnoreTopFunction("github.com/rcrowley/go-metrics.(*meterArbiter).tick") // one for the process, for its metrics
	if err := goleak.Find(sarama); err != nil && code == 0 {
		fmt.Fprintln(os.Stderr, "end-to-end tests left goroutines:", err)
		return 1
	}
	return code
}

// cannot skips a test for want of something that the machine does not give. In CI that is a failure: nothing there may
// be left out in silence.
func cannot(t *testing.T, why string) {
	t.Helper()
	if os.Getenv("CI") == "true" {
		t.Fatalf("%s cannot run, and CI=true lets nothing be skipped: %s", t.Name(), why)
	}
	t.Skipf("%s skipped: %s", t.Name(), why)
}
