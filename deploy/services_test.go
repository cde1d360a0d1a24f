// Package deploy holds no code, only what the scripts beside this file promise.
package deploy

import (
	"bytes"
	"context"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"
)

// within is the longest that a busy machine may take for any step here.
const within = 2 * time.Minute

// folder is a new one that also the user that servers run as may enter.
func folder(t *testing.T) string {
	t.Helper()
	if testing.Short() {
		t.Skip("starts real servers")
	}
	dir, err := os.MkdirTemp("", "rivergate-services-test.")
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, os.RemoveAll(dir)) })
	require.NoError(t, os.Chmod(dir, 0o711)) //nolint:gosec // see above
	return dir
}

func command(ctx context.Context, args ...string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, "./services", args...)
	cmd.Env = append(os.Environ(), "RIVERGATE_SERVICES=native")
	return cmd
}

// services runs the script to its end. The context is not the test's: clean-up calls it too.
func services(t *testing.T, args ...string) (out string, code int) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), within)
	defer cancel()
	cmd := command(ctx, args...)
	said, err := cmd.CombinedOutput()
	if failed := (*exec.ExitError)(nil); !errors.As(err, &failed) {
		require.NoError(t, err)
	}
	return string(said), cmd.ProcessState.ExitCode()
}

// started are the variables of servers that run in dir until the test ends.
func started(t *testing.T, dir string, names ...string) map[string]string {
	t.Helper()
	t.Cleanup(func() {
		out, code := services(t, "stop", "--dir", dir)
		require.Zero(t, code, out)
	})
	out, code := services(t, append([]string{"start", "--dir", dir}, names...)...)
	require.Zero(t, code, out)
	text, err := os.ReadFile(filepath.Join(dir, "env"))
	require.NoError(t, err)
	variables := make(map[string]string)
	for line := range strings.Lines(string(text)) {
		name, value, _ := strings.Cut(strings.TrimSpace(line), "=")
		variables[name] = value
	}
	return variables
}

// workingIn are the command lines of the processes whose working directory is dir or below.
func workingIn(t *testing.T, dir string) []string {
	t.Helper()
	if _, err := os.Stat("/proc/self/cwd"); err != nil {
		t.Skip("needs /proc to see whose processes are left")
	}
	links, err := filepath.Glob("/proc/[0-9]*/cwd")
	require.NoError(t, err)
	var found []string
	for _, link := range links {
		// A process that ended meanwhile has neither.
		where, _ := os.Readlink(link)
		if where == dir || strings.HasPrefix(where, dir+"/") {
			line, _ := os.ReadFile(filepath.Join(filepath.Dir(link), "cmdline"))
			found = append(found, string(bytes.ReplaceAll(line, []byte{0}, []byte{' '})))
		}
	}
	return found
}

func TestAKilledServerComesBackOnItsPortWithItsData(t *testing.T) {
	dir := folder(t)
	variables := started(t, dir, "redis")
	require.Equal(t, dir, variables["RIVERGATE_TEST_SERVICES_DIR"])
	client := redis.NewClient(&redis.Options{Addr: variables["RIVERGATE_TEST_REDIS_ADDR"], MaxRetries: -1})
	t.Cleanup(func() { require.NoError(t, client.Close()) })
	require.NoError(t, client.Set(t.Context(), "kept", "yes", 0).Err())

	out, code := services(t, "kill", "--dir", dir, "redis")
	require.Zero(t, code, out)
	require.ErrorIs(t, client.Ping(t.Context()).Err(), syscall.ECONNREFUSED)
	out, code = services(t, "status", "--dir", dir)
	require.Equal(t, 1, code)
	require.Regexp(t, `(?m)^redis +gone`, out)

	out, code = services(t, "revive", "--dir", dir, "redis")
	require.Zero(t, code, out)
	value, err := client.Get(t.Context(), "kept").Result()
	require.NoError(t, err)
	require.Equal(t, "yes", value)
	out, _ = services(t, "status", "--dir", dir)
	require.Regexp(t, `(?m)^redis +running`, out)
}

// RabbitMQ is a node, the script around it, and a name server.
func TestAKillTakesTheWholeServer(t *testing.T) {
	dir := folder(t)
	started(t, dir, "rabbitmq")
	require.NotEmpty(t, workingIn(t, dir))
	out, code := services(t, "kill", "--dir", dir, "rabbitmq")
	require.Zero(t, code, out)
	require.Eventually(t, func() bool { return len(workingIn(t, dir)) == 0 }, within, 50*time.Millisecond)
}

