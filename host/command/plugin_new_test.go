package command

import (
	"encoding/json"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestPluginNewWritesARepository(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "acme")
	r := rivergate(t, "", "", "plugin", "new", "acme", "--dir", dir, "--sdk", root(t), "--module", "example.com/mine", "--skip-verify", "--json")
	require.Equal(t, exitDone, r.code, r.stderr)
	var said struct {
		Verified   bool
		Repository struct {
			Dir, Binary, Module string
			Files               []string
			SDK                 struct{ Folder string }
		}
	}
	require.NoError(t, json.Unmarshal([]byte(r.stdout), &said))
	require.False(t, said.Verified)
	require.Equal(t, dir, said.Repository.Dir)
	require.Equal(t, "rivergate-pusher-acme", said.Repository.Binary)
	require.Equal(t, root(t), said.Repository.SDK.Folder)
	for _, file := range said.Repository.Files {
		require.FileExists(t, filepath.Join(dir, file))
	}
	for _, file := range []string{"go.mod", "main.go", "acme.go", "acme_test.go", "conformance_test.go", "Makefile", "README.md", "LICENSE", "CHANGELOG.md", ".gitignore", ".github/workflows/ci.yml"} {
		require.Contains(t, said.Repository.Files, file)
	}

	again := rivergate(t, "", "", "plugin", "new", "acme", "--dir", dir, "--sdk", root(t))
	require.Equal(t, exitMistake, again.code)
	require.Contains(t, again.stderr, "is not empty")
}

func TestPluginNewRefusesWhatItCannotMake(t *testing.T) {
	for name, c := range map[string]struct {
		args []string
		want string
	}{
		"another kind":     {[]string{"acme", "--kind", "storage"}, "only pushers can be written in this version"},
		"a reserved name":  {[]string{"unix"}, "reserved"},
		"an SDK of no use": {[]string{"acme", "--sdk", t.TempDir()}, "--sdk"},
		"no name":          {nil, "accepts 1 arg"},
	} {
		t.Run(name, func(t *testing.T) {
			dir := filepath.Join(t.TempDir(), "new")
			r := rivergate(t, "", "", append([]string{"plugin", "new", "--dir", dir}, c.args...)...)
			require.Equal(t, exitMistake, r.code)
			require.Contains(t, r.stderr, c.want)
			require.NoDirExists(t, dir)
		})
	}
}
