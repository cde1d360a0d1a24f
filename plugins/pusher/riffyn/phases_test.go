package main

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/rivergate/rivergate/plugins/pusher/riffyn/riffynfake"
	"github.com/rivergate/rivergate/sdk"
	"github.com/rivergate/rivergate/sdk/plugintest"
	"github.com/rivergate/rivergate/sdk/protocol"
)

// killed delivers frames to a process of the plugin and kills it once it waits for an answer to a call of that kind.
func killed(t *testing.T, l *lab, binary string, kind riffynfake.Kind, frames ...protocol.Frame) {
	t.Helper()
	pidFile := filepath.Join(t.TempDir(), "pid")
	// The shell leaves its process id and becomes the plugin.
	command := exec.Command("/bin/sh", "-c", `echo $$ > "$0" && exec "$1"`, pidFile, binary)
	command.Env = []string{"PATH=" + os.Getenv("PATH"), "TMPDIR=" + shortDir(t)}
	h := plugintest.Start(t, command, l.config)
	calls := l.Calls(kind)
	done := make(chan error, 1)
	go func() {
		_, err := h.TryDeliver(frames...)
		done <- err
	}()
	require.Eventually(t, func() bool { return l.Calls(kind) > calls }, 10*time.Second, time.Millisecond)
	raw, err := os.ReadFile(pidFile)
	require.NoError(t, err)
	pid, err := strconv.Atoi(string(raw[:len(raw)-1]))
	require.NoError(t, err)
	process, err := os.FindProcess(pid)
	require.NoError(t, err)
	require.NoError(t, process.Kill())
	require.Error(t, <-done, "the batch was not acknowledged")
}

func shortDir(t *testing.T) string {
	dir, err := os.MkdirTemp("", "rgr")
	require.NoError(t, err)
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	return dir
}

func TestRowsSurviveKillNineAtEachStepAndAreWrittenOnce(t *testing.T) {
	binary := plugintest.Build(t, ".")
	for name, c := range map[string]struct {
		fault   riffynfake.Fault
		between int // events in the run while the plugin is dead
		appends int // calls
	}{
		"before the keys are appended":        {riffynfake.Fault{Kind: riffynfake.Append, Hang: true}, 0, 2},
		"after the keys were, unanswered":     {riffynfake.Fault{Kind: riffynfake.Append, Hang: true, Written: true}, 7, 1},
		"between the phases":                  {riffynfake.Fault{Kind: riffynfake.Fill, Hang: true}, 7, 1},
		"after the second phase, unanswered":  {riffynfake.Fault{Kind: riffynfake.Fill, Hang: true, Written: true}, 7, 1},
		"while the run is read back (twice!)": {riffynfake.Fault{Kind: riffynfake.Append, Hang: true, Written: true}, 7, 1},
	} {
		t.Run(name, func(t *testing.T) {
			l := newLab(t, 2)
			f := frame(l.single(), rows(7)...)
			l.Inject(c.fault)
			killed(t, l, binary, c.fault.Kind, f)
			require.Len(t, l.Events(l.runs[0]), c.between)
			if name == "while the run is read back (twice!)" {
				l.Inject(riffynfake.Fault{Kind: riffynfake.Raw, Hang: true})
				killed(t, l, binary, riffynfake.Raw, f)
			}
			h := plugintest.Start(t, binary, l.config)
			require.Empty(t, h.Deliver(f))
			require.Equal(t, events(7), l.Events(l.runs[0]))
			require.Equal(t, c.appends, l.Calls(riffynfake.Append))
			all(t, h.Deliver(f), 7, sdk.Duplicate, "duplicate")
		})
	}
}

func TestARowThatIsDeliveredIsKnownAfterARestart(t *testing.T) {
	l := newLab(t, 1)
	h := l.start()
	f := frame(l.single(), rows(3)...)
	require.Empty(t, h.Deliver(f))
	h.Reopen()
	all(t, h.Deliver(f), 3, sdk.Duplicate, "duplicate")
	require.Equal(t, events(3), l.Events(l.runs[0]))
	// The client's own repetition is a delivery of its own.
	require.Empty(t, h.Deliver(frame(l.single(), rows(3)...)))
	require.Equal(t, append(events(3), events(3)...), l.Events(l.runs[0]))
	// So are rows of another journal, which counts from the beginning again.
	f.ReceivedAt = f.ReceivedAt.Add(time.Hour)
	require.Empty(t, h.Deliver(f))
	require.Len(t, l.Events(l.runs[0]), 9)
}

