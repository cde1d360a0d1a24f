package pluginhost

import (
	"context"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/stretchr/testify/require"

	"github.com/rivergate/rivergate/sdk/protocol"
	"github.com/rivergate/rivergate/services/gateway/delivery"
)

// fast makes a host check, and try again, without long pauses.
func (w *world) fast(change ...func(*pace)) {
	p := defaultPace()
	p.backoffMin, p.backoffMax, p.progressMax = time.Millisecond, 20*time.Millisecond, time.Millisecond
	p.healthEvery, p.doubtEvery, p.healthTimeout = 20*time.Millisecond, 20*time.Millisecond, patience
	for _, c := range change {
		c(&p)
	}
	w.host.pace = p
}

// impatient is for plugins that do not answer health checks. On a busy machine the others do not either.
func impatient(p *pace) { p.healthTimeout = 100 * time.Millisecond }

func TestAKilledPluginDeliversAgainWithoutABackoff(t *testing.T) {
	w := newWorld(t)
	w.fast(func(p *pace) { p.backoffMin, p.backoffMax, p.progressMax = time.Hour, time.Hour, time.Hour }) // a restart that waits never comes
	w.install("flaky", "acme")
	w.start(acme("acme", "SHARE", "0"))
	s := w.open("acme")
	deliver(t, s, batch(1, 1, `{}`))
	pid := w.pid("acme")

	began := time.Now()
	killNine(t, pid)
	_, err := s.Recv()
	require.Error(t, err)
	how, crashed := s.Crashed()
	require.True(t, crashed)
	require.Equal(t, "signal: killed", how)
	s.Close()
	again := w.open("acme")
	deliver(t, again, batch(1, 1, `{}`))
	t.Logf("delivered again %s after the kill", time.Since(began))
	st := w.status("acme")
	require.Equal(t, 1, st.Restarts)
	require.Equal(t, "signal: killed", st.LastError)
	require.NotEqual(t, pid, st.PID)
}

func TestACrashIsExplainedByThePluginsLastWords(t *testing.T) {
	for how, want := range map[string]string{"panic": "exit status 2 (panic: poison)", "exit": "exit status 3"} {
		w := newWorld(t)
		w.install("crash")
		w.start(acme("crash", "HOW", how, "CRASH_ON", "bad"))
		s := w.open("crash")
		deliver(t, s, batch(1, 1, `{"poison":true}`, `{"bad":false}`))
		require.NoError(t, s.Send(batch(2, 3, `{"bad":true}`)))
		_, err := s.Recv()
		require.Error(t, err)
		said, crashed := s.Crashed()
		require.True(t, crashed)
		require.Contains(t, said, want)
		s.Close()
		require.NoError(t, w.host.Stop(context.Background()))
	}
}

// crashOnce opens a stream and sends what kills the plugin.
func crashOnce(t *testing.T, w *world, rows ...string) {
	t.Helper()
	s := w.open("crash")
	require.NoError(t, s.Send(batch(1, 1, rows...)))
	_, err := s.Recv()
	require.Error(t, err)
	_, crashed := s.Crashed()
	require.True(t, crashed)
	s.Close()
}

func TestFiveCrashesInAMinuteAreACrashLoopThatIsStillTried(t *testing.T) {
	w := newWorld(t)
	w.fast()
	w.install("crash")
	w.start(acme("crash"))
	for range 5 {
		crashOnce(t, w, `{}`, `{"poison":true}`)
	}
	w.log.await(t, "again_in=20ms") // the longest pause
	st := w.await("crash", func(s Status) bool { return s.Restarts == 5 && s.State == StateRunning })
	require.Contains(t, st.LastError, "panic: poison")
	crashOnce(t, w, `{}`, `{"poison":true}`)
	w.await("crash", func(s Status) bool { return s.Restarts == 6 })
}

