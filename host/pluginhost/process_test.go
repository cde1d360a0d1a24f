package pluginhost

import (
	"context"
	"net"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/rivergate/rivergate/sdk/wire"
)

// environmentOf asks the plugin envdump for what it sees.
func environmentOf(t *testing.T, w *world, in Instance) map[string]string {
	t.Helper()
	w.start(in)
	s := w.open(in.Name)
	defer s.Close()
	ack := deliver(t, s, batch(1, 1, `{}`))
	require.Len(t, ack.Outcomes, 1)
	env := map[string]string{}
	for line := range strings.SplitSeq(ack.Outcomes[0].Message, "\n") {
		name, value, _ := strings.Cut(line, "=")
		env[name] = value
	}
	return env
}

func TestAPluginSeesNothingOfTheHostsEnvironmentButWhatIsMeant(t *testing.T) {
	t.Setenv("AWS_SECRET_ACCESS_KEY", "a secret of the host")
	t.Setenv("RIVERGATE_INTERNAL_TOKEN", "another one")
	t.Setenv("PLUGIN_ENVDUMP_TOKEN", "the plugin's own, which goes by Configure")
	t.Setenv("PLUGIN_CLIENT_CERT", "not a certificate") // would make the plugin demand TLS
	t.Setenv("PLUGIN_UNIX_SOCKET_DIR", "/no/such/folder")
	t.Setenv("PLUGIN_UNIX_SOCKET_GROUP", "nobody-has-this")
	t.Setenv("PLUGIN_MULTIPLEX_GRPC", "true")
	t.Setenv("TZ", "Europe/Berlin")
	t.Setenv("LANG", "de_DE.UTF-8")
	t.Setenv("WANTED", "passed")
	t.Setenv("LD_PRELOAD", "")
	w := newWorld(t)
	w.install("envdump")
	env := environmentOf(t, w, Instance{Name: "envdump", PassEnv: []string{"WANTED", "NOT_SET"}})

	var names []string
	for name := range env {
		names = append(names, name)
	}
	// The cookie is not there any more: the SDK takes it away, so that what the plugin starts does not inherit it.
	require.Subset(t, []string{
		"PATH", "TZ", "LANG", "TMPDIR", "WANTED", wire.EnvHostPID, wire.EnvLogLevel, wire.EnvCookie,
		"PLUGIN_MIN_PORT", "PLUGIN_MAX_PORT", "PLUGIN_PROTOCOL_VERSIONS", "PLUGIN_UNIX_SOCKET_DIR",
	}, names)
	require.Equal(t, os.Getenv("PATH"), env["PATH"])
	require.Equal(t, "Europe/Berlin", env["TZ"])
	require.Equal(t, "de_DE.UTF-8", env["LANG"])
	require.Equal(t, "passed", env["WANTED"])
	require.Equal(t, strconv.Itoa(os.Getpid()), env[wire.EnvHostPID])
	require.True(t, strings.HasPrefix(env["PLUGIN_UNIX_SOCKET_DIR"], env["TMPDIR"]+"/"))
	info, err := os.Stat(env["TMPDIR"])
	require.NoError(t, err)
	require.Equal(t, os.ModeDir|0o700, info.Mode(), "sockets and temporary files are for the host's user alone")

	require.NoError(t, w.host.Stop(context.Background()))
	require.NoDirExists(t, env["TMPDIR"])
}

// grandchildren reads what forker wrote: the pids of the three processes that it started.
func grandchildren(t *testing.T, path string) []int {
	t.Helper()
	text, err := os.ReadFile(path)
	require.NoError(t, err)
	var pids []int
	for _, field := range strings.Fields(string(text)) {
		pid, err := strconv.Atoi(field)
		require.NoError(t, err)
		pids = append(pids, pid)
	}
	require.Len(t, pids, 3)
	return pids
}

func TestAStoppedPluginTakesAllThatItStartedAlong(t *testing.T) {
	for name, end := range map[string]func(w *world){
		"stop":  func(w *world) { _ = w.host.Stop(context.Background()) },
		"kill":  func(w *world) { w.open("forker").Kill("the test wants it") },
		"crash": func(w *world) { killNine(w.t, w.pid("forker")) },
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			w.install("forker")
			path := filepath.Join(t.TempDir(), "pids")
			hold := "true"
			if name == "crash" {
				hold = "false"
			}
			w.start(acme("forker", "PATH", path, "HOLD", hold))
			pids := append(grandchildrenOf(t, w, path), w.pid("forker"))
			for _, pid := range pids {
				require.True(t, alive(pid))
			}
			end(w)
			eventually(t, patience, "plugin and grandchildren are gone", func() bool { return !slices.ContainsFunc(pids, alive) })
		})
	}
}

func grandchildrenOf(t *testing.T, w *world, path string) []int {
	w.awaitState("forker", StateRunning)
	return grandchildren(t, path)
}

func killNine(t testing.TB, pid int) {
	t.Helper()
	p, err := os.FindProcess(pid)
	require.NoError(t, err)
	require.NoError(t, p.Kill())
}

