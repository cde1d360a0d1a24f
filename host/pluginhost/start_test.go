package pluginhost

import (
	"bytes"
	"context"
	"crypto/sha256"
	bits "encoding/binary"
	"encoding/hex"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

func TestRowsReachAPluginInItsOwnProcess(t *testing.T) {
	w := newWorld(t)
	path := w.install("flaky", "acme")
	out := filepath.Join(t.TempDir(), "rows")
	w.start(acme("acme", "SHARE", "0", "PATH", out))
	s := w.open("acme")
	deliver(t, s, batch(1, 10, `{"a":1}`, `{"a":2}`))

	rows, err := os.ReadFile(out)
	require.NoError(t, err)
	require.Equal(t, "10\t0123456789abcdef\t{\"a\":1}\n11\t0123456789abcdef\t{\"a\":2}\n", string(rows))

	st := w.status("acme")
	require.Equal(t, StateRunning, st.State)
	require.Equal(t, "1.0.0", st.Version)
	require.Equal(t, path, st.Binary)
	require.Equal(t, sum(t, path), st.SHA256)
	require.NotEqual(t, os.Getpid(), st.PID)
	require.Greater(t, st.RSSBytes, int64(1<<20))
	require.Contains(t, string(st.ConfigSchema), `"share"`)
	require.WithinDuration(t, time.Now(), st.StartedAt, patience)
}

func sum(t testing.TB, path string) string {
	data, err := os.ReadFile(path)
	require.NoError(t, err)
	digest := sha256.Sum256(data)
	return hex.EncodeToString(digest[:])
}

func TestAFailedStartIsExplainedAndLeavesTheOthersServing(t *testing.T) {
	t.Setenv("HANDSHAKE", "")
	plugin, err := os.ReadFile(build(t, "lying"))
	require.NoError(t, err)
	foreign := bytes.Clone(plugin)
	bits.LittleEndian.PutUint16(foreign[18:], 243) // e_machine: RISC-V
	notaplugin := func(mode string) func(*testing.T, *world) Instance {
		return func(t *testing.T, w *world) Instance {
			t.Setenv("NOTAPLUGIN", mode)
			w.install("notaplugin", "odd")
			return Instance{Name: "odd", PassEnv: []string{"NOTAPLUGIN", "HANDSHAKE"}}
		}
	}
	handshake := func(line string) func(*testing.T, *world) Instance {
		return func(t *testing.T, w *world) Instance {
			t.Setenv("HANDSHAKE", line)
			return notaplugin("handshake")(t, w)
		}
	}
	lie := func(lie string) func(*testing.T, *world) Instance {
		return func(t *testing.T, w *world) Instance {
			t.Setenv("LIE", lie)
			w.install("lying", "odd")
			return Instance{Name: "odd", PassEnv: []string{"LIE"}}
		}
	}
	file := func(data []byte, mode os.FileMode) func(*testing.T, *world) Instance {
		return func(t *testing.T, w *world) Instance {
			require.NoError(t, os.Chmod(w.installBytes(data, "odd"), mode))
			return Instance{Name: "odd"}
		}
	}
	for name, c := range map[string]struct {
		prepare func(*testing.T, *world) Instance
		timeout time.Duration
		want    []string
	}{
		"plain program":      {notaplugin("greet"), 0, []string{"ended before its handshake", "exit status 0", `"Hello, world"`}},
		"exits with a word":  {notaplugin("fail"), 0, []string{"exit status 4", "cannot find my configuration"}},
		"exits without":      {notaplugin("silent"), 0, []string{"ended before its handshake", "exit status 0"}},
		"never shakes hands": {notaplugin("hang"), 500 * time.Millisecond, []string{"no handshake on stdout within 500ms", "not a Rivergate plugin", `"Hello, I am a server`, "killed"}},
		"other core":         {handshake("2|1|unix|/tmp/x|grpc"), 0, []string{"version 2 of go-plugin's core protocol"}},
		"other version":      {handshake("1|7|unix|/tmp/x|grpc"), 0, []string{"version 7 of the plugin protocol", "this host speaks [1 2]"}},
		"net/rpc":            {handshake("1|1|unix|/tmp/x"), 0, []string{"speaks net/rpc", "grpc only"}},
		"socket elsewhere":   {handshake("1|1|unix|/tmp/elsewhere|grpc"), 0, []string{"/tmp/elsewhere", "PLUGIN_UNIX_SOCKET_DIR"}},
		"listens everywhere": {handshake("1|1|tcp|0.0.0.0:4711|grpc"), 0, []string{"0.0.0.0:4711", "loopback"}},
		"TLS unasked":        {handshake("1|1|unix|/tmp/x|grpc|" + strings.Repeat("MIIB", 100)), 0, []string{"demands TLS", "RIVERGATE_PLUGIN_MTLS=on"}},
		"wrong processor":    {file(foreign, 0o755), 0, []string{"built for riscv64", "this machine is"}},
		"text":               {file([]byte("just some text\n"), 0o755), 0, []string{"neither a program nor a script"}},
		"archive":            {file([]byte("PK\x03\x04zip"), 0o755), 0, []string{"archive"}},
		"no interpreter":     {file([]byte("#!/no/such/interpreter\n"), 0o755), 0, []string{"/no/such/interpreter", "not on this machine"}},
		"script without":     {file([]byte("#!/bin/sh\necho banner\n"), 0o755), 0, []string{"ended before its handshake", `"banner"`}},
		"not executable":     {file(plugin, 0o644), 0, []string{"not executable", "chmod +x"}},
		"world-writable":     {file(plugin, 0o777), 0, []string{"written by everybody", "chmod o-w"}},
		"empty":              {file(nil, 0o755), 0, []string{"is empty"}},
		"other kind":         {lie("kind"), 0, []string{"its kind is engine", "file name says pusher"}},
		"broken schema":      {lie("schema"), 0, []string{"configuration schema is broken"}},
		"chose version 99":   {lie("version"), 0, []string{"chose version [99]"}},
		"mute":               {lie("mute"), time.Second, []string{"did not answer the call for its description in time"}},
		"refuses":            {lie("refuses"), 0, []string{"PLUGIN_ODD_PATH: cannot be written"}},
		"dies in Configure": {func(_ *testing.T, w *world) Instance {
			w.install("crash", "odd")
			return acme("odd", "CRASH_AT_OPEN", "true")
		}, 0, []string{"ended during its configuration", "exit status 2", "panic: poison"}},
		"wrong hash": {func(_ *testing.T, w *world) Instance {
			w.install("lying", "odd")
			return Instance{Name: "odd", SHA256: strings.Repeat("ab", 32)}
		}, 0, []string{strings.Repeat("ab", 32), sum(t, build(t, "lying"))}},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t, func(o *Options) {
				if c.timeout > 0 {
					o.StartTimeout = c.timeout
				}
			})
			odd := c.prepare(t, w)
			w.install("flaky", "good")
			w.start(odd, acme("good", "SHARE", "0"))
			st := w.awaitState("odd", StateFailed)
			for _, want := range c.want {
				require.Contains(t, st.Reason, want)
			}
			require.Zero(t, st.PID)

			s := w.open("good")
			deliver(t, s, batch(1, 1, `{}`))
			s.Close()
			w.noProcesses("odd")
			require.NoError(t, w.host.Stop(context.Background()))
		})
	}
}

