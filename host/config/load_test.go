package config

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/rivergate/rivergate/sdk/settings"
	"github.com/rivergate/rivergate/services/gateway/delivery"
)

// folder makes a plugin folder with these binaries; only their names matter here.
func folder(t *testing.T, plugins ...string) string {
	t.Helper()
	dir := t.TempDir()
	for _, name := range plugins {
		require.NoError(t, os.WriteFile(filepath.Join(dir, "rivergate-pusher-"+name), []byte("#!"), 0o755))
	}
	require.NoError(t, os.WriteFile(filepath.Join(dir, "rivergate-storage-local"), []byte("#!"), 0o755))
	return dir
}

// load loads with the plugins file, http, postgres and foo-bar there.
func load(t *testing.T, environ ...string) (*Config, []settings.Problem) {
	t.Helper()
	dir := folder(t, "file", "http", "postgres", "foo", "foo-bar")
	return Load(append([]string{"RIVERGATE_PLUGIN_DIR=" + dir, "HOME=/nowhere", "PATH=/bin"}, environ...))
}

func TestAnEmptyEnvironmentGivesTheDefaults(t *testing.T) {
	c, problems := Load(nil)
	require.Empty(t, problems)
	require.Equal(t, "127.0.0.1:8080", c.Listen)
	require.Equal(t, "data", c.DataDir)
	require.Equal(t, []string{"gateway"}, c.Targets, "no storage without a plugin for it")
	require.Equal(t, settings.Bytes(16<<20), c.GatewayMaxBody)
	require.Equal(t, settings.Bytes(10<<30), c.JournalMaxBytes)
	require.Equal(t, 24*time.Hour, c.IdempotencyTTL)
	require.Empty(t, c.Instances)
	require.Len(t, c.Warnings, 1)
}

func TestAnEmptyValueCountsAsNotSet(t *testing.T) {
	c, problems := load(t, "RIVERGATE_LISTEN=", "PLUGIN_FILE_ENABLED=")
	require.Empty(t, problems)
	require.Equal(t, "127.0.0.1:8080", c.Listen)
	require.Empty(t, c.Instances)
}

func TestEveryProblemIsReportedAtOnce(t *testing.T) {
	_, problems := load(t,
		"RIVERGATE_LISTN=127.0.0.1:1",
		"RIVERGATE_GATEWAY_MAX_ROWS=many",
		"RIVERGATE_AUTH=jwt",
		"RIVERGATE_JOURNAL=kafka://user:sesame@broker/topic",
		"RIVERGATE_CACHE=http://:sesame@x",
		"RIVERGATE_EVENTS=kafka://x",
		"PLUGIN_FIEL_ENABLED=true",
		"PLUGIN_FILE_ENABLED=true",
		"PLUGIN_FILE_BATCH_ROWS=0",
		"PLUGIN_MIN_ENABLED=true",
		"PLUGIN_HTTP_ENABLED=perhaps",
	)
	found := map[string]settings.Problem{}
	for _, p := range problems {
		found[p.Variable] = p
		require.NotContains(t, p.Reason, "sesame")
	}
	require.Len(t, found, 10, "%+v", problems)
	require.Equal(t, "RIVERGATE_LISTEN", found["RIVERGATE_LISTN"].Nearest)
	require.Contains(t, found["RIVERGATE_GATEWAY_MAX_ROWS"].Reason, "whole number")
	require.Contains(t, found["RIVERGATE_AUTH"].Reason, "later version")
	require.Contains(t, found["RIVERGATE_JOURNAL"].Reason, "later version")
	require.Contains(t, found["RIVERGATE_CACHE"].Reason, "redis://")
	require.Contains(t, found["RIVERGATE_EVENTS"].Reason, "later version")
	require.Equal(t, "PLUGIN_FILE_ENABLED", found["PLUGIN_FIEL_ENABLED"].Nearest)
	require.Contains(t, found["PLUGIN_FIEL_ENABLED"].Reason, "rivergate-pusher-fiel")
	require.NotEmpty(t, found["PLUGIN_FILE_BATCH_ROWS"].Reason)
	require.Contains(t, found["PLUGIN_MIN_ENABLED"].Reason, "go-plugin owns")
	require.NotEmpty(t, found["PLUGIN_HTTP_ENABLED"].Reason)
}