func TestACrashLoopIsShown(t *testing.T) {
	w := newWorld(t)
	w.fast(func(p *pace) { p.loopCrashes, p.backoffMax = 2, time.Hour })
	w.install("crash")
	w.start(acme("crash"))
	crashOnce(t, w, `{}`, `{"poison":true}`)
	crashOnce(t, w, `{}`, `{"poison":true}`)
	st := w.awaitState("crash", StateCrashLoop)
	require.Contains(t, st.Reason, "panic: poison")
	require.Zero(t, st.PID)

	// Nothing comes of waiting, so the operator replaces the binary: a reload does not wait for the pause to end.
	w.install("flaky", "crash")
	require.NoError(t, w.host.Reload(t.Context(), "crash"))
	deliver(t, w.open("crash"), batch(1, 1, `{"poison":true}`))
}

func TestAPluginThatCannotBeStartedIsTriedAgainAndComesBack(t *testing.T) {
	w := newWorld(t)
	w.fast()
	t.Setenv("NOTAPLUGIN", "fail")
	w.install("notaplugin", "acme")
	in := acme("acme")
	in.PassEnv = []string{"NOTAPLUGIN"}
	w.start(in)
	w.awaitState("acme", StateFailed)
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	_, err := w.host.Destination("acme").Open(ctx)
	require.ErrorIs(t, err, context.DeadlineExceeded, "Open waits for a plugin that does not start")

	w.install("flaky", "acme")
	w.open("acme")
	require.Contains(t, w.awaitState("acme", StateRunning).LastError, "exit status 4")
}

func TestAWedgedPluginIsKilledAfterThreeUnansweredHealthChecks(t *testing.T) {
	w := newWorld(t)
	w.fast(impatient)
	t.Setenv("LIE", "wedged")
	w.install("lying")
	w.start(Instance{Name: "lying", PassEnv: []string{"LIE"}})
	s := w.open("lying")
	_, err := s.Recv()
	require.Error(t, err)
	how, crashed := s.Crashed()
	require.True(t, crashed)
	require.Contains(t, how, "wedged: 3 health checks in a row were not answered")
	s.Close()
	require.Contains(t, w.await("lying", func(s Status) bool { return s.Restarts > 0 }).LastError, "wedged")
}

func TestAnUnhealthyPluginIsShownAndLeftAlone(t *testing.T) {
	w := newWorld(t)
	w.fast()
	t.Setenv("LIE", "unwell")
	w.install("lying")
	w.start(Instance{Name: "lying", PassEnv: []string{"LIE"}})
	st := w.awaitState("lying", StateRunning)
	require.Equal(t, "not healthy: I feel unwell", st.Reason)
	deliver(t, w.open("lying"), batch(1, 1, `{}`))
	require.ErrorContains(t, w.host.Reload(t.Context(), "lying"), "I feel unwell")
	require.Equal(t, st.PID, w.pid("lying"))
}

func TestAPluginThatForgetsItsInstanceIsRestarted(t *testing.T) {
	w := newWorld(t)
	w.fast()
	t.Setenv("LIE", "forgetful")
	w.install("lying")
	w.start(Instance{Name: "lying", PassEnv: []string{"LIE"}})
	require.Contains(t, w.await("lying", func(s Status) bool { return s.Restarts > 0 }).LastError, "forgotten its instance")
}

func TestDeliveryKillsAPluginThatHangsAndTheReasonTellsWhetherItStillAnswers(t *testing.T) {
	for hangs, c := range map[string]struct {
		make func(t *testing.T, pid int, s delivery.Session)
		how  string
	}{
		"at its work": {func(t *testing.T, _ int, s delivery.Session) {
			require.NoError(t, s.Send(batch(1, 1, `{"poison":true}`)))
		}, "killed: no acknowledgement for 30s; it answers health checks"},
		"as a whole": {func(t *testing.T, pid int, _ delivery.Session) {
			require.NoError(t, syscall.Kill(pid, syscall.SIGSTOP))
			eventually(t, patience, "every thread of the process stands", func() bool { return stands(pid) })
		}, "killed: no acknowledgement for 30s; it answers no health check either"},
	} {
		t.Run(hangs, func(t *testing.T) {
			w := newWorld(t)
			w.install("hang")
			w.start(acme("hang"))
			s := w.open("hang")
			c.make(t, w.pid("hang"), s)
			s.Kill("no acknowledgement for 30s")
			_, err := s.Recv()
			require.Error(t, err)
			how, crashed := s.Crashed()
			require.True(t, crashed)
			require.Equal(t, c.how, how)
			s.Close()
			deliver(t, w.open("hang"), batch(1, 1, `{}`))
			require.Equal(t, how, w.status("hang").LastError)
		})
	}
}