func TestWhatWasStoppedIsGone(t *testing.T) {
	dir := folder(t)
	here := filepath.Join(dir, "servers")
	variables := started(t, here, "nats", "redis", "postgres", "pgbouncer")
	for _, name := range []string{"NATS_URL", "REDIS_ADDR", "POSTGRES_DSN", "PGBOUNCER_DSN"} {
		require.NotEmpty(t, variables["RIVERGATE_TEST_"+name])
	}
	out, code := services(t, "stop", "--dir", here)
	require.Zero(t, code, out)
	require.NoDirExists(t, here)
	require.Empty(t, workingIn(t, dir))
}

func TestARunThatIsInterruptedLeavesNothingBehind(t *testing.T) {
	for when, sign := range map[string]string{
		"while servers are being made":  "state/mysql.home",
		"while some run and some don't": "state/nats.process",
		"while the command runs":        "nats/arrived",
	} {
		t.Run(when, func(t *testing.T) {
			dir := folder(t)
			ctx, cancel := context.WithTimeout(t.Context(), within)
			defer cancel()
			cmd := command(ctx, "run", "nats", "mysql", "postgres", "--",
				"sh", "-c", `: >"$RIVERGATE_TEST_SERVICES_DIR/nats/arrived"; sleep 600`)
			cmd.Env = append(cmd.Env, "TMPDIR="+dir)
			var said bytes.Buffer
			cmd.Stdout, cmd.Stderr = &said, &said
			require.NoError(t, cmd.Start())
			ended := make(chan error, 1)
			go func() { ended <- cmd.Wait() }()
			require.Eventually(t, func() bool {
				found, err := filepath.Glob(filepath.Join(dir, "*", sign))
				return err == nil && len(found) > 0
			}, within, time.Millisecond)

			require.NoError(t, cmd.Process.Signal(syscall.SIGTERM))
			var failed *exec.ExitError
			require.ErrorAs(t, <-ended, &failed)
			require.Equal(t, 143, failed.ExitCode(), said.String())
			require.Empty(t, workingIn(t, dir))
			left, err := os.ReadDir(dir)
			require.NoError(t, err)
			require.Empty(t, left)
		})
	}
}

func TestTheExitCodeOfARunIsTheCommands(t *testing.T) {
	dir := folder(t)
	t.Setenv("TMPDIR", dir)
	out, code := services(t, "run", "redis", "--", "sh", "-c", `test -n "$RIVERGATE_TEST_REDIS_ADDR" && exit 7`)
	require.Equal(t, 7, code, out)
	left, err := os.ReadDir(dir)
	require.NoError(t, err)
	require.Empty(t, left)
}

func TestAWrongNameIsTold(t *testing.T) {
	dir := folder(t)
	out, code := services(t, "start", "--dir", dir, "oracle")
	require.Equal(t, 1, code)
	require.Contains(t, out, `unknown server "oracle"; there are: postgres redis`)
	for _, what := range []string{"kill", "revive"} {
		out, code = services(t, what, "--dir", dir, "redis")
		require.Equal(t, 1, code)
		require.Contains(t, out, "redis was not started in "+dir)
	}
}

// Ubuntu, say, has no package of Chromium.
func TestARunGoesOnWithoutAnOptionalProgram(t *testing.T) {
	dir := folder(t)
	t.Setenv("TMPDIR", dir)
	t.Setenv("PATH", pathWithout(t, "apt-get", "chromium", "chromium-headless-shell", "google-chrome"))
	out, code := services(t, "run", "redis", "chromium", "--", "sh", "-c", `test -n "$RIVERGATE_TEST_REDIS_ADDR" && exit 7`)
	require.Equal(t, 7, code, out)
	require.Contains(t, out, "going on without chromium")
}

// pathWithout is a PATH with every program of ours but those.
func pathWithout(t *testing.T, names ...string) string {
	t.Helper()
	dir := t.TempDir()
	for _, from := range filepath.SplitList(os.Getenv("PATH")) {
		programs, _ := os.ReadDir(from) // a PATH may name folders that are not there
		for _, p := range programs {
			if slices.Contains(names, p.Name()) {
				continue
			}
			if err := os.Symlink(filepath.Join(from, p.Name()), filepath.Join(dir, p.Name())); !errors.Is(err, os.ErrExist) {
				require.NoError(t, err)
			}
		}
	}
	return dir
}