func TestAProblemDoesNotHideAnother(t *testing.T) {
	_, problems := load(t, "RIVERGATE_LOG_LEVEL=loud", "RIVERGATE_LISTEN=0.0.0.0:8080", "RIVERGATE_TRACES_OTLP=ftp://x", "RIVERGATE_PLUGIN_KEYS=/nowhere/key.pub")
	var variables []string
	for _, p := range problems {
		variables = append(variables, p.Variable)
	}
	require.Equal(t, []string{"RIVERGATE_LISTEN", "RIVERGATE_LOG_LEVEL", "RIVERGATE_PLUGIN_KEYS", "RIVERGATE_TRACES_OTLP"}, variables)
}

func TestOneProblemWithOneVariable(t *testing.T) {
	for name, test := range map[string]struct {
		environ  []string
		variable string
		reason   string // a part of it
		nearest  string
	}{
		"unknown name":           {[]string{"RIVERGATE_DATADIR=x"}, "RIVERGATE_DATADIR", "not a known setting", "RIVERGATE_DATA_DIR"},
		"api keys":               {[]string{"RIVERGATE_AUTH=apikey"}, "RIVERGATE_AUTH", "later version", ""},
		"unknown auth":           {[]string{"RIVERGATE_AUTH=basic"}, "RIVERGATE_AUTH", "headers", ""},
		"another target":         {[]string{"RIVERGATE_TARGETS=gateway,staging"}, "RIVERGATE_TARGETS", "staging comes with a later version", ""},
		"two master keys":        {[]string{"RIVERGATE_MASTER_KEY=" + strings.Repeat("0f", 32), "RIVERGATE_MASTER_KEY_FILE=y"}, "RIVERGATE_MASTER_KEY_FILE", "only one", ""},
		"no master key":          {[]string{"RIVERGATE_LISTEN=0.0.0.0:80", "RIVERGATE_TRUSTED_PROXIES=10.0.0.0/8", "RIVERGATE_TARGETS=storage"}, "RIVERGATE_MASTER_KEY", "openssl rand", ""},
		"no target":              {[]string{"RIVERGATE_TARGETS=gatway"}, "RIVERGATE_TARGETS", "is no target", ""},
		"no port":                {[]string{"RIVERGATE_LISTEN=localhost"}, "RIVERGATE_LISTEN", "not an address with a port", ""},
		"port too high":          {[]string{"RIVERGATE_LISTEN=127.0.0.1:70000"}, "RIVERGATE_LISTEN", "port", ""},
		"reachable from outside": {[]string{"RIVERGATE_LISTEN=0.0.0.0:8080"}, "RIVERGATE_LISTEN", "RIVERGATE_TRUSTED_PROXIES", ""},
		"all interfaces":         {[]string{"RIVERGATE_LISTEN=:8080"}, "RIVERGATE_LISTEN", "RIVERGATE_TRUSTED_PROXIES", ""},
		"a name":                 {[]string{"RIVERGATE_LISTEN=example.org:8080"}, "RIVERGATE_LISTEN", "RIVERGATE_TRUSTED_PROXIES", ""},
		"no network":             {[]string{"RIVERGATE_TRUSTED_PROXIES=10.0.0.0/33"}, "RIVERGATE_TRUSTED_PROXIES", "no network", ""},
		"an origin with a path":  {[]string{"RIVERGATE_CORS_ORIGINS=http://localhost:5173,https://app.example.com/"}, "RIVERGATE_CORS_ORIGINS", "write https://app.example.com", ""},
		"segment over the limit": {[]string{"RIVERGATE_JOURNAL_SEGMENT_BYTES=129MiB"}, "RIVERGATE_JOURNAL_SEGMENT_BYTES", "128MiB", ""},
		"retries upside down": {[]string{"PLUGIN_FILE_ENABLED=true", "PLUGIN_FILE_RETRY_MIN=1m", "PLUGIN_FILE_RETRY_MAX=1s"},
			"PLUGIN_FILE_RETRY_MIN", "longer than PLUGIN_FILE_RETRY_MAX", ""},
		"control tower":                   {[]string{"RIVERGATE_CONTROL_TOWER_URL=http://me:pa55word@tower?x=1"}, "RIVERGATE_CONTROL_TOWER_URL", "must end with its path", ""},
		"a filter":                        {[]string{"PLUGIN_FILE_ENABLED=true", "PLUGIN_FILE_FILTER=temperature > 20"}, "PLUGIN_FILE_FILTER", "line 1, column 1: unknown name temperature", ""},
		"a field twice":                   {[]string{"PLUGIN_FILE_ENABLED=true", "PLUGIN_FILE_SELECT=a,b,a"}, "PLUGIN_FILE_SELECT", `"a" is named twice`, ""},
		"a new name that is not selected": {[]string{"PLUGIN_FILE_ENABLED=true", "PLUGIN_FILE_SELECT=a,b", "PLUGIN_FILE_RENAME=c=d"}, "PLUGIN_FILE_RENAME", "not among the fields that SELECT keeps", ""},
		"no such org":                     {[]string{"PLUGIN_FILE_ENABLED=true", "PLUGIN_FILE_ORGS=1,two"}, "PLUGIN_FILE_ORGS", `"two"`, ""},
		"no such use":                     {[]string{"PLUGIN_LAKE_ENABLED=true", "PLUGIN_LAKE_USE=postgre"}, "PLUGIN_LAKE_USE", "rivergate-pusher-postgre", "postgres"},
		"short hash":                      {[]string{"PLUGIN_FILE_ENABLED=true", "PLUGIN_FILE_SHA256=abc"}, "PLUGIN_FILE_SHA256", "", ""},
		"wrong order":                     {[]string{"PLUGIN_FILE_ENABLED=true", "PLUGIN_FILE_ORDER=keys"}, "PLUGIN_FILE_ORDER", "key", ""},
		"passes ours":                     {[]string{"PLUGIN_FILE_ENABLED=true", "PLUGIN_FILE_PASS_ENV=HOME,PLUGIN_FILE_PATH"}, "PLUGIN_FILE_PASS_ENV", "PLUGIN_FILE_PATH", ""},
		"other kind":                      {[]string{"PLUGIN_STORAGE_S3_ENABLED=true"}, "PLUGIN_STORAGE_S3_ENABLED", "reserved", ""},
		"kind as name":                    {[]string{"PLUGIN_ENGINE_ENABLED=true"}, "PLUGIN_ENGINE_ENABLED", "reserved", ""},
	} {
		t.Run(name, func(t *testing.T) {
			_, problems := load(t, test.environ...)
			var ours []settings.Problem
			for _, p := range problems {
				if p.Variable == test.variable {
					ours = append(ours, p)
				}
			}
			require.Len(t, ours, 1, "%+v", problems)
			require.Len(t, problems, 1, "%+v", problems)
			require.Contains(t, ours[0].Reason, test.reason)
			require.Equal(t, test.nearest, ours[0].Nearest)
		})
	}
}

