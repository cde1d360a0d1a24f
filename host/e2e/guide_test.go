package e2e

import (
	"context"
	"encoding/json"
	"io"
	"maps"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/rivergate/rivergate/host/e2e/rig"
)

// guideDeadline bounds one step: the first build of a plugin compiles the SDK and all below it.
const guideDeadline = 5 * time.Minute

// TestAStrangersPluginFromTheGuideToTheRollback does what the guide (sdk/README.md) says, with the commands that it names,
// outside the repository: a new pusher is made and proved, locked, installed and enabled by variables; under load it is
// upgraded, a broken version is turned away, and the first one is brought back. No row is lost or out of order.
func TestAStrangersPluginFromTheGuideToTheRollback(t *testing.T) {
	w := newWorld(t, nil)
	g := newGuide(t, w)
	d := newGuideDestination(t)

	// Made and proved outside the repository.
	repository := filepath.Join(w.dir, "acme")
	said := g.must("rivergate plugin new", "acme", "--kind", "pusher", "--dir", repository, "--sdk", g.root)
	for _, step := range []string{"go mod tidy", "go build", "go vet", "gofmt", "go test", "conformance"} {
		require.Regexp(t, `(?m)^  ok +`+step+` `, said)
	}
	require.NoDirExists(t, filepath.Join(g.root, "acme"))
	binary := filepath.Join(repository, "bin", "rivergate-pusher-acme")
	said = g.must("rivergate conformance", binary, "--config", "url="+d.URL, "--json")
	require.NotContains(t, said, `"fail"`)
	require.Contains(t, said, `"pass"`)

	// Locked, installed, and enabled by variables.
	plugins := filepath.Join(w.dir, "plugins")
	w.set("RIVERGATE_PLUGIN_DIR", plugins, "RIVERGATE_PLUGIN_POLICY", "locked")
	g.must("rivergate plugins install", binary)
	g.must("rivergate plugins lock", "--check")
	w.set("PLUGIN_ACME_ENABLED", "true", "PLUGIN_ACME_URL", d.URL, "PLUGIN_ACME_ORDER", "key", "PLUGIN_ACME_RETRY_MAX", "500ms")
	w.start()
	require.NoError(t, w.host.Running(t.Context(), "acme", 30*time.Second))

	d.forget() // the conformance suite's rows
	l := startLoad(t, w.host.URL, loadOptions{clients: 4, rows: 5, pause: 20 * time.Millisecond})
	l.reaches(t, 300, 30*time.Second)
	d.reaches(t, "0.1.0", 100)

	// Version 2, while rows flow.
	second := g.version("0.2.0", repository, nil)
	began := time.Now()
	g.must("rivergate plugins upgrade", "acme", second)
	upgraded := time.Now()
	d.reaches(t, "0.2.0", 300)
	gap := d.longestGap(began, time.Now())
	t.Logf("upgrade under load: the command took %s; the longest time without a row at the destination was %s",
		upgraded.Sub(began).Round(time.Millisecond), gap.Round(time.Millisecond))
	require.Less(t, gap, 10*time.Second, "the flow must not stop for an upgrade")
	require.Equal(t, "0.2.0", g.serving().Version)

	// A third version that crashes when it is configured: the second serves on, and the reason is told.
	before := g.serving()
	third := g.version("0.3.0", repository, func(source string) string {
		return strings.Replace(source, "p.log = env.Log", "p.log = env.Log\n\tif p.URL != \"\" {\n\t\tpanic(\"acme 0.3.0 cannot even open\")\n\t}", 1)
	})
	out, errs, code := g.run("rivergate plugins upgrade", "acme", third)
	require.Equal(t, 1, code, "%s\n%s", out, errs)
	require.Contains(t, errs, "acme 0.3.0 cannot even open", "the command says why")
	after := g.serving()
	require.Equal(t, before, after, "the process of version 2 serves on")
	g.must("rivergate plugins lock", "--check")
	d.forgetVersions()
	d.reaches(t, "0.2.0", 100)

	// Back to the first one.
	g.must("rivergate plugins rollback", "acme")
	g.must("rivergate plugins upgrade", "acme")
	require.Equal(t, "0.1.0", g.serving().Version)
	d.reaches(t, "0.1.0", 100)
	require.Empty(t, d.versions("0.3.0"), "the broken version delivered nothing")

	l.stop()
	w.caughtUp(60*time.Second, "acme")
	rows := d.received()
	t.Logf("%d rows at the destination, %d of them a second time", len(rows), len(rows)-len(once(rows)))
	l.settle(t, "acme", once(rows), w.deadLetters("acme"))
	w.stop()
}

// guide runs the commands that the guide names, as a reader would: with a shell's own environment and the host's variables.
type guide struct {
	t    *testing.T
	w    *world
	root string // of the source checkout, for --sdk
	text string // the guide
}

func newGuide(t *testing.T, w *world) *guide {
	t.Helper()
	root, err := rig.Root(t.Context())
	require.NoError(t, err)
	text, err := os.ReadFile(filepath.Join(root, "sdk", "README.md"))
	require.NoError(t, err)
	return &guide{t: t, w: w, root: root, text: string(text)}
}

