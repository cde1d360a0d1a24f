package pluginhost

import (
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"

	"github.com/rivergate/rivergate/sdk/protocol"
)

// Kinds are the words between "rivergate-" and a plugin's name.
var kinds = []protocol.Kind{protocol.KindPusher, protocol.KindConnector, protocol.KindStorage, protocol.KindEngine}

var nameForm = regexp.MustCompile(`^[a-z][a-z0-9-]*$`)

// reserved maps a name that no instance may bear to the reason. The variables of a pusher "min" would start with
// PLUGIN_MIN_, which go-plugin reads itself; those of a pusher "storage" could not be told from a storage plugin's.
var reserved = map[string]string{
	"client":    "go-plugin owns PLUGIN_CLIENT_CERT",
	"unix":      "go-plugin owns PLUGIN_UNIX_SOCKET_DIR and PLUGIN_UNIX_SOCKET_GROUP",
	"multiplex": "go-plugin owns PLUGIN_MULTIPLEX_GRPC",
	"min":       "go-plugin owns PLUGIN_MIN_PORT",
	"max":       "go-plugin owns PLUGIN_MAX_PORT",
	"protocol":  "go-plugin owns PLUGIN_PROTOCOL_VERSIONS",
	"pusher":    "it is the word for a kind of plugin",
	"connector": "it is the word for a kind of plugin; variables of connectors start with PLUGIN_CONNECTOR_",
	"storage":   "it is the word for a kind of plugin; variables of storage plugins start with PLUGIN_STORAGE_",
	"engine":    "it is the word for a kind of plugin; variables of engines start with PLUGIN_ENGINE_",
}

// ReservedNames lists the names that no plugin and no instance may bear, sorted.
func ReservedNames() []string { return slices.Sorted(maps.Keys(reserved)) }

// CheckName tells why a plugin or an instance cannot be called name; nil when it can.
func CheckName(name string) error {
	if why, ok := reserved[name]; ok {
		return fmt.Errorf("the name %q is reserved: %s", name, why)
	}
	if !nameForm.MatchString(name) {
		return fmt.Errorf("the name %q is not allowed: lower-case letters, digits and dashes, starting with a letter", name)
	}
	// A pusher "storage-s3" would own PLUGIN_STORAGE_S3_, and so would the storage plugin "s3".
	if first, _, found := strings.Cut(name, "-"); found {
		if why, ok := reserved[first]; ok {
			return fmt.Errorf("the name %q is reserved: its first word is %q, and %s", name, first, why)
		}
	}
	return nil
}

// InstanceName is the name of an instance among those of all kinds: acme for a pusher, storage-s3 for the storage s3. No pusher can
// be called that.
func InstanceName(kind protocol.Kind, name string) string {
	if kind == protocol.KindPusher || kind == "" {
		return name
	}
	return string(kind) + "-" + name
}

// VariablePrefix is what the variables of an instance start with: PLUGIN_ACME_ for a pusher, PLUGIN_STORAGE_S3_ for the
// other kinds.
func VariablePrefix(kind protocol.Kind, name string) string {
	word := strings.ToUpper(strings.ReplaceAll(name, "-", "_"))
	if kind == protocol.KindPusher || kind == "" {
		return "PLUGIN_" + word + "_"
	}
	return "PLUGIN_" + strings.ToUpper(string(kind)) + "_" + word + "_"
}

// BinaryName is the file name of a plugin: rivergate-pusher-acme.
func BinaryName(kind protocol.Kind, plugin string) string {
	return "rivergate-" + string(kind) + "-" + plugin
}

// parseBinaryName is the inverse of BinaryName.
func parseBinaryName(file string) (kind protocol.Kind, plugin string, ok bool) {
	rest, found := strings.CutPrefix(file, "rivergate-")
	if !found {
		return "", "", false
	}
	word, plugin, found := strings.Cut(rest, "-")
	if !found || !slices.Contains(kinds, protocol.Kind(word)) {
		return "", "", false
	}
	return protocol.Kind(word), plugin, true
}
