package config

import (
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/rivergate/rivergate/host/pluginhost"
	"github.com/rivergate/rivergate/sdk/protocol"
	"github.com/rivergate/rivergate/sdk/schema"
	"github.com/rivergate/rivergate/sdk/settings"
	"github.com/rivergate/rivergate/services/platform/database"
	"github.com/rivergate/rivergate/services/storage/cache"
	"github.com/rivergate/rivergate/services/storage/seal"
)

// Backend is the storage plugin that keeps the files.
type Backend struct {
	Name   string            `config:"-"` // of the plugin: local, s3
	Prefix string            `config:"-"` // of its variables: PLUGIN_STORAGE_S3_
	Own    map[string]string `config:"-"` // the plugin's own configuration as it was given, by variable
	Launch
}

// localBackend is the storage plugin of a host that was told nothing.
const localBackend = "local"

// BackendOwned are the variables of a storage plugin that the host reads itself.
func BackendOwned(prefix string) []string {
	fields, err := settings.Fields(prefix, Backend{})
	if err != nil {
		return nil // the tags are wrong, and Decode says so
	}
	names := make([]string, len(fields))
	for i, f := range fields {
		names[i] = f.Variable
	}
	return names
}

// backend reads which storage plugin keeps the files, and its PLUGIN_STORAGE_<NAME>_… variables; nil: this host runs no storage.
func (l *loader) backend(h *Host) *Backend {
	if !h.Runs(TargetStorage) {
		return nil
	}
	b := &Backend{Name: h.Storage, Prefix: pluginhost.VariablePrefix(protocol.KindStorage, h.Storage), Own: map[string]string{}}
	owned := BackendOwned(b.Prefix)
	vars := map[string]string{}
	for _, variable := range slices.Sorted(maps.Keys(l.env)) {
		if strings.HasPrefix(variable, b.Prefix) {
			vars[variable] = l.env[variable]
			if !slices.Contains(owned, variable) {
				b.Own[variable] = l.env[variable]
			}
		}
	}
	if path := b.Prefix + "PATH"; h.Storage == localBackend && vars[path] == "" {
		b.Own[path] = filepath.Join(h.DataDir, "objects") // with all else that must survive a restart
	}
	l.problems = append(l.problems, schema.Decode(b.Prefix, vars, b, schema.LeaveUnknown())...)
	l.passed(b.Prefix, b.PassEnv)
	if err := pluginhost.CheckName(h.Storage); err != nil {
		l.problem(hostPrefix+"STORAGE", err.Error(), "")
		return nil
	}
	have := l.backends()
	if slices.Contains(have, h.Storage) {
		return b
	}
	reason := fmt.Sprintf("there is no storage plugin %s: the plugin folder %s holds no %s (it has: %s)",
		h.Storage, l.pluginDir, pluginhost.BinaryName(protocol.KindStorage, h.Storage), listOr(have, "no storage plugin at all"))
	if l.env[hostPrefix+"STORAGE"] != "" || l.env[hostPrefix+"TARGETS"] != "" {
		l.problem(hostPrefix+"STORAGE", reason, settings.Nearest(h.Storage, have))
		return nil
	}
	// A plugin folder from before there was storage: the gateway goes on as it did.
	h.withoutStorage()
	l.warn(hostPrefix+"STORAGE", "this host runs without storage: "+reason, "")
	return nil
}

// backends lists the storage plugins of the plugin folder by name.
func (l *loader) backends() []string {
	entries, _ := os.ReadDir(l.pluginDir) // what is wrong with it is said with the pushers
	var names []string
	for _, e := range entries {
		name, ok := strings.CutPrefix(e.Name(), pluginhost.BinaryName(protocol.KindStorage, ""))
		if ok && !e.IsDir() && !strings.HasSuffix(name, pluginhost.SignatureSuffix) {
			names = append(names, name)
		}
	}
	return names
}

// places checks where the metadata lies.
func (l *loader) places(h *Host) {
	if h.DatabaseURL != "" {
		if err := database.CheckURL(h.DatabaseURL.Reveal()); err != nil {
			l.problem(hostPrefix+"DATABASE_URL", err.Error(), "")
		}
	}
	for variable, key := range map[string]settings.Secret{"MASTER_KEY": h.MasterKey, "MASTER_KEY_PREVIOUS": h.MasterKeyBefore} {
		if key == "" {
			continue
		}
		if _, err := seal.ParseMaster(key.Reveal()); err != nil {
			l.problem(hostPrefix+variable, err.Error(), "")
		}
	}
	if h.Cache != "" {
		if reason := cache.CheckURL(h.Cache.Reveal()); reason != "" {
			l.problem(hostPrefix+"CACHE", reason, "")
		}
	}
	if h.ColdAfterDays <= h.WarmAfterDays {
		l.problem(hostPrefix+"STORAGE_COLD_AFTER_DAYS", fmt.Sprintf("%d is not after RIVERGATE_STORAGE_WARM_AFTER_DAYS, %d", h.ColdAfterDays, h.WarmAfterDays), "")
	}
}
