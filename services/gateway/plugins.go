package gateway

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"strings"
	"time"

	"github.com/gofiber/fiber/v2"

	"github.com/rivergate/rivergate/services/gateway/delivery"
	"github.com/rivergate/rivergate/services/platform/api"
)

// Plugins is what the routes need of the plugin host.
type Plugins interface {
	// Status is every plugin of every kind, found or enabled, ordered by kind and name.
	Status() []Plugin
	// Reload starts the new binary of a plugin, checks it, moves work over and drains the old one. After an error the old
	// one stays; the error is shown to the client. ErrUnknownPlugin: no plugin has this name.
	Reload(ctx context.Context, name string) error
	// ReloadAll reads the configuration again and changes the instances whose configuration changed; the others are not
	// touched. With problems nothing changes. Calls wait for one another; the error says that it could not be tried.
	ReloadAll(ctx context.Context) (Reloading, error)
}

// Plugin is one plugin instance as the plugin host sees it. It has no secrets.
type Plugin struct {
	Name         string          `json:"name" required:"true"`
	Kind         string          `json:"kind" required:"true" enum:"pusher,connector,storage,engine"`
	Binary       string          `json:"binary" required:"true"`
	Version      string          `json:"version" required:"true" description:"Empty until the plugin has started once."`
	Protocol     int             `json:"protocol" required:"true"`
	SHA256       string          `json:"sha256" required:"true"`
	State        string          `json:"state" required:"true" enum:"starting,running,backing_off,crash_loop,disabled,failed,stopped"`
	Reason       string          `json:"reason,omitempty"`
	Capabilities []string        `json:"capabilities" required:"true" nullable:"false"`
	ConfigSchema json.RawMessage `json:"config_schema,omitempty" description:"JSON Schema of the plugin's own configuration."`
	Restarts     int             `json:"restarts" required:"true"`
	PID          int             `json:"pid" required:"true" description:"0: no process."`
	RSSBytes     int64           `json:"rss_bytes" required:"true"`
	LastError    string          `json:"last_error,omitempty"`
	Condition    string          `json:"condition,omitempty" enum:",unhealthy,silent,slow,stuck" description:"Absent: well. unhealthy: it says so itself; silent: it answers no health check; slow: it acknowledges too slowly for its window; stuck: it was ended for not getting on. reason, or the pusher's condition_reason, says more."`
	Phase        string          `json:"phase,omitempty" description:"upgrading: a new process is made ready beside the one that serves."`
	Trust        string          `json:"trust,omitempty" description:"How the binary was vouched for: any, pinned, locked, signed, or two of them."`
	Limits       *PluginLimits   `json:"limits,omitempty"`
	SharedWith   []string        `json:"shared_with,omitempty" nullable:"false" description:"The other instances that the same process serves."`
	Attached     string          `json:"attached,omitempty" description:"Address of the process, when somebody else started it."`
	Window       int             `json:"window,omitempty" description:"Batches in flight that are allowed now."`
}

// PluginLimits is what bounds a plugin process, and how.
type PluginLimits struct {
	MemoryMax   int64    `json:"memory_max,omitempty" description:"Bytes."`
	CPUMax      float64  `json:"cpu_max,omitempty" description:"Processor cores."`
	OpenFiles   int      `json:"open_files,omitempty"`
	By          string   `json:"by,omitempty" description:"cgroup v2, or rlimits and watching."`
	NotEnforced []string `json:"not_enforced,omitempty" nullable:"false" description:"Limits that this machine does not let the host set."`
	RunAs       string   `json:"run_as,omitempty" description:"User that the process runs as."`
}

// Reloading is what came of reading the configuration again; the lists hold names of instances.
type Reloading struct {
	Started      []string          `json:"started" required:"true" nullable:"false"`
	Stopped      []string          `json:"stopped" required:"true" nullable:"false"`
	Replaced     []string          `json:"replaced" required:"true" nullable:"false" description:"They have a new process."`
	Changed      []string          `json:"changed" required:"true" nullable:"false" description:"The host treats them in another way; the process is the same."`
	Unchanged    []string          `json:"unchanged" required:"true" nullable:"false"`
	Failed       map[string]string `json:"failed" required:"true" nullable:"false" description:"Why an instance could not be changed; it goes on as it was. A new one is tried again and again."`
	NeedsRestart []string          `json:"needs_restart" required:"true" nullable:"false" description:"Variables of the host that have another value now; it counts after a restart."`
	Warnings     []ConfigProblem   `json:"warnings" required:"true" nullable:"false" description:"Variables without effect, and the like."`
	Problems     []ConfigProblem   `json:"problems" required:"true" nullable:"false" description:"Always empty in an answer of 200: with problems nothing changes, and the answer is 422."`
}

