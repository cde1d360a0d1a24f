package config

import (
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"slices"
	"strings"

	"github.com/rivergate/rivergate/host/pluginhost"
	"github.com/rivergate/rivergate/sdk/protocol"
	"github.com/rivergate/rivergate/sdk/schema"
	"github.com/rivergate/rivergate/sdk/settings"
	"github.com/rivergate/rivergate/services/gateway/delivery"
	"github.com/rivergate/rivergate/services/gateway/transform"
)

// Instance is one enabled pusher. A variable is PLUGIN_<NAME>_ and the config tag in upper case; what is not declared here
// belongs to the plugin.
type Instance struct {
	Name   string            `config:"-"`
	Prefix string            `config:"-"` // of its variables: PLUGIN_WAREHOUSE_
	Own    map[string]string `config:"-"` // the plugin's own configuration as it was given, by variable

	Enabled bool   `config:"enabled" default:"false" doc:"Whether this pusher runs."`
	Use     string `config:"use" pattern:"^[a-z][a-z0-9-]*$" doc:"Plugin to run, when it is not the instance's own name: PLUGIN_WAREHOUSE_USE=postgres." example:"postgres"`
	Launch
	Process string `config:"process" default:"own" enum:"own,shared" doc:"shared: instances of one plugin binary that all say so run in one process, when the plugin can do that. A crash is then theirs together."`

	delivery.Pusher
}

// Launch is what the host owns of a plugin of any kind: which binary may run, and what its process may have.
type Launch struct {
	SHA256  string   `config:"sha256" pattern:"^[0-9a-fA-F]{64}$" doc:"Hash that the plugin binary must have; another binary is not started."`
	PassEnv []string `config:"pass_env" doc:"Names of host variables that the plugin process also gets." example:"HTTPS_PROXY,SSL_CERT_FILE"`

	MemoryMax settings.Bytes `config:"memory_max" default:"0" min:"0" doc:"Memory of the plugin process with all that it starts; a process above it is killed and started again. 0: no limit." example:"256MiB"`
	CPUMax    float64        `config:"cpu_max" default:"0" min:"0" doc:"Processor cores that the plugin process may use, such as 0.5; needs cgroup v2. 0: no limit."`
	OpenFiles int            `config:"open_files" default:"0" min:"0" doc:"Files and sockets that the plugin process may have open. 0: the host's own limit."`
	RunAs     string         `config:"run_as" doc:"User, or user:group, that the plugin process runs as; the host must be root." example:"nobody"`
}

// Plugin is the name of the binary's plugin.
func (in *Instance) Plugin() string {
	if in.Use != "" {
		return in.Use
	}
	return in.Name
}

// goPluginVariables are read by go-plugin itself, in host and plugin. They are not ours to judge.
var goPluginVariables = []string{
	"PLUGIN_MIN_PORT", "PLUGIN_MAX_PORT", "PLUGIN_PROTOCOL_VERSIONS", "PLUGIN_CLIENT_CERT", "PLUGIN_MULTIPLEX_GRPC",
	"PLUGIN_UNIX_SOCKET_DIR", "PLUGIN_UNIX_SOCKET_GROUP",
}

// enabledSuffix ends the variable that switches an instance on, after its prefix and the "_" that belongs to it.
const enabledSuffix = "_ENABLED"

// instances reads every PLUGIN_… variable. Whose a variable is: of the enabled instances whose prefix it starts with, the
// one with the longest.
func (l *loader) instances() []Instance {
	plugins := l.plugins()
	enabled, disabled := l.switches(plugins)

	own := make([]map[string]string, len(enabled))
	for i := range own {
		own[i] = map[string]string{}
	}
	for _, variable := range slices.Sorted(maps.Keys(l.env)) {
		if !strings.HasPrefix(variable, pluginPrefix) || slices.Contains(goPluginVariables, variable) {
			continue
		}
		owner := -1
		for i, name := range enabled {
			if strings.HasPrefix(variable, prefixOf(name)) && (owner < 0 || len(name) > len(enabled[owner])) {
				owner = i
			}
		}
		if owner >= 0 {
			own[owner][variable] = l.env[variable]
			continue
		}
		l.strayVariable(variable, plugins, disabled)
	}

	out := make([]Instance, 0, len(enabled))
	for i, name := range enabled {
		out = append(out, l.instance(name, own[i], plugins))
	}
	return out
}

