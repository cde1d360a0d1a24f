package pluginhost

import (
	"context"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"
)

func mkdir(t testing.TB, path string) { require.NoError(t, os.Mkdir(path, 0o755)) }

// stopProcess freezes a process, as a debugger does. It goes on at the end of the test, if it still exists.
func stopProcess(t testing.TB, pid int) {
	require.NoError(t, syscall.Kill(pid, syscall.SIGSTOP))
	t.Cleanup(func() { _ = syscall.Kill(pid, syscall.SIGCONT) })
}

// listenByHand runs a plugin as a developer does, and returns a function that ends it.
func listenByHand(t *testing.T, plugin, address string) (pid int, end func()) {
	t.Helper()
	cmd := exec.Command(build(t, plugin), "--listen", address)
	require.NoError(t, cmd.Start())
	done := make(chan struct{})
	go func() {
		_ = cmd.Wait()
		close(done)
	}()
	end = func() {
		_ = cmd.Process.Signal(syscall.SIGTERM)
		<-done
	}
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		<-done
	})
	return cmd.Process.Pid, end
}

func attaching(t *testing.T, addresses ...string) *world {
	at := map[string]string{}
	for i := 0; i < len(addresses); i += 2 {
		at[addresses[i]] = addresses[i+1]
	}
	w := newWorld(t, func(o *Options) { o.Attach = at })
	w.fast()
	w.host.pace.attachEvery = w.host.pace.healthEvery
	return w
}

func freeAddress(t *testing.T) string {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	require.NoError(t, l.Close())
	return l.Addr().String()
}

func TestAProcessThatSomebodyElseRunsIsAttachedAndNeverKilled(t *testing.T) {
	for name, address := range map[string]string{
		"unix socket": "unix:" + filepath.Join(t.TempDir(), "p.sock"),
		"loopback":    freeAddress(t),
	} {
		t.Run(name, func(t *testing.T) {
			w := attaching(t, "acme", address)
			w.start(acme("acme")) // its binary need not be in the plugin folder, nor run yet
			st := w.awaitState("acme", StateFailed)
			require.Contains(t, st.Reason, "no plugin answers at "+address+": start it with --listen "+address)

			pid, end := listenByHand(t, "sharing", address)
			s := w.open("acme")
			deliver(t, s, batch(1, 1, `{}`))
			st = w.awaitState("acme", StateRunning)
			require.Equal(t, address, st.Attached)
			require.Zero(t, st.PID)
			require.Equal(t, "1.0.0", st.Version)

			s.Kill("no acknowledgement for 30s")
			_, err := s.Recv()
			require.Error(t, err)
			how, crashed := s.Crashed()
			require.False(t, crashed)
			require.Equal(t, "no acknowledgement for 30s", how)
			s.Close()
			w.once("acme", batch(1, 1, `{}`))

			end()
			w.await("acme", func(s Status) bool { return s.State != StateRunning })
			again, _ := listenByHand(t, "sharing", address)
			w.awaitState("acme", StateRunning)
			w.once("acme", batch(1, 2, `{}`))
			require.NotEqual(t, pid, again)

			require.NoError(t, w.host.Reload(t.Context(), "acme"))
			w.once("acme", batch(1, 3, `{}`))
			changed := w.apply(acme("acme", "SLOW", "1ms"))
			require.Equal(t, []string{"acme"}, changed.Replaced)
			w.once("acme", batch(1, 4, `{}`))
			_, problems := w.host.Apply(t.Context(), []Instance{acme("acme", "SLO", "1ms")})
			require.Equal(t, "PLUGIN_ACME_SLO", problems[0].Variable)

			require.NoError(t, w.host.Stop(context.Background()))
			require.True(t, alive(again))
		})
	}
}

func TestAnAttachedProcessAtABreakpointIsShownAsSilentAndLeftAlone(t *testing.T) {
	address := "unix:" + filepath.Join(t.TempDir(), "p.sock")
	w := attaching(t, "acme", address)
	impatient(&w.host.pace)
	pid, _ := listenByHand(t, "sharing", address)
	w.start(acme("acme"))
	s := w.open("acme")
	require.NoError(t, syscall.Kill(pid, syscall.SIGSTOP))
	st := w.await("acme", func(s Status) bool {
		missed := 0
		_, err := fmt.Sscanf(s.Reason, "does not answer health checks (%d of 3)", &missed)
		return err == nil && missed > 3
	})
	require.Equal(t, ConditionSilent, st.Condition)
	require.Equal(t, StateRunning, st.State)
	require.NoError(t, syscall.Kill(pid, syscall.SIGCONT))
	deliver(t, s, batch(1, 1, `{}`))
	w.await("acme", func(s Status) bool { return s.Condition == "" && s.Reason == "" })
	require.Zero(t, w.status("acme").Restarts)
}

func TestOnlyThisMachineCanBeAttachedTo(t *testing.T) {
	for address, want := range map[string]string{
		"0.0.0.0:7000":     "only loopback addresses and unix sockets are allowed",
		"192.0.2.1:7000":   "only loopback addresses and unix sockets are allowed",
		"example.com:7000": "must be an IP address with a port",
		"127.0.0.1":        "must be an IP address with a port",
		"unix:p.sock":      "must be absolute",
	} {
		w := attaching(t, "acme", address)
		problems := w.host.Start(t.Context(), []Instance{acme("acme")})
		require.Len(t, problems, 1, address)
		require.Equal(t, attachVariable, problems[0].Variable)
		require.Contains(t, problems[0].Reason, want)
	}
}
