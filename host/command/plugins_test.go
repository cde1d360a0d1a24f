package command

import (
	"bytes"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"aead.dev/minisign"
	"github.com/stretchr/testify/require"

	"github.com/rivergate/rivergate/host/pluginstore"
	"github.com/rivergate/rivergate/sdk/protocol"
)

// shop is a plugin folder, and builds of plugins that lie elsewhere.
type shop struct {
	*testing.T
	dir     string
	environ []string
	counts  []string // the variables that the plugin needs, as null and as second
	null    []byte   // a plugin that works
}

func newShop(t *testing.T, environ ...string) *shop {
	t.Helper()
	s := &shop{T: t, dir: t.TempDir()}
	s.environ = append([]string{"RIVERGATE_URL=http://127.0.0.1:1", "RIVERGATE_PLUGIN_DIR=" + s.dir, "RIVERGATE_DATA_DIR=" + t.TempDir()}, environ...)
	for _, name := range []string{"NULL", "SECOND"} {
		s.counts = append(s.counts, "PLUGIN_"+name+"_COUNT_FILE="+filepath.Join(t.TempDir(), "counts"))
	}
	s.environ = append(s.environ, s.counts[0])
	s.null = s.build("./plugins/testdata/null")
	return s
}

// builds keeps what was compiled, by folder: linking takes longer than most of the tests.
var builds sync.Map

func (s *shop) build(pkg string) []byte {
	s.Helper()
	if raw, ok := builds.Load(pkg); ok {
		return raw.([]byte)
	}
	path := filepath.Join(s.TempDir(), "built")
	goBuild(s.T, "-o", path, pkg)
	raw, err := os.ReadFile(path)
	require.NoError(s, err)
	builds.Store(pkg, raw)
	return raw
}

// another is the same plugin in other bytes.
func (s *shop) another(mark string) []byte { return append(append([]byte{}, s.null...), mark...) }

// outside writes a build to a file outside the plugin folder.
func (s *shop) outside(build []byte) string {
	s.Helper()
	path := filepath.Join(s.TempDir(), "rivergate-pusher-null")
	require.NoError(s, os.WriteFile(path, build, 0o755))
	return path
}

// place puts a build into the plugin folder by hand, in one step.
func (s *shop) place(name string, build []byte) string {
	s.Helper()
	path := filepath.Join(s.dir, "rivergate-pusher-"+name)
	require.NoError(s, os.WriteFile(path+".part", build, 0o755))
	require.NoError(s, os.Rename(path+".part", path))
	return path
}

func (s *shop) run(args ...string) run {
	s.Helper()
	var stdout, stderr bytes.Buffer
	code := Program{
		Version: "1.2.3", Args: append([]string{"plugins"}, args...), Environ: s.environ,
		Stdin: strings.NewReader(""), Stdout: &stdout, Stderr: &stderr,
		HTTP: &http.Client{Transport: &http.Transport{DisableKeepAlives: true}, Timeout: patience},
	}.Run(s.Context())
	return run{code: code, stdout: stdout.String(), stderr: stderr.String()}
}

// patience bounds every wait of these tests: a reload on a busy machine, and the longest pause between two starts.
const patience = 90 * time.Second

// done runs a command that has to work, and returns what it prints as JSON.
func (s *shop) done(into any, args ...string) {
	s.Helper()
	r := s.run(append(args, "--json")...)
	require.Equal(s, exitDone, r.code, "%s", r.stderr)
	require.NoError(s, json.Unmarshal([]byte(r.stdout), into), r.stdout)
}

func (s *shop) installed(name string) []byte {
	s.Helper()
	raw, err := os.ReadFile(filepath.Join(s.dir, "rivergate-pusher-"+name))
	require.NoError(s, err)
	return raw
}