// ConfigProblem is something wrong with one variable.
type ConfigProblem struct {
	Variable string `json:"variable" required:"true"`
	Reason   string `json:"reason" required:"true"`
	Nearest  string `json:"nearest,omitempty" description:"The known name that was probably meant."`
}

// PluginList is the answer of GET /api/v1/plugins.
type PluginList struct {
	Plugins []Plugin `json:"plugins" required:"true" nullable:"false"`
}

// Reloaded is the answer to a reload: the plugin as it runs now.
type Reloaded struct {
	Plugin Plugin `json:"plugin" required:"true"`
}

// reloadTime bounds a reload: start, check, and draining the old process.
const reloadTime = 2 * time.Minute

func (s *Service) listPlugins(c *fiber.Ctx) error {
	return api.OK(c, PluginList{s.pluginList()}, "Plugins listed")
}

// pluginList is every plugin, those of pushers with what delivery sees of them.
func (s *Service) pluginList() []Plugin {
	list := s.plugins.Status()
	if list == nil {
		list = []Plugin{}
	}
	pushers := map[string]delivery.Status{}
	for _, d := range s.delivery.Status() {
		pushers[d.Name] = d
	}
	for i := range list {
		p := &list[i]
		if p.Capabilities == nil {
			p.Capabilities = []string{}
		}
		if d, ok := pushers[p.Name]; ok && p.Kind == kindPusher {
			p.Window = d.Window
			if p.Condition == "" {
				p.Condition = d.Condition
			}
		}
	}
	return list
}

func (s *Service) reloadPlugin(c *fiber.Ctx) error {
	name := strings.Clone(c.Params("name"))
	ctx, cancel := s.within(reloadTime)
	defer cancel()
	switch err := s.plugins.Reload(ctx, name); {
	case errors.Is(err, ErrUnknownPlugin):
		return api.NotFound("There is no such plugin")
	case err != nil:
		e := api.Upstream("The new plugin did not start, the old one stays: %v", err)
		e.Cause = err
		return e
	}
	for _, p := range s.pluginList() {
		if p.Name == name {
			return api.OK(c, Reloaded{p}, "Plugin reloaded")
		}
	}
	return api.NotFound("There is no such plugin")
}

// reloadAll answers POST /api/v1/plugins/reload.
func (s *Service) reloadAll(c *fiber.Ctx) error {
	ctx, cancel := s.within(reloadTime)
	defer cancel()
	r, err := s.plugins.ReloadAll(ctx)
	if err != nil {
		return s.answerTo(err)
	}
	if len(r.Problems) > 0 {
		return problemsAnswer(r.Problems)
	}
	for _, list := range []*[]string{&r.Started, &r.Stopped, &r.Replaced, &r.Changed, &r.Unchanged, &r.NeedsRestart} {
		if *list == nil {
			*list = []string{}
		}
	}
	if r.Failed == nil {
		r.Failed = map[string]string{}
	}
	if r.Warnings == nil {
		r.Warnings = []ConfigProblem{}
	}
	r.Problems = []ConfigProblem{}
	return api.OK(c, r, "Configuration read again")
}

// problemsAnswer lists every problem of a configuration. Nothing was changed.
func problemsAnswer(problems []ConfigProblem) error {
	details := &api.Details{Field: problems[0].Variable, Reason: problems[0].Reason}
	for _, p := range problems {
		reason := p.Reason
		if p.Nearest != "" {
			reason += "; did you mean " + p.Nearest + "?"
		}
		details.Errors = append(details.Errors, api.FieldError{Field: p.Variable, Reason: reason})
	}
	return &api.Error{Status: http.StatusUnprocessableEntity, Details: details,
		Message: "The configuration is wrong, and nothing was changed: " + strings.TrimSpace(problems[0].Variable+" "+problems[0].Reason)}
}

// noPlugins stands in where there is no plugin host.
type noPlugins struct{}

func (noPlugins) Status() []Plugin                     { return nil }
func (noPlugins) Reload(context.Context, string) error { return ErrUnknownPlugin }
func (noPlugins) ReloadAll(context.Context) (Reloading, error) {
	return Reloading{}, nil
}
