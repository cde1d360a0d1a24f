package rig

import (
	"bytes"
	"context"
	"os"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func shell(t *testing.T, script string) (*Process, *bytes.Buffer) {
	t.Helper()
	var out bytes.Buffer
	p, err := Spawn("/bin/sh", []string{"-c", script}, []string{"PATH=" + os.Getenv("PATH"), "ONLY=this"}, t.TempDir(), nil, nil, &out)
	require.NoError(t, err)
	t.Cleanup(p.KillGroup)
	return p, &out
}

func TestAProcessSeesOnlyTheGivenEnvironmentAndTellsItsExitCode(t *testing.T) {
	p, out := shell(t, `echo "$ONLY:$HOME"; exit 7`)
	<-p.Done()
	require.Equal(t, 7, p.ExitCode())
	require.Equal(t, "this:", strings.TrimSpace(out.String()))
	require.ErrorIs(t, p.Signal(syscall.SIGTERM), os.ErrProcessDone)
}

func TestKillingTheGroupEndsGrandchildrenToo(t *testing.T) {
	p, _ := shell(t, `sh -c 'while :; do sleep 60; done' & wait`)
	var below []Incarnation
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	for len(below) < 2 { // the shell below and its sleep
		var err error
		below, err = Descendants(p.PID)
		require.NoError(t, err)
		require.NoError(t, Pause(ctx, time.Millisecond))
	}
	p.KillGroup()
	for _, b := range below {
		for b.Alive() {
			require.NoError(t, Pause(ctx, time.Millisecond), "process %d lives on", b.PID)
		}
	}
	require.Equal(t, -1, p.ExitCode())
}

func TestMemoryOfAProcessIsRead(t *testing.T) {
	m, err := ReadMemory(os.Getpid())
	require.NoError(t, err)
	require.Positive(t, m.Resident)
	require.GreaterOrEqual(t, m.Peak, m.Resident)
}

func TestADescribedHostSeesItsVariables(t *testing.T) {
	b := Binaries{Host: "/bin/true", Plugins: "/p"}
	env := b.Environment(Options{DataDir: "/d", Env: map[string]string{"RIVERGATE_LISTEN": "[::1]:1"}}, "127.0.0.1:1")
	require.Contains(t, env, "RIVERGATE_LISTEN=[::1]:1")
	require.Contains(t, env, "RIVERGATE_DATA_DIR=/d")
	require.Contains(t, env, "RIVERGATE_PLUGIN_DIR=/p")
}
