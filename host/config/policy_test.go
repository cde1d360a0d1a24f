package config

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestAPolicyOfAnyIsRefusedWhereOtherMachinesReachTheHost(t *testing.T) {
	away := []string{"RIVERGATE_LISTEN=0.0.0.0:8080", "RIVERGATE_TRUSTED_PROXIES=10.0.0.0/8"}
	_, problems := Load(append(away, "RIVERGATE_PLUGIN_POLICY=any"))
	require.Len(t, problems, 1)
	require.Equal(t, "RIVERGATE_PLUGIN_POLICY", problems[0].Variable)
	require.Contains(t, problems[0].Reason, "0.0.0.0:8080")
	require.Contains(t, problems[0].Reason, "rivergate plugins lock")

	for _, policy := range []string{"locked", "pinned"} {
		cfg, problems := Load(append(away, "RIVERGATE_PLUGIN_POLICY="+policy))
		require.Empty(t, problems)
		require.Equal(t, policy, cfg.Policy())
	}
	cfg, problems := Load([]string{"RIVERGATE_PLUGIN_POLICY=any"})
	require.Empty(t, problems)
	require.Equal(t, "any", cfg.Policy())
}

func TestWithoutAPolicyEveryPluginRunsOnLoopbackAndLockedOnesElsewhere(t *testing.T) {
	for listen, want := range map[string]string{
		"127.0.0.1:8080": "any", "localhost:1": "any", "[::1]:8080": "any",
		"0.0.0.0:8080": "locked", "10.1.2.3:80": "locked", ":8080": "locked",
	} {
		cfg, problems := Load([]string{"RIVERGATE_LISTEN=" + listen, "RIVERGATE_TRUSTED_PROXIES=10.0.0.0/8"})
		require.Empty(t, problems, listen)
		require.Equal(t, want, cfg.Policy(), listen)
	}
}

func TestTheLockFileLiesInThePluginFolderUnlessItIsMoved(t *testing.T) {
	cfg, _ := Load([]string{"RIVERGATE_PLUGIN_DIR=/opt/plugins"})
	require.Equal(t, "/opt/plugins/plugins.lock", cfg.LockFile())
	cfg, _ = Load([]string{"RIVERGATE_PLUGIN_DIR=/opt/plugins", "RIVERGATE_PLUGIN_LOCK=/etc/plugins.lock"})
	require.Equal(t, "/etc/plugins.lock", cfg.LockFile())
}

func TestAKeyThatIsNoneIsAProblemOfItsVariable(t *testing.T) {
	file := filepath.Join(t.TempDir(), "some.pub")
	require.NoError(t, os.WriteFile(file, []byte("hello"), 0o600))
	for _, key := range []string{"/nowhere/key.pub", "RWQshort", file} {
		_, problems := Load([]string{"RIVERGATE_PLUGIN_KEYS=" + key})
		require.Len(t, problems, 1, key)
		require.Equal(t, "RIVERGATE_PLUGIN_KEYS", problems[0].Variable)
		require.Contains(t, problems[0].Reason, key)
	}
}

func TestASignatureBesideABinaryIsNoPlugin(t *testing.T) {
	dir := t.TempDir()
	for _, name := range []string{"rivergate-pusher-acme", "rivergate-pusher-acme.minisig"} {
		require.NoError(t, os.WriteFile(filepath.Join(dir, name), []byte("x"), 0o755))
	}
	_, problems := Load([]string{"RIVERGATE_PLUGIN_DIR=" + dir, "PLUGIN_ACNE_ENABLED=true"})
	require.Len(t, problems, 1)
	require.Contains(t, problems[0].Reason, "(it has: acme)")
}

func TestWhatIsSaidAboutTrustCountsBesideAMistake(t *testing.T) {
	file := envFile(t, "RIVERGATE_PLUGIN_POLICY=pinned\nRIVERGATE_PLUGIN_LOCK=/etc/plugins.lock\nRIVERGATE_PLUGIN_KEYS=/a.pub, /b.pub\n")
	const mistake = "RIVERGATE_LOG_LEVEL=loud"
	cfg, problems := Load([]string{mistake, "RIVERGATE_ENV_FILE=" + file})
	require.NotEmpty(t, problems)
	require.Equal(t, "pinned", cfg.Policy())
	require.Equal(t, "/etc/plugins.lock", cfg.LockFile())
	require.Equal(t, []string{"/a.pub", "/b.pub"}, cfg.PluginKeys)

	for want, environ := range map[string][]string{
		"any": nil, "locked": {"RIVERGATE_LISTEN=0.0.0.0:8080"}, "lockd": {"RIVERGATE_PLUGIN_POLICY=lockd"},
	} {
		cfg, problems = Load(append(environ, mistake))
		require.NotEmpty(t, problems)
		require.Equal(t, want, cfg.Policy())
	}
	cfg, _ = Load([]string{mistake, "RIVERGATE_LISTEN=0.0.0.0:8080", "RIVERGATE_PLUGIN_POLICY=any"})
	require.Equal(t, "locked", cfg.Policy())
}

func TestWhichBinaryRunsAndAsWhomCountsBesideAMistake(t *testing.T) {
	c, problems := load(t, "PLUGIN_FILE_ENABLED=true", "PLUGIN_FILE_BATCH_ROWS=0", "PLUGIN_FILE_RUN_AS=nobody", "PLUGIN_FILE_OPEN_FILES=64",
		"PLUGIN_FILE_SHA256=9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08")
	require.Len(t, problems, 1)
	in := c.Instance("file")
	require.Equal(t, "nobody", in.RunAs)
	require.Equal(t, 64, in.OpenFiles)
	require.Len(t, in.SHA256, 64)
}
