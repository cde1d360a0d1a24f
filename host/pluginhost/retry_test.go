package pluginhost

import (
	"os"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

func readAll(t testing.TB, path string) []byte {
	t.Helper()
	data, err := os.ReadFile(path)
	require.NoError(t, err)
	return data
}

// died is a process that ended with so many rows in flight.
func died(inFlight int64, progressed bool, ran time.Duration) *running {
	r := &running{since: time.Now().Add(-ran)}
	r.rowsInFlight.Store(inFlight)
	r.progressed.Store(progressed)
	return r
}

func TestTheFirstRestartIsImmediateAndPausesGrowToTheLongest(t *testing.T) {
	b := newRetry(defaultPace())
	delay, state := b.afterCrash(died(0, false, time.Second))
	require.Zero(t, delay)
	require.Equal(t, StateBackingOff, state)
	for _, want := range []time.Duration{250 * time.Millisecond, 500 * time.Millisecond, time.Second} {
		delay, state = b.afterCrash(died(0, false, time.Second))
		require.InDelta(t, want.Seconds(), delay.Seconds(), want.Seconds()/4+0.001)
		require.Equal(t, StateBackingOff, state)
	}
	delay, state = b.afterCrash(died(0, false, time.Second))
	require.Equal(t, StateCrashLoop, state)
	require.Equal(t, 30*time.Second, delay)
	for range 100 {
		require.LessOrEqual(t, b.afterFailure(), 30*time.Second)
	}
}

func TestAMinuteOfHealthWipesTheSlate(t *testing.T) {
	b := newRetry(defaultPace())
	for range 5 {
		b.afterCrash(died(0, false, time.Second))
	}
	delay, state := b.afterCrash(died(0, false, 61*time.Second))
	require.Zero(t, delay)
	require.Equal(t, StateBackingOff, state)
}

func TestAPluginThatGetsOnDoesNotWaitLong(t *testing.T) {
	b := newRetry(defaultPace())
	for range 20 {
		delay, _ := b.afterCrash(died(100, true, time.Second))
		require.LessOrEqual(t, delay, time.Second)
	}
}

func TestASearchForAPoisonousRowIsNoCrashLoop(t *testing.T) {
	b := newRetry(defaultPace())
	delay, _ := b.afterCrash(died(8000, false, time.Second))
	require.Zero(t, delay)
	for rows := int64(1000); rows > 1; rows /= 2 {
		delay, state := b.afterCrash(died(rows, false, time.Second))
		require.Zero(t, delay, "%d rows", rows)
		require.Equal(t, StateStarting, state)
	}
	for range maxLoneCrashes {
		delay, _ := b.afterCrash(died(1, false, time.Second))
		require.Zero(t, delay)
	}
	delay, _ = b.afterCrash(died(1, false, time.Second))
	require.Positive(t, delay, "a plugin that dies on every row is held back")
	delay, _ = b.afterCrash(died(1000, false, time.Second))
	require.Positive(t, delay, "the next search begins as a crash")
}
