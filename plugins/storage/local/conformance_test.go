package main

import (
	"path/filepath"
	"testing"

	"github.com/rivergate/rivergate/sdk/plugintest"
)

func TestItKeepsTheContract(t *testing.T) {
	plugintest.Conform(t, plugintest.Build(t, "."), map[string]any{"path": filepath.Join(t.TempDir(), "objects")})
}
