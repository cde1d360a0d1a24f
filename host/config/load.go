package config

import (
	"cmp"
	"fmt"
	"maps"
	"net"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"github.com/rivergate/rivergate/host/server"
	"github.com/rivergate/rivergate/sdk/schema"
	"github.com/rivergate/rivergate/sdk/settings"
	"github.com/rivergate/rivergate/services/gateway/trigger"
	"github.com/rivergate/rivergate/services/platform/api"
)

// later are variables that the design names and this version does not have yet.
var later = []string{
	"RIVERGATE_EVENTS", "RIVERGATE_TEMPORAL",
}

// defaultListen is the default of RIVERGATE_LISTEN, for who has no Host.
const defaultListen = "127.0.0.1:8080"

// testPrefix begins the variables of the project's own tests and scripts (deploy/services, make); the host leaves them alone.
const testPrefix = "RIVERGATE_TEST_"

// loader gathers while the environment is read.
type loader struct {
	env        map[string]string // empty values left out: they count as not set
	onlyInFile map[string]bool   // variables that the env file alone sets
	pluginDir  string
	problems   []settings.Problem
	warnings   []settings.Problem
}

// Load reads the environment ("NAME=value") and the env file that it names. With problems the Config is not to be used;
// without, it is complete and valid. What Load cannot judge, since it starts nothing: a plugin's own configuration.
func Load(environ []string) (*Config, []settings.Problem) {
	l := &loader{}
	l.environment(environ)
	config := &Config{}
	l.host(&config.Host)

	if config.PluginDir == "" { // the host's part has problems and was not filled; the pushers are looked at all the same
		config.PluginDir = cmp.Or(l.env[hostPrefix+"PLUGIN_DIR"], "bin/plugins")
		l.trust(&config.Host)
		config.ControlTower = l.env[hostPrefix+"CONTROL_TOWER_URL"]
	}
	l.pluginDir = config.PluginDir
	config.Instances = l.instances()
	if config.Targets != nil && !config.Runs(TargetGateway) {
		for _, in := range config.Instances {
			l.warn(in.Prefix+"ENABLED", "has no effect: RIVERGATE_TARGETS does not name the gateway, which runs the pushers", "")
		}
		config.Instances = nil
	}
	config.Backend = l.backend(&config.Host)
	l.debugging(config)
	config.Warnings = l.warnings
	slices.SortStableFunc(l.problems, func(a, b settings.Problem) int { return strings.Compare(a.Variable, b.Variable) })
	return config, l.problems
}

func (l *loader) problem(variable, reason, nearest string) {
	l.problems = append(l.problems, settings.Problem{Variable: variable, Reason: reason, Nearest: nearest})
}

func (l *loader) warn(variable, reason, nearest string) {
	l.warnings = append(l.warnings, settings.Problem{Variable: variable, Reason: reason, Nearest: nearest})
}

// host reads the RIVERGATE_… variables. What has a word of its own to say about a value says it in place of the general one.
func (l *loader) host(h *Host) {
	var leave []string
	for variable := range l.env {
		if strings.HasPrefix(variable, testPrefix) || variable == "RIVERGATE_SERVICES" {
			leave = append(leave, variable)
		}
	}
	env := maps.Clone(l.env)
	for variable, refuse := range map[string]func(string) string{
		hostPrefix + "AUTH":    refuseAuth,
		hostPrefix + "TARGETS": refuseTargets,
		hostPrefix + "JOURNAL": refuseJournal,
	} {
		if reason := refuse(env[variable]); reason != "" {
			l.problem(variable, reason, "")
			delete(env, variable)
		}
	}
	for _, variable := range later {
		if _, ok := env[variable]; ok {
			l.problem(variable, "comes with a later version; this one does without", "")
			delete(env, variable)
		}
	}
	env[hostPrefix+"LISTEN"] = listen(env)
	found := schema.Decode(hostPrefix, env, h, schema.Leave(leave...))
	l.problems = append(l.problems, found...)
	if len(found) > 0 {
		// The caller's struct stays empty. What is right is judged all the same, so that all problems are told at once.
		for _, p := range found {
			delete(env, p.Variable)
		}
		h = &Host{}
		if len(schema.Decode(hostPrefix, env, h, schema.Leave(leave...))) > 0 {
			return
		}
	}
	l.traces(h)
	l.policy(h)
	l.sealing(h)
	l.places(h)
	if reason := trigger.CheckURL(h.ControlTower); h.ControlTower != "" && reason != "" {
		l.problem(hostPrefix+"CONTROL_TOWER_URL", reason, "")
	}
	for _, text := range h.TrustedProxies {
		if parseNetwork(text) == nil {
			l.problem(hostPrefix+"TRUSTED_PROXIES", fmt.Sprintf("%q is no network: an address (10.1.2.3) or a CIDR (10.0.0.0/8)", text), "")
		}
	}
	if reason := api.CheckOrigins(h.CORSOrigins); reason != "" {
		l.problem(hostPrefix+"CORS_ORIGINS", reason, "")
	}
	if err := server.CheckListen(h.Listen, h.Networks()); err != nil {
		l.problem(hostPrefix+"LISTEN", strings.TrimPrefix(err.Error(), hostPrefix+"LISTEN: "), "")
	} else if _, port, _ := net.SplitHostPort(h.Listen); !isPort(port) {
		l.problem(hostPrefix+"LISTEN", fmt.Sprintf("%q has no port between 0 (any free one) and 65535", h.Listen), "")
	}
}

