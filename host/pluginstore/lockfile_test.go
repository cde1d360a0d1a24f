package pluginstore

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

var (
	hashA = strings.Repeat("a", 64)
	hashB = strings.Repeat("b", 64)
)

const wholeLock = `{
  "schema": 1,
  "plugins": [
    {
      "kind": "pusher",
      "name": "acme",
      "version": "1.2.0",
      "sha256": "AAAA",
      "source": "https://example.com/a?b=<c>",
      "former": {
        "version": "1.1.0",
        "sha256": "BBBB",
        "source": "local"
      }
    },
    {
      "kind": "pusher",
      "name": "file",
      "sha256": "BBBB"
    }
  ]
}
`

func lockText() string {
	return strings.NewReplacer("AAAA", hashA, "BBBB", hashB).Replace(wholeLock)
}

func TestALockFileReadsBackAsItWasWritten(t *testing.T) {
	l, err := parseLock([]byte(lockText()))
	require.NoError(t, err)
	require.Equal(t, Entry{
		Kind: "pusher", Name: "acme", Release: Release{Version: "1.2.0", SHA256: hashA, Source: "https://example.com/a?b=<c>"},
		Former: &Release{Version: "1.1.0", SHA256: hashB, Source: "local"},
	}, l.Plugins[0])
	text, err := l.encode()
	require.NoError(t, err)
	require.Equal(t, lockText(), string(text))

	empty, err := (&LockFile{}).encode()
	require.NoError(t, err)
	l, err = parseLock(empty)
	require.NoError(t, err)
	require.Empty(t, l.Plugins)
}

func TestEntriesAreSortedWhateverTheirOrderWas(t *testing.T) {
	l := &LockFile{}
	for _, name := range []string{"zeta", "acme", "file"} {
		l.set("pusher", name, &Entry{Kind: "pusher", Name: name, Release: Release{SHA256: hashA}})
	}
	l.set("connector", "zz", &Entry{Kind: "connector", Name: "zz", Release: Release{SHA256: hashA}})
	var names []string
	for _, e := range l.Plugins {
		names = append(names, e.Name)
	}
	require.Equal(t, []string{"zz", "acme", "file", "zeta"}, names)
	l.set("pusher", "acme", &Entry{Kind: "pusher", Name: "acme", Release: Release{SHA256: hashB}})
	require.Len(t, l.Plugins, 4)
	require.Equal(t, hashB, l.find("pusher", "acme").SHA256)
	l.set("pusher", "acme", nil)
	require.Nil(t, l.find("pusher", "acme"))
}

func TestAMistakeInALockFileIsToldWithItsLine(t *testing.T) {
	change := func(old, new string) string { return strings.Replace(lockText(), old, new, 1) }
	for name, c := range map[string]struct {
		text string
		want string
	}{
		"empty":             {"", "line 1: it ends in the middle"},
		"no JSON":           {"plugins: []\n", "line 1: "},
		"another form":      {"[]\n", "line 1: the lock file is not a JSON object"},
		"cut off":           {lockText()[:len(lockText())/2], "it ends in the middle"},
		"merge conflict":    {change("    {\n", "<<<<<<< HEAD\n    {\n"), "line 4: "},
		"newer schema":      {change(`"schema": 1`, `"schema": 7`), "line 2: schema is 7; this Rivergate reads 1"},
		"no schema":         {change("  \"schema\": 1,\n", ""), `the lock file has no "schema"`},
		"unknown member":    {change(`"version": "1.2.0"`, `"verion": "1.2.0"`), `line 7: an entry has the unknown member "verion"`},
		"unknown in former": {change(`"version": "1.1.0"`, `"v": "1.1.0"`), `line 11: former has the unknown member "v"`},
		"upper case hash":   {change(hashA, strings.ToUpper(hashA)), "line 8: sha256 is "},
		"short hash":        {change(hashB, "abc"), `line 12: sha256 is "abc"`},
		"hash is a number":  {change(`"`+hashA+`"`, "12"), "line 8: "},
		"no hash":           {change(`,`+"\n"+`      "sha256": "`+hashB+`"`+"\n    }", "\n    }"), `an entry has no "sha256"`},
		"bad name":          {change(`"acme"`, `"../acme"`), "line 6: "},
		"bad kind":          {change(`"pusher"`, `"puller"`), "line 5: "},
		"member twice":      {change(`"name": "acme"`, `"name": "acme", "name": "acme"`), `line 6: an entry has "name" twice`},
		"entry twice":       {change(`"file"`, `"acme"`), "there are two entries of pusher acme"},
		"something after":   {lockText() + "{}", "something follows"},
		"entry is a word":   {`{"schema":1,"plugins":["acme"]}`, "an entry is not a JSON object"},
		"plugins is a word": {`{"schema":1,"plugins":"acme"}`, "plugins is not a JSON array"},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := parseLock([]byte(c.text))
			require.ErrorContains(t, err, c.want)
			var line *lineError
			require.ErrorAs(t, err, &line)
		})
	}
}

func TestALockFileThatAnybodyCouldChangeIsNotBelieved(t *testing.T) {
	f := newFolder(t)
	f.install(program("acme", "1.0.0"))
	_, err := f.judge(PolicyLocked, nil, "acme", "")
	require.NoError(t, err)

	require.NoError(t, os.Chmod(f.LockPath(), 0o666))
	_, err = f.judge(PolicyAny, nil, "acme", "")
	require.ErrorContains(t, err, "chmod o-w")
	require.NoError(t, os.Chmod(f.LockPath(), 0o644))

	require.NoError(t, os.Chmod(f.path, 0o777))
	_, err = f.judge(PolicyLocked, nil, "acme", "")
	require.ErrorContains(t, err, "its folder can be written by everybody")
}

func TestTheLockFileCanLieElsewhere(t *testing.T) {
	dir, lock := t.TempDir(), filepath.Join(t.TempDir(), "etc", "rivergate.lock")
	s, err := Open(dir, lock)
	require.NoError(t, err)
	_, err = s.Install(t.Context(), InstallOptions{Source: put(t, program("acme", "1")), Introduce: introduce})
	require.NoError(t, err)
	require.FileExists(t, lock)
	require.NoFileExists(t, filepath.Join(dir, LockName))
}

func FuzzALockFileThatIsReadIsWrittenTheSame(f *testing.F) {
	f.Add(lockText())
	f.Add(`{"schema":1,"plugins":[]}`)
	f.Add(`{"schema":1,"plugins":[{}`)
	f.Fuzz(func(t *testing.T, text string) {
		l, err := parseLock([]byte(text))
		if err != nil {
			var line *lineError
			require.ErrorAs(t, err, &line)
			require.Positive(t, line.line)
			return
		}
		written, err := l.encode()
		require.NoError(t, err)
		again, err := parseLock(written)
		require.NoError(t, err, "%s", written)
		require.Len(t, again.Plugins, len(l.Plugins))
		twice, err := again.encode()
		require.NoError(t, err)
		require.Equal(t, string(written), string(twice))
	})
}
