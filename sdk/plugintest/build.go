package plugintest

import (
	"os"
	"os/exec"
	"path/filepath"
	"testing"
)

// Build compiles a plugin, a main package such as "." or "./cmd/acme", and returns the path of the binary, which goes with
// the test.
func Build(t testing.TB, pkg string) string {
	t.Helper()
	binary := filepath.Join(t.TempDir(), "plugin")
	command := exec.Command("go", "build", "-o", binary, pkg)
	command.Env = append(os.Environ(), "CGO_ENABLED=0")
	if text, err := command.CombinedOutput(); err != nil {
		t.Fatalf("plugintest: go build %s: %v\n%s", pkg, err, text)
	}
	return binary
}
