package sdk_test

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/rivergate/rivergate/sdk/wire"
)

// wakeups is how often the threads of a process have gone to sleep so far.
func wakeups(t *testing.T, pid int) (n int) {
	t.Helper()
	files, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/status", pid))
	require.NoError(t, err)
	require.NotEmpty(t, files)
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			continue // that thread has ended
		}
		for line := range strings.Lines(string(text)) {
			if count, ok := strings.CutPrefix(line, "voluntary_ctxt_switches:"); ok {
				var of int
				_, err := fmt.Sscan(count, &of)
				require.NoError(t, err)
				n += of
			}
		}
	}
	return n
}

// Fifty of them are to cost less than a hundredth of a core. A look at the parent five times a second would wake one fifty
// times.
func TestAnIdlePluginSleeps(t *testing.T) {
	t.Parallel()
	p := startProcess(t, fmt.Sprintf("%s=%d", wire.EnvHostPID, os.Getpid()))
	p.open(t, `{}`)
	second := time.NewTicker(time.Second)
	defer second.Stop()
	last := wakeups(t, p.command.Process.Pid)
	for range 30 {
		<-second.C
		before := last
		last = wakeups(t, p.command.Process.Pid)
		if last-before <= 3 {
			return
		}
	}
	t.Fatal("no second passed in which the plugin was left alone")
}
