package main

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/rivergate/rivergate/sdk/plugintest"
	"github.com/rivergate/rivergate/sdk/plugintest/conformance"
)

func TestThePluginConforms(t *testing.T) {
	l := newLab(t, 1, "N", "Text", "Flag", "List")
	report := plugintest.Conform(t, plugintest.Build(t, "."), l.config, func(o *conformance.Options) { o.Trigger = l.single() })
	require.Empty(t, report.Remark(), "rows arrive")
}
