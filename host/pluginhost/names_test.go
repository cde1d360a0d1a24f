package pluginhost

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/rivergate/rivergate/sdk/protocol"
)

func TestNamesThatGoPluginOrKindsOwnAreRefusedWithAReason(t *testing.T) {
	for _, name := range []string{"client", "unix", "multiplex", "min", "max", "protocol", "pusher", "connector", "storage", "engine"} {
		require.Contains(t, ReservedNames(), name)
		require.ErrorContains(t, CheckName(name), "reserved", name)
	}
	require.ErrorContains(t, CheckName("min"), "PLUGIN_MIN_PORT")
	require.ErrorContains(t, CheckName("storage-s3"), "PLUGIN_STORAGE_", "its variables would be those of the storage plugin s3")
	for _, name := range []string{"", "Acme", "9lives", "a_b", "-a", "a b", "a/b", "é"} {
		require.ErrorContains(t, CheckName(name), "not allowed", name)
	}
	for _, name := range []string{"a", "file", "http2", "minimal", "my-store", "clients"} {
		require.NoError(t, CheckName(name), name)
	}
}

func TestPrefixesCarryTheKindUnlessItIsAPusher(t *testing.T) {
	require.Equal(t, "PLUGIN_MY_STORE_", VariablePrefix(protocol.KindPusher, "my-store"))
	require.Equal(t, "PLUGIN_STORAGE_S3_", VariablePrefix(protocol.KindStorage, "s3"))
}

func TestReservedAndDoubledInstancesAreProblemsBeforeAnythingStarts(t *testing.T) {
	w := newWorld(t)
	w.install("lying", "min")
	w.install("lying", "two-x")
	problems := w.host.Start(t.Context(), []Instance{
		acme("min"), acme("two-x"), acme("two-x"),
		{Name: "store", Kind: protocol.KindConnector},
		{Name: "two", Plugin: "engine"},
		{Name: "pin", Plugin: "two-x", SHA256: "abc"},
		{Name: "env", Plugin: "two-x", PassEnv: []string{"HOME", "PLUGIN_CLIENT_CERT", "A=B"}},
	})
	text := reasons(problems)
	require.Contains(t, text, `PLUGIN_MIN_ENABLED the name "min" is reserved`)
	require.Contains(t, text, `PLUGIN_TWO_X_ENABLED two instances are called "two-x"`)
	require.Contains(t, text, `PLUGIN_CONNECTOR_STORE_ENABLED plugins of the kind "connector" cannot be run`)
	require.Contains(t, text, `PLUGIN_TWO_USE the name "engine" is reserved`)
	require.Contains(t, text, `PLUGIN_PIN_SHA256 must be a SHA-256`)
	require.Contains(t, text, `PLUGIN_ENV_PASS_ENV PLUGIN_CLIENT_CERT cannot be passed`)
	require.Contains(t, text, `PLUGIN_ENV_PASS_ENV "A=B" is not the name of a variable`)
}