func TestAnAppendWithoutAnswerIsLookedForBeforeItIsRepeated(t *testing.T) {
	for name, fault := range map[string]riffynfake.Fault{
		"connection cut, written":     {Written: true},
		"connection cut, not written": {},
		"502, written":                {Status: 502, Written: true, Body: "<html>bad gateway</html>"},
		"502, not written":            {Status: 502},
		"408, written":                {Status: 408, Written: true},
		"200 cut short, written":      {Status: 200, Written: true, Body: `[{"resourceDefId":`},
	} {
		t.Run(name, func(t *testing.T) {
			l := newLab(t, 1)
			h := l.start()
			// The same keys are there already, twice: by us, and by somebody else.
			require.Empty(t, h.Deliver(frame(l.single(), rows(4)...)))
			fault.Kind = riffynfake.Append
			l.Inject(fault)
			f := frame(l.single(), rows(4)...)
			require.Len(t, h.Deliver(f), 4)
			require.Empty(t, h.Deliver(f))
			require.Equal(t, append(events(4), events(4)...), l.Events(l.runs[0]))
			require.Equal(t, 1, l.Calls(riffynfake.Raw))
		})
	}
}

func TestRowsOfOneAppendThatComeBackInOtherBatchesKeepTheirEvents(t *testing.T) {
	l := newLab(t, 1)
	h := l.start()
	l.Inject(riffynfake.Fault{Kind: riffynfake.Append, Written: true})
	f := frame(l.single(), rows(6)...)
	require.Len(t, h.Deliver(f), 6)
	for _, part := range [][2]int{{4, 6}, {0, 1}, {1, 4}} {
		require.Empty(t, h.Deliver(f.Slice(part[0], part[1])))
	}
	require.Equal(t, events(6), l.Events(l.runs[0]))
	require.Equal(t, 1, l.Calls(riffynfake.Append))
}

func TestTheServerGetsTimeToFinishBeforeTheRunIsRead(t *testing.T) {
	l := newLab(t, 1).set("settle", "300ms")
	h := l.start()
	l.Inject(riffynfake.Fault{Kind: riffynfake.Append, Written: true})
	f := frame(l.single(), rows(2)...)
	began := time.Now()
	outcomes := h.Deliver(f)
	all(t, outcomes, 2, sdk.Retry, "network")
	require.Equal(t, 300*time.Millisecond, outcomes[0].RetryAfter)
	for {
		outcomes = h.Deliver(f)
		if len(outcomes) == 0 {
			break
		}
		all(t, outcomes, 2, sdk.Retry, "unconfirmed")
		require.Positive(t, outcomes[0].RetryAfter)
		require.Zero(t, l.Calls(riffynfake.Raw))
	}
	require.GreaterOrEqual(t, time.Since(began), 300*time.Millisecond)
	require.Equal(t, events(2), l.Events(l.runs[0]))
}

func TestAServerThatWasNotReachedIsNotAsked(t *testing.T) {
	l := newLab(t, 1)
	h := l.start()
	require.Empty(t, h.Deliver(frame(l.single(), rows(1)...)))
	url := l.config["url"]
	l.set("url", "http://127.0.0.1:1/v1") // nobody listens there
	require.Empty(t, h.Configure(l.config))
	h.Reopen()
	f := frame(l.single(), rows(2)...)
	all(t, h.Deliver(f), 2, sdk.Retry, "network")
	l.set("url", url)
	require.Empty(t, h.Configure(l.config))
	h.Reopen()
	require.Empty(t, h.Deliver(f))
	require.Zero(t, l.Calls(riffynfake.Raw), "nothing was sent, and there is no doubt about it")
}