func TestTheFolderIsLockedAndCheckedAgainstTheLockFile(t *testing.T) {
	s := newShop(t)
	s.place("null", s.null)
	require.NotContains(t, s.run().stdout, "LOCK", "who uses no lock file is not bothered with it")
	r := s.run("lock", "--check")
	require.Equal(t, exitFailed, r.code, r.stderr)
	require.Contains(t, r.stdout, "added")

	r = s.run("lock")
	require.Equal(t, exitDone, r.code, r.stderr)
	require.Regexp(t, `null +pusher +added +1\.0\.0`, r.stdout)
	r = s.run("lock", "--check")
	require.Equal(t, exitDone, r.code, r.stderr)
	require.Contains(t, r.stdout, "up to date: 1 plugin.")
	require.Regexp(t, `null .* locked`, s.run().stdout)

	s.place("null", s.another("2"))
	r = s.run("lock", "--check", "--json")
	require.Equal(t, exitFailed, r.code)
	require.Contains(t, r.stdout, `"what": "changed"`)
	r = s.run()
	require.Regexp(t, `null .* differs +it is not trusted: `, r.stdout)
	require.Contains(t, r.stdout, "Policy any, lock file "+filepath.Join(s.dir, "plugins.lock"))
	r = s.run("lock", "null")
	require.Equal(t, exitDone, r.code, r.stderr)
	require.Regexp(t, `changed +1\.0\.0 .* 1\.0\.0 `, r.stdout)

	require.Equal(t, exitFailed, s.run("lock", "nil").code)
	require.Equal(t, exitMistake, s.run("lock", "--check", "--prune").code)
}

func TestAPluginIsInstalledAndRolledBackTwice(t *testing.T) {
	s := newShop(t)
	var answer installedAnswer
	s.done(&answer, "install", s.outside(s.null))
	require.Equal(t, "null", answer.Name)
	require.Equal(t, "1.0.0", answer.Version)
	require.Nil(t, answer.Former)
	first := answer.SHA256
	answer = installedAnswer{}
	s.done(&answer, "install", s.outside(s.another("2")))
	second := answer.SHA256
	require.NotEqual(t, first, second)
	require.Equal(t, first, answer.Former.SHA256)
	for _, want := range []struct{ sum, former string }{{first, second}, {second, first}} {
		answer = installedAnswer{}
		s.done(&answer, "rollback", "null")
		require.Equal(t, want.sum, answer.SHA256)
		require.Equal(t, want.former, answer.Former.SHA256)
	}
	require.Equal(t, s.another("2"), s.installed("null"))
	r := s.run("install", s.outside(s.null), "--sha256", first)
	require.Equal(t, exitDone, r.code, r.stderr)
	require.Contains(t, r.stdout, "null 1.0.0 installed: "+answer.Path)
	require.Contains(t, r.stdout, "rivergate plugins rollback null")
}

func TestWhatIsNoPluginForThisMachineIsToldSo(t *testing.T) {
	s := newShop(t)
	foreign := append([]byte{}, s.null...)
	word := "amd64"
	foreign[18], foreign[19] = 0x3e, 0 // e_machine of the ELF header: x86-64
	if runtime.GOARCH == "amd64" {
		word, foreign[18] = "arm64", 0xb7
	}
	for name, c := range map[string]struct {
		build []byte
		mode  os.FileMode
		want  string
	}{
		"another architecture": {foreign, 0o755, "it was built for " + word + ", this machine is " + runtime.GOARCH},
		"a shell script":       {[]byte("#!/bin/sh\necho hello\n"), 0o755, `is not a Rivergate plugin`},
		"a text":               {[]byte("hello, world\n"), 0o755, "neither a program nor a script"},
		"nothing":              {nil, 0o755, "is empty"},
		"world-writable":       {s.null, 0o777, "chmod o-w"},
	} {
		path := s.outside(c.build)
		require.NoError(t, os.Chmod(path, c.mode))
		r := s.run("install", path)
		require.Equal(t, exitFailed, r.code, name)
		require.Contains(t, r.stderr, c.want, name)
		require.NoFileExists(t, filepath.Join(s.dir, "rivergate-pusher-null"))
		require.NoFileExists(t, filepath.Join(s.dir, "plugins.lock"))
	}
	r := s.run("install", s.outside(s.null), "--sha256", strings.Repeat("0", 64))
	require.Equal(t, exitFailed, r.code)
	require.Contains(t, r.stderr, "was asked for")
	r = s.run("install", "https://example.com/plugin")
	require.Equal(t, exitMistake, r.code)
	require.Contains(t, r.stderr, "--sha256")

	// In the plugin folder itself nothing of the sort gets into the lock file either.
	require.NoError(t, os.Chmod(s.place("closed", s.null), 0o644))
	require.NoError(t, os.Chmod(s.place("open", s.null), 0o757))
	s.place("foreign", foreign)
	r = s.run("lock")
	require.Equal(t, exitFailed, r.code)
	require.Regexp(t, `closed +pusher +refused .*is not executable: chmod \+x it`, r.stdout)
	require.Regexp(t, `open +pusher +refused .*chmod o-w it`, r.stdout)
	require.Regexp(t, `foreign +pusher +refused .*it was built for `+word, r.stdout)
}