// drainInBackground plays delivery: when the session is retired, it ends the stream in good order.
func drainInBackground(s delivery.Session) <-chan error {
	done := make(chan error, 1)
	go func() {
		defer s.Close()
		<-s.Retired()
		if err := s.CloseSend(); err != nil {
			done <- err
			return
		}
		for {
			if _, err := s.Recv(); err != nil {
				if errors.Is(err, io.EOF) {
					err = nil
				}
				done <- err
				return
			}
		}
	}()
	return done
}

func TestReloadSwitchesToTheNewBinaryWithoutBreakingAStream(t *testing.T) {
	w := newWorld(t)
	w.install("flaky", "acme")
	w.start(acme("acme", "SHARE", "0"))
	old := w.awaitState("acme", StateRunning)
	s := w.open("acme")
	deliver(t, s, batch(1, 1, `{}`))
	ended := drainInBackground(s)

	w.install("envdump", "acme") // has no variable SHARE: refused, and nothing has changed
	require.ErrorContains(t, w.host.Reload(t.Context(), "acme"), "PLUGIN_ACME_SHARE")
	require.Equal(t, old.PID, w.pid("acme"))
	t.Setenv("NOTAPLUGIN", "greet")
	w.install("notaplugin", "acme")
	require.ErrorContains(t, w.host.Reload(t.Context(), "acme"), "ended before its handshake")
	require.Equal(t, old.PID, w.pid("acme"))
	require.True(t, alive(old.PID))

	data := append(readAll(t, build(t, "flaky")), "\n"...) // the same program with another hash
	w.installBytes(data, "acme")
	require.NoError(t, w.host.Reload(t.Context(), "acme"))
	require.NoError(t, <-ended, "the stream of the old process ended in good order")
	_, crashed := s.Crashed()
	require.False(t, crashed, "a process that was replaced did not crash")
	st := w.status("acme")
	require.NotEqual(t, old.PID, st.PID)
	require.NotEqual(t, old.SHA256, st.SHA256)
	require.Zero(t, st.Restarts)
	deliver(t, w.open("acme"), batch(1, 1, `{}`))
	eventually(t, patience, "the old process is gone", func() bool { return !alive(old.PID) })

	require.ErrorIs(t, w.host.Reload(t.Context(), "nobody"), ErrUnknown)
}

func TestReloadCutsAStreamThatDoesNotEnd(t *testing.T) {
	w := newWorld(t, func(o *Options) { o.StopTimeout = 200 * time.Millisecond })
	w.install("hang", "acme")
	w.start(acme("acme"))
	s := w.open("acme")
	require.NoError(t, s.Send(batch(1, 1, `{"poison":true}`)))
	old := w.pid("acme")
	require.NoError(t, w.host.Reload(t.Context(), "acme"))
	require.NotEqual(t, old, w.pid("acme"))
	_, err := s.Recv()
	require.Error(t, err)
	_, crashed := s.Crashed()
	require.False(t, crashed)
	eventually(t, patience, "the old process is gone", func() bool { return !alive(old) })
}

func TestStopEndsStreamsInGoodOrderAndDrains(t *testing.T) {
	w := newWorld(t)
	w.install("flaky", "acme")
	w.start(acme("acme", "SHARE", "0", "PATH", filepath.Join(t.TempDir(), "rows")))
	s := w.open("acme")
	deliver(t, s, batch(1, 1, `{}`))
	ended := drainInBackground(s)
	pid := w.pid("acme")
	require.NoError(t, w.host.Stop(context.Background()))
	require.NoError(t, <-ended)
	require.False(t, alive(pid))
	require.Equal(t, StateStopped, w.host.Status()[0].State)
	_, crashed := s.Crashed()
	require.False(t, crashed)
	_, err := w.host.Destination("acme").Open(t.Context())
	require.ErrorIs(t, err, errStopped)
	require.NotEmpty(t, w.host.Start(t.Context(), nil))
	require.NotEmpty(t, w.host.Check(t.Context(), []Instance{acme("acme")}))
}