// switches reads the PLUGIN_…_ENABLED variables. The names come back sorted.
func (l *loader) switches(plugins []string) (enabled, disabled []string) {
	for _, variable := range slices.Sorted(maps.Keys(l.env)) {
		rest, ours := strings.CutPrefix(variable, pluginPrefix)
		middle, isSwitch := strings.CutSuffix(rest, enabledSuffix)
		if !ours || !isSwitch || middle == "" {
			continue
		}
		name := nameOf(middle)
		if l.propertyOf(name, plugins) {
			continue // a plugin's own switch, such as PLUGIN_ACME_BATCHING_ENABLED
		}
		if right := prefixOf(name) + enabledSuffix[1:]; right != variable {
			l.warn(variable, "is not how a variable of an instance is written; it has no effect", right)
			continue
		}
		var just struct {
			Enabled bool `config:"enabled"`
		}
		problems := schema.Decode(prefixOf(name), map[string]string{variable: l.env[variable]}, &just)
		l.problems = append(l.problems, problems...)
		switch {
		case len(problems) > 0:
		case !just.Enabled:
			disabled = append(disabled, name)
		default:
			enabled = append(enabled, name)
		}
	}
	return enabled, disabled
}

// propertyOf tells whether PLUGIN_<name>_ENABLED is a property of a shorter-named instance that is switched as well: no
// plugin has this name, and nothing says which one to use.
func (l *loader) propertyOf(name string, plugins []string) bool {
	if slices.Contains(plugins, name) || l.env[prefixOf(name)+"USE"] != "" {
		return false
	}
	for i := range name {
		if name[i] == '-' {
			if _, ok := l.env[prefixOf(name[:i])+enabledSuffix[1:]]; ok {
				return true
			}
		}
	}
	return false
}

// instance decodes what the host owns and leaves the rest to the plugin.
func (l *loader) instance(name string, vars map[string]string, plugins []string) Instance {
	in := Instance{Name: name, Prefix: prefixOf(name), Own: map[string]string{}}
	owned := HostOwned(in.Prefix)
	for variable, value := range vars {
		if !slices.Contains(owned, variable) {
			in.Own[variable] = value
		}
	}
	found := schema.Decode(in.Prefix, vars, &in, schema.LeaveUnknown())
	l.problems = append(l.problems, found...)
	if len(found) > 0 {
		// The rest counts: the plugin is started for a moment, to be asked about its own settings, and then which binary that
		// is and as whom it runs must not depend on a mistake elsewhere.
		use := vars[in.Prefix+"USE"]
		for _, p := range found {
			delete(vars, p.Variable)
		}
		schema.Decode(in.Prefix, vars, &in, schema.LeaveUnknown())
		in.Use = use
	}
	in.Pusher.Name = name
	_, wrong := transform.New(transform.Spec{Select: in.Select, Rename: in.Rename, Filter: in.Filter})
	for _, p := range wrong {
		l.problem(in.Prefix+strings.ToUpper(p.Field), p.Reason, "")
	}

	switchVariable := in.Prefix + enabledSuffix[1:]
	if err := pluginhost.CheckName(name); err != nil {
		l.problem(switchVariable, err.Error(), "")
		return in
	}
	if plugin := in.Plugin(); !slices.Contains(plugins, plugin) {
		variable, near := in.Prefix+"USE", ""
		if in.Use == "" {
			variable = switchVariable
		}
		if near = settings.Nearest(plugin, plugins); near != "" && in.Use == "" {
			near = prefixOf(near) + enabledSuffix[1:]
		}
		l.problem(variable, fmt.Sprintf("there is no plugin %s: the plugin folder %s holds no %s (it has: %s)",
			plugin, l.pluginDir, pluginhost.BinaryName(protocol.KindPusher, plugin), listOr(plugins, "no pusher at all")), near)
	}
	if len(found) > 0 {
		return in
	}
	if in.RetryMin > in.RetryMax {
		l.problem(in.Prefix+"RETRY_MIN", fmt.Sprintf("%v is longer than %sRETRY_MAX, %v", in.RetryMin, in.Prefix, in.RetryMax), "")
	}
	for _, org := range in.Orgs {
		if !positive(org) {
			l.problem(in.Prefix+"ORGS", fmt.Sprintf("%q is not an organisation: a number above 0", org), "")
		}
	}
	l.passed(in.Prefix, in.PassEnv)
	return in
}