func TestAKilledHostLeavesNoOrphanAndTheNextOneNoStaleSocket(t *testing.T) {
	w := newWorld(t, func(o *Options) { o.RunDir = shortDir(t) }) // removed by hand; the child makes its own
	w.install("forker")
	path := filepath.Join(t.TempDir(), "pids")
	child, pid := startChild(t, w, "forker", "PLUGINHOST_TEST_PATH="+path)
	bare, outlived := grandchildren(t, path)[0], grandchildren(t, path)[1:]
	defer killNine(t, bare) // nothing tells that it was a plugin's: the one case that nobody can clear away
	runs := runDirs(t, w)
	require.Len(t, runs, 2, "this test's own host and the child's")
	require.NotEmpty(t, sockets(t, w.opts.RunDir))

	began := time.Now()
	require.NoError(t, child.Process.Kill())
	eventually(t, 2*time.Second, "the plugin dies with its host", func() bool { return !alive(pid) })
	t.Logf("the plugin was gone %s after its host was killed", time.Since(began))
	require.Error(t, child.Wait()) // its lock is free only when all of its threads have ended

	// The next host clears away sockets, copies, and what the plugin had started.
	next, err := New(w.opts)
	require.NoError(t, err)
	defer func() { _ = next.Stop(context.Background()) }()
	require.Len(t, runDirs(t, w), 2, "the living ones: this test's own host and the next one")
	require.Empty(t, sockets(t, w.opts.RunDir))
	eventually(t, patience, "grandchildren are gone", func() bool { return !slices.ContainsFunc(outlived, alive) })
}

func TestAPluginWithoutTheSDKDiesWithAKilledHostAsWell(t *testing.T) {
	w := newWorld(t)
	w.install("lying") // has no parent watch
	child, pid := startChild(t, w, "lying")
	require.NoError(t, child.Process.Kill())
	eventually(t, 2*time.Second, "the plugin dies with its host", func() bool { return !alive(pid) })
}

func TestAllPluginsAreForkedByOneThreadThatStays(t *testing.T) {
	w := newWorld(t)
	w.install("flaky")
	var list []Instance
	for _, name := range []string{"a", "b", "c", "d"} {
		in := acme(name)
		in.Plugin = "flaky"
		list = append(list, in)
	}
	w.start(list...)
	parents := map[string]bool{}
	for range 3 {
		for _, in := range list {
			pid := w.pid(in.Name)
			parents[forkedBy(t, pid)] = true
			killNine(t, pid)
			w.await(in.Name, func(s Status) bool { return s.State == StateRunning && s.PID != pid })
		}
		// Threads that end take the children with them that they forked.
		var ending sync.WaitGroup
		for range 32 {
			ending.Go(runtime.LockOSThread)
		}
		ending.Wait()
	}
	require.Len(t, parents, 1)
}

// forkedBy is the thread of this process whose child pid is.
func forkedBy(t *testing.T, pid int) string {
	t.Helper()
	lists, err := filepath.Glob("/proc/self/task/*/children")
	require.NoError(t, err)
	if len(lists) == 0 {
		t.Skip("the kernel does not tell which thread forked a process (CONFIG_PROC_CHILDREN)")
	}
	for _, list := range lists {
		text, err := os.ReadFile(list)
		if err == nil && slices.Contains(strings.Fields(string(text)), strconv.Itoa(pid)) {
			return filepath.Base(filepath.Dir(list))
		}
	}
	require.Fail(t, "no thread has the child", pid)
	return ""
}

func runDirs(t *testing.T, w *world) []string {
	t.Helper()
	dirs, err := filepath.Glob(filepath.Join(w.opts.RunDir, runPrefix+"*"))
	require.NoError(t, err)
	return dirs
}

func sockets(t *testing.T, dir string) []string {
	t.Helper()
	var found []string
	require.NoError(t, filepath.WalkDir(dir, func(path string, d os.DirEntry, err error) error {
		if err == nil && d.Type() == os.ModeSocket {
			found = append(found, path)
		}
		return err
	}))
	return found
}

// shortDir is a folder whose path is short enough for sockets, unlike those of t.TempDir.
func shortDir(t *testing.T) string {
	dir, err := os.MkdirTemp("", "r")
	require.NoError(t, err)
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	return dir
}

func TestARunDirTooLongForSocketsIsReplacedByAShortOne(t *testing.T) {
	for name, depth := range map[string]int{"short": 0, "long": 120} {
		t.Run(name, func(t *testing.T) {
			base := filepath.Join(shortDir(t), strings.Repeat("d", depth))
			w := newWorld(t, func(o *Options) { o.RunDir = base })
			w.install("envdump")
			env := environmentOf(t, w, acme("envdump"))
			inside := strings.HasPrefix(env["TMPDIR"], base)
			require.Equal(t, depth == 0, inside, env["TMPDIR"])
			require.NoError(t, w.host.Stop(context.Background()))
			require.NoDirExists(t, filepath.Dir(env["TMPDIR"]))
			left, err := os.ReadDir(base)
			require.NoError(t, err)
			require.Empty(t, left)
		})
	}
}

