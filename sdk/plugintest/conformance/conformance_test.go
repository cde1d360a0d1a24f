package conformance

import (
	"bytes"
	"context"
	"encoding/json"
	"encoding/xml"
	"errors"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/rivergate/rivergate/sdk/protocol"
)

func requireMistake(t *testing.T, opts Options, says string) {
	t.Helper()
	report, err := Run(t.Context(), opts)
	var mistake *Mistake
	require.ErrorAs(t, err, &mistake)
	require.ErrorContains(t, err, says)
	require.Nil(t, report)
}

func TestMistakesOfTheUserAreNotBlamedOnThePlugin(t *testing.T) {
	requireMistake(t, Options{Path: filepath.Join(t.TempDir(), "none")}, "there is no binary")
	requireMistake(t, Options{Path: t.TempDir()}, "is a folder")
	requireMistake(t, Options{Path: build(t, "null"), Rules: []string{"restrat"}}, `no rule "restrat"; the rules are handshake`)
	requireMistake(t, Options{Path: build(t, "null")}, "PLUGIN_NULL_COUNT_FILE is required")
	requireMistake(t, Options{Path: build(t, "flaky"), Settings: map[string]string{"share": "much"}}, `PLUGIN_FLAKY_SHARE "much"`)
	requireMistake(t, Options{Path: build(t, "flaky"), Settings: map[string]string{"shaer": "1"}}, "did you mean PLUGIN_FLAKY_SHARE")
	requireMistake(t, Options{Path: build(t, "flaky"), Config: map[string]any{"share": 2}}, "PLUGIN_FLAKY_SHARE")
}

func TestSettingsAreTypedByTheSchemaHoweverTheyAreNamed(t *testing.T) {
	for _, key := range []string{"crash_at_open", "CRASH_AT_OPEN", "PLUGIN_CRASH_CRASH_AT_OPEN"} {
		report, err := Run(t.Context(), Options{
			Path: build(t, "crash"), Rules: []string{"configure"}, Config: map[string]any{"crash_at_open": false, "how": "exit"}, Settings: map[string]string{key: "true"},
		})
		require.NoError(t, err)
		require.Len(t, report.Failed(), 1)
		require.Contains(t, report.Failed()[0].Detail, "exit status 3", "both the text and the typed settings arrive")
	}
}

func TestOnlyTheChosenRulesAndWhatTheyNeedAreChecked(t *testing.T) {
	var started []string
	report, err := Run(t.Context(), Options{
		Path: build(t, "envdump"), Rules: []string{"health", "sigterm"}, Starting: func(r Rule) { started = append(started, r.ID) },
	})
	require.NoError(t, err)
	var ids []string
	for _, r := range report.Results {
		require.Equal(t, Pass, r.Status)
		ids = append(ids, r.Rule)
	}
	require.Equal(t, []string{"handshake", "version", "describe", "schema", "configure", "deadlines", "health", "sigterm"}, ids)
	require.Equal(t, ids, started)
	require.Empty(t, report.Remark(), "no row was to be delivered")
}

func TestAFileThatIsNoProgramIsExplained(t *testing.T) {
	plain := filepath.Join(t.TempDir(), "plain")
	require.NoError(t, os.WriteFile(plain, []byte("hello"), 0o644))
	script := filepath.Join(t.TempDir(), "script")
	require.NoError(t, os.WriteFile(script, []byte("#!/no/such/interpreter\n"), 0o755))
	damaged := filepath.Join(t.TempDir(), "damaged")
	require.NoError(t, os.WriteFile(damaged, []byte("\x7fELF and nothing"), 0o755))
	for path, says := range map[string]string{plain: "is not executable", script: "interpreter", damaged: "another system or processor"} {
		report, err := Run(t.Context(), Options{Path: path})
		require.NoError(t, err)
		require.Len(t, report.Failed(), 1)
		require.Equal(t, "handshake", report.Failed()[0].Rule)
		require.Contains(t, report.Failed()[0].Detail, says)
		require.Equal(t, filepath.Base(path), report.Plugin)
		for _, r := range report.Results[1:] {
			require.Equal(t, Skipped, r.Status)
		}
	}
}

// leftovers are processes whose environment holds mark.
func leftovers(t *testing.T, mark string) []string {
	t.Helper()
	var found []string
	files, err := filepath.Glob("/proc/[0-9]*/environ")
	require.NoError(t, err)
	for _, f := range files {
		if env, err := os.ReadFile(f); err == nil && bytes.Contains(env, []byte(mark)) {
			found = append(found, f)
		}
	}
	return found
}

func TestNothingIsLeftOfPluginsWhateverTheyStart(t *testing.T) {
	temp, err := os.MkdirTemp("", "rvgleft") // short, for the sockets in it
	require.NoError(t, err)
	t.Cleanup(func() { _ = os.RemoveAll(temp) })
	pids := filepath.Join(t.TempDir(), "pids")
	t.Setenv("TMPDIR", temp)
	report, err := Run(t.Context(), Options{Path: build(t, "forker"), Config: map[string]any{"path": pids}, Rules: []string{"retry", "parent-death"}})
	require.NoError(t, err)
	require.Len(t, report.Failed(), 1)
	require.Empty(t, leftovers(t, "TMPDIR="+temp))
	entries, err := os.ReadDir(temp)
	require.NoError(t, err)
	require.Empty(t, entries)
	text, err := os.ReadFile(pids)
	require.NoError(t, err)
	for _, field := range strings.Fields(string(text)) {
		pid, err := strconv.Atoi(field)
		require.NoError(t, err)
		require.Eventually(t, func() bool { return gone(pid) }, 10*time.Second, 10*time.Millisecond, "grandchild %d", pid)
	}
}

