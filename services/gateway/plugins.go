package gateway

import (
	"context"
	"encoding/json"
	"errors"
	"strings"
	"time"

	"github.com/gofiber/fiber/v2"

	"github.com/rivergate/rivergate/services/platform/api"
)

// Plugins is what the routes need of the plugin host.
type Plugins interface {
	// Status is every plugin of every kind, found or enabled, ordered by kind and name.
	Status() []Plugin
	// Reload starts the new binary of a plugin, checks it, moves work over and drains the old one. After an error the old
	// one stays; the error is shown to the client. ErrUnknownPlugin: no plugin has this name.
	Reload(ctx context.Context, name string) error
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
	list := s.plugins.Status()
	if list == nil {
		list = []Plugin{}
	}
	for i := range list {
		if list[i].Capabilities == nil {
			list[i].Capabilities = []string{}
		}
	}
	return api.OK(c, PluginList{list}, "Plugins listed")
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
	for _, p := range s.plugins.Status() {
		if p.Name == name {
			if p.Capabilities == nil {
				p.Capabilities = []string{}
			}
			return api.OK(c, Reloaded{p}, "Plugin reloaded")
		}
	}
	return api.NotFound("There is no such plugin")
}

// noPlugins stands in where there is no plugin host.
type noPlugins struct{}

func (noPlugins) Status() []Plugin                     { return nil }
func (noPlugins) Reload(context.Context, string) error { return ErrUnknownPlugin }