func TestTheBytesThatWereHashedAreTheBytesThatRun(t *testing.T) {
	w := newWorld(t)
	path := w.install("flaky", "acme")
	was := sum(t, path)
	in := acme("acme", "SHARE", "0")
	in.SHA256 = strings.ToUpper(was)
	w.start(in)
	pid := w.pid("acme")
	exe, err := os.Readlink("/proc/" + strconv.Itoa(pid) + "/exe")
	require.NoError(t, err)
	require.True(t, strings.HasPrefix(exe, w.opts.RunDir), "a private copy runs, not the file of the plugin folder: %s", exe)
	require.Equal(t, was, sum(t, exe))
	info, err := os.Stat(exe)
	require.NoError(t, err)
	require.Equal(t, os.FileMode(0o500), info.Mode())

	// Exchanged on disk: the next start is refused, with both hashes, and comes back when the right file does.
	w.install("lying", "acme")
	killNine(t, pid)
	st := w.awaitState("acme", StateFailed)
	require.Contains(t, st.Reason, was)
	require.Contains(t, st.Reason, sum(t, path))
	w.install("flaky", "acme")
	require.NotEqual(t, pid, w.pid("acme"))
}

func TestAPrivateCopyThatWasTamperedWithIsNotRunAgain(t *testing.T) {
	w := newWorld(t)
	w.install("flaky", "acme")
	w.start(acme("acme", "SHARE", "0"))
	pid := w.pid("acme")
	exe, err := os.Readlink("/proc/" + strconv.Itoa(pid) + "/exe")
	require.NoError(t, err)
	other, err := os.ReadFile(build(t, "lying"))
	require.NoError(t, err)
	require.NoError(t, os.Remove(exe))
	require.NoError(t, os.WriteFile(exe, other, 0o500))
	killNine(t, pid)
	st := w.await("acme", func(s Status) bool { return s.Restarts == 1 && s.State == StateRunning })
	again, err := os.Readlink("/proc/" + strconv.Itoa(st.PID) + "/exe")
	require.NoError(t, err)
	require.Equal(t, st.SHA256, sum(t, again))
	require.NotEqual(t, exe, again)
}

func TestMutualTLSIsAChoice(t *testing.T) {
	for _, c := range []struct {
		choice string
		tls    bool
	}{{MTLSAuto, false}, {MTLSOff, false}, {MTLSOn, true}} {
		t.Run(c.choice, func(t *testing.T) {
			w := newWorld(t, func(o *Options) { o.MTLS = c.choice })
			w.install("envdump")
			env := environmentOf(t, w, acme("envdump"))
			require.Equal(t, c.tls, env["PLUGIN_CLIENT_CERT"] != "")
			at := sockets(t, env["PLUGIN_UNIX_SOCKET_DIR"])
			require.Len(t, at, 1)
			require.Equal(t, c.tls, refusesPlain(t, at[0]), "somebody without a certificate")
		})
	}
}

// refusesPlain speaks HTTP/2 without TLS to the socket, and tells whether the plugin hangs up instead of answering.
func refusesPlain(t *testing.T, socket string) bool {
	t.Helper()
	conn, err := net.Dial("unix", socket)
	require.NoError(t, err)
	defer func() { _ = conn.Close() }()
	require.NoError(t, conn.SetDeadline(time.Now().Add(patience)))
	_, err = conn.Write([]byte("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\x00\x00\x00\x04\x00\x00\x00\x00\x00"))
	require.NoError(t, err)
	head := make([]byte, 9)
	n, err := conn.Read(head)
	return err != nil || n < 9 || head[3] != 4 // a SETTINGS frame
}

func TestAPluginOnTCPIsSpokenToOverMutualTLS(t *testing.T) {
	t.Setenv("LIE", "tcp")
	for choice, tls := range map[string]bool{MTLSAuto: true, MTLSOn: true, MTLSOff: false} {
		t.Run(choice, func(t *testing.T) {
			w := newWorld(t, func(o *Options) { o.MTLS = choice })
			w.install("lying")
			w.start(Instance{Name: "lying", PassEnv: []string{"LIE"}})
			deliver(t, w.open("lying"), batch(1, 1, `{}`))
			env, err := os.ReadFile("/proc/" + strconv.Itoa(w.pid("lying")) + "/environ")
			require.NoError(t, err)
			require.Equal(t, tls, strings.Contains(string(env), "PLUGIN_CLIENT_CERT="))
			require.Zero(t, w.status("lying").Restarts)
		})
	}
}

func TestATransportThatIsNotSafeIsRefused(t *testing.T) {
	h := newHandshake("/run", []int{1}, transport{})
	require.ErrorIs(t, h.check(said{core: "1", version: "1", network: "tcp", address: "127.0.0.1:4711", protocol: "grpc"}), errWantsTLS)
	require.ErrorContains(t, h.check(said{core: "1", version: "1", network: "unix", address: "/run/socket", protocol: "grpc", cert: strings.Repeat("A", 600)}),
		"demands TLS, which it was not asked for")
	h.transport = transport{tls: true}
	require.ErrorContains(t, h.check(said{core: "1", version: "1", network: "tcp", address: "127.0.0.1:4711", protocol: "grpc"}), "cannot speak TLS")
}