func refuseAuth(value string) string {
	if value == "jwt" || value == "apikey" {
		return fmt.Sprintf("%s comes with a later version; this one has headers only: listen on loopback, or put an authenticating proxy in front and name it in RIVERGATE_TRUSTED_PROXIES", value)
	}
	return ""
}

func refuseJournal(value string) string {
	switch {
	case value == "" || value == "files":
		return ""
	case strings.HasPrefix(value, "kafka://"):
		return "a journal in Kafka comes with a later version; this one has files only"
	default:
		return "is neither empty nor files" // the value may hold credentials
	}
}

// Networks are the trusted proxies; Load has checked them.
func (h *Host) Networks() []*net.IPNet {
	var list []*net.IPNet
	for _, text := range h.TrustedProxies {
		if network := parseNetwork(text); network != nil {
			list = append(list, network)
		}
	}
	return list
}

// parseNetwork reads a CIDR, or a single address; nil: it is neither.
func parseNetwork(s string) *net.IPNet {
	if ip := net.ParseIP(s); ip != nil {
		if four := ip.To4(); four != nil {
			ip = four
		}
		return &net.IPNet{IP: ip, Mask: net.CIDRMask(8*len(ip), 8*len(ip))}
	}
	_, network, err := net.ParseCIDR(s)
	if err != nil {
		return nil
	}
	return network
}

// URL is where the client commands find the host: RIVERGATE_URL, else RIVERGATE_LISTEN, else its default. An address for
// all interfaces becomes that of this machine. An env file that cannot be read counts for nothing here; see EnvFile.
func URL(environ []string) string {
	l := &loader{}
	l.environment(environ)
	env := l.env
	if url := env[hostPrefix+"URL"]; url != "" {
		return url
	}
	address := listen(env)
	host, port, err := net.SplitHostPort(address)
	if err != nil {
		return "http://" + address
	}
	if address, err := netip.ParseAddr(host); host == "" || err == nil && address.IsUnspecified() {
		host = "127.0.0.1"
	}
	return "http://" + net.JoinHostPort(host, port)
}

// InternalToken is RIVERGATE_INTERNAL_TOKEN as the client commands need it; empty: not set.
func InternalToken(environ []string) string {
	l := &loader{}
	l.environment(environ)
	return l.env[hostPrefix+"INTERNAL_TOKEN"]
}

// variables makes a map of the environment; the last setting of a name wins, as in a shell.
func variables(environ []string) map[string]string {
	env := map[string]string{}
	for _, entry := range environ {
		if name, value, ok := strings.Cut(entry, "="); ok {
			env[name] = value
		}
	}
	maps.DeleteFunc(env, func(_, value string) bool { return value == "" })
	return env
}

func isPort(s string) bool {
	_, err := strconv.ParseUint(s, 10, 16)
	return err == nil
}

func positive(s string) bool {
	n, err := strconv.ParseInt(s, 10, 64)
	return err == nil && n > 0
}