func TestAddressesThatMayBeListenedOn(t *testing.T) {
	for name, environ := range map[string][]string{
		"loopback":         {"RIVERGATE_LISTEN=127.0.0.9:0"},
		"loopback, IPv6":   {"RIVERGATE_LISTEN=[::1]:8080"},
		"localhost":        {"RIVERGATE_LISTEN=localhost:8080"},
		"behind a proxy":   {"RIVERGATE_LISTEN=0.0.0.0:8080", "RIVERGATE_TRUSTED_PROXIES=10.0.0.0/8,192.168.1.7"},
		"left for testing": {"RIVERGATE_TEST_POSTGRES_DSN=postgres://x"},
		"somebody else's":  {"TRACING_ENABLED=perhaps", "ENABLED=true"},
	} {
		t.Run(name, func(t *testing.T) {
			_, problems := load(t, environ...)
			require.Empty(t, problems)
		})
	}
}

func TestAnInstanceIsSplitIntoTheHostsPartAndThePlugins(t *testing.T) {
	c, problems := load(t,
		"PLUGIN_LAKE_ENABLED=1", "PLUGIN_LAKE_USE=postgres", "PLUGIN_LAKE_BATCH_ROWS=50", "PLUGIN_LAKE_RETRY_MAX=2m",
		"PLUGIN_LAKE_ORGS=1,7", "PLUGIN_LAKE_START=oldest", "PLUGIN_LAKE_DSN=postgres://x", "PLUGIN_LAKE_TABLE=rows",
	)
	require.Empty(t, problems)
	require.Len(t, c.Instances, 1)
	in := c.Instances[0]
	require.Equal(t, "lake", in.Name)
	require.Equal(t, "lake", in.Pusher.Name)
	require.Equal(t, "postgres", in.Plugin())
	require.Equal(t, "PLUGIN_LAKE_", in.Prefix)
	require.Equal(t, 50, in.BatchRows)
	require.Equal(t, 2*time.Minute, in.RetryMax)
	require.Equal(t, []string{"1", "7"}, in.Orgs)
	require.Equal(t, delivery.StartOldest, in.Start)
	require.Equal(t, 8, in.Window)
	require.Equal(t, map[string]string{"PLUGIN_LAKE_DSN": "postgres://x", "PLUGIN_LAKE_TABLE": "rows"}, in.Own)
}

