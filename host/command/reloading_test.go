package command

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/hashicorp/go-hclog"
	"github.com/stretchr/testify/require"

	"github.com/rivergate/rivergate/host/config"
	"github.com/rivergate/rivergate/host/pluginhost"
	"github.com/rivergate/rivergate/sdk/settings"
	"github.com/rivergate/rivergate/services/gateway"
	"github.com/rivergate/rivergate/services/gateway/delivery"
)

// parts play plugin host and delivery, and write down in which order they are asked.
type parts struct {
	mu       sync.Mutex
	asked    []string
	running  []pluginhost.Instance
	taking   []delivery.Pusher
	problems []settings.Problem // of the next Apply of the plugin host
	failed   map[string]string
	err      error // of delivery
	inside   chan struct{}
	goOn     chan struct{}
}

func (p *parts) Destination(string) delivery.Destination { return nil }

func (p *parts) Apply(_ context.Context, list []pluginhost.Instance) (c pluginhost.Changes, problems []settings.Problem) {
	if p.inside != nil {
		p.inside <- struct{}{}
		<-p.goOn
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	var all []string
	for _, in := range list {
		all = append(all, in.Name)
	}
	p.asked = append(p.asked, "plugins "+strings.Join(all, " "))
	if len(p.problems) > 0 {
		return c, p.problems
	}
	for _, in := range list {
		was := slices.IndexFunc(p.running, func(old pluginhost.Instance) bool { return old.Name == in.Name })
		switch {
		case was < 0:
			c.Started = append(c.Started, in.Name)
		case p.failed[in.Name] != "":
		case fmt.Sprint(p.running[was]) != fmt.Sprint(in):
			c.Replaced = append(c.Replaced, in.Name)
		default:
			c.Unchanged = append(c.Unchanged, in.Name)
		}
	}
	for _, old := range p.running {
		if !slices.Contains(all, old.Name) {
			c.Stopped = append(c.Stopped, old.Name)
		}
	}
	c.Failed = p.failed
	p.running = list
	return c, nil
}

// deliveryPart is the delivery side of parts: both sides have a method Apply.
type deliveryPart struct{ *parts }

func (d deliveryPart) Apply(_ context.Context, list []delivery.Pusher) (c delivery.Changes, err error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	var all []string
	for _, in := range list {
		all = append(all, in.Name)
		was := slices.IndexFunc(d.taking, func(old delivery.Pusher) bool { return old.Name == in.Name })
		switch {
		case was < 0 && d.err != nil:
			continue
		case was < 0:
			c.Started = append(c.Started, in.Name)
		case fmt.Sprint(d.taking[was]) != fmt.Sprint(in):
			c.Changed = append(c.Changed, in.Name)
		default:
			c.Unchanged = append(c.Unchanged, in.Name)
		}
	}
	for _, old := range d.taking {
		if !slices.Contains(all, old.Name) {
			c.Stopped = append(c.Stopped, old.Name)
		}
	}
	d.asked = append(d.asked, "delivery "+strings.Join(all, " "))
	d.taking = list
	return c, d.err
}

// reloading is a reloader whose configuration is an env file.
type reloading struct {
	*reloader
	*parts
	t    *testing.T
	file string
}

func newReloading(t *testing.T, text string) *reloading {
	t.Helper()
	dir := t.TempDir()
	for _, name := range []string{"file", "http", "postgres"} {
		require.NoError(t, os.WriteFile(filepath.Join(dir, "rivergate-pusher-"+name), []byte("#!"), 0o755))
	}
	r := &reloading{t: t, parts: &parts{}, file: filepath.Join(dir, "env")}
	r.write(text)
	load := func(context.Context) (*config.Config, []settings.Problem) {
		return config.Load([]string{"RIVERGATE_PLUGIN_DIR=" + dir, "RIVERGATE_ENV_FILE=" + r.file})
	}
	cfg, problems := load(t.Context())
	require.Empty(t, problems)
	r.reloader = newReloader(cfg)
	r.reloader.log, r.reloader.load, r.reloader.plugins, r.reloader.delivery = hclog.NewNullLogger(), load, r.parts, deliveryPart{r.parts}
	r.running, r.taking = pluginInstances(cfg.Instances), r.reloader.pushers(cfg.Instances)
	return r
}

func (r *reloading) write(text string) {
	r.t.Helper()
	require.NoError(r.t, os.WriteFile(r.file, []byte(text), 0o600))
}

func (r *reloading) done() gateway.Reloading {
	r.t.Helper()
	r.asked = nil
	out, err := r.reload(r.t.Context())
	require.NoError(r.t, err)
	return out
}

const threePushers = "PLUGIN_FILE_ENABLED=1\nPLUGIN_HTTP_ENABLED=1\nPLUGIN_HTTP_URL=http://a\nPLUGIN_LAKE_ENABLED=1\nPLUGIN_LAKE_USE=postgres\n"

func TestOnlyWhatChangedIsTouched(t *testing.T) {
	r := newReloading(t, threePushers)
	out := r.done()
	require.Equal(t, []string{"file", "http", "lake"}, out.Unchanged)
	require.Empty(t, slices.Concat(out.Started, out.Stopped, out.Replaced, out.Changed, out.NeedsRestart))

	r.write(threePushers + "PLUGIN_FILE_WINDOW=2\nRIVERGATE_GATEWAY_MAX_ROWS=5\nRIVERGATE_LOG_LEVEL=debug\n")
	for range 2 { // what needs a restart is told until there was one
		out = r.done()
		require.Equal(t, []string{"RIVERGATE_GATEWAY_MAX_ROWS", "RIVERGATE_LOG_LEVEL"}, out.NeedsRestart)
	}
	require.Equal(t, []string{"file", "http", "lake"}, out.Unchanged, "the second time")
}

func TestAChangeOfTheHostsSettingsExchangesNoProcess(t *testing.T) {
	r := newReloading(t, threePushers)
	r.write(strings.Replace(threePushers, "http://a", "http://b", 1) + "PLUGIN_FILE_WINDOW=2\n")
	out := r.done()
	require.Equal(t, []string{"http"}, out.Replaced)
	require.Equal(t, []string{"file"}, out.Changed)
	require.Equal(t, []string{"lake"}, out.Unchanged)
}

func TestANewPusherFindsItsPluginAndOneThatGoesKeepsItToItsEnd(t *testing.T) {
	r := newReloading(t, threePushers)
	r.write("PLUGIN_FILE_ENABLED=1\nPLUGIN_POSTGRES_ENABLED=1\n")
	out := r.done()
	require.Equal(t, []string{"postgres"}, out.Started)
	require.Equal(t, []string{"http", "lake"}, out.Stopped)
	require.Equal(t, []string{"file"}, out.Unchanged)
	require.Equal(t, []string{"plugins file postgres http lake", "delivery file postgres", "plugins file postgres"}, r.asked)
}

func TestAProblemChangesNothing(t *testing.T) {
	r := newReloading(t, threePushers)
	r.write("PLUGIN_FIEL_ENABLED=1\nRIVERGATE_LISTN=x\nnonsense\n")
	out := r.done()
	require.Len(t, out.Problems, 3)
	require.Equal(t, "PLUGIN_FILE_ENABLED", out.Problems[0].Nearest)
	require.Empty(t, r.asked)

	r.write(threePushers + "PLUGIN_LAKE_DSN=x\n")
	r.problems = []settings.Problem{{Variable: "PLUGIN_LAKE_DSN", Reason: "is no address"}}
	out = r.done()
	require.Equal(t, []gateway.ConfigProblem{{Variable: "PLUGIN_LAKE_DSN", Reason: "is no address"}}, out.Problems)
	require.Equal(t, []string{"plugins file http lake"}, r.asked, "delivery was not asked")
}

func TestAnInstanceThatCannotBeChangedGoesOnAsItWas(t *testing.T) {
	r := newReloading(t, threePushers)
	r.write(strings.Replace(threePushers, "http://a", "http://b", 1) + "PLUGIN_HTTP_WINDOW=2\nPLUGIN_FILE_WINDOW=3\n")
	r.failed = map[string]string{"http": "exit status 2"}
	out := r.done()
	require.Equal(t, map[string]string{"http": "exit status 2"}, out.Failed)
	require.Equal(t, []string{"file"}, out.Changed)
	require.Equal(t, []string{"lake"}, out.Unchanged)
	http := r.taking[slices.IndexFunc(r.taking, func(p delivery.Pusher) bool { return p.Name == "http" })]
	require.Equal(t, 8, http.Window, "delivery leaves it as it was too")

	r.failed = nil
	r.running = pluginInstances(r.current) // as the plugin host has it
	out = r.done()
	require.Equal(t, []string{"http"}, out.Replaced, "the next time it is tried again")
	require.Equal(t, []string{"file", "lake"}, out.Unchanged)
}

func TestAPusherThatDeliveryRefusesIsNamed(t *testing.T) {
	r := newReloading(t, threePushers)
	r.write(threePushers + "PLUGIN_POSTGRES_ENABLED=1\n")
	r.err = errors.New("pusher postgres is not started: the disk is full")
	out := r.done()
	require.Equal(t, map[string]string{"postgres": r.err.Error()}, out.Failed)
	require.Equal(t, []string{"file", "http", "lake"}, out.Unchanged)
}

func TestTwoReloadsWaitForEachOther(t *testing.T) {
	r := newReloading(t, threePushers)
	r.inside, r.goOn = make(chan struct{}), make(chan struct{})
	first := make(chan error, 1)
	go func() {
		_, err := r.reload(context.WithoutCancel(t.Context()))
		first <- err
	}()
	<-r.inside
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_, err := r.reload(ctx)
	require.ErrorIs(t, err, context.Canceled, "there is no room for a second one")
	close(r.goOn)
	require.NoError(t, <-first)
}

func TestReloadPrintsWhatTheHostDid(t *testing.T) {
	url := answering(t, "POST", "/api/v1/plugins/reload", 200, `{"success":true,"message":"Read again","data":{"started":["lake"],"stopped":[],"replaced":["http"],
		"changed":[],"unchanged":["file"],"failed":{"acme":"exit status 2"},"needs_restart":["RIVERGATE_LISTEN"],
		"warnings":[{"variable":"PLUGIN_X_Y","reason":"belongs to no plugin"}],"problems":[]}}`)
	r := rivergate(t, url, "", "reload")
	require.Equal(t, exitFailed, r.code, "one has failed")
	require.Equal(t, `started       lake
new process   http
unchanged     file
failed        acme: exit status 2
after restart RIVERGATE_LISTEN
`, r.stdout)
	require.Contains(t, r.stderr, "PLUGIN_X_Y: belongs to no plugin")
	require.Contains(t, rivergate(t, url, "", "reload", "--json").stdout, `"acme": "exit status 2"`)

	url = answering(t, "POST", "/api/v1/plugins/reload", 200, `{"success":true,"message":"","data":{"unchanged":["file"]}}`)
	r = rivergate(t, url, "", "reload")
	require.Equal(t, 0, r.code, r.stderr)
	require.Contains(t, r.stdout, "Nothing has changed")

	url = answering(t, "POST", "/api/v1/plugins/reload", 422, `{"success":false,"error":{"code":"UNPROCESSABLE_ENTITY","message":"wrong","details":{"errors":[
		{"field":"A","reason":"a"},{"field":"B","reason":"b"},{"field":"C","reason":"c"},{"field":"D","reason":"d"},{"field":"E","reason":"e"}]}}}`)
	r = rivergate(t, url, "", "reload")
	require.Equal(t, exitMistake, r.code)
	require.Contains(t, r.stderr, "nothing was changed, 5 problems")
	require.Contains(t, r.stderr, "  E: e\n", "all of them")

	url = answering(t, "POST", "/api/v1/plugins/file/reload", 200, `{"success":true,"message":"","data":{"plugin":{"name":"file","version":"2.0.0","pid":12}}}`)
	r = rivergate(t, url, "", "reload", "file")
	require.Equal(t, "file runs version 2.0.0 as process 12.\n", r.stdout)
}

func TestAllCommandsHonourTheEnvFile(t *testing.T) {
	url := answering(t, "GET", pushersPath, 200, twoPushers)
	file := filepath.Join(t.TempDir(), "env")
	require.NoError(t, os.WriteFile(file, []byte("RIVERGATE_URL="+url+"\nRIVERGATE_AUTH=jwt\n"), 0o600))
	for _, r := range []run{
		rivergateWith(t, []string{"RIVERGATE_ENV_FILE=" + file}, "", "pushers", "list"),
		rivergateWith(t, []string{"RIVERGATE_ENV_FILE=/nowhere"}, "", "pushers", "list", "--env-file", file),
	} {
		require.Equal(t, 0, r.code, r.stderr)
		require.Contains(t, r.stdout, "lake")
	}
	r := rivergateWith(t, []string{"RIVERGATE_PLUGIN_DIR=" + t.TempDir()}, "", "check", "--env-file", file)
	require.Equal(t, exitMistake, r.code)
	require.Contains(t, r.stderr, "RIVERGATE_AUTH")
	r = rivergateWith(t, nil, "", "pushers", "list", "--env-file", filepath.Join(t.TempDir(), "missing"))
	require.Equal(t, exitMistake, r.code)
	require.Contains(t, r.stderr, "RIVERGATE_ENV_FILE")
}

func TestAHangUpReadsTheConfigurationAgain(t *testing.T) {
	file := filepath.Join(t.TempDir(), "env")
	require.NoError(t, os.WriteFile(file, []byte("RIVERGATE_GATEWAY_MAX_ROWS=5\n"), 0o600))
	s := serve(t, t.TempDir(), "RIVERGATE_ENV_FILE="+file)
	status, body := ask(t, "POST", s.url+"/api/v1/plugins/reload", "")
	require.Equal(t, 200, status, body)
	require.Contains(t, body, `"needs_restart":[]`)

	require.NoError(t, os.WriteFile(file, []byte("RIVERGATE_GATEWAY_MAX_ROWS=7\n"), 0o600))
	signalHangUp(t)
	require.Eventually(t, func() bool {
		return strings.Contains(s.stderr.String(), "count after a restart: variables=RIVERGATE_GATEWAY_MAX_ROWS")
	}, 30*time.Second, 5*time.Millisecond, "%s", s.stderr)

	require.NoError(t, os.WriteFile(file, []byte("RIVERGATE_GATEWAY_MAX_ROWS=many\nRIVERGATE_LISTN=x\n"), 0o600))
	status, body = ask(t, "POST", s.url+"/api/v1/plugins/reload", "")
	require.Equal(t, 422, status, body)
	require.Contains(t, body, `{"field":"RIVERGATE_GATEWAY_MAX_ROWS"`)
	require.Contains(t, body, "did you mean RIVERGATE_LISTEN?")
	s.stop()
	require.Equal(t, 0, s.end(t), s.stderr)
}

// signalHangUp sends SIGHUP to this process, which a host in it listens to.
func signalHangUp(t *testing.T) {
	t.Helper()
	self, err := os.FindProcess(os.Getpid())
	require.NoError(t, err)
	require.NoError(t, self.Signal(syscall.SIGHUP))
}