// noProcesses demands that no process runs a copy of the plugin.
func (w *world) noProcesses(name string) {
	w.t.Helper()
	eventually(w.t, patience, "no process of the failed plugin is left", func() bool {
		exes, _ := filepath.Glob("/proc/[0-9]*/exe")
		for _, exe := range exes {
			if to, err := os.Readlink(exe); err == nil && strings.HasPrefix(to, w.opts.RunDir) && strings.HasSuffix(to, "-"+name) {
				return false
			}
		}
		return true
	})
}

func TestConfigurationProblemsComeAllAtOnceAndNothingIsConfigured(t *testing.T) {
	w := newWorld(t)
	w.install("flaky", "good")
	w.install("flaky", "bad")
	out := filepath.Join(t.TempDir(), "made-by-open")
	bad := acme("bad", "SHARE", "seven", "PAT", "x", "BATCH_ROW", "3")
	bad.HostVars = []string{"PLUGIN_BAD_BATCH_ROWS"}
	problems := w.host.Start(t.Context(), []Instance{
		acme("good", "PATH", out), bad, acme("absent"), {Name: "alias", Plugin: "absent"},
	})
	text := reasons(problems)
	require.Contains(t, text, "PLUGIN_BAD_SHARE ")
	require.Contains(t, text, "PLUGIN_BAD_PAT ")
	require.Contains(t, text, "PLUGIN_ABSENT_ENABLED plugin absent: there is no ")
	require.Contains(t, text, "PLUGIN_ALIAS_USE plugin absent: there is no ")
	nearest := map[string]string{}
	for _, p := range problems {
		nearest[p.Variable] = p.Nearest
	}
	require.Equal(t, "PLUGIN_BAD_PATH", nearest["PLUGIN_BAD_PAT"])
	require.Equal(t, "PLUGIN_BAD_BATCH_ROWS", nearest["PLUGIN_BAD_BATCH_ROW"])
	require.NoFileExists(t, out, "an instance was configured although the host does not serve")

	_, err := w.host.Destination("good").Open(t.Context())
	require.ErrorIs(t, err, errStopped)
	entries, err := os.ReadDir(w.opts.RunDir)
	require.NoError(t, err)
	require.Empty(t, entries, "nothing of the run is left")
}