func TestTheLongestNameOwnsAVariable(t *testing.T) {
	c, problems := load(t,
		"PLUGIN_FOO_ENABLED=true", "PLUGIN_FOO_BAR_ENABLED=true", "PLUGIN_FOO_BAR_URL=of foo-bar", "PLUGIN_FOO_URL=of foo",
	)
	require.Empty(t, problems)
	require.Len(t, c.Instances, 2)
	require.Equal(t, "foo-bar", c.Instances[0].Name)
	require.Equal(t, map[string]string{"PLUGIN_FOO_BAR_URL": "of foo-bar"}, c.Instances[0].Own)
	require.Equal(t, "foo", c.Instances[1].Name)
	require.Equal(t, map[string]string{"PLUGIN_FOO_URL": "of foo"}, c.Instances[1].Own)
}

func TestAPluginMayHaveASwitchOfItsOwn(t *testing.T) {
	c, problems := load(t, "PLUGIN_FILE_ENABLED=true", "PLUGIN_FILE_GZIP_ENABLED=true")
	require.Empty(t, problems)
	require.Len(t, c.Instances, 1)
	require.Equal(t, map[string]string{"PLUGIN_FILE_GZIP_ENABLED": "true"}, c.Instances[0].Own)
}

func TestVariablesWithoutAnEffectAreWarnedOf(t *testing.T) {
	c, problems := load(t,
		"PLUGIN_FIEL_PATH=x",            // near to a plugin
		"PLUGIN_POSTGRES_DSN=x",         // a plugin that is not enabled: it waits
		"PLUGIN_MINE_ENABLED=false",     // switched off
		"PLUGIN_MINE_URL=x",             // of the same
		"PLUGIN_MIN_PORT=10000",         // go-plugin's
		"PLUGIN_UNIX_SOCKET_DIR=/x",     // go-plugin's
		"PLUGIN_ENTIRELY_UNKNOWN_THING", // no variable at all
		"PLUGIN_SOMETHING_ELSE=x",
		"PLUGIN_file_ENABLED=true", // not the name of a variable of file
		"PLUGIN_ENABLED=true",      // of nobody
	)
	require.Empty(t, problems)
	require.Empty(t, c.Instances)
	got := map[string]string{}
	for _, w := range c.Warnings {
		got[w.Variable] = w.Nearest
	}
	require.Equal(t, map[string]string{
		"PLUGIN_FIEL_PATH": "PLUGIN_FILE_PATH", "PLUGIN_SOMETHING_ELSE": "",
		"PLUGIN_file_ENABLED": "PLUGIN_FILE_ENABLED", "PLUGIN_ENABLED": "",
	}, got)
}

func TestNoSecretIsPrinted(t *testing.T) {
	c, problems := load(t, "RIVERGATE_INTERNAL_TOKEN=sesame", "PLUGIN_POSTGRES_ENABLED=true", "PLUGIN_POSTGRES_DSN=sesame", "PLUGIN_POSTGRES_WINDOW=3")
	require.Empty(t, problems)
	values, err := c.Masked()
	require.NoError(t, err)
	got := map[string]string{}
	for _, v := range values {
		require.NotContains(t, v.Value, "sesame")
		got[v.Variable] = v.Value
	}
	require.Equal(t, "***", got["RIVERGATE_INTERNAL_TOKEN"])
	require.Equal(t, "***", got["PLUGIN_POSTGRES_DSN"])
	require.Equal(t, "3", got["PLUGIN_POSTGRES_WINDOW"])
	require.Equal(t, "127.0.0.1:8080", got["RIVERGATE_LISTEN"])

	c, problems = load(t, "RIVERGATE_URL=https://ops:sesame@gateway/", "RIVERGATE_TRACES_OTLP=http://ops:sesame@collector:4318")
	require.Empty(t, problems)
	values, err = c.Masked()
	require.NoError(t, err)
	for _, v := range values {
		require.NotContains(t, v.Value, "sesame", v.Variable)
	}
}

