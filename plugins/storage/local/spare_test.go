package main

import (
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/hashicorp/go-hclog"
	"github.com/stretchr/testify/require"

	"github.com/rivergate/rivergate/sdk"
)

func TestSpareFilesAreMadeAgainAndGoWithTheProcess(t *testing.T) {
	dir := t.TempDir()
	l := &Local{Path: dir}
	require.NoError(t, l.Open(t.Context(), sdk.Env{Log: hclog.NewNullLogger()}))
	spares := func() []string {
		files, err := filepath.Glob(filepath.Join(dir, "hot", tempFolder, "*", "*"))
		require.NoError(t, err)
		return files
	}
	require.Empty(t, spares(), "nobody has put anything")
	put := func(key, content string) sdk.Object {
		o, err := l.Put(t.Context(), sdk.Put{Key: key, Size: int64(len(content)), OnlyNew: true}, strings.NewReader(content))
		require.NoError(t, err)
		return o
	}
	for i := range 3 * spareFiles { // more than there are: the others are made when they are needed
		put(fmt.Sprint(i), fmt.Sprint("content of ", i))
	}
	// Those of the last puts may have been taken from a full stock, which is filled again only when half of it is gone.
	require.Eventually(t, func() bool { return len(spares()) > spareFiles/2 }, 10*time.Second, time.Millisecond)

	long := time.Now().Add(-time.Hour)
	for _, file := range spares() {
		require.NoError(t, os.Chtimes(file, long, long))
	}
	for i := range 2 {
		o := put(fmt.Sprint("late", i), strings.Repeat("x", i))
		require.WithinDuration(t, time.Now(), o.Modified, time.Minute)
		o, err := l.Stat(t.Context(), o.Key)
		require.NoError(t, err)
		require.WithinDuration(t, time.Now(), o.Modified, time.Minute)
	}
	for i := range 3 * spareFiles {
		_, body, err := l.Get(t.Context(), fmt.Sprint(i), sdk.Range{Length: -1})
		require.NoError(t, err)
		content, err := io.ReadAll(body)
		require.NoError(t, err)
		require.NoError(t, body.Close())
		require.Equal(t, fmt.Sprint("content of ", i), string(content))
	}
	_, err := l.Put(t.Context(), sdk.Put{Key: "0", Size: 1, OnlyNew: true}, strings.NewReader("x"))
	require.ErrorIs(t, err, sdk.ErrPrecondition)

	require.NoError(t, l.Close(t.Context()))
	require.Empty(t, spares())
}

func TestWhatADeadProcessLeftIsRemovedAndSpareFilesAreNotCounted(t *testing.T) {
	dir := t.TempDir()
	opened, err := openTier(sdk.TierHot, dir)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, opened.close()) })
	dead := filepath.Join(dir, tempFolder, random())
	require.NoError(t, os.WriteFile(dead+lockSuffix, nil, 0o600))
	require.NoError(t, os.Mkdir(dead, 0o700))
	for name, content := range map[string]string{"spare": "", "another": "", "begun": "content"} {
		require.NoError(t, os.WriteFile(filepath.Join(dead, name), []byte(content), 0o600))
	}
	files, err := opened.sweep()
	require.NoError(t, err)
	require.Equal(t, 1, files)
	require.NoDirExists(t, dead)
	require.NoFileExists(t, dead+lockSuffix)
}
