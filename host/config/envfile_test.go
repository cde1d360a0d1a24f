package config

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// envFile writes an env file that its owner alone may read.
func envFile(t *testing.T, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "rivergate.env")
	require.NoError(t, os.WriteFile(path, []byte(text), 0o600))
	return path
}

func TestAnEnvFileIsReadAsSystemdReadsIt(t *testing.T) {
	list, wrong := parseEnvFile(strings.Join([]string{
		`# a comment`,
		`; another`,
		``,
		`PLAIN=a b  c   `,
		`  INDENTED =  x`,
		`EMPTY=`,
		`SINGLE='a "b" \n $c' `,
		`DOUBLE="a \"b\" \$c \\ \n"`,
		`PARTS="a b"'c d' e'f'`,
		`INNER=it's "so"`,
		`ESCAPED=a\ b\\c\`,
		`  joined`,
		`LINES="one`,
		`two"`,
		`BLANKS="  kept  "`,
		"CRLF=x\r",
		`HASH=a # b`,
		`LAST=no newline`,
	}, "\n"))
	require.Empty(t, wrong)
	got := map[string]string{}
	lines := map[string]int{}
	for _, a := range list {
		got[a.name], lines[a.name] = a.value, a.line
	}
	require.Equal(t, map[string]string{
		"PLAIN": "a b  c", "INDENTED": "x", "EMPTY": "", "SINGLE": `a "b" \n $c`, "DOUBLE": `a "b" $c \ \n`, "PARTS": `a bc de'f'`,
		"INNER": `it's "so"`, "ESCAPED": `a b\c  joined`, "LINES": "one\ntwo", "BLANKS": "  kept  ", "CRLF": "x", "HASH": "a # b",
		"LAST": "no newline",
	}, got)
	require.Equal(t, 4, lines["PLAIN"])
	require.Equal(t, 15, lines["BLANKS"], "lines inside quotes are counted")
}

func TestTheFileIsReadAsIfItStoodInTheEnvironment(t *testing.T) {
	path := envFile(t, "RIVERGATE_LISTEN=127.0.0.1:9191\nPLUGIN_FILE_ENABLED=true\nPLUGIN_FILE_PATH='out/{org}.jsonl'\nPLUGIN_FILE_WINDOW=3\n")
	c, problems := load(t, "RIVERGATE_ENV_FILE="+path, "PLUGIN_FILE_WINDOW=3", "RIVERGATE_LOG_LEVEL=debug")
	require.Empty(t, problems)
	require.Empty(t, c.Warnings)
	require.Equal(t, "127.0.0.1:9191", c.Listen)
	require.Equal(t, "debug", c.LogLevel)
	require.Len(t, c.Instances, 1)
	require.Equal(t, map[string]string{"PLUGIN_FILE_PATH": "out/{org}.jsonl"}, c.Instances[0].Own)
	require.Equal(t, "http://127.0.0.1:9191", URL([]string{"RIVERGATE_ENV_FILE=" + path}))
}

func TestTheEnvironmentWinsOverTheFileAndSaysSo(t *testing.T) {
	path := envFile(t, "\nRIVERGATE_INTERNAL_TOKEN=of-the-file\n")
	c, problems := load(t, "RIVERGATE_ENV_FILE="+path, "RIVERGATE_INTERNAL_TOKEN=of-the-environment")
	require.Empty(t, problems)
	require.Equal(t, "of-the-environment", c.InternalToken.Reveal())
	require.Len(t, c.Warnings, 1)
	require.Equal(t, "RIVERGATE_INTERNAL_TOKEN", c.Warnings[0].Variable)
	require.Contains(t, c.Warnings[0].Reason, path+", line 2")
	require.NotContains(t, c.Warnings[0].Reason, "of-the")
}

