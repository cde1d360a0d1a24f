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
	"regexp"
	"runtime"
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

// TestAStrangersPluginFromTheGuideToTheRollback runs what the guide (sdk/README.md) says, word for word, outside the
// repository: a new pusher is made and proved, locked, installed and enabled by variables; under load it is
// upgraded, a broken version is turned away, and the first one is brought back. No row is lost or out of order.
func TestAStrangersPluginFromTheGuideToTheRollback(t *testing.T) {
	w := newWorld(t, nil)
	d := newGuideDestination(t)
	g := newGuide(t, w, d.URL)

	require.Len(t, g.blocks, 3, "the guide's way from nothing to production: making, installing, upgrading")
	make, install, upgrade := g.blocks[0], g.blocks[1], lines(g.blocks[2])
	require.Len(t, upgrade, 2, "one line upgrades, one goes back")

	// Made and proved outside the repository.
	repository := filepath.Join(w.dir, "rivergate-pusher-acme")
	said := g.must(w.dir, make)
	for _, step := range []string{"go mod tidy", "go build", "go vet", "gofmt", "go test", "conformance"} {
		require.Regexp(t, `(?m)^  ok +`+step+` `, said)
	}
	require.FileExists(t, filepath.Join(repository, "dist", "0.1.0", "SHA256SUMS"))
	said = g.must(repository, "rivergate conformance bin/rivergate-pusher-acme --json --config url="+d.URL)
	require.NotContains(t, said, `"fail"`)
	require.Contains(t, said, `"pass"`)

	// Locked, installed, and enabled by variables. The last word of the guide's block is the host itself.
	w.set("RIVERGATE_PLUGIN_DIR", filepath.Join(w.dir, "plugins"), "RIVERGATE_PLUGIN_POLICY", "locked")
	install, serves := strings.CutSuffix(strings.TrimSpace(install), " && rivergate serve")
	require.True(t, serves, "the guide's second block ends with the host")
	g.must(repository, install)
	g.must(repository, "rivergate plugins lock --check")
	for _, pair := range regexp.MustCompile(`(PLUGIN_ACME_[A-Z]+)=(\S+)`).FindAllStringSubmatch(install, -1) {
		w.set(pair[1], pair[2])
	}
	w.set("PLUGIN_ACME_ORDER", "key", "PLUGIN_ACME_RETRY_MAX", "500ms")
	w.start()
	require.NoError(t, w.host.Running(t.Context(), "acme", 30*time.Second))

	d.forget() // the conformance suite's rows
	l := startLoad(t, w.host.URL, loadOptions{clients: 4, rows: 5, pause: 20 * time.Millisecond})
	l.reaches(t, 300, 30*time.Second)
	d.reaches(t, "0.1.0", 100)

	// Version 2, while rows flow.
	g.version("0.2.0", repository, nil)
	began := time.Now()
	g.must(repository, upgrade[0])
	upgraded := time.Now()
	d.reaches(t, "0.2.0", 300)
	gap := d.longestGap(began, time.Now())
	t.Logf("upgrade under load: the command took %s; the longest time without a row at the destination was %s",
		upgraded.Sub(began).Round(time.Millisecond), gap.Round(time.Millisecond))
	require.Less(t, gap, 10*time.Second, "the flow must not stop for an upgrade")
	require.Equal(t, "0.2.0", g.serving().Version)

	// A third version that crashes when it is configured: the second serves on, and the reason is told.
	before := g.serving()
	g.version("0.3.0", repository, func(source string) string {
		return strings.Replace(source, "p.log = env.Log", "p.log = env.Log\n\tif p.URL != \"\" {\n\t\tpanic(\"acme 0.3.0 cannot even open\")\n\t}", 1)
	})
	out, errs, code := g.run(repository, upgrade[0])
	require.Equal(t, 1, code, "%s\n%s", out, errs)
	require.Contains(t, errs, "acme 0.3.0 cannot even open", "the command says why")
	after := g.serving()
	require.Equal(t, before, after, "the process of version 2 serves on")
	g.must(repository, "rivergate plugins lock --check")
	d.forgetVersions()
	d.reaches(t, "0.2.0", 100)

	// Back to the first one.
	g.must(repository, upgrade[1])
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

// guide runs what the guide says, as a reader would: in a shell, with the host's variables.
type guide struct {
	t      *testing.T
	w      *world
	blocks []string // the shell blocks of "From nothing to production"
}

func newGuide(t *testing.T, w *world, destination string) *guide {
	t.Helper()
	root, err := rig.Root(t.Context())
	require.NoError(t, err)
	text, err := os.ReadFile(filepath.Join(root, "sdk", "README.md"))
	require.NoError(t, err)
	_, section, found := strings.Cut(string(text), "\n## From nothing to production\n")
	require.True(t, found, "the guide has no way from nothing to production")
	section, _, _ = strings.Cut(section, "\n## ")
	g := &guide{t: t, w: w}
	for _, block := range regexp.MustCompile("(?s)```sh\n(.*?)```").FindAllStringSubmatch(section, -1) {
		// The reader's address is ours; and no release has been published that go could fetch.
		g.blocks = append(g.blocks, strings.NewReplacer(
			"https://acme.example/in", destination, "rivergate plugin new acme", "rivergate plugin new acme --sdk "+root,
		).Replace(block[1]))
	}
	return g
}

// lines are the commands of a block.
func lines(block string) []string { return strings.Split(strings.TrimSpace(block), "\n") }

// run runs a script in a folder.
func (g *guide) run(dir, script string) (stdout, stderr string, code int) {
	g.t.Helper()
	vars := maps.Clone(g.w.opts.Env)
	vars["PATH"] = filepath.Dir(built.Host) + ":" + os.Getenv("PATH")
	vars["PLATFORMS"] = "linux/" + runtime.GOARCH // of make dist: others would compile everything once more
	env := append(ownless(os.Environ()), built.Environment(rig.Options{DataDir: g.w.opts.DataDir, TempDir: g.w.opts.TempDir, Env: vars}, g.w.opts.Addr)...)
	var out, errs limited
	p, err := rig.Spawn("/bin/bash", []string{"-euo", "pipefail", "-c", script}, env, dir, nil, &out, &errs)
	require.NoError(g.t, err)
	timer := time.NewTimer(guideDeadline)
	defer timer.Stop()
	select {
	case <-p.Done():
	case <-timer.C:
		p.KillGroup()
		g.t.Fatalf("the script does not end:\n%s\nit said:\n%s\n%s", script, out.raw, errs.raw)
	}
	return string(out.raw), string(errs.raw), p.ExitCode()
}

func (g *guide) must(dir, script string) (stdout string) {
	g.t.Helper()
	out, errs, code := g.run(dir, script)
	require.Zero(g.t, code, "%s\n%s\n%s", script, out, errs)
	return out
}

// version builds the plugin again under another version.
func (g *guide) version(version, repository string, change func(source string) string) {
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
	g.must(repository, "make build")
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
