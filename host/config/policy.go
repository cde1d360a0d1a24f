package config

import (
	"cmp"
	"fmt"
	"path/filepath"

	"github.com/rivergate/rivergate/host/pluginstore"
	"github.com/rivergate/rivergate/host/server"
	"github.com/rivergate/rivergate/sdk/schema"
)

// Policy says which plugin binaries may run: RIVERGATE_PLUGIN_POLICY, else any on loopback and locked elsewhere. Whoever can
// reach the API of a host from another machine must not find it running what nobody has vouched for.
func (h *Host) Policy() string {
	fallback := pluginstore.PolicyLocked
	if server.IsLoopback(h.Listen) {
		fallback = pluginstore.PolicyAny
	}
	return cmp.Or(h.PluginPolicy, fallback)
}

// LockFile is the path of the lock file of the plugins.
func (h *Host) LockFile() string {
	return cmp.Or(h.PluginLock, filepath.Join(h.PluginDir, pluginstore.LockName))
}

// trust fills in what says which plugins may run, when the rest of the host's part has problems: plugins are asked about
// their own configuration all the same, and none may be started for that which could not run otherwise.
func (l *loader) trust(h *Host) {
	var said struct {
		Policy string   `config:"plugin_policy"`
		Lock   string   `config:"plugin_lock"`
		Keys   []string `config:"plugin_keys"`
	}
	schema.Decode(hostPrefix, l.env, &said, schema.LeaveUnknown()) // any text fits these
	h.PluginPolicy, h.PluginLock, h.PluginKeys = said.Policy, said.Lock, said.Keys
	switch {
	case !server.IsLoopback(listen(l.env)):
		if h.PluginPolicy == pluginstore.PolicyAny {
			h.PluginPolicy = pluginstore.PolicyLocked
		}
	case h.PluginPolicy == "":
		h.PluginPolicy = pluginstore.PolicyAny
	}
}

// policy finds what is wrong with how plugins are to be trusted.
func (l *loader) policy(h *Host) {
	if h.PluginPolicy == pluginstore.PolicyAny && !server.IsLoopback(h.Listen) {
		l.problem(hostPrefix+"PLUGIN_POLICY", fmt.Sprintf(
			"is any, which is allowed only while the API listens on loopback, and RIVERGATE_LISTEN is %s: locked (rivergate plugins lock writes the lock file) or pinned", h.Listen), "")
	}
	if _, err := pluginstore.ParseKeys(h.PluginKeys); err != nil {
		l.problem(hostPrefix+"PLUGIN_KEYS", err.Error(), "")
	}
}
