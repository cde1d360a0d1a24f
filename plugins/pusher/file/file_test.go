package main

import (
	"bytes"
	stdcsv "encoding/csv"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/rivergate/rivergate/sdk"
	"github.com/rivergate/rivergate/sdk/plugintest"
	"github.com/rivergate/rivergate/sdk/protocol"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// start runs the plugin in this process and gives the instance, too.
func start(t *testing.T, config map[string]any) (*plugintest.Harness, *File) {
	t.Helper()
	f := new(File)
	p := plugin
	p.Pusher = func() sdk.Pusher { return f }
	return plugintest.Start(t, p, config), f
}

// crash leaves everything as a killed process does: nothing is flushed, the lock is gone.
func crash(t *testing.T, f *File) {
	t.Helper()
	require.NoError(t, f.ledger.lock.Close())
	require.NoError(t, f.ledger.claim.Close())
	require.NoError(t, f.ledger.file.Close())
	f.files.close()
	f.ledger = nil
}

// read gives the positions of all rows below a folder, with how often each is there; every line must be a whole one.
func read(t *testing.T, folder string) map[uint64]int {
	t.Helper()
	counts := map[uint64]int{}
	require.NoError(t, filepath.WalkDir(folder, func(path string, entry os.DirEntry, err error) error {
		if err != nil || entry.IsDir() || strings.HasPrefix(entry.Name(), ".rivergate-") {
			return err
		}
		text, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		require.True(t, len(text) == 0 || text[len(text)-1] == '\n', "%s ends in half a line", path)
		for line := range bytes.Lines(text) {
			var row struct {
				Position uint64 `json:"position"`
			}
			require.NoError(t, json.Unmarshal(line, &row), "%s: %s", path, line)
			counts[row.Position]++
		}
		return nil
	}))
	return counts
}

func requireOnce(t *testing.T, counts map[uint64]int, first, last uint64) {
	t.Helper()
	for p := first; p <= last; p++ {
		require.Equal(t, 1, counts[p], "position %d", p)
	}
	require.Len(t, counts, int(last-first+1))
}

func TestEveryRowIsOneLineWithTheClientsOwnBytes(t *testing.T) {
	dir := t.TempDir()
	h, _ := start(t, map[string]any{"path": dir + "/{org}/{date}.jsonl"})
	frame := plugintest.Indexed(plugintest.FrameAt(900, "a\"\n1", `{"b": 1.50,"a":1e400,"b":"\u0041 <é>"}`, "{\n \"k\": \"x y\",\r\n\t\"n\": [1, 2]\n}"), 3, protocol.NoIndex)
	frame.OrgID = 42
	require.Empty(t, h.Deliver(frame))
	text, err := os.ReadFile(filepath.Join(dir, "42", "2026-01-02.jsonl"))
	require.NoError(t, err)
	require.Equal(t, `{"position":900,"org_id":42,"uuid":"a\"\n1","index":3,"received_at":"2026-01-02T03:04:05.678Z","data":{"b": 1.50,"a":1e400,"b":"\u0041 <é>"}}
{"position":901,"org_id":42,"uuid":"a\"\n1","index":null,"received_at":"2026-01-02T03:04:05.678Z","data":{"k":"x y","n":[1,2]}}
`, string(text))
}

func TestCSVIsReadByAnyReader(t *testing.T) {
	dir := t.TempDir()
	config := map[string]any{"path": dir + "/x.{format}", "format": "csv"}
	h, f := start(t, config)
	frame := plugintest.Indexed(plugintest.FrameAt(5, "a,\"\n1", `{"a":"x,\"y\""}`, `{}`), 0, protocol.NoIndex)
	require.Empty(t, h.Deliver(frame))
	crash(t, f)
	h, _ = start(t, config) // reads positions back across a quoted newline
	require.Len(t, h.Deliver(frame), 2)
	require.Empty(t, h.Deliver(plugintest.FrameAt(7, "b", `{}`)))
	file, err := os.Open(dir + "/x.csv")
	require.NoError(t, err)
	defer file.Close()
	records, err := stdcsv.NewReader(file).ReadAll()
	require.NoError(t, err)
	at := "2026-01-02T03:04:05.678Z"
	require.Equal(t, [][]string{
		{"position", "org_id", "uuid", "index", "received_at", "data"},
		{"5", "1", "a,\"\n1", "0", at, `{"a":"x,\"y\""}`},
		{"6", "1", "a,\"\n1", "", at, `{}`},
		{"7", "1", "b", "", at, `{}`},
	}, records)
}

func TestARowThatComesAgainIsWrittenOnce(t *testing.T) {
	dir := t.TempDir()
	config := map[string]any{"path": dir + "/{org}.jsonl"}
	h, f := start(t, config)
	first, second := plugintest.FrameAt(100, "a", `{}`, `{}`), plugintest.FrameAt(50, "b", `{}`)
	require.Empty(t, h.Deliver(first))
	require.Empty(t, h.Deliver(second), "a lower position is a row of its own")
	for _, o := range h.Deliver(first, second) {
		require.Equal(t, sdk.Duplicate, o.Class)
	}
	crash(t, f)
	h, _ = start(t, config)
	require.Len(t, h.Deliver(first, second), 3, "known after a crash")
	h.Drain()
	h, _ = start(t, config)
	require.Len(t, h.Deliver(second, first), 3, "known after a good end")
	require.Equal(t, map[uint64]int{100: 1, 101: 1, 50: 1}, read(t, dir))
}

func TestATornEndIsCutAtEveryByte(t *testing.T) {
	dir := t.TempDir()
	path := dir + "/x.jsonl"
	config := map[string]any{"path": path}
	h, f := start(t, config)
	require.Empty(t, h.Deliver(plugintest.FrameAt(1, "a", `{"n":1}`)))
	crash(t, f)
	whole, err := os.ReadFile(path)
	require.NoError(t, err)
	ledger, err := os.ReadFile(f.ledgerPath())
	require.NoError(t, err)
	last := []byte(`{"position":2,"org_id":1,"uuid":"a","index":null,"received_at":"2026-01-02T03:04:05.678Z","data":{"n":2}}` + "\n")
	for cut := range last {
		require.NoError(t, os.WriteFile(path, append(bytes.Clone(whole), last[:cut]...), 0o640))
		require.NoError(t, os.WriteFile(f.ledgerPath(), ledger, 0o640))
		h, again := start(t, config)
		require.Empty(t, h.Deliver(plugintest.FrameAt(2, "a", `{"n":2}`)), "cut at %d", cut)
		text, err := os.ReadFile(path)
		require.NoError(t, err)
		require.Equal(t, string(whole)+string(last), string(text), "cut at %d", cut)
		crash(t, again)
	}
}

func TestBlocksThatWereNeverWrittenAreCutAndOtherPeoplesLinesStay(t *testing.T) {
	dir := t.TempDir()
	path := dir + "/x.jsonl"
	config := map[string]any{"path": path}
	h, f := start(t, config)
	require.Empty(t, h.Deliver(plugintest.FrameAt(1, "a", `{}`)))
	crash(t, f)
	whole, err := os.ReadFile(path)
	require.NoError(t, err)
	line := bytes.Replace(whole, []byte(`"position":1,`), []byte(`"position":3,`), 1)
	// An edit, then zeros where a line was, then a line whose batch was not acknowledged.
	text := append(append(append(bytes.Clone(whole), "a note\n"...), append(make([]byte, 50), '\n')...), line...)
	require.NoError(t, os.WriteFile(path, text, 0o640))
	h, _ = start(t, config)
	require.Empty(t, h.Deliver(plugintest.FrameAt(3, "a", `{}`)))
	got, err := os.ReadFile(path)
	require.NoError(t, err)
	require.Equal(t, string(whole)+"a note\n"+string(line), string(got))
}

// A hole may also lie inside a record, or swallow the end of one and the beginning of a later one. What is left begins like a
// record and ends like one, and is none.
func TestARecordWithAHoleIsNotBelieved(t *testing.T) {
	for _, format := range []string{"jsonl", "csv"} {
		dir := t.TempDir()
		path := dir + "/x"
		config := map[string]any{"path": path, "format": format}
		h, f := start(t, config)
		long := `{"text":"` + strings.Repeat("x", 2*sector) + `"}`
		odd := plugintest.FrameAt(1, "a\x00b", `{}`)
		require.Empty(t, h.Deliver(odd))
		crash(t, f)
		whole, err := os.ReadFile(path)
		require.NoError(t, err)
		h, f = start(t, config)
		frames := []protocol.Frame{plugintest.FrameAt(2, "a", long), plugintest.FrameAt(3, "a", long), plugintest.FrameAt(4, "a", long)}
		require.Empty(t, h.Deliver(frames...))
		crash(t, f)
		want, err := os.ReadFile(path)
		require.NoError(t, err)
		require.Equal(t, string(whole), string(want[:len(whole)]), "a NUL that a client sent is no hole: %s", format)

		// From the middle of row 2 to the middle of row 3: row 4 stands whole behind it, and was not synced either.
		hole := bytes.Clone(want)
		row := (len(want) - len(whole)) / 3
		clear(hole[len(whole)+row/2 : len(whole)+row*3/2])
		require.NoError(t, os.WriteFile(path, hole, 0o640))
		h, f = start(t, config)
		require.Empty(t, h.Deliver(frames...), "none of them is there: %s", format)
		got, err := os.ReadFile(path)
		require.NoError(t, err)
		require.Equal(t, string(want), string(got), format)
		crash(t, f)
	}
}

func TestALedgerThatIsDamagedIsNotBelieved(t *testing.T) {
	dir := t.TempDir()
	config := map[string]any{"path": dir + "/x.jsonl"}
	h, f := start(t, config)
	require.Empty(t, h.Deliver(plugintest.FrameAt(1, "a", `{}`)))
	h.Drain()
	text, err := os.ReadFile(f.ledgerPath())
	require.NoError(t, err)
	require.NoError(t, os.WriteFile(f.ledgerPath(), bytes.Replace(text, []byte("1-1"), []byte("1-9"), 1), 0o640))
	h, _ = start(t, config)
	outcomes := h.Deliver(plugintest.FrameAt(2, "a", `{}`))
	require.Len(t, outcomes, 1)
	require.Equal(t, sdk.Retry, outcomes[0].Class)
	require.Contains(t, outcomes[0].Message, "damaged")
}

func TestRotatedFilesAreNumberedAndNeverOverwritten(t *testing.T) {
	dir := t.TempDir()
	require.NoError(t, os.WriteFile(dir+"/x-000007.jsonl", []byte("{\"position\":999}\n"), 0o640))
	config := map[string]any{"path": dir + "/x.jsonl", "rotate_size": 1000}
	h, f := start(t, config)
	for p := uint64(1); p <= 40; p++ {
		require.Empty(t, h.Deliver(plugintest.FrameAt(p, "a", `{"n":1}`)))
		if p%7 == 0 {
			crash(t, f)
			h, f = start(t, config)
			require.Len(t, h.Deliver(plugintest.FrameAt(p-1, "a", `{}`, `{}`)), 2, "known across rotation and crash")
		}
	}
	counts := read(t, dir)
	require.Equal(t, 1, counts[999])
	delete(counts, 999)
	requireOnce(t, counts, 1, 40)
	require.FileExists(t, dir+"/x-000008.jsonl")
	require.FileExists(t, dir+"/x-000011.jsonl")
	entries, err := os.ReadDir(dir)
	require.NoError(t, err)
	for _, entry := range entries {
		info, err := entry.Info()
		require.NoError(t, err)
		require.LessOrEqual(t, info.Size(), int64(1000), entry.Name())
	}
}

func TestANewIntervalStartsANewFile(t *testing.T) {
	dir := t.TempDir()
	h, f := start(t, map[string]any{"path": dir + "/x.jsonl", "rotate_interval": "1h"})
	now := time.Now().Truncate(time.Hour).Add(59 * time.Minute)
	f.files.now = func() time.Time { return now }
	require.Empty(t, h.Deliver(plugintest.FrameAt(1, "a", `{}`)))
	require.Empty(t, h.Deliver(plugintest.FrameAt(2, "a", `{}`)))
	require.NoFileExists(t, dir+"/x-000001.jsonl")
	now = now.Add(2 * time.Minute)
	require.Empty(t, h.Deliver(plugintest.FrameAt(3, "a", `{}`)))
	require.FileExists(t, dir+"/x-000001.jsonl")
	requireOnce(t, read(t, dir), 1, 3)
	require.Equal(t, map[uint64]int{1: 1, 2: 1, 3: 1}, read(t, dir))
}

func TestManyUUIDsNeedFewOpenFiles(t *testing.T) {
	dir := t.TempDir()
	h, f := start(t, map[string]any{"path": dir + "/{uuid}.jsonl", "max_open_files": 3})
	var frames []protocol.Frame
	for p := range uint64(200) {
		frames = append(frames, plugintest.FrameAt(p, fmt.Sprintf("u%d", p%20), `{}`))
	}
	require.Empty(t, h.Deliver(frames...))
	require.LessOrEqual(t, len(f.files.open), 3)
	requireOnce(t, read(t, dir), 0, 199)
	entries, err := filepath.Glob(dir + "/u*.jsonl")
	require.NoError(t, err)
	require.Len(t, entries, 20)
}

func TestAFileThatCannotBeWrittenHoldsItsOwnRowsOnly(t *testing.T) {
	dir := t.TempDir()
	h, _ := start(t, map[string]any{"path": dir + "/{date}/{uuid}.jsonl"})
	require.NoError(t, os.MkdirAll(dir+"/2026-01-02/bad.jsonl", 0o750)) // a folder where the file should be
	today, tomorrow, other := plugintest.FrameAt(1, "bad", `{}`), plugintest.FrameAt(2, "bad", `{}`), plugintest.FrameAt(3, "good", `{}`)
	tomorrow.ReceivedAt = tomorrow.ReceivedAt.AddDate(0, 0, 1)
	tomorrowOther := plugintest.FrameAt(4, "good", `{}`)
	tomorrowOther.ReceivedAt = tomorrow.ReceivedAt
	outcomes := h.Deliver(tomorrowOther, today, tomorrow, other)
	require.Len(t, outcomes, 2, "the later row of the uuid waits, though its own file is fine")
	for i, position := range []uint64{1, 2} {
		require.Equal(t, position, outcomes[i].Position)
		require.Equal(t, sdk.Retry, outcomes[i].Class)
	}
	require.NoError(t, os.Remove(dir+"/2026-01-02/bad.jsonl"))
	require.Empty(t, h.Deliver(today, tomorrow))
	requireOnce(t, read(t, dir), 1, 4)
}

func TestTwoProcessesNeverWriteTheSameFiles(t *testing.T) {
	config := map[string]any{"path": t.TempDir() + "/x.jsonl"}
	older, _ := start(t, config)
	require.Empty(t, older.Deliver(plugintest.FrameAt(1, "a", `{}`)))
	newer, _ := start(t, config)
	outcomes := newer.Deliver(plugintest.FrameAt(2, "a", `{}`))
	require.Len(t, outcomes, 1)
	require.Equal(t, sdk.Throttled, outcomes[0].Class)
	older.Drain()
	require.Empty(t, newer.Deliver(plugintest.FrameAt(2, "a", `{}`)))
}

// Two instances of one path would write over each other's rows.
func TestTwoInstancesNeverWriteTheSameFiles(t *testing.T) {
	dir := t.TempDir()
	first, _ := start(t, map[string]any{"path": dir + "/{org}.{format}"})
	require.Empty(t, first.Deliver(plugintest.FrameAt(1, "a", `{}`)))
	other := func(path string, h *plugintest.Harness) []protocol.Outcome {
		problems, err := h.Client.Configure(t.Context(), "other", []byte(fmt.Sprintf(`{"path":%q}`, path)))
		require.NoError(t, err)
		require.Empty(t, problems)
		stream, err := h.Client.Deliver(t.Context(), "other")
		require.NoError(t, err)
		require.NoError(t, stream.Send(&protocol.Batch{Seq: 1, Frames: []protocol.Frame{plugintest.FrameAt(1, "a", `{}`)}}))
		ack, err := stream.Recv()
		require.NoError(t, err)
		require.NoError(t, stream.CloseSend())
		return ack.Outcomes
	}
	second := plugintest.Connect(t, plugin)
	outcomes := other(dir+"//{org}.jsonl", second)
	require.Len(t, outcomes, 1)
	require.Equal(t, sdk.Retry, outcomes[0].Class)
	require.Equal(t, "path_taken", outcomes[0].Code)
	require.Contains(t, outcomes[0].Message, "the instance test writes the files of PATH already")
	require.Empty(t, other(dir+"/{org}-{instance}.jsonl", second), "a path of its own")
	first.Drain()
	require.Equal(t, map[uint64]int{1: 2}, read(t, dir))
	outcomes = other(dir+"/{org}.jsonl", second)
	require.NotContains(t, fmt.Sprint(outcomes), "path_taken", "the first has let go")
}

func TestAFileThatIsTakenAwayIsMadeAgain(t *testing.T) {
	dir := t.TempDir()
	h, _ := start(t, map[string]any{"path": dir + "/x.jsonl"})
	require.Empty(t, h.Deliver(plugintest.FrameAt(1, "a", `{}`)))
	require.NoError(t, os.Rename(dir+"/x.jsonl", dir+"/taken.jsonl"))
	require.Empty(t, h.Deliver(plugintest.FrameAt(2, "a", `{}`)))
	require.NoError(t, os.Truncate(dir+"/x.jsonl", 0))
	require.Empty(t, h.Deliver(plugintest.FrameAt(3, "a", `{}`)))
	require.Equal(t, map[uint64]int{1: 1, 3: 1}, read(t, dir))
}

func TestBadPathsAreConfigurationProblems(t *testing.T) {
	dir := t.TempDir()
	require.NoError(t, os.WriteFile(dir+"/plain", nil, 0o640))
	for path, reason := range map[string]string{
		dir + "/{orgs}.jsonl":        "{orgs} is not known",
		dir + "/{org.jsonl":          "unmatched brace",
		dir + "/org}.jsonl":          "unmatched brace",
		dir + "/":                    "must name a file",
		dir + "/plain/{date}.jsonl":  "is no folder",
		dir + "/a\x00b/{date}.jsonl": "must name a file",
	} {
		problems := plugintest.Connect(t, plugin).Configure(map[string]any{"path": path})
		require.Len(t, problems, 1, path)
		require.Equal(t, "path", problems[0].Field)
		require.Contains(t, problems[0].Reason, reason)
	}
}
