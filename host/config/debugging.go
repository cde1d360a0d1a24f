package config

import (
	"fmt"
	"net"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/rivergate/rivergate/host/pluginhost"
	"github.com/rivergate/rivergate/sdk/settings"
)

// attachedTimeout is the default of TIMEOUT for an attached instance: somebody may sit at a breakpoint.
const attachedTimeout = 24 * time.Hour

// everyInstance in RIVERGATE_PLUGIN_TRACE stands for all of them.
const everyInstance = "*"

// debugging checks what the variables about attaching and tracing say, once the instances are known.
func (l *loader) debugging(c *Config) {
	names := make([]string, len(c.Instances))
	for i := range c.Instances {
		names[i] = c.Instances[i].Name
	}
	const attach, trace = hostPrefix + "PLUGIN_ATTACH", hostPrefix + "PLUGIN_TRACE"
	if policy := c.Policy(); len(c.PluginAttach) > 0 && policy != "any" {
		l.problem(attach, fmt.Sprintf("nobody can vouch for a process that runs already: attaching needs RIVERGATE_PLUGIN_POLICY=any, and the policy is %s", policy), "")
	}
	seen := map[string]bool{}
	for _, entry := range c.PluginAttach {
		name, address, ok := strings.Cut(entry, "=")
		switch {
		case !ok:
			l.problem(attach, fmt.Sprintf("%q is not name=address, such as acme=127.0.0.1:7000", entry), "")
			continue
		case seen[name]:
			l.problem(attach, fmt.Sprintf("%s is attached twice", name), "")
			continue
		}
		seen[name] = true
		if reason := checkAttachAddress(address); reason != "" {
			l.problem(attach, name+": "+reason, "")
		}
		i := slices.Index(names, name)
		if i < 0 {
			l.unknownInstance(attach, name, names)
			continue
		}
		if l.env[c.Instances[i].Prefix+"TIMEOUT"] == "" {
			c.Instances[i].Timeout = attachedTimeout
		}
	}
	for _, name := range c.PluginTrace {
		if name != everyInstance && !slices.Contains(names, name) {
			l.unknownInstance(trace, name, names)
		}
	}
}

func (l *loader) unknownInstance(variable, name string, names []string) {
	l.problem(variable, fmt.Sprintf("no instance %s is enabled (enabled: %s)", name, listOr(names, "none")), settings.Nearest(name, names))
}

// checkAttachAddress tells what is wrong with the address of a process to attach to; empty: nothing. It never leaves this
// machine: the protocol knows no credentials.
func checkAttachAddress(address string) string {
	if path, ok := strings.CutPrefix(address, "unix:"); ok {
		if !filepath.IsAbs(path) {
			return fmt.Sprintf("%q is no absolute path of a unix socket, such as unix:/tmp/acme.sock", address)
		}
		return ""
	}
	host, port, err := net.SplitHostPort(address)
	if err != nil || !isPort(port) || port == "0" {
		return fmt.Sprintf("%q is neither an address with a port, such as 127.0.0.1:7000, nor unix:/path", address)
	}
	if ip := net.ParseIP(host); host != "localhost" && (ip == nil || !ip.IsLoopback()) {
		return fmt.Sprintf("%q is not a loopback address; a plugin is attached on this machine only", address)
	}
	return ""
}

// Attached maps an instance to the address of the process that runs already. Load has checked them.
func (h *Host) Attached() map[string]string {
	if len(h.PluginAttach) == 0 {
		return nil
	}
	addresses := make(map[string]string, len(h.PluginAttach))
	for _, entry := range h.PluginAttach {
		if name, address, ok := strings.Cut(entry, "="); ok {
			addresses[name] = address
		}
	}
	return addresses
}

// Traced says of which plugins every message is logged.
func (h *Host) Traced() pluginhost.Traces {
	return pluginhost.Traces{Instances: h.PluginTrace, Data: h.PluginTraceData}
}
