package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/rivergate/rivergate/sdk/plugintest"
)

func TestNoUUIDLeavesItsFolder(t *testing.T) {
	dir := t.TempDir()
	h, _ := start(t, map[string]any{"path": dir + "/out/{uuid}/{uuid}.jsonl"})
	uuids := []string{"..", ".", "../../evil", "/etc/passwd", "a/b", "a_b", "a%2Fb", "\x00", "…", "con", strings.Repeat("/", 128), strings.Repeat("x", 128),
		strings.Repeat("x", 127) + "y", ".hidden", "a\nb", "-rf", "x-000001"}
	for i, uuid := range uuids {
		require.Empty(t, h.Deliver(plugintest.FrameAt(uint64(i), uuid, `{}`)), "%q", uuid)
	}
	files, err := filepath.Glob(dir + "/out/*/*.jsonl")
	require.NoError(t, err)
	require.Len(t, files, len(uuids), "each uuid has a file of its own")
	entries, err := os.ReadDir(dir)
	require.NoError(t, err)
	require.Len(t, entries, 1)
}

func TestTheFolderOfATemplateEndsBeforeItsFirstPlaceholder(t *testing.T) {
	for path, base := range map[string]string{
		"out/{org}/{date}.jsonl": "out", "{org}.jsonl": ".", "/srv/a-{org}.jsonl": "/srv", "x.jsonl": ".", "/x.jsonl": "/", "a/b.jsonl": "a", "{org}/x/y": ".",
	} {
		parsed, err := parseTemplate(path)
		require.NoError(t, err, path)
		require.Equal(t, base, parsed.base, path)
	}
}

func FuzzSafeName(f *testing.F) {
	for _, seed := range []string{"", "..", "a/b", "x-000001", strings.Repeat("é", 128)} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		name := safeName(text)
		if name == "" || name[0] == '.' || strings.ContainsAny(name, "/\\\x00\n") || len(name) > maxName {
			t.Fatalf("%q became %q", text, name)
		}
	})
}

func TestFramesOfTheSameInstantAndOrgShareAFile(t *testing.T) {
	dir := t.TempDir()
	h, _ := start(t, map[string]any{"path": dir + "/{instance}/{date}T{hour}.jsonl"})
	require.Empty(t, h.Deliver(plugintest.FrameAt(1, "a", `{}`), plugintest.FrameAt(2, "b", `{}`)))
	require.FileExists(t, dir+"/"+plugintest.Instance+"/2026-01-02T03.jsonl")
	requireOnce(t, read(t, dir), 1, 2)
}