// gone tells whether a process has ended; it may still wait for whoever became its parent.
func gone(pid int) bool {
	if errors.Is(syscall.Kill(pid, 0), syscall.ESRCH) {
		return true
	}
	stat, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/stat")
	if err != nil {
		return true
	}
	_, rest, _ := strings.Cut(string(stat), ") ")
	return strings.HasPrefix(rest, "Z")
}

func TestARunThatIsInterruptedEndsAndLeavesNothing(t *testing.T) {
	temp, err := os.MkdirTemp("", "rvgleft")
	require.NoError(t, err)
	t.Cleanup(func() { _ = os.RemoveAll(temp) })
	t.Setenv("TMPDIR", temp)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	report, err := Run(ctx, Options{
		Path: build(t, "slow"), Config: map[string]any{"delay": "1h"}, Timeout: time.Hour,
		Starting: func(r Rule) {
			if r.ID == "outcomes" {
				time.AfterFunc(50*time.Millisecond, cancel)
			}
		},
	})
	require.ErrorIs(t, err, context.Canceled)
	require.Nil(t, report)
	require.Empty(t, leftovers(t, "TMPDIR="+temp))
}

func example() *Report {
	return &Report{
		Plugin: "acme", Version: "1.2.3", SDK: "acme-sdk/1", Protocol: 2, Rows: map[string]int{"retry": 7, "delivered": 0},
		Results: []Result{
			{Rule: "handshake", Title: "starts", Status: Pass, Detail: "protocol 2", Took: 1500 * time.Millisecond},
			{Rule: "drain", Title: "drains", Status: Fail, Detail: "Expected: <an end>\nCame: \"nothing\" & more", Change: "end it"},
			{Rule: "instances", Title: "several", Status: Skipped, Detail: "it does not say so"},
		},
	}
}

func TestThePersonsReportSaysWhatToChange(t *testing.T) {
	var b bytes.Buffer
	require.NoError(t, example().WriteText(&b))
	require.Equal(t, `PASS     handshake          starts
                            protocol 2
FAIL     drain              drains
                            Expected: <an end>
                            Came: "nothing" & more
                            Change: end it
SKIPPED  instances          several
                            it does not say so

acme 1.2.3, protocol 2, acme-sdk/1: 1 passed, 1 failed, 1 skipped
Not one of 7 rows was delivered: the plugin speaks the protocol, but whether it reaches its destination was not seen. Give it a destination that takes rows.
`, b.String())
}

func TestTheReportForProgramsHoldsAll(t *testing.T) {
	var b bytes.Buffer
	require.NoError(t, example().WriteJSON(&b))
	var back Report
	require.NoError(t, json.Unmarshal(b.Bytes(), &back))
	require.Equal(t, *example(), back)
}

func TestTheReportForBuildServersIsJUnit(t *testing.T) {
	var b bytes.Buffer
	require.NoError(t, example().WriteJUnit(&b))
	var suite junitSuite
	require.NoError(t, xml.Unmarshal(b.Bytes(), &suite))
	require.Equal(t, []int{3, 1, 0, 1}, []int{suite.Tests, suite.Failures, suite.Errors, suite.Skipped})
	require.Equal(t, "1.500", suite.Time)
	require.Equal(t, "rivergate.conformance.acme", suite.Cases[1].Class)
	require.Contains(t, suite.Cases[1].Failure.Text, "Change: end it")
	require.Equal(t, "Expected: <an end>\nCame: \"nothing\" & more", suite.Cases[1].Failure.Message)
	require.Equal(t, "it does not say so", suite.Cases[2].Skipped.Message)
	require.Nil(t, suite.Cases[0].Failure)
}

func TestBatchesKeepThePluginsLimits(t *testing.T) {
	s := &suite{position: 100}
	frames := []protocol.Frame{s.frame("x", `1`, `22`, `333`), s.frame("x", `4444`), s.frame("x", `55555`, `6`)}
	sizes := func(limits protocol.Limits, perBatch int) (out [][]int) {
		next := uint64(100)
		for _, batch := range pack(frames, limits, perBatch) {
			var rows []int
			for _, f := range batch {
				require.Equal(t, next, f.Position, "no row is left out or doubled")
				next += uint64(f.Len())
				for i := range f.Len() {
					rows = append(rows, len(f.Row(i)))
				}
			}
			out = append(out, rows)
		}
		require.EqualValues(t, 106, next)
		return out
	}
	require.Equal(t, [][]int{{1, 2, 3}, {4}, {5, 1}}, sizes(protocol.Limits{}, 1))
	require.Equal(t, [][]int{{1, 2, 3, 4}, {5, 1}}, sizes(protocol.Limits{}, 2))
	require.Equal(t, [][]int{{1, 2}, {3, 4}, {5, 1}}, sizes(protocol.Limits{MaxBatchRows: 2}, 9))
	require.Equal(t, [][]int{{1}, {2}, {3}, {4}, {5}, {1}}, sizes(protocol.Limits{MaxBatchRows: 1}, 9))
	require.Equal(t, [][]int{{1, 2}, {3}, {4}, {5}, {1}}, sizes(protocol.Limits{MaxBatchBytes: 4}, 9), "a row beyond the limit goes alone")
}
