package main

import (
	"path/filepath"
	"testing"

	"github.com/rivergate/rivergate/sdk/plugintest"
)

func TestThePluginConforms(t *testing.T) {
	plugintest.Conform(t, plugintest.Build(t, "."), map[string]any{"count_file": filepath.Join(t.TempDir(), "count")})
}