func TestWhatIsWrongWithAnEnvFileIsToldWithItsLine(t *testing.T) {
	for text, want := range map[string]string{
		"A=1\nnonsense\n":                  "line 2: is no NAME=value",
		"A=1\n\n=x":                        `line 3: "" is no name of a variable`,
		"1A=x":                             `line 1: "1A" is no name of a variable`,
		"export A=x":                       "line 1: is written for a shell: leave out export",
		"A=1\nB=\"sesame\nC=2\n":           "line 2: a quote is not closed",
		"A=sesame\x00":                     "line 1: the value holds a zero byte",
		"RIVERGATE_ENV_FILE=/etc/other":    "line 1: an env file cannot name an env file",
		strings.Repeat("#", maxEnvFile+1):  "is larger than 1MiB",
		"RIVERGATE_LISTN=127.0.0.1:1\n":    "",
		"# nothing\nPLUGIN_FIEL_ENABLED=1": "",
	} {
		environ := []string{"RIVERGATE_ENV_FILE=" + envFile(t, text)}
		_, problems := Load(environ)
		require.Len(t, problems, 1, text)
		require.NotContains(t, problems[0].Reason, "sesame")
		if want == "" { // a mistake in what it says is that variable's own
			require.NotEqual(t, envFileVariable, problems[0].Variable)
			require.Empty(t, EnvFile(environ))
			continue
		}
		require.Equal(t, envFileVariable, problems[0].Variable)
		require.Contains(t, problems[0].Reason, want)
		require.Len(t, EnvFile(environ), 1)
	}
	for _, path := range []string{filepath.Join(t.TempDir(), "missing"), t.TempDir()} {
		_, problems := Load([]string{"RIVERGATE_ENV_FILE=" + path})
		require.Len(t, problems, 1)
		require.Contains(t, problems[0].Reason, path)
	}
}

func TestSecretsInAFileForEverybodyAreWarnedOf(t *testing.T) {
	for text, secret := range map[string]bool{
		"RIVERGATE_INTERNAL_TOKEN=x":                        true,
		"PLUGIN_POSTGRES_DSN=x":                             true,
		"PLUGIN_HTTP_URL=https://user:sesame@example.com/":  true,
		"PLUGIN_HTTP_URL=https://example.com/":              false,
		"RIVERGATE_GATEWAY_KEYS=off":                        false,
		"RIVERGATE_INTERNAL_TOKEN=\nPLUGIN_FILE_ORDER=none": false,
	} {
		path := envFile(t, text)
		c, problems := load(t, "RIVERGATE_ENV_FILE="+path)
		require.Empty(t, problems)
		require.Empty(t, c.Warnings, "its owner alone may read it")
		require.NoError(t, os.Chmod(path, 0o644))
		c, problems = load(t, "RIVERGATE_ENV_FILE="+path)
		require.Empty(t, problems)
		if !secret {
			require.Empty(t, c.Warnings, text)
			continue
		}
		require.Len(t, c.Warnings, 1, text)
		require.Equal(t, envFileVariable, c.Warnings[0].Variable)
		require.Contains(t, c.Warnings[0].Reason, "chmod o-rwx "+path)
		require.NotContains(t, c.Warnings[0].Reason, "sesame")
	}
}

func TestAVariableOfTheFileIsNotPassedToPluginsInSilence(t *testing.T) {
	path := envFile(t, "HTTPS_PROXY=http://proxy\n")
	c, problems := load(t, "RIVERGATE_ENV_FILE="+path, "PLUGIN_FILE_ENABLED=true", "PLUGIN_FILE_PASS_ENV=HTTPS_PROXY,HOME")
	require.Empty(t, problems)
	require.Len(t, c.Warnings, 1)
	require.Equal(t, "PLUGIN_FILE_PASS_ENV", c.Warnings[0].Variable)
	require.Contains(t, c.Warnings[0].Reason, "HTTPS_PROXY")
}

func FuzzEnvFile(f *testing.F) {
	f.Add("A=1\nB='x'\nC=\"y\\\"\"\\\nz\n#")
	f.Add("A=\\")
	f.Fuzz(func(t *testing.T, text string) {
		list, wrong := parseEnvFile(text)
		for _, a := range list {
			require.Regexp(t, variableName, a.name)
			require.NotContains(t, a.value, "\x00")
		}
		lines := strings.Count(text, "\n") + 1
		for _, e := range wrong {
			require.GreaterOrEqual(t, e.line, 1)
			require.LessOrEqual(t, e.line, lines)
		}
	})
}
