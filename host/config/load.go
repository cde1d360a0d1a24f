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

	"github.com/rivergate/rivergate/sdk/settings"
)

// later are variables that the design names and this version does not have yet.
var later = []string{
	"RIVERGATE_DATABASE_URL", "RIVERGATE_CACHE", "RIVERGATE_STORAGE", "RIVERGATE_EVENTS", "RIVERGATE_TEMPORAL",
	"RIVERGATE_CONTROL_TOWER_URL",
}

// testPrefix begins the variables of the project's own tests and scripts (deploy/services, make); the host leaves them alone.
const testPrefix = "RIVERGATE_TEST_"

// loader gathers while the environment is read.
type loader struct {
	env       map[string]string // empty values left out: they count as not set
	pluginDir string
	problems  []settings.Problem
	warnings  []settings.Problem
}

// Load reads the environment ("NAME=value"). With problems the Config is not to be used; without, it is complete and valid.
// What Load cannot judge, since it starts nothing: a plugin's own configuration.
func Load(environ []string) (*Config, []settings.Problem) {
	l := &loader{env: variables(environ)}
	config := &Config{}
	l.host(&config.Host)

	l.pluginDir = config.PluginDir
	if l.pluginDir == "" { // the host's part has problems and was not filled
		l.pluginDir = cmp.Or(l.env[hostPrefix+"PLUGIN_DIR"], "bin/plugins")
	}
	config.Instances = l.instances()
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
			l.problem(variable, "comes with a later version; this one has the gateway with its embedded parts only", "")
			delete(env, variable)
		}
	}
	found := settings.Decode(hostPrefix, env, h, settings.Leave(leave...))
	l.problems = append(l.problems, found...)
	if len(found) > 0 {
		return
	}
	l.checkListen(h)
	for _, cidr := range h.TrustedProxies {
		if _, err := parseNetwork(cidr); err != nil {
			l.problem(hostPrefix+"TRUSTED_PROXIES", fmt.Sprintf("%q is no network: an address (10.1.2.3) or a CIDR (10.0.0.0/8)", cidr), "")
		}
	}
	if h.SegmentBytes > h.JournalMaxBytes/2 {
		l.problem(hostPrefix+"JOURNAL_SEGMENT_BYTES", fmt.Sprintf("%v is more than half of RIVERGATE_JOURNAL_MAX_BYTES, %v: space is given back in whole segments", h.SegmentBytes, h.JournalMaxBytes), "")
	}
}

func refuseAuth(value string) string {
	if value == "jwt" || value == "apikey" {
		return fmt.Sprintf("%s comes with a later version; this one has headers only: listen on loopback, or put an authenticating proxy in front and name it in RIVERGATE_TRUSTED_PROXIES", value)
	}
	return ""
}

func refuseTargets(value string) string {
	for target := range strings.SplitSeq(value, ",") {
		switch target = strings.TrimSpace(target); target {
		case "", "gateway":
		case "storage", "orchestration", "staging":
			return target + " comes with a later version; this one has gateway only"
		default:
			return fmt.Sprintf("%q is no target; this version has gateway only", target)
		}
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

// checkListen is about the form of the address, and about who may send context headers to it.
func (l *loader) checkListen(h *Host) {
	variable := hostPrefix + "LISTEN"
	host, port, err := net.SplitHostPort(h.Listen)
	if err != nil {
		l.problem(variable, fmt.Sprintf("%q is not an address with a port, such as 127.0.0.1:8080", h.Listen), "")
		return
	}
	if _, err := strconv.ParseUint(port, 10, 16); err != nil {
		l.problem(variable, fmt.Sprintf("%q has no port between 0 (any free one) and 65535", h.Listen), "")
	}
	if !loopback(host) && len(h.TrustedProxies) == 0 {
		l.problem(variable, fmt.Sprintf("%s can be reached from other machines, and anyone there could claim any organisation: listen on 127.0.0.1, or set RIVERGATE_TRUSTED_PROXIES to the networks whose X-Org-ID and X-User-ID are believed", h.Listen), "")
	}
}

// loopback tells whether only this machine can reach a listener on host. A name counts only when it is localhost.
func loopback(host string) bool {
	if host == "localhost" {
		return true
	}
	address, err := netip.ParseAddr(host)
	return err == nil && address.IsLoopback()
}

// parseNetwork reads a CIDR, or a single address.
func parseNetwork(s string) (netip.Prefix, error) {
	if address, err := netip.ParseAddr(s); err == nil {
		return netip.PrefixFrom(address, address.BitLen()), nil
	}
	return netip.ParsePrefix(s)
}

// URL is where the client commands find the host: RIVERGATE_URL, else RIVERGATE_LISTEN, else its default. An address for
// all interfaces becomes that of this machine.
func URL(environ []string) string {
	env := variables(environ)
	if url := env[hostPrefix+"URL"]; url != "" {
		return url
	}
	listen := cmp.Or(env[hostPrefix+"LISTEN"], "127.0.0.1:8080")
	host, port, err := net.SplitHostPort(listen)
	if err != nil {
		return "http://" + listen
	}
	if address, err := netip.ParseAddr(host); host == "" || err == nil && address.IsUnspecified() {
		host = "127.0.0.1"
	}
	return "http://" + net.JoinHostPort(host, port)
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

func positive(s string) bool {
	n, err := strconv.ParseInt(s, 10, 64)
	return err == nil && n > 0
}