// run runs a command. The guide must name it.
func (g *guide) run(command string, args ...string) (stdout, stderr string, code int) {
	g.t.Helper()
	require.Contains(g.t, g.text, command, "the guide does not name this command")
	words := strings.Fields(command)
	return g.spawn(built.Host, append(words[1:], args...))
}

func (g *guide) must(command string, args ...string) (stdout string) {
	g.t.Helper()
	out, errs, code := g.run(command, args...)
	require.Zero(g.t, code, "%s %v:\n%s\n%s", command, args, out, errs)
	return out
}

func (g *guide) spawn(program string, args []string) (stdout, stderr string, code int) {
	g.t.Helper()
	vars := maps.Clone(g.w.opts.Env)
	env := append(ownless(os.Environ()), built.Environment(rig.Options{DataDir: g.w.opts.DataDir, TempDir: g.w.opts.TempDir, Env: vars}, g.w.opts.Addr)...)
	var out, errs limited
	p, err := rig.Spawn(program, args, env, g.w.dir, nil, &out, &errs)
	require.NoError(g.t, err)
	timer := time.NewTimer(guideDeadline)
	defer timer.Stop()
	select {
	case <-p.Done():
	case <-timer.C:
		p.KillGroup()
		g.t.Fatalf("%s %v did not end; it said:\n%s\n%s", program, args, out.raw, errs.raw)
	}
	return string(out.raw), string(errs.raw), p.ExitCode()
}

// version builds the plugin again under another version, and returns the path of its binary.
func (g *guide) version(version, repository string, change func(source string) string) string {
	g.t.Helper()
	require.NoError(g.t, os.WriteFile(filepath.Join(repository, "VERSION"), []byte(version+"\n"), 0o600))
	if change != nil {
		path := filepath.Join(repository, "acme.go")
		source, err := os.ReadFile(path)
		require.NoError(g.t, err)
		changed := change(string(source))
		require.NotEqual(g.t, string(source), changed)
		require.NoError(g.t, os.WriteFile(path, []byte(changed), 0o600))
	}
	out, errs, code := g.spawn("/usr/bin/env", []string{"make", "-C", repository, "build"})
	require.Zero(g.t, code, "%s\n%s", out, errs)
	return filepath.Join(repository, "bin", "rivergate-pusher-acme")
}

type servingPlugin struct {
	Version string
	PID     int
}

// serving is the process that the host runs.
func (g *guide) serving() servingPlugin {
	g.t.Helper()
	pid, err := g.w.host.PluginPID(g.t.Context(), "acme")
	require.NoError(g.t, err)
	p, err := g.w.host.Pusher(g.t.Context(), "acme")
	require.NoError(g.t, err)
	return servingPlugin{Version: p.Version, PID: pid}
}

// guideDestination is the API that the scaffold's plugin posts to: one row a request, the version in User-Agent.
type guideDestination struct {
	*httptest.Server
	mu   sync.Mutex
	rows []guideArrival
}

type guideArrival struct {
	arrival
	version string
	at      time.Time
	told    bool // counted by reaches before forgetVersions
}

func newGuideDestination(t *testing.T) *guideDestination {
	t.Helper()
	d := &guideDestination{}
	d.Server = httptest.NewServer(d)
	t.Cleanup(d.Close)
	return d
}

func (d *guideDestination) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	raw, err := io.ReadAll(r.Body)
	if err != nil {
		return // the sender went away: nothing was taken
	}
	a := guideArrival{version: strings.TrimPrefix(r.UserAgent(), "rivergate-pusher-acme/"), at: time.Now()}
	if err := json.Unmarshal(raw, &a.arrival); err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	d.mu.Lock()
	d.rows = append(d.rows, a)
	d.mu.Unlock()
	w.WriteHeader(http.StatusNoContent)
}

func (d *guideDestination) forget() {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.rows = nil
}

// forgetVersions lets reaches count from now on.
func (d *guideDestination) forgetVersions() {
	d.mu.Lock()
	defer d.mu.Unlock()
	for i := range d.rows {
		d.rows[i].told = true
	}
}

// versions are the rows of one version since forgetVersions.
func (d *guideDestination) versions(version string) []guideArrival {
	d.mu.Lock()
	defer d.mu.Unlock()
	return slices.DeleteFunc(slices.Clone(d.rows), func(a guideArrival) bool { return a.version != version || a.told })
}

func (d *guideDestination) reaches(t *testing.T, version string, rows int) {
	t.Helper()
	eventually(t, 60*time.Second, "rows from version "+version, func(context.Context) bool { return len(d.versions(version)) >= rows })
}

// longestGap is the longest time between two rows in a span.
func (d *guideDestination) longestGap(from, to time.Time) (longest time.Duration) {
	d.mu.Lock()
	defer d.mu.Unlock()
	last := from
	for _, a := range d.rows {
		if a.at.Before(from) || a.at.After(to) {
			continue
		}
		longest, last = max(longest, a.at.Sub(last)), a.at
	}
	return max(longest, to.Sub(last))
}

func (d *guideDestination) received() []arrival {
	d.mu.Lock()
	defer d.mu.Unlock()
	all := make([]arrival, len(d.rows))
	for i, a := range d.rows {
		all[i] = a.arrival
	}
	return all
}