// passed judges the variables that a plugin process is to inherit.
func (l *loader) passed(prefix string, variables []string) {
	for _, variable := range variables {
		if strings.HasPrefix(variable, pluginPrefix) || strings.ContainsAny(variable, "= ") {
			l.problem(prefix+"PASS_ENV", fmt.Sprintf("%q cannot be passed on: it is no variable's name, or one of the PLUGIN_ variables, which never reach a plugin's environment", variable), "")
		} else if l.onlyInFile[variable] {
			l.warn(prefix+"PASS_ENV", variable+" stands in the env file alone; a plugin gets what the host's own process has in its environment", "")
		}
	}
}

// HostOwned are the variables of an instance that the host reads itself; the plugin never sees them.
func HostOwned(prefix string) []string {
	fields, err := settings.Fields(prefix, Instance{})
	if err != nil {
		return nil // the tags are wrong, and Decode says so
	}
	names := make([]string, len(fields))
	for i, f := range fields {
		names[i] = f.Variable
	}
	return names
}

// strayVariable warns of a variable that belongs to nothing. One of a plugin that is there, or of an instance that is
// switched off, is in order: it waits.
func (l *loader) strayVariable(variable string, plugins, disabled []string) {
	bare := strings.TrimPrefix(variable, pluginPrefix)
	for _, name := range slices.Concat(plugins, disabled) {
		if strings.HasPrefix(variable, prefixOf(name)) {
			return
		}
	}
	if len(bare) > len(enabledSuffix) && strings.HasSuffix(bare, enabledSuffix) {
		return // judged with the switches
	}
	if strings.HasPrefix(bare, "STORAGE_") {
		return // judged with the storage; those of a backend that is not chosen wait
	}
	for _, kind := range []protocol.Kind{protocol.KindConnector, protocol.KindEngine} {
		if strings.HasPrefix(bare, strings.ToUpper(string(kind))+"_") {
			l.warn(variable, fmt.Sprintf("this version has no %s plugins; the variable has no effect", kind), "")
			return
		}
	}
	// The name may have several words, so each beginning of the variable is compared.
	best := ""
	for i := range bare {
		if bare[i] != '_' {
			continue
		}
		if near := settings.Nearest(nameOf(bare[:i]), plugins); near != "" {
			best = prefixOf(near) + bare[i+1:]
		}
	}
	if best != "" {
		l.warn(variable, "belongs to no plugin and no enabled instance; it has no effect", best)
		return
	}
	l.warn(variable, "belongs to no plugin and no enabled instance; it has no effect", "")
}

// plugins lists the pushers of the plugin folder by name. A folder that is not there has none.
func (l *loader) plugins() []string {
	entries, err := os.ReadDir(l.pluginDir)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		l.problem(hostPrefix+"PLUGIN_DIR", "cannot be read: "+err.Error(), "")
	}
	var names []string
	for _, e := range entries {
		if name, ok := strings.CutPrefix(e.Name(), pluginhost.BinaryName(protocol.KindPusher, "")); ok && !e.IsDir() && !strings.HasSuffix(name, pluginhost.SignatureSuffix) {
			names = append(names, name)
		}
	}
	return names
}

// prefixOf is what the variables of an instance start with.
func prefixOf(name string) string { return pluginhost.VariablePrefix(protocol.KindPusher, name) }

// nameOf is the name that a part of a variable stands for.
func nameOf(part string) string { return strings.ToLower(strings.ReplaceAll(part, "_", "-")) }

func listOr(names []string, none string) string {
	if len(names) == 0 {
		return none
	}
	return strings.Join(names, ", ")
}