func TestASignedPluginShowsWhoSignedItAndAnUnsignedOneDoesNotRun(t *testing.T) {
	public, private, err := minisign.GenerateKey(nil)
	require.NoError(t, err)
	key := "RIVERGATE_PLUGIN_KEYS=" + public.String()
	s := newShop(t, key)
	sign := func(build []byte) string {
		r := minisign.NewReader(bytes.NewReader(build))
		_, err := io.Copy(io.Discard, r)
		require.NoError(t, err)
		return string(r.SignWithComments(private, "null 1.0.0 for everybody", "x"))
	}
	path := s.outside(s.another("2"))
	r := s.run("install", path)
	require.Equal(t, exitFailed, r.code)
	require.Contains(t, r.stderr, path+".minisig")
	require.NoError(t, os.WriteFile(path+".minisig", []byte(sign(s.null)), 0o600))
	r = s.run("install", path)
	require.Equal(t, exitFailed, r.code)
	require.Contains(t, r.stderr, "does not fit the file")
	require.NoFileExists(t, filepath.Join(s.dir, "plugins.lock"))

	require.NoError(t, os.WriteFile(path, s.null, 0o600))
	r = s.run("install", path)
	require.Equal(t, exitDone, r.code, r.stderr)
	require.Regexp(t, `signed  by key [0-9A-F]{16}: null 1\.0\.0 for everybody`, r.stdout)
	require.Regexp(t, `null .* locked +[0-9A-F]{16} null 1\.0\.0 for everybody`, s.run().stdout)

	host := s.serve(key, "RIVERGATE_PLUGIN_POLICY=locked", "PLUGIN_NULL_ENABLED=true")
	first := s.await(host, "null", running)
	require.NoError(t, os.Remove(filepath.Join(s.dir, "rivergate-pusher-null.minisig")))
	require.NoError(t, syscall.Kill(first.PID, syscall.SIGKILL))
	s.await(host, "null", func(p pluginEntry) bool { return strings.Contains(p.Problem, "needs a signature") })
	require.Regexp(t, `it is not trusted: .*needs a signature`, s.run("--json").stdout)
}

func TestCheckRefusesAPluginThatServeWouldNotStart(t *testing.T) {
	s := newShop(t, "PLUGIN_NULL_ENABLED=true", "RIVERGATE_PLUGIN_POLICY=locked")
	s.place("null", s.null)
	check := func() run { return rivergateWith(t, s.environ, "", "check") }
	r := check()
	require.Equal(t, exitMistake, r.code)
	require.Contains(t, r.stderr, "PLUGIN_NULL_ENABLED")
	require.Contains(t, r.stderr, "rivergate plugins lock null")
	require.Equal(t, exitDone, s.run("lock").code)
	r = check()
	require.Equal(t, exitDone, r.code, r.stderr)
	s.place("null", s.another("2"))
	r = check()
	require.Equal(t, exitMistake, r.code)
	require.Contains(t, r.stderr, "has the SHA-256")
}

func TestWhatNobodyPinnedIsNotEvenAskedForItsVersion(t *testing.T) {
	s := newShop(t, "RIVERGATE_PLUGIN_POLICY=pinned", "PLUGIN_NULL_ENABLED=true")
	s.place("null", s.null)
	version := func() (version, problem string) {
		var list struct {
			Plugins []struct{ Version, Problem string }
		}
		s.done(&list)
		require.Len(t, list.Plugins, 1)
		return list.Plugins[0].Version, list.Plugins[0].Problem
	}
	asked, problem := version()
	require.Empty(t, asked)
	require.Contains(t, problem, "not trusted")
	s.environ = append(s.environ, fmt.Sprintf("PLUGIN_NULL_SHA256=%x", sha256.Sum256(s.null)))
	asked, problem = version()
	require.NotEmpty(t, asked, problem)
}

func TestAHostThatOthersCanReachDoesNotRunJustAnyPlugin(t *testing.T) {
	s := newShop(t, "RIVERGATE_LISTEN=0.0.0.0:0", "RIVERGATE_TRUSTED_PROXIES=127.0.0.1", "PLUGIN_NULL_ENABLED=true")
	s.place("null", s.null)
	r := rivergateWith(t, append(s.environ, "RIVERGATE_PLUGIN_POLICY=any"), "", "serve")
	require.Equal(t, exitMistake, r.code)
	require.Contains(t, r.stderr, "RIVERGATE_PLUGIN_POLICY")
	require.Contains(t, r.stderr, "loopback")
	r = rivergateWith(t, s.environ, "", "check")
	require.Equal(t, exitMistake, r.code, "without a word of the operator the policy is locked there")
	require.Contains(t, r.stderr, "there is no lock file")
}

