package files

import (
	"bytes"
	"encoding/json"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// The official client of the protocol: https://github.com/tus/tus-js-client.
func TestTheTusClientOfJavaScriptWorks(t *testing.T) {
	modules := node(t, "testdata/tus")
	r := newRig(t, sqlite(t), roomy)
	r.limit(64 << 20)
	content := noise(9, 7*mebibyte+4321)
	file := filepath.Join(t.TempDir(), "a.bin")
	require.NoError(t, os.WriteFile(file, content, 0o600))
	for _, chunk := range []string{"1000000", "5242880"} {
		command := exec.CommandContext(t.Context(), "node", "testdata/tus/upload.mjs", modules, r.url+tusPath, file, chunk)
		var problems bytes.Buffer
		command.Stderr = &problems
		out, err := command.Output()
		require.NoError(t, err, "%s", &problems)
		var said struct {
			How, End, URL string
			Terminated    int
		}
		require.NoError(t, json.Unmarshal(out, &said), "%s", out)
		require.Equal(t, "aborted", said.How)
		require.Equal(t, "success", said.End)
		require.Equal(t, 404, said.Terminated)
		up := data[Uploaded](r.get(said.URL+"/file"), 200)
		require.Equal(t, "from node.bin", up.FileName)
		require.Contains(t, up.FilePath, "/files/3/tus/js/from_node_")
		require.True(t, bytes.Equal(content, r.get(objectPath(up.FilePath)).body))
		data[Deleted](r.do("DELETE", objectPath(up.FilePath), nil), 200)
	}
	r.clean()
}

// curl, unchanged: a form, and a signed URL.
func TestCurlWorks(t *testing.T) {
	if _, err := exec.LookPath("curl"); err != nil {
		missing(t, "there is no curl")
	}
	r := newRig(t, sqlite(t), roomy)
	r.limit(64 << 20)
	content := noise(10, 3*mebibyte+1)
	file := filepath.Join(t.TempDir(), "täst file.bin")
	require.NoError(t, os.WriteFile(file, content, 0o600))
	curl := func(args ...string) []byte {
		out, err := exec.CommandContext(t.Context(), "curl", append([]string{"-sS", "--fail-with-body", "-H", "X-Org-ID: 7", "-H", "X-User-ID: 3"}, args...)...).CombinedOutput()
		require.NoError(t, err, "%s", out)
		return out
	}
	var up struct{ Data Uploaded }
	require.NoError(t, json.Unmarshal(curl("-F", "file=@"+file, "-F", "path=from/curl", r.url+uploadPath), &up))
	require.Equal(t, filepath.Base(file), up.Data.FileName)
	require.Contains(t, up.Data.FilePath, "/from/curl/")
	require.True(t, bytes.Equal(content, curl(r.url+objectPath(up.Data.FilePath))))
	require.True(t, bytes.Equal(content[1000:2001], curl("-r", "1000-2000", r.url+objectPath(up.Data.FilePath))))
	put := data[PresignedURL](r.get(objectPath("organizations/7/files/3/signed.bin")+"/presigned-url?method=PUT"), 200)
	curl("-T", file, put.URL)
	get := data[PresignedURL](r.get(objectPath("organizations/7/files/3/signed.bin")+"/presigned-url"), 200)
	require.True(t, bytes.Equal(content, curl(get.URL)))
}

// node returns the modules of a package.json, or skips the test.
func node(t *testing.T, folder string) string {
	t.Helper()
	path, err := filepath.Abs(folder)
	require.NoError(t, err)
	command := exec.CommandContext(t.Context(), "../../../deploy/node", path)
	var problems bytes.Buffer
	command.Stderr = &problems
	out, err := command.Output()
	var exit *exec.ExitError
	if errors.As(err, &exit) && exit.ExitCode() == 3 {
		missing(t, problems.String())
	}
	require.NoError(t, err, "%s", &problems)
	return strings.TrimSpace(string(out))
}

// missing skips a test that needs what is not here; in CI it fails.
func missing(t *testing.T, what string) {
	t.Helper()
	if os.Getenv("CI") == "true" {
		t.Fatal(what)
	}
	t.Skip(what)
}
