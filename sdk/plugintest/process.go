package plugintest

import (
	"os/exec"
	"testing"

	"github.com/hashicorp/go-plugin"

	"github.com/rivergate/rivergate/sdk/protocol"
	"github.com/rivergate/rivergate/sdk/wire"
)

// launch runs a binary through go-plugin, with nothing of this process's environment but what command holds.
func launch(t testing.TB, command *exec.Cmd) protocol.Client {
	t.Helper()
	// One that is killed leaves its socket behind. The folder is ours alone: a command that runs as somebody else brings its own.
	command.Env = append([]string{plugin.EnvUnixSocketDir + "=" + socketDir(t)}, command.Env...)
	client := plugin.NewClient(&plugin.ClientConfig{
		HandshakeConfig:  wire.Handshake(),
		VersionedPlugins: wire.VersionedPlugins(nil),
		AllowedProtocols: []plugin.Protocol{plugin.ProtocolGRPC},
		GRPCDialOptions:  wire.DialOptions(),
		Cmd:              command,
		SkipHostEnv:      true,
		Logger:           testLog(t),
		StartTimeout:     Timeout,
	})
	t.Cleanup(client.Kill)
	connection, err := client.Client()
	if err != nil {
		t.Fatalf("plugintest: start %s: %v", command.Path, err)
	}
	dispensed, err := connection.Dispense(wire.Name)
	if err != nil {
		t.Fatalf("plugintest: start %s: %v", command.Path, err)
	}
	return dispensed.(protocol.Client)
}
