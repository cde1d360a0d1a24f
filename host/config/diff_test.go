package config

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

func TestADifferenceTellsInstancesFromWhatNeedsARestart(t *testing.T) {
	dir := folder(t, "file", "http", "postgres")
	read := func(environ ...string) *Config {
		c, problems := Load(append([]string{"RIVERGATE_PLUGIN_DIR=" + dir, "PLUGIN_FILE_ENABLED=1"}, environ...))
		require.Empty(t, problems)
		return c
	}
	before := read("PLUGIN_HTTP_ENABLED=1", "PLUGIN_HTTP_URL=http://a", "RIVERGATE_INTERNAL_TOKEN=a")
	require.Equal(t, Difference{}, Diff(before, read("PLUGIN_HTTP_ENABLED=1", "PLUGIN_HTTP_URL=http://a", "RIVERGATE_INTERNAL_TOKEN=a", "RIVERGATE_URL=http://x")))

	after := read("PLUGIN_POSTGRES_ENABLED=1", "PLUGIN_FILE_WINDOW=2", "RIVERGATE_INTERNAL_TOKEN=b", "RIVERGATE_GATEWAY_MAX_ROWS=5")
	require.Equal(t, Difference{
		Restart: []string{"RIVERGATE_GATEWAY_MAX_ROWS", "RIVERGATE_INTERNAL_TOKEN"},
		Added:   []string{"postgres"}, Removed: []string{"http"}, Changed: []string{"file"},
	}, Diff(before, after))

	other := read("PLUGIN_HTTP_ENABLED=1", "PLUGIN_HTTP_URL=http://b", "RIVERGATE_INTERNAL_TOKEN=a")
	require.Equal(t, Difference{Changed: []string{"http"}}, Diff(before, other), "a plugin's own variable")
}

func TestAttachingAndTracingNameEnabledInstances(t *testing.T) {
	enabled := []string{"PLUGIN_FILE_ENABLED=1", "PLUGIN_HTTP_ENABLED=1", "PLUGIN_HTTP_TIMEOUT=5s", "PLUGIN_POSTGRES_ENABLED=1"}
	c, problems := load(t, append(enabled, "RIVERGATE_PLUGIN_ATTACH=file=127.0.0.1:7000,http=unix:/tmp/http.sock", "RIVERGATE_PLUGIN_TRACE=file,*", "RIVERGATE_PLUGIN_TRACE_DATA=1")...)
	require.Empty(t, problems)
	require.Equal(t, map[string]string{"file": "127.0.0.1:7000", "http": "unix:/tmp/http.sock"}, c.Attached())
	require.Equal(t, 24*time.Hour, c.Instance("file").Timeout, "somebody may sit at a breakpoint")
	require.Equal(t, 5*time.Second, c.Instance("http").Timeout, "what was set counts")
	require.Equal(t, 30*time.Second, c.Instance("postgres").Timeout)
	require.Equal(t, []string{"file", "*"}, c.Traced().Instances)
	require.True(t, c.Traced().Data)

	for environ, want := range map[string]struct{ reason, nearest string }{
		"RIVERGATE_PLUGIN_ATTACH=fiel=127.0.0.1:7000":               {"no instance fiel is enabled (enabled: file, http, postgres)", "file"},
		"RIVERGATE_PLUGIN_ATTACH=file":                              {`"file" is not name=address`, ""},
		"RIVERGATE_PLUGIN_ATTACH=file=10.0.0.1:7000":                {"is not a loopback address", ""},
		"RIVERGATE_PLUGIN_ATTACH=file=7000":                         {"is neither an address with a port", ""},
		"RIVERGATE_PLUGIN_ATTACH=file=unix:x.sock":                  {"is no absolute path", ""},
		"RIVERGATE_PLUGIN_ATTACH=file=127.0.0.1:1,file=127.0.0.1:2": {"file is attached twice", ""},
		"RIVERGATE_PLUGIN_TRACE=htpt":                               {"no instance htpt is enabled", "http"},
		"RIVERGATE_PLUGIN_ATTACH=file=127.0.0.1:7000|POLICY=locked": {"attaching needs RIVERGATE_PLUGIN_POLICY=any, and the policy is locked", ""},
	} {
		vars := append([]string{}, enabled...)
		if at := len(environ) - len("|POLICY=locked"); at > 0 && environ[at:] == "|POLICY=locked" {
			vars, environ = append(vars, "RIVERGATE_PLUGIN_POLICY=locked"), environ[:at]
		}
		_, problems := load(t, append(vars, environ)...)
		require.Len(t, problems, 1, environ)
		require.Contains(t, problems[0].Reason, want.reason)
		require.Equal(t, want.nearest, problems[0].Nearest)
	}
}

func TestWhereTracesGo(t *testing.T) {
	for want, environ := range map[string][]string{
		"":                            {},
		"http://a:4318/v1/traces":     {"RIVERGATE_TRACES_OTLP=http://a:4318", "OTEL_EXPORTER_OTLP_ENDPOINT=http://b"},
		"http://a/base/v1/traces":     {"RIVERGATE_TRACES_OTLP=http://a/base/"},
		"https://a/v1/traces":         {"RIVERGATE_TRACES_OTLP=https://a/v1/traces"},
		"http://b:4318/v1/traces":     {"OTEL_EXPORTER_OTLP_ENDPOINT=http://b:4318"},
		"http://c/exactly":            {"OTEL_EXPORTER_OTLP_ENDPOINT=http://b:4318", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT=http://c/exactly"},
		"http://a:4318/v1/traces?x=1": {"RIVERGATE_TRACES_OTLP=http://a:4318?x=1", "OTEL_SDK_DISABLED=true"},
	} {
		c, problems := load(t, environ...)
		require.Empty(t, problems)
		require.Equal(t, want, c.TracesEndpoint)
	}
	c, problems := load(t, "OTEL_EXPORTER_OTLP_ENDPOINT=http://b:4318", "OTEL_SDK_DISABLED=true")
	require.Empty(t, problems)
	require.Empty(t, c.TracesEndpoint)
	for _, bad := range []string{"RIVERGATE_TRACES_OTLP=ftp://user:sesame@a", "OTEL_EXPORTER_OTLP_ENDPOINT=b:4318"} {
		_, problems := load(t, bad)
		require.Len(t, problems, 1)
		require.NotContains(t, problems[0].Reason, "sesame")
	}
}