func TestAMistakeInTheConfigurationLetsNoOtherPluginRun(t *testing.T) {
	file := filepath.Join(t.TempDir(), "env")
	require.NoError(t, os.WriteFile(file, []byte("RIVERGATE_PLUGIN_POLICY=locked\n"), 0o600))
	for name, environ := range map[string][]string{
		"other machines reach it": {"RIVERGATE_LISTEN=0.0.0.0:0", "RIVERGATE_TRUSTED_PROXIES=127.0.0.1", "RIVERGATE_LOG_LEVEL=loud"},
		"a policy in a file":      {"RIVERGATE_ENV_FILE=" + file, "RIVERGATE_LOG_LEVEL=loud"},
		"a pin":                   {"PLUGIN_NULL_SHA256=" + strings.Repeat("a", 64), "PLUGIN_NULL_BATCH_ROWS=0"},
	} {
		t.Run(name, func(t *testing.T) {
			s := newShop(t, append(environ, "PLUGIN_NULL_ENABLED=true")...)
			s.place("null", s.null)
			r := rivergateWith(t, s.environ, "", "check")
			require.Equal(t, exitMistake, r.code)
			require.Contains(t, r.stderr, "2 problems")
			require.Regexp(t, "there is no lock file|has the SHA-256|SHA-256", r.stderr, "it is not started")
		})
	}
}

func TestNothingIsStartedOrInstalledUnderAnEnvFileThatCannotBeRead(t *testing.T) {
	dir := t.TempDir()
	ran := filepath.Join(dir, "ran")
	plugin := filepath.Join(dir, "rivergate-pusher-acme")
	require.NoError(t, os.WriteFile(plugin, []byte("#!/bin/sh\ntouch "+ran+"\n"), 0o755))
	file := filepath.Join(dir, "env") // it may say who signs
	require.NoError(t, os.WriteFile(file, []byte("export RIVERGATE_PLUGIN_KEYS=acme.pub\nPLUGIN_ACME_ENABLED=true\n"), 0o600))
	environ := []string{"RIVERGATE_ENV_FILE=" + file, "RIVERGATE_PLUGIN_DIR=" + dir, "RIVERGATE_URL=http://127.0.0.1:1"}
	for _, args := range [][]string{{"check"}, {"serve"}, {"plugins"}, {"plugins", "lock"}, {"plugins", "install", plugin}} {
		r := rivergateWith(t, environ, "", args...)
		require.Equal(t, exitMistake, r.code, args)
		require.Contains(t, r.stderr, "leave out export", args)
		require.NoFileExists(t, ran, args)
	}
}

// serve is a host in this process on the shop's folder.
func (s *shop) serve(environ ...string) *serving {
	s.Helper()
	host := serve(s.T, s.TempDir(), append(append([]string{"RIVERGATE_PLUGIN_DIR=" + s.dir}, s.counts...), environ...)...)
	s.environ = append(s.environ, "RIVERGATE_URL="+host.url)
	return host
}

// await polls the plugin list of the host until a plugin is as wanted.
func (s *shop) await(host *serving, name string, want func(pluginEntry) bool) pluginEntry {
	s.Helper()
	var last pluginEntry
	require.Eventually(s, func() bool {
		_, body := ask(s.T, http.MethodGet, host.url+pluginsPath, "")
		var answer struct {
			Data struct {
				Plugins []struct {
					Name, State, Reason, SHA256 string
					PID                         int
				}
			}
		}
		require.NoError(s, json.Unmarshal([]byte(body), &answer), body)
		for _, p := range answer.Data.Plugins {
			if p.Name == name {
				last = pluginEntry{Name: p.Name, State: p.State, Problem: p.Reason, SHA256: p.SHA256, PID: p.PID}
			}
		}
		return want(last)
	}, patience, 20*time.Millisecond, "%s: %s", name, host.stderr)
	return last
}

func running(p pluginEntry) bool { return p.State == "running" }