func TestARowThatTheSecondPhaseRejectsIsCompletedWhenItIsReplayed(t *testing.T) {
	l := newLab(t, 1)
	l.Refuse(func(property, value string) bool { return property == "OD measured" && value == "0.002" })
	h := l.start()
	f := frame(l.single(), rows(5)...)
	outcomes := h.Deliver(f)
	all(t, outcomes, 1, sdk.Rejected, "http_422")
	require.Equal(t, 2, outcomes[0].Row)
	require.Contains(t, outcomes[0].Message, `the event is in the run, its value of "OD measured" is not`)
	require.Contains(t, outcomes[0].Message, `OD measured cannot be`, "in Riffyn's own words")
	l.Refuse(nil)
	require.Empty(t, h.Deliver(f.Slice(2, 3)))
	require.Equal(t, events(5), l.Events(l.runs[0]))
	require.Equal(t, 1, l.Calls(riffynfake.Append))
}

func TestTheCheckpointStaysSmall(t *testing.T) {
	ctx := context.Background()
	c, err := openCheckpoint(ctx, filepath.Join(t.TempDir(), "test.db"))
	require.NoError(t, err)
	defer func() { require.NoError(t, c.close()) }()
	count := func(table string) (n int) {
		require.NoError(t, c.db.QueryRow("SELECT count(*) FROM "+table).Scan(&n))
		return n
	}
	start := time.UnixMilli(1_800_000_000_000)
	insert := func(first, n int, done bool, at time.Time) {
		w, err := c.db.Exec(`INSERT INTO writes (experiment, activity, run, resource, property, event_group, sent_at, seen_at) VALUES ('e','a','r','o','p','g',?,?)`, at.UnixMilli(), at.UnixMilli())
		require.NoError(t, err)
		id, err := w.LastInsertId()
		require.NoError(t, err)
		for i := range n {
			_, err := c.db.Exec(`INSERT INTO rows (position, print, write, number, key, done) VALUES (?, 0, ?, ?, '', ?)`, first+i, id, i, done)
			require.NoError(t, err)
		}
	}
	insert(0, 5, true, start)
	insert(10, 5, false, start.Add(time.Hour))
	for i := range 10 {
		insert(100+10*i, 10, true, start.Add(2*time.Hour))
	}
	require.NoError(t, c.prune(ctx, 24*time.Hour, 35, start.Add(23*time.Hour)))
	require.Equal(t, 35, count("rows"), "the three newest, and those on their way")
	require.Equal(t, 4, count("writes"))
	require.NoError(t, c.prune(ctx, 24*time.Hour, 35, start.Add(25*time.Hour+time.Minute)))
	require.Equal(t, 30, count("rows"), "older than they are kept")
	require.Equal(t, 3, count("writes"))
}

func TestAnotherProcessOnTheSameCheckpointWaits(t *testing.T) {
	l := newLab(t, 1)
	first, second := l.start(), l.start()
	require.Empty(t, first.Deliver(frame(l.single(), rows(1)...)))
	f := frame(l.single(), rows(2)...)
	all(t, second.Deliver(f), 2, sdk.Throttled, "throttled")
	require.ErrorContains(t, second.Health(), "another process still writes this checkpoint")
	first.Drain()
	require.Empty(t, second.Deliver(f))
}

func TestWithoutACheckpointNothingIsWritten(t *testing.T) {
	l := newLab(t, 1)
	dir := l.config["checkpoint_dir"].(string)
	require.NoError(t, os.WriteFile(filepath.Join(dir, plugintest.Instance+".db"), []byte("this is no database, and longer than the header of one would be, at a hundred bytes or so in all."), 0o600))
	h := l.start()
	outcomes := h.Deliver(frame(l.single(), rows(2)...))
	all(t, outcomes, 2, sdk.Retry, "checkpoint")
	require.Contains(t, outcomes[0].Message, "CHECKPOINT_DIR")
	require.Zero(t, l.Calls(riffynfake.Append))
	require.NoError(t, os.Remove(filepath.Join(dir, plugintest.Instance+".db")))
	require.Empty(t, h.Deliver(frame(l.single(), rows(2)...)))
}
