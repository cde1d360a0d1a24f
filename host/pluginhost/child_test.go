package pluginhost

import (
	"bufio"
	"context"
	"fmt"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"testing"

	"github.com/hashicorp/go-hclog"
	"github.com/stretchr/testify/require"
)

// serveAsChild is the test binary in the role of the host: it starts one plugin, prints its pid, and serves until it is
// killed.
func serveAsChild() {
	h, err := New(Options{
		Dir: os.Getenv("PLUGINHOST_TEST_DIR"), RunDir: os.Getenv("PLUGINHOST_TEST_RUN"),
		Log: hclog.New(&hclog.LoggerOptions{Output: os.Stderr, Level: hclog.Debug}),
	})
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	name := os.Getenv("PLUGINHOST_TEST_CHILD")
	in := acme(name)
	in.RunAs = os.Getenv("PLUGINHOST_TEST_RUN_AS")
	if path := os.Getenv("PLUGINHOST_TEST_PATH"); path != "" {
		in.Vars[in.Prefix+"PATH"] = path
	}
	if problems := h.Start(context.Background(), []Instance{in}); len(problems) > 0 {
		fmt.Fprintln(os.Stderr, reasons(problems))
		os.Exit(1)
	}
	if _, err := h.Destination(name).Open(context.Background()); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	fmt.Println(h.Status()[0].PID)
	<-h.ctx.Done()
}

// startChild starts a host in a process of its own and returns it with the pid of its plugin.
func startChild(t *testing.T, w *world, name string, env ...string) (*exec.Cmd, int) {
	t.Helper()
	self, err := os.Executable()
	require.NoError(t, err)
	cmd := exec.Command(self)
	cmd.Env = append(os.Environ(), "PLUGINHOST_TEST_CHILD="+name, "PLUGINHOST_TEST_DIR="+w.opts.Dir, "PLUGINHOST_TEST_RUN="+w.opts.RunDir)
	cmd.Env = append(cmd.Env, env...)
	cmd.Stderr = w.log
	out, err := cmd.StdoutPipe()
	require.NoError(t, err)
	require.NoError(t, cmd.Start())
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	})
	line, err := bufio.NewReader(out).ReadString('\n')
	require.NoError(t, err, "the host in its own process did not start its plugin")
	pid, err := strconv.Atoi(strings.TrimSpace(line))
	require.NoError(t, err)
	require.True(t, alive(pid))
	return cmd, pid
}