func TestWhereClientsFindTheHost(t *testing.T) {
	for want, environ := range map[string][]string{
		"http://127.0.0.1:8080": {},
		"http://127.0.0.1:9090": {"RIVERGATE_LISTEN=127.0.0.1:9090"},
		"http://127.0.0.1:9091": {"RIVERGATE_LISTEN=0.0.0.0:9091"},
		"http://127.0.0.1:9092": {"RIVERGATE_LISTEN=:9092"},
		"http://127.0.0.1:9093": {"RIVERGATE_LISTEN=[::]:9093"},
		"http://[::1]:9094":     {"RIVERGATE_LISTEN=[::1]:9094"},
		"https://gateway":       {"RIVERGATE_LISTEN=127.0.0.1:1", "RIVERGATE_URL=https://gateway"},
	} {
		require.Equal(t, want, URL(environ))
	}
}

func TestEveryVariableIsDocumented(t *testing.T) {
	host, pusher, storage, err := Fields()
	require.NoError(t, err)
	for _, f := range slices.Concat(host, pusher, storage) {
		require.NotEmpty(t, f.Doc, f.Variable)
		require.Contains(t, Table([]settings.Field{f}), "`"+f.Variable+"`")
	}
}

func TestATransformIsReadFromItsVariables(t *testing.T) {
	cfg, problems := load(t, "PLUGIN_FILE_ENABLED=true", "PLUGIN_FILE_SELECT=timeElapsed, meta.batch", "PLUGIN_FILE_RENAME=timeElapsed=t,meta.batch=b",
		"PLUGIN_FILE_FILTER=row.od in [1, 2] and uuid != \"a,b=c\"")
	require.Empty(t, problems)
	in := cfg.Instance("file")
	require.Equal(t, []string{"timeElapsed", "meta.batch"}, in.Select)
	require.Equal(t, map[string]string{"timeElapsed": "t", "meta.batch": "b"}, in.Rename)
	require.Equal(t, `row.od in [1, 2] and uuid != "a,b=c"`, in.Filter)
	require.Empty(t, in.Own)

	_, problems = load(t, "PLUGIN_FILE_ENABLED=true", "PLUGIN_FILE_SELECT=a,a", "PLUGIN_FILE_FILTER=row.", "PLUGIN_FILE_WINDOW=many")
	require.Len(t, problems, 3, "all at once")
}

func TestAHostWithOneTargetHasItsOwnPort(t *testing.T) {
	for targets, port := range map[string]string{"": "8080", "gateway": "8001", "storage": "8002", "gateway,storage": "8080"} {
		config, problems := load(t, "RIVERGATE_TARGETS="+targets)
		require.Empty(t, problems)
		require.Equal(t, "127.0.0.1:"+port, config.Listen)
		require.Equal(t, "http://127.0.0.1:"+port, URL([]string{"RIVERGATE_TARGETS=" + targets}))
	}
	config, _ := load(t, "RIVERGATE_TARGETS=storage", "RIVERGATE_LISTEN=127.0.0.1:9")
	require.Equal(t, "127.0.0.1:9", config.Listen)
}

func TestAHostFromBeforeThereWasStorageGoesOnWithout(t *testing.T) {
	config, problems := load(t, "RIVERGATE_LISTEN=0.0.0.0:80", "RIVERGATE_TRUSTED_PROXIES=10.0.0.0/8")
	require.Empty(t, problems)
	require.Equal(t, []string{"gateway"}, config.Targets)
	require.Len(t, config.Warnings, 1)
	require.Equal(t, "RIVERGATE_MASTER_KEY", config.Warnings[0].Variable)
}