func TestAChangedBinaryRunsOnUntilItsRestartAndIsRefusedThen(t *testing.T) {
	s := newShop(t)
	s.place("null", s.null)
	require.Equal(t, exitDone, s.run("lock").code)
	host := s.serve("RIVERGATE_PLUGIN_POLICY=locked", "PLUGIN_NULL_ENABLED=true")
	first := s.await(host, "null", running)

	path := s.place("null", s.another("2"))
	status, body := ask(t, "POST", host.url+"/data", oneRow)
	require.Equal(t, http.StatusAccepted, status, body)
	require.Equal(t, first.PID, s.await(host, "null", running).PID)

	require.NoError(t, syscall.Kill(first.PID, syscall.SIGKILL))
	refused := s.await(host, "null", func(p pluginEntry) bool { return strings.Contains(p.Problem, "not trusted") })
	require.NotEqual(t, "running", refused.State)
	require.Contains(t, refused.Problem, path+" has the SHA-256 ")
	require.Contains(t, refused.Problem, first.SHA256)
	status, body = ask(t, "POST", host.url+"/data", oneRow)
	require.Equal(t, http.StatusAccepted, status, body)

	// Once the operator says that he means it, it starts by itself.
	require.Equal(t, exitDone, s.run("lock").code)
	now := s.await(host, "null", running)
	require.NotEqual(t, first.SHA256, now.SHA256)
}

func TestUpgradeChangesARunningHostOverOrPutsEverythingBack(t *testing.T) {
	s := newShop(t)
	require.Equal(t, exitDone, s.run("install", s.outside(s.null)).code)
	host := s.serve("RIVERGATE_PLUGIN_POLICY=locked", "PLUGIN_NULL_ENABLED=true", "PLUGIN_SECOND_ENABLED=true", "PLUGIN_SECOND_USE=null")
	first := s.await(host, "null", running)
	s.await(host, "second", running)

	var answer upgraded
	s.done(&answer, "upgrade", "second", s.outside(s.another("2")))
	require.Equal(t, "null", answer.Plugin)
	require.Len(t, answer.Instances, 2, "all instances of the plugin change over")
	for _, name := range []string{"null", "second"} {
		now := s.await(host, name, running)
		require.Equal(t, answer.Installed.SHA256, now.SHA256)
		require.NotEqual(t, first.PID, now.PID)
	}

	// A plugin that wants configuration which nobody has given: it introduces itself well, and does not run.
	lockFile, err := os.ReadFile(filepath.Join(s.dir, "plugins.lock"))
	require.NoError(t, err)
	file := s.outside(s.build("./plugins/pusher/file"))
	r := s.run("upgrade", "null", file)
	require.Equal(t, exitFailed, r.code)
	require.Contains(t, r.stderr, "calls itself file")
	r = s.run("upgrade", "null", file, "--name", "null")
	require.Equal(t, exitFailed, r.code, r.stdout)
	require.Contains(t, r.stderr, "null did not change over")
	require.Contains(t, r.stderr, "1.0.0 "+answer.Installed.SHA256[:12])
	require.Contains(t, r.stderr, "is back")
	again, err := os.ReadFile(filepath.Join(s.dir, "plugins.lock"))
	require.NoError(t, err)
	require.Equal(t, string(lockFile), string(again))
	require.Equal(t, s.another("2"), s.installed("null"))
	require.Equal(t, answer.Installed.SHA256, s.await(host, "null", running).SHA256)

	// Back to the first one, while it runs.
	require.Equal(t, exitDone, s.run("rollback", "null").code)
	r = s.run("upgrade", "null")
	require.Equal(t, exitDone, r.code, r.stderr)
	require.Contains(t, r.stdout, "second runs version 1.0.0")
	require.Equal(t, first.SHA256, s.await(host, "null", running).SHA256)
}

func TestTheStorageOfARunningHostIsUpgradedAndTakenBack(t *testing.T) {
	s := newShop(t)
	local := s.build("./plugins/storage/local")
	r := s.run("install", s.outside(local)) // whatever its file is called: it says what it is
	require.Equal(t, exitDone, r.code, r.stderr)
	require.Contains(t, r.stdout, "storage/local 1.0.0 installed: "+filepath.Join(s.dir, "rivergate-storage-local"))
	host := s.serve("RIVERGATE_PLUGIN_POLICY=locked")
	first := s.await(host, "storage-local", running)

	r = s.run("upgrade", "storage-local", s.outside(s.null))
	require.Equal(t, exitFailed, r.code)
	require.Contains(t, r.stderr, "of the kind pusher, and one of the kind storage was to be exchanged")

	var answer upgraded
	s.done(&answer, "upgrade", "local", s.outside(append(local[:len(local):len(local)], '2')))
	require.Equal(t, "local", answer.Plugin)
	require.Equal(t, string(protocol.KindStorage), answer.Installed.Kind)
	now := s.await(host, "storage-local", running)
	require.Equal(t, answer.Installed.SHA256, now.SHA256)
	require.NotEqual(t, first.PID, now.PID)

	require.Equal(t, exitDone, s.run("rollback", "storage/local").code)
	r = s.run("upgrade", "storage/local")
	require.Equal(t, exitDone, r.code, r.stderr)
	require.Equal(t, first.SHA256, s.await(host, "storage-local", running).SHA256)
	require.Regexp(t, `storage-local +local +storage +1\.0\.0 +yes +running .*locked`, s.run().stdout)
}

