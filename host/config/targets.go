package config

import (
	"cmp"
	"fmt"
	"net"
	"slices"
	"strings"

	"github.com/rivergate/rivergate/host/server"
)

// The services that a host can run.
const (
	TargetGateway = "gateway"
	TargetStorage = "storage"
)

// ownPort is where a host listens that runs one service only.
var ownPort = map[string]string{TargetGateway: "8001", TargetStorage: "8002"}

func refuseTargets(value string) string {
	for target := range strings.SplitSeq(value, ",") {
		switch target = strings.TrimSpace(target); target {
		case "", TargetGateway, TargetStorage:
		case "orchestration", "staging":
			return target + " comes with a later version; this one has gateway and storage"
		default:
			return fmt.Sprintf("%q is no target; this version has gateway and storage", target)
		}
	}
	return ""
}

// listen is the address of the API: RIVERGATE_LISTEN, else the port of the only target, else the one for everything.
func listen(env map[string]string) string {
	var chosen []string
	for target := range strings.SplitSeq(env[hostPrefix+"TARGETS"], ",") {
		if target = strings.TrimSpace(target); target != "" && !slices.Contains(chosen, target) {
			chosen = append(chosen, target)
		}
	}
	address := defaultListen
	if len(chosen) == 1 && ownPort[chosen[0]] != "" {
		host, _, _ := net.SplitHostPort(defaultListen)
		address = net.JoinHostPort(host, ownPort[chosen[0]])
	}
	return cmp.Or(env[hostPrefix+"LISTEN"], address)
}

// Runs tells whether the host runs a service.
func (h *Host) Runs(target string) bool { return slices.Contains(h.Targets, target) }

func (h *Host) withoutStorage() {
	h.Targets = slices.DeleteFunc(h.Targets, func(t string) bool { return t == TargetStorage })
}

// sealing checks where the master key comes from. A host that was set up before there was storage, and that cannot make a key
// for itself, goes on without storage; one that was told to run it is refused.
func (l *loader) sealing(h *Host) {
	if h.MasterKey != "" && h.MasterKeyFile != "" {
		l.problem(hostPrefix+"MASTER_KEY_FILE", "is set beside RIVERGATE_MASTER_KEY: only one of them can be the master key", "")
	}
	if !h.Runs(TargetStorage) || h.StorageSeal != "host" || h.MasterKey != "" || h.MasterKeyFile != "" || server.IsLoopback(h.Listen) {
		return
	}
	const reason = "storage needs RIVERGATE_MASTER_KEY or RIVERGATE_MASTER_KEY_FILE (32 random bytes, as base64: openssl rand -base64 32) " +
		"on a host that does not listen on loopback alone; or RIVERGATE_STORAGE_ENCRYPTION=backend or off"
	if l.env[hostPrefix+"TARGETS"] != "" {
		l.problem(hostPrefix+"MASTER_KEY", reason, "")
		return
	}
	h.withoutStorage()
	l.warn(hostPrefix+"MASTER_KEY", "is not set, so this host runs without storage: "+reason, "")
}
