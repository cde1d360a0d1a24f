package e2e

import (
	"net"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

func TestABadConfigurationPrintsAllProblemsAndEndsWithTwo(t *testing.T) {
	t.Parallel()
	w := newWorld(t, map[string]string{
		"RIVERGATE_GATEWAY_MAX_ROW": "5",     // nearly _MAX_ROWS
		"RIVERGATE_AUTH":            "jwt",   // a later version's
		"RIVERGATE_LOG_LEVEL":       "noisy", // not one of them
		"PLUGIN_HTTP_ENABLED":       "true",  // without PLUGIN_HTTP_URL
		"PLUGIN_FILE_ENABLED":       "true",
		"PLUGIN_FILE_PAHT":          "/tmp/x", // nearly PATH, which is missing
		"PLUGIN_FILE_BATCH_ROWS":    "0",
		"PLUGIN_ABSENT_ENABLED":     "true", // no such binary
		"PLUGIN_CLIENT_ENABLED":     "true", // a name that go-plugin owns
	})
	for _, command := range []string{"serve", "check"} {
		out, errs, code := w.command(command)
		said := out + errs
		require.Equal(t, 2, code, "%s said:\n%s", command, said)
		for _, name := range []string{
			"RIVERGATE_GATEWAY_MAX_ROW", "RIVERGATE_GATEWAY_MAX_ROWS", "RIVERGATE_AUTH", "RIVERGATE_LOG_LEVEL",
			"PLUGIN_HTTP_URL", "PLUGIN_FILE_PAHT", "PLUGIN_FILE_PATH", "PLUGIN_FILE_BATCH_ROWS", "PLUGIN_ABSENT", "PLUGIN_CLIENT",
		} {
			require.Contains(t, said, name, "%s does not name it", command)
		}
	}
	conn, err := net.DialTimeout("tcp", w.opts.Addr, time.Second)
	if err == nil {
		conn.Close()
	}
	require.Error(t, err, "nothing serves")
}

func TestAnAddressThatIsNotLoopbackIsRefusedWithoutAnAuthMode(t *testing.T) {
	t.Parallel()
	w := newWorld(t, map[string]string{"RIVERGATE_LISTEN": "0.0.0.0:0"}).withFile("file")
	out, errs, code := w.command("serve")
	require.Equal(t, 2, code)
	require.Contains(t, out+errs, "RIVERGATE_TRUSTED_PROXIES", "it says what to set")
}

func TestCheckAcceptsWhatServeAccepts(t *testing.T) {
	t.Parallel()
	w := newWorld(t, nil).withFile("file")
	out, errs, code := w.command("check")
	require.Zero(t, code, "%s\n%s", out, errs)
	w.start()
}
