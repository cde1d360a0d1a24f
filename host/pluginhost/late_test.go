package pluginhost

import (
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

func TestAConfigurationProblemThatComesLateIsAFailureAndNoExit(t *testing.T) {
	w := newWorld(t)
	w.fast(func(p *pace) { p.firstWord = time.Nanosecond })
	// A plugin that begins only when a file is there.
	gate := filepath.Join(t.TempDir(), "go")
	real := filepath.Join(w.opts.Dir, "real")
	require.NoError(t, os.WriteFile(real, readAll(t, build(t, "flaky")), 0o755))
	w.installBytes([]byte("#!/bin/sh\nuntil [ -e "+gate+" ]; do sleep 0.01; done\nexec "+real+"\n"), "late")
	w.start(acme("late", "SHARE", "seven"))
	require.Equal(t, StateStarting, w.status("late").State)
	require.NoError(t, os.WriteFile(gate, nil, 0o644))
	require.Contains(t, w.awaitState("late", StateFailed).Reason, "PLUGIN_LATE_SHARE")
}
