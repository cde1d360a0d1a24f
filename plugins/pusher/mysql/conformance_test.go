package main

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/rivergate/rivergate/sdk/plugintest"
)

func TestThePluginConforms(t *testing.T) {
	d := newDatabase(t)
	report := plugintest.Conform(t, plugintest.Build(t, "."), map[string]any{"dsn": d.dsn, "table": d.name + ".rows", "create_table": true})
	require.Empty(t, report.Remark(), "rows arrive")
}