func TestStopKillsWhatDoesNotEnd(t *testing.T) {
	w := newWorld(t, func(o *Options) { o.StopTimeout = 300 * time.Millisecond })
	t.Setenv("LIE", "deaf-drain")
	w.install("lying")
	w.install("hang")
	w.start(Instance{Name: "lying", PassEnv: []string{"LIE"}}, acme("hang"))
	s := w.open("hang")
	require.NoError(t, s.Send(batch(1, 1, `{"poison":true}`)))
	pids := []int{w.pid("lying"), w.pid("hang")}
	began := time.Now()
	require.ErrorContains(t, w.host.Stop(context.Background()), "it is still at work")
	require.Less(t, time.Since(began), 4*time.Second)
	for _, pid := range pids {
		require.False(t, alive(pid))
	}
}

func TestMetricsFollowTheProcesses(t *testing.T) {
	registry := prometheus.NewPedanticRegistry()
	w := newWorld(t, func(o *Options) { o.Registry = registry })
	w.fast()
	t.Setenv("NOTAPLUGIN", "fail")
	w.install("flaky", "acme")
	w.install("notaplugin", "odd")
	w.start(acme("acme", "SHARE", "0"), Instance{Name: "odd", PassEnv: []string{"NOTAPLUGIN"}})
	killNine(t, w.pid("acme"))
	w.await("acme", func(s Status) bool { return s.State == StateRunning && s.Restarts == 1 })
	w.awaitState("odd", StateFailed)
	require.NoError(t, w.host.Reload(t.Context(), "acme"))
	require.Error(t, w.host.Reload(t.Context(), "odd"))
	values := map[string]float64{}
	families, err := registry.Gather()
	require.NoError(t, err)
	for _, f := range families {
		for _, m := range f.GetMetric() {
			name, rest := "", ""
			for _, l := range m.GetLabel() {
				if l.GetName() == "name" {
					name = " " + l.GetValue()
				} else {
					rest += " " + l.GetValue()
				}
			}
			values[f.GetName()+name+rest] = m.GetGauge().GetValue() + m.GetCounter().GetValue()
		}
	}
	require.Greater(t, values["rivergate_plugin_rss_bytes acme"], 1e6)
	require.InDelta(t, time.Now().Unix(), values["rivergate_plugin_start_seconds acme"], patience.Seconds())
	delete(values, "rivergate_plugin_rss_bytes acme")
	delete(values, "rivergate_plugin_start_seconds acme")
	require.Equal(t, map[string]float64{
		"rivergate_plugin_restarts_total acme": 1, "rivergate_plugin_restarts_total odd": 0,
		"rivergate_plugin_up acme": 1, "rivergate_plugin_up odd": 0,
		"rivergate_plugin_condition acme well": 1, "rivergate_plugin_condition acme unhealthy": 0, "rivergate_plugin_condition acme silent": 0,
		"rivergate_plugin_condition odd well": 0, "rivergate_plugin_condition odd unhealthy": 0, "rivergate_plugin_condition odd silent": 0,
		"rivergate_plugin_upgrades_total acme done": 1, "rivergate_plugin_upgrades_total acme failed": 0,
		"rivergate_plugin_upgrades_total odd done": 0, "rivergate_plugin_upgrades_total odd failed": 1,
	}, values)
	require.NoError(t, w.host.Stop(context.Background()))
	families, err = registry.Gather()
	require.NoError(t, err)
	require.Empty(t, families)
}

