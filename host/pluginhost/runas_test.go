package pluginhost

import (
	"context"
	"math"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"
)

func needRoot(t *testing.T) {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("only root can start a process as another user")
	}
}

// writeFiles makes a folder with these files.
func writeFiles(t *testing.T, dir string, files map[string]string) {
	t.Helper()
	require.NoError(t, os.MkdirAll(dir, 0o755))
	for name, text := range files {
		require.NoError(t, os.WriteFile(filepath.Join(dir, name), []byte(text), 0o644))
	}
}

// passable gives the host a run folder that every user can get to.
func passable(t *testing.T) func(*Options) {
	return func(o *Options) {
		base := shortDir(t)
		require.NoError(t, os.Chmod(base, 0o755))
		o.RunDir = filepath.Join(base, "run")
	}
}

func TestAPluginRunsAsAnotherUserAndReachesOnlyItsOwn(t *testing.T) {
	needRoot(t)
	for name, change := range map[string]func(*Options){
		"in the run folder":       passable(t),
		"in the temporary folder": func(*Options) {}, // the way to the run folder of a test is barred
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t, change)
			w.install("hungry")
			var list []Instance
			for _, runAs := range []string{"nobody", "4321:8765", ""} {
				in := acme("as-" + strconv.Itoa(len(list)))
				in.Plugin, in.RunAs = "hungry", runAs
				list = append(list, in)
			}
			w.start(list...)
			left := map[string]bool{}
			for i, want := range []string{"uid=65534 gid=65534 groups=[] ", "uid=4321 gid=8765 groups=[] ", "uid=0 gid=0 "} {
				s := w.open(list[i].Name)
				said := tell(t, s, 1, `{"do":"who"}`)
				s.Close()
				require.Contains(t, said, want)
				require.Contains(t, said, "temp=true")
				st := w.status(list[i].Name)
				if list[i].RunAs == "" {
					require.Nil(t, st.Limits)
					continue
				}
				require.Equal(t, list[i].RunAs, st.Limits.RunAs)
				require.Contains(t, said, "changes_program=false exchanges_program=false")
				require.Contains(t, said, "lists_others=false")
				program := regexp.MustCompile(`program=(\S+)`).FindStringSubmatch(said)[1]
				require.Equal(t, name == "in the run folder", strings.HasPrefix(program, w.opts.RunDir), program)
				require.Equal(t, st.SHA256, sum(t, program), "the very bytes that were checked")
				own := strings.TrimSuffix(filepath.Dir(program), binSuffix)
				info, err := os.Stat(own)
				require.NoError(t, err)
				require.Equal(t, os.ModeDir|0o700, info.Mode(), "sockets and temporary files are for the plugin's user alone")
				require.NotEmpty(t, sockets(t, own))
				left[own], left[filepath.Dir(program)], left[filepath.Dir(own)] = true, true, true
			}
			killNine(t, w.pid("as-0"))
			w.await("as-0", func(s Status) bool { return s.State == StateRunning && s.Restarts == 1 })
			require.NoError(t, w.host.Stop(context.Background()))
			for dir := range left {
				require.NoDirExists(t, dir)
			}
		})
	}
}

func TestAPluginOfAnotherUserDiesWithAKilledHost(t *testing.T) {
	needRoot(t)
	for _, name := range []string{"lying", "envdump"} { // without a parent watch, and with the SDK's
		t.Run(name, func(t *testing.T) {
			w := newWorld(t, passable(t))
			w.install(name)
			child, pid := startChild(t, w, name, "PLUGINHOST_TEST_RUN_AS=nobody")
			status, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/status")
			require.NoError(t, err)
			require.Contains(t, string(status), "Uid:\t65534\t65534\t65534\t65534")
			require.NoError(t, child.Process.Kill())
			eventually(t, patience, "the plugin dies with its host", func() bool { return !alive(pid) })
			require.Error(t, child.Wait())
			require.Greater(t, len(runDirs(t, w)), 2, "the dead host has left its own folder and that for the other user")
			next, err := New(w.opts)
			require.NoError(t, err)
			require.Len(t, runDirs(t, w), 2, "the living ones: this test's own host and the next one")
			require.NoError(t, next.Stop(context.Background()))
		})
	}
}