func TestAnUpgradeThatASecondInstanceRefusesIsTakenBackFromTheFirst(t *testing.T) {
	s := newShop(t)
	require.Equal(t, exitDone, s.run("install", s.outside(s.null)).code)
	var reloads []string
	breaks := false // the connection, in place of an answer
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		name := strings.TrimSuffix(strings.TrimPrefix(r.URL.Path, pluginsPath+"/"), "/reload")
		switch {
		case r.Method == http.MethodGet:
			_, _ = w.Write([]byte(`{"success":true,"data":{"plugins":[
				{"name":"a","kind":"pusher","binary":"rivergate-pusher-null","state":"running","pid":1},
				{"name":"b","kind":"pusher","binary":"rivergate-pusher-null","state":"running","pid":2},
				{"name":"c","kind":"pusher","binary":"rivergate-pusher-null","state":"running","pid":3,"attached":"127.0.0.1:7000"},
				{"name":"other","kind":"pusher","binary":"rivergate-pusher-other","state":"running","pid":4}]}}`))
		case name == "b" && breaks:
			reloads, breaks = append(reloads, name), false
			panic(http.ErrAbortHandler)
		case name == "b" && len(reloads) < 3:
			reloads = append(reloads, name)
			w.WriteHeader(http.StatusBadGateway)
			_, _ = w.Write([]byte(`{"success":false,"error":{"code":"UPSTREAM","message":"The new plugin did not start, the old one stays: it is ill"}}`))
		default:
			store, err := pluginstore.Open(s.dir, "")
			if err != nil {
				panic(err)
			}
			l, _, err := store.ReadLock()
			if err != nil {
				panic(err)
			}
			reloads = append(reloads, name)
			_, _ = w.Write([]byte(`{"success":true,"data":{"plugin":{"name":"` + name + `","pid":` + strconv.Itoa(10+len(reloads)) + `,"sha256":"` + l.Plugins[0].SHA256 + `"}}}`))
		}
	}))
	defer server.Close()
	s.environ = append(s.environ, "RIVERGATE_URL="+server.URL)
	r := s.run("upgrade", "a", s.outside(s.another("2")), "--json")
	require.Equal(t, exitFailed, r.code)
	var answer upgraded
	require.NoError(t, json.Unmarshal([]byte(r.stdout), &answer), r.stdout)
	require.True(t, answer.Reverted)
	require.Contains(t, answer.Error, "it is ill")
	require.Equal(t, []string{"a", "b", "a"}, reloads)
	require.Equal(t, s.null, s.installed("null"))

	// Without an answer nobody knows what b runs, so it goes back as well.
	reloads, breaks = nil, true
	r = s.run("upgrade", "a", s.outside(s.another("2")))
	require.Equal(t, exitFailed, r.code)
	require.Contains(t, r.stderr, "b did not change over: ")
	require.Equal(t, s.null, s.installed("null"))
	require.Equal(t, []string{"a", "b", "a"}, reloads[:3])
	require.Equal(t, "b", reloads[len(reloads)-1])

	r = s.run("upgrade", "nobody", s.outside(s.another("2")))
	require.Equal(t, exitFailed, r.code)
	require.Contains(t, r.stderr, "runs no instance of a plugin nobody")
	require.Contains(t, r.stderr, "rivergate plugins install")
	require.Equal(t, s.null, s.installed("null"))
}

func TestWithoutAHostAnUpgradeChangesNothing(t *testing.T) {
	s := newShop(t)
	require.Equal(t, exitDone, s.run("install", s.outside(s.null)).code)
	r := s.run("upgrade", "null", s.outside(s.another("2")))
	require.Equal(t, exitFailed, r.code)
	require.Contains(t, r.stderr, "cannot reach")
	require.Equal(t, s.null, s.installed("null"))
	require.Equal(t, exitMistake, s.run("upgrade", "null", "--sha256", strings.Repeat("0", 64)).code)
}