func TestABatchOf20MiBPasses(t *testing.T) {
	w := newWorld(t)
	w.install("flaky", "acme")
	w.start(acme("acme", "SHARE", "0"))
	s := w.open("acme")
	row := `{"x":"` + strings.Repeat("x", 1<<20) + `"}`
	var rows []string
	for range 20 {
		rows = append(rows, row)
	}
	ack := deliver(t, s, batch(1, 1, rows...))
	require.Empty(t, ack.Outcomes)
}

func TestAPluginThatBreaksTheProtocolIsEndedAndNothingMalformedPasses(t *testing.T) {
	for lie, want := range map[string]string{
		"future-ack": "batch 1001 is acknowledged, 1 were sent",
		"bad-class":  "outcome class 77",
		"no-class":   "outcome class 0",
	} {
		t.Run(lie, func(t *testing.T) {
			w := newWorld(t)
			t.Setenv("LIE", lie)
			w.install("lying")
			w.start(Instance{Name: "lying", PassEnv: []string{"LIE"}})
			s := w.open("lying")
			require.NoError(t, s.Send(batch(1, 5, `{}`)))
			_, err := s.Recv()
			require.ErrorIs(t, err, protocol.ErrMalformed)
			require.ErrorContains(t, err, want)
			how, crashed := s.Crashed()
			require.False(t, crashed, "the rows are not to blame")
			require.Contains(t, how, "it broke the protocol")
			s.Close()
			require.Contains(t, w.await("lying", func(s Status) bool { return s.Restarts == 1 }).LastError, want)
		})
	}
}

func TestAnInstanceUsesABinaryOfAnotherName(t *testing.T) {
	w := newWorld(t)
	w.install("flaky")
	two := acme("second", "SHARE", "1")
	two.Plugin = "flaky"
	w.start(acme("flaky", "SHARE", "0"), two)
	require.Empty(t, deliver(t, w.open("flaky"), batch(1, 1, `{}`, `{}`, `{}`)).Outcomes)
	require.NotEmpty(t, deliver(t, w.open("second"), batch(1, 1, `{}`, `{}`, `{}`)).Outcomes)
	require.NotEqual(t, w.pid("flaky"), w.pid("second"))
	_, err := w.host.Destination("third").Open(t.Context())
	require.ErrorIs(t, err, ErrUnknown)
}

func TestASearchForAPoisonousRowIsNotSlowedDown(t *testing.T) {
	w := newWorld(t)
	w.install("crash")
	w.start(acme("crash"))
	rows := make([]string, 64)
	for i := range rows {
		rows[i] = `{}`
	}
	rows[0] = `{"poison":true}`
	began := time.Now()
	for n := len(rows); n > 1; n /= 2 {
		crashOnce(t, w, rows[:n]...)
	}
	for range maxLoneCrashes {
		crashOnce(t, w, rows[0])
	}
	deliver(t, w.open("crash"), batch(1, 1, rows[1:]...))
	t.Logf("%d crashes in %s", w.status("crash").Restarts, time.Since(began))
	require.Less(t, time.Since(began), 10*time.Second, "nine crashes with growing pauses would take minutes")
}

func TestRowsOfAClosedStreamDoNotCount(t *testing.T) {
	w := newWorld(t)
	w.install("hang")
	w.start(acme("hang"))
	s := w.open("hang")
	require.NoError(t, s.Send(batch(1, 1, `{"poison":true}`, `{}`)))
	m, err := w.host.lookup(t.Context(), "hang")
	require.NoError(t, err)
	r, err := m.ready(t.Context())
	require.NoError(t, err)
	require.EqualValues(t, 2, r.rowsInFlight.Load())
	s.Close()
	require.Zero(t, r.rowsInFlight.Load())
}

// stands tells whether a process is stopped with all its threads: the signal is given before they are.
func stands(pid int) bool {
	threads, err := filepath.Glob("/proc/" + strconv.Itoa(pid) + "/task/*/stat")
	if err != nil || len(threads) == 0 {
		return false
	}
	for _, path := range threads {
		stat, err := os.ReadFile(path)
		if err != nil {
			return false
		}
		_, rest, _ := strings.Cut(string(stat), ") ")
		if !strings.HasPrefix(rest, "T") {
			return false
		}
	}
	return true
}
