// Package wire carries the plugin protocol over gRPC and go-plugin. It is the only package that sees protobuf types: the
// host holds a protocol.Client, the plugin side serves a protocol.PusherServer or a protocol.StorageServer, and neither knows what
// is between.
package wire

import (
	"context"
	"fmt"

	"github.com/hashicorp/go-plugin"
	"google.golang.org/grpc"

	"github.com/rivergate/rivergate/sdk/protocol"
)

// Name is the name under which the one go-plugin plugin of a binary is dispensed.
const Name = "rivergate"

// Variables of the environment that the host gives to a plugin process, beside those of go-plugin itself. Configuration
// never travels this way.
const (
	// EnvCookie tells a binary that a host started it, and not a person. It is no secret.
	EnvCookie = "RIVERGATE_PLUGIN"
	// CookieValue is what EnvCookie must hold.
	CookieValue = "c9f1d3a0-rows-in-kept-safe-out"
	// EnvHostPID is the host's process id. Optional: the SDK ends the process when that host is no longer its parent.
	EnvHostPID = "RIVERGATE_HOST_PID"
	// EnvLogLevel is the lowest level that the plugin writes (trace, debug, info, warn, error). Optional; debug.
	EnvLogLevel = "RIVERGATE_LOG_LEVEL"
)

// Handshake is the same on both sides. The protocol version is negotiated by VersionedPlugins, not here.
func Handshake() plugin.HandshakeConfig {
	return plugin.HandshakeConfig{MagicCookieKey: EnvCookie, MagicCookieValue: CookieValue}
}

// VersionedPlugins is the set of protocol versions, for both sides: a later version is one more entry, served beside the
// older ones. server is nil in the host.
func VersionedPlugins(server protocol.Base) map[int]plugin.PluginSet {
	set := map[int]plugin.PluginSet{}
	for _, version := range protocol.Versions() {
		set[int(version)] = plugin.PluginSet{Name: &GRPCPlugin{Impl: server, version: version}}
	}
	return set
}

// GRPCPlugin is one protocol version as go-plugin wants it. Dispensing it gives a protocol.Client.
type GRPCPlugin struct {
	plugin.NetRPCUnsupportedPlugin
	Impl    protocol.Base // plugin side only
	version uint32        // what go-plugin negotiated
}

// GRPCServer registers Base and what Impl serves beside, of all versions: the Handshake call has the last word about which is used.
func (p *GRPCPlugin) GRPCServer(_ *plugin.GRPCBroker, s *grpc.Server) error {
	if p.Impl == nil {
		return fmt.Errorf("wire: GRPCPlugin has no server")
	}
	Register(s, p.Impl)
	return nil
}

// GRPCClient makes the host's end.
func (p *GRPCPlugin) GRPCClient(_ context.Context, _ *plugin.GRPCBroker, conn *grpc.ClientConn) (any, error) {
	return newClient(conn, p.version), nil
}