func TestCheckFindsWhatStartWouldAndLeavesNothingRunning(t *testing.T) {
	w := newWorld(t)
	t.Setenv("NOTAPLUGIN", "greet")
	w.install("flaky", "good")
	w.install("flaky", "bad")
	w.install("notaplugin", "odd")
	w.install("lying", "pinned")
	out := filepath.Join(t.TempDir(), "made-by-open")
	problems := w.host.Check(t.Context(), []Instance{
		acme("good", "PATH", out), acme("bad", "SHARE", "2"), acme("absent"), acme("odd"),
		{Name: "pinned", SHA256: strings.Repeat("00", 32)},
	})
	require.Len(t, problems, 4)
	text := reasons(problems)
	require.Contains(t, text, "PLUGIN_BAD_SHARE ")
	require.Contains(t, text, "PLUGIN_ABSENT_ENABLED ")
	require.Contains(t, text, "PLUGIN_ODD_ENABLED plugin odd: it ended before its handshake")
	require.Contains(t, text, "PLUGIN_PINNED_SHA256 ")
	require.NoFileExists(t, out)
	w.noProcesses("good")
	require.Empty(t, w.host.Check(t.Context(), []Instance{acme("good")}))
}

func TestDiscoverTellsWhatCanBeRunAndWhyTheRestCannot(t *testing.T) {
	w := newWorld(t)
	good := w.install("lying", "good")
	require.NoError(t, os.Chmod(w.install("lying", "plain"), 0o644))
	require.NoError(t, os.Chmod(w.install("lying", "open"), 0o757))
	w.install("lying", "min")
	require.NoError(t, os.WriteFile(filepath.Join(w.opts.Dir, "rivergate-gadget-x"), []byte("x"), 0o755))
	require.NoError(t, os.WriteFile(filepath.Join(w.opts.Dir, "README"), []byte("x"), 0o644))
	require.NoError(t, os.Mkdir(filepath.Join(w.opts.Dir, "rivergate-pusher-folder"), 0o755))

	found, err := w.host.Discover()
	require.NoError(t, err)
	problem := map[string]string{}
	for _, f := range found {
		problem[f.Name] = f.Problem
		if f.Name == "good" {
			require.Equal(t, Found{Kind: "pusher", Name: "good", Path: good, Size: f.Size, SHA256: sum(t, good)}, f)
		}
	}
	require.Len(t, problem, 6)
	require.Contains(t, problem["plain"], "not executable")
	require.Contains(t, problem["open"], "written by everybody")
	require.Contains(t, problem["min"], "reserved")
	require.Contains(t, problem["gadget-x"], "rivergate-<kind>-<name>")
	require.Contains(t, problem["folder"], "folder")

	empty := newWorld(t, func(o *Options) { o.Dir = filepath.Join(o.RunDir, "nowhere") })
	found, err = empty.host.Discover()
	require.NoError(t, err)
	require.Empty(t, found)
}

func TestPluginsStartInParallel(t *testing.T) {
	w := newWorld(t, func(o *Options) { o.StartTimeout = time.Second })
	t.Setenv("NOTAPLUGIN", "hang")
	var list []Instance
	for _, name := range []string{"a", "b", "c", "d"} {
		w.install("notaplugin", name)
		list = append(list, Instance{Name: name, PassEnv: []string{"NOTAPLUGIN"}})
	}
	began := time.Now()
	w.start(list...)
	require.Less(t, time.Since(began), 3*time.Second, "four plugins that hang for a second each")
}

func TestAPluginThatHangsAtItsStartHoldsUpNobodyForLong(t *testing.T) {
	w := newWorld(t)
	w.fast(func(p *pace) { p.firstWord = 200 * time.Millisecond })
	t.Setenv("NOTAPLUGIN", "hang")
	w.install("notaplugin", "odd")
	w.install("flaky", "good")
	began := time.Now()
	w.start(Instance{Name: "odd", PassEnv: []string{"NOTAPLUGIN"}}, acme("good", "SHARE", "0"))
	deliver(t, w.open("good"), batch(1, 1, `{}`))
	require.Less(t, time.Since(began), w.opts.StartTimeout/2)
	require.Equal(t, StateStarting, w.status("odd").State)
}

func TestABinaryIsAskedForItsVersion(t *testing.T) {
	w := newWorld(t)
	w.install("flaky", "good")
	w.install("notaplugin", "bad")
	found, err := w.host.Discover()
	require.NoError(t, err)
	require.NoError(t, w.host.Introduce(t.Context(), found))
	require.Len(t, found, 2)
	require.Equal(t, "bad", found[0].Name)
	require.Contains(t, found[0].Problem, "handshake")
	require.Empty(t, found[0].Version)
	require.Empty(t, found[1].Problem)
	require.NotEmpty(t, found[1].Version)
}

func TestAPipeInThePluginFolderHoldsNobodyUp(t *testing.T) {
	w := newWorld(t)
	require.NoError(t, syscall.Mkfifo(w.binary("acme"), 0o755))
	found, err := w.host.Discover()
	require.NoError(t, err)
	require.Len(t, found, 1)
	require.Contains(t, found[0].Problem, "is not a regular file")
}
