package seal

import (
	"encoding/base64"
	"encoding/hex"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/rivergate/rivergate/services/platform/database"
	"github.com/rivergate/rivergate/services/platform/database/databasetest"
)

func TestMasterKeysAreReadAsHexAndAsBase64(t *testing.T) {
	secret := noise(keySize)
	want, err := newMaster(secret)
	require.NoError(t, err)
	for _, text := range []string{
		hex.EncodeToString(secret), strings.ToUpper(hex.EncodeToString(secret)), " " + hex.EncodeToString(secret) + "\n",
		base64.StdEncoding.EncodeToString(secret), base64.RawStdEncoding.EncodeToString(secret), base64.URLEncoding.EncodeToString(secret) + "\n",
	} {
		m, err := ParseMaster(text)
		require.NoError(t, err)
		require.Equal(t, want.Fingerprint(), m.Fingerprint())
	}
	for text, why := range map[string]string{
		"":                              "0 bytes",
		"correct horse battery staple":  "neither",
		hex.EncodeToString(secret[:31]): "bytes, 32 are needed",
		base64.StdEncoding.EncodeToString(secret[:16]): "16 bytes",
	} {
		_, err := ParseMaster(text)
		require.ErrorContains(t, err, why)
		if text != "" {
			require.NotContains(t, err.Error(), text)
		}
	}
}

func TestAKeyFileThatEverybodyMayReadIsRefused(t *testing.T) {
	path := filepath.Join(t.TempDir(), "key")
	require.NoError(t, os.WriteFile(path, []byte(hex.EncodeToString(noise(keySize))+"\n"), 0o600))
	m, err := ReadMaster(path)
	require.NoError(t, err)
	require.NoError(t, os.Chmod(path, 0o644))
	_, err = ReadMaster(path)
	require.ErrorContains(t, err, "chmod 600 "+path)
	_, err = File(path)()
	require.ErrorContains(t, err, path)
	require.NoError(t, os.Chmod(path, 0o440)) // as an orchestrator mounts secrets for a group
	masters, err := File(path, m)()
	require.NoError(t, err)
	require.Len(t, masters, 2)

	for name, make := range map[string]func(string) error{
		"is missing":  func(string) error { return nil },
		"is a folder": func(p string) error { return os.Mkdir(p, 0o700) },
		"is large":    func(p string) error { return os.WriteFile(p, noise(maxMasterFile+1), 0o600) },
	} {
		path := filepath.Join(t.TempDir(), name)
		require.NoError(t, make(path))
		_, err := ReadMaster(path)
		require.ErrorContains(t, err, path)
	}
}

func TestADevelopmentHostMakesAKeyOfItsOwnOnce(t *testing.T) {
	dir := t.TempDir()
	source := Development(dir)
	var all sync.WaitGroup
	prints := make([]string, 8)
	for i := range prints {
		all.Go(func() {
			if masters, err := source(); err == nil {
				prints[i] = masters[0].Fingerprint()
			}
		})
	}
	all.Wait()
	for _, p := range prints {
		require.Equal(t, prints[0], p)
		require.NotEmpty(t, p)
	}
	info, err := os.Stat(filepath.Join(dir, "master.key"))
	require.NoError(t, err)
	require.Equal(t, os.FileMode(0o600), info.Mode().Perm())
	left, err := os.ReadDir(dir)
	require.NoError(t, err)
	require.Len(t, left, 1)
	_, err = Development(filepath.Join(dir, "no", "such"))()
	require.ErrorContains(t, err, "such")
}

// The rotation of a development host touches two files and a database. It is cut short after each step here.
func TestARotationOfADevelopmentHostCanBeCutShortAnywhere(t *testing.T) {
	databasetest.Each(t, func(t *testing.T, db *database.DB) {
		dir := t.TempDir()
		open := func() *Keys {
			k, err := Open(t.Context(), db, Development(dir), Options{})
			require.NoError(t, err)
			return k
		}
		k := open()
		running := open()
		stored, keyID := sealed(t, k, 1, []byte("x"))
		readable := func(k *Keys) {
			t.Helper()
			_, err := opened(t.Context(), k, 1, keyID, 1, 0, -1, from(stored))
			require.NoError(t, err)
			sealed(t, k, 1, []byte("x"))
		}
		first := k.Master()
		next, err := makeMaster(filepath.Join(dir, nextMasterFile))
		require.NoError(t, err)
		readable(open())
		require.Equal(t, first, open().Master())

		_, err = k.Rotate(t.Context(), next)
		require.NoError(t, err)
		readable(open())
		readable(running)
		require.Equal(t, next.Fingerprint(), open().Master())

		n, err := open().RotateDevelopment(t.Context(), dir)
		require.NoError(t, err)
		require.Zero(t, n, "it was wrapped anew already; only the file was to be renamed")
		require.NoFileExists(t, filepath.Join(dir, nextMasterFile))
		readable(open())

		n, err = open().RotateDevelopment(t.Context(), dir)
		require.NoError(t, err)
		require.Equal(t, 1, n)
		readable(open())
		readable(running)
		require.NotEqual(t, next.Fingerprint(), open().Master())
	})
}