func TestALimitThatTheHostMayNotSetForAnotherUserIsTold(t *testing.T) {
	needRoot(t)
	for _, may := range []bool{true, false} {
		if may && !hasSysResource() {
			continue // this root is one of a container
		}
		w := watching(t, passable(t))
		w.install("hungry")
		w.host.limits.maySetRlimits = func() bool { return may }
		w.start(hungry(Limits{OpenFiles: 64, MemoryMax: 96 * mebibyte}, "nobody"))
		st := w.awaitState("hungry", StateRunning)
		require.Equal(t, byRlimits, st.Limits.By)
		s := w.open("hungry")
		said := tell(t, s, 1, `{"do":"who"}`)
		require.Contains(t, said, "uid=65534 ")
		require.Equal(t, may, strings.Contains(said, "nofile=64 "))
		if !may {
			require.Len(t, st.Limits.NotEnforced, 1)
			require.Contains(t, st.Limits.NotEnforced[0], "OPEN_FILES (for a process of another user, the host needs the capability CAP_SYS_RESOURCE")
			w.log.await(t, "PLUGIN_HUNGRY_OPEN_FILES (for a process of another user")
		}
		// Its memory is watched all the same.
		require.Regexp(t, overLimit, wishFatally(t, s, 2, `{"do":"eat","mib":300}`))
	}
}

func TestAUserThatDoesNotExistIsAConfigurationProblem(t *testing.T) {
	needRoot(t)
	for runAs, want := range map[string]string{
		"no-such-user":         `PLUGIN_HUNGRY_RUN_AS names the user "no-such-user", which this machine does not know`,
		"nobody:no-such-group": `PLUGIN_HUNGRY_RUN_AS names the group "no-such-group"`,
		"54321":                "give a group as well, such as 54321:54321",
		"4294967295:1":         "out of range",
		":":                    `PLUGIN_HUNGRY_RUN_AS names the user ""`,
	} {
		problems := hungry(Limits{}, runAs).withDefaults().check()
		require.Len(t, problems, 1, runAs)
		require.Contains(t, reasons(problems), want)
	}
	for _, runAs := range []string{"root", "0:0", "nobody", "65534", "54321:1"} {
		require.Empty(t, hungry(Limits{}, runAs).withDefaults().check(), runAs)
	}
}

func TestAHostThatIsNotRootSaysSoInsteadOfTrying(t *testing.T) {
	if os.Getenv("PLUGINHOST_TEST_PLAIN") == "" {
		needRoot(t)
		asNobody(t)
		return
	}
	problems := hungry(Limits{}, "daemon").withDefaults().check()
	require.Len(t, problems, 1)
	require.Contains(t, reasons(problems), "PLUGIN_HUNGRY_RUN_AS needs a host that runs as root, to become daemon; this one runs as user 65534: start it as root, or leave the variable out")
	require.Empty(t, hungry(Limits{}, "nobody").withDefaults().check(), "itself it can be")
	problems = hungry(Limits{OpenFiles: math.MaxInt32}, "").withDefaults().check()
	require.Contains(t, reasons(problems), "PLUGIN_HUNGRY_OPEN_FILES is more than the")
}

// asNobody runs the calling test again as a plain user.
func asNobody(t *testing.T) {
	t.Helper()
	dir := shortDir(t)
	require.NoError(t, os.Chmod(dir, 0o755))
	self, err := os.Executable()
	require.NoError(t, err)
	data, err := os.ReadFile(self)
	require.NoError(t, err)
	copied := filepath.Join(dir, "test") // the test's own may lie where only root can go
	require.NoError(t, os.WriteFile(copied, data, 0o755))
	nobody, err := lookupAccount("nobody")
	require.NoError(t, err)
	cmd := exec.Command(copied, "-test.run=^"+t.Name()+"$", "-test.v")
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: nobody.credential()}
	cmd.Dir, cmd.Env = "/", append(os.Environ(), "PLUGINHOST_TEST_PLAIN=1")
	text, err := cmd.CombinedOutput()
	require.NoError(t, err, "%s", text)
	require.Contains(t, string(text), "--- PASS: "+t.Name())
}
