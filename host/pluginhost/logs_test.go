package pluginhost

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/hashicorp/go-hclog"
	"github.com/stretchr/testify/require"
)

// drained runs text through the reader of a plugin's stderr and returns the host's log entries.
func drained(t *testing.T, feed func(io.Writer)) []map[string]any {
	t.Helper()
	var out bytes.Buffer
	p := newPluginLog(hclog.New(&hclog.LoggerOptions{Name: "acme", Output: &out, JSONFormat: true, Level: hclog.Trace}))
	r, w, err := os.Pipe()
	require.NoError(t, err)
	go func() {
		feed(w)
		_ = w.Close()
	}()
	p.drain(r, "", nil)
	p.close()
	_ = r.Close()
	var entries []map[string]any
	for line := range strings.Lines(out.String()) {
		entry := map[string]any{}
		dec := json.NewDecoder(strings.NewReader(line))
		dec.UseNumber()
		require.NoError(t, dec.Decode(&entry))
		entries = append(entries, entry)
	}
	return entries
}

func TestLinesOfHclogKeepLevelMessageAndFields(t *testing.T) {
	entries := drained(t, func(w io.Writer) {
		log := hclog.New(&hclog.LoggerOptions{Name: "inner", Output: w, JSONFormat: true, Level: hclog.Trace})
		log.Error("it broke", "position", uint64(9007199254740993), "error", fmt.Errorf("no route"), "list", []int{1, 2})
		log.Trace("small talk")
		fmt.Fprintln(w, "[WARN] bracketed")
		fmt.Fprintln(w, "plain \x1b[31mred\x1b[0m text\xff")
		fmt.Fprintln(w, `{"json": "but not hclog's"}`)
		fmt.Fprintln(w, `{"@message":"odd","@level":"shout","@timestamp":12,"@caller":"x.go:1"}`)
		fmt.Fprintln(w, `{"@message":17}`)
		fmt.Fprintln(w, "panic: runtime error")
		fmt.Fprint(w, "no line break at the end")
	})
	require.Len(t, entries, 9)
	require.Equal(t, "error", entries[0]["@level"])
	require.Equal(t, "acme", entries[0]["@module"], "the host names the instance")
	require.Equal(t, "inner", entries[0]["module"])
	require.Equal(t, "it broke", entries[0]["@message"])
	require.Equal(t, "no route", entries[0]["error"])
	require.Equal(t, json.Number("9007199254740993"), entries[0]["position"], "every digit")
	require.Equal(t, "trace", entries[1]["@level"])
	require.Equal(t, []any{"warn", "bracketed"}, []any{entries[2]["@level"], entries[2]["@message"]})
	require.Equal(t, `plain \x1b[31mred\x1b[0m text\xfffd`, entries[3]["@message"], "no plugin paints the operator's terminal")
	require.Equal(t, `{"json": "but not hclog's"}`, entries[4]["@message"])
	require.Equal(t, []any{"info", "odd", "x.go:1"}, []any{entries[5]["@level"], entries[5]["@message"], entries[5]["caller"]})
	require.Equal(t, `{"@message":17}`, entries[6]["@message"])
	require.Equal(t, "error", entries[7]["@level"])
	require.Equal(t, "no line break at the end", entries[8]["@message"])
}

func TestLongLinesArriveWholeAndMonstersAreCut(t *testing.T) {
	long, monster := strings.Repeat("a", 1<<20), strings.Repeat("b", maxLogLine+12345)
	entries := drained(t, func(w io.Writer) {
		fmt.Fprintln(w, long)
		fmt.Fprintln(w, monster)
		fmt.Fprintln(w, "after")
	})
	require.Len(t, entries, 3)
	require.Equal(t, long, entries[0]["@message"])
	require.Len(t, entries[1]["@message"], maxLogLine)
	require.Equal(t, json.Number("12346"), entries[1]["cut_bytes"], "the line break included")
	require.Equal(t, "after", entries[2]["@message"])
}

func TestAFloodIsReadToTheEndAndCounted(t *testing.T) {
	const lines = 200_000
	began := time.Now()
	entries := drained(t, func(w io.Writer) {
		log := hclog.New(&hclog.LoggerOptions{Output: w, JSONFormat: true})
		for i := range lines {
			log.Info("flood", "i", i)
		}
	})
	took := time.Since(began)
	seen, dropped := 0, 0
	for _, e := range entries {
		if n, ok := e["left_out"].(json.Number); ok {
			count, err := n.Int64()
			require.NoError(t, err)
			dropped += int(count)
			continue
		}
		seen++
	}
	require.Equal(t, lines, seen+dropped)
	require.LessOrEqual(t, seen, logBurst+logRate*int(took/time.Second+1))
	require.Greater(t, lines/took.Seconds(), 10_000.0, "10,000 lines a second must not hurt")
	t.Logf("%d lines in %s, %d of them logged", lines, took, seen)
}

func TestAWarningIsNeverHiddenBehindChatter(t *testing.T) {
	const lines = 50_000
	entries := drained(t, func(w io.Writer) {
		log := hclog.New(&hclog.LoggerOptions{Output: w, JSONFormat: true, Level: hclog.Trace})
		for i := range lines {
			log.Debug("chatter", "i", i)
			if i%(lines/100) == 0 {
				log.Error("trouble", "i", i)
				fmt.Fprintln(w, "[WARN] plain trouble")
			}
		}
	})
	count := map[any]int{}
	for _, e := range entries {
		count[e["@message"]]++
	}
	require.Equal(t, 100, count["trouble"])
	require.Equal(t, 100, count["plain trouble"])
	require.Less(t, count["chatter"], lines/2)
	require.Less(t, count["plugin logs too fast: lines left out"], 10)
}

func TestLinesBelowTheHostsLevelUseNothingUp(t *testing.T) {
	var out logBuffer
	p := newPluginLog(hclog.New(&hclog.LoggerOptions{Output: &out, Level: hclog.Info}))
	for range 3 * logBurst {
		p.line([]byte(`{"@level":"debug","@message":"small talk"}`), 0, "")
	}
	p.line([]byte(`{"@level":"info","@message":"the one that counts"}`), 0, "")
	p.close()
	require.Equal(t, 1, strings.Count(out.text(), "\n"))
	require.Contains(t, out.text(), "the one that counts")
}

func TestBigLinesUseMoreOfTheBudgetThanSmallOnes(t *testing.T) {
	p := newPluginLog(hclog.NewNullLogger())
	p.log.SetLevel(hclog.Trace)
	big := []byte(strings.Repeat("x", 1<<20))
	for range 100 {
		p.line(big, 0, "")
	}
	require.Greater(t, p.chatter.leftOut, 60, "100 MiB at once are no hundred lines")
	p.close()
	require.Zero(t, p.chatter.leftOut)
	require.Nil(t, p.timer)
}

func TestTheLevelIsFoundWithoutReadingTheLine(t *testing.T) {
	for line, want := range map[string]hclog.Level{
		`{"@level":"debug","@message":"x"}`: hclog.Debug,
		`{"@message":"x","@level":"error"}`: hclog.Error,
		`{"@message":"x","@level":"shout"}`: hclog.Info,
		`{"@level":"`:                       hclog.Info,
		`{}`:                                hclog.Info,
		"[ERROR] x":                         hclog.Error,
		"panic: x":                          hclog.Error,
		"x":                                 hclog.Info,
		`{"@message":"` + strings.Repeat("x", 8<<10) + `"`: hclog.Info,
	} {
		require.Equal(t, want, levelOf([]byte(line)), line)
	}
}

func TestAHugeTextIsQuotedByItsHead(t *testing.T) {
	said := quotable(strings.Repeat("a b\n", 25<<20))
	require.LessOrEqual(t, len(said), longReason+len(" …"))
	require.True(t, strings.HasSuffix(said, " …"))
	require.Equal(t, "a …", quotable("a"+strings.Repeat(" ", 100<<10)+"b"))
	require.Equal(t, "a b", quotable(" a\tb\n"))
}

func TestDroppedLinesAreReportedAlsoWhenThePluginFallsSilent(t *testing.T) {
	var out logBuffer
	p := newPluginLog(hclog.New(&hclog.LoggerOptions{Output: &out}))
	p.notice = time.Millisecond
	r, w, err := os.Pipe()
	require.NoError(t, err)
	done := make(chan struct{})
	go func() {
		p.drain(r, "", nil)
		close(done)
	}()
	for range logBurst * 2 {
		fmt.Fprintln(w, "flood")
	}
	out.await(t, "lines left out")
	_ = w.Close()
	<-done
	_ = r.Close()
}

func TestRedirectedOutputIsSplitIntoLines(t *testing.T) {
	var out logBuffer
	w := &lineWriter{to: newPluginLog(hclog.New(&hclog.LoggerOptions{Output: &out})), stream: "stdout"}
	for _, part := range []string{"one\ntw", "o\n\nthree", "\n"} {
		n, err := w.Write([]byte(part))
		require.NoError(t, err)
		require.Equal(t, len(part), n)
	}
	text := out.text()
	require.Equal(t, 3, strings.Count(text, "stream=stdout"))
	for _, want := range []string{"one:", "two:", "three:"} {
		require.Contains(t, text, want)
	}
}

func TestNoiseOnStdoutAndLongLinesHarmNothing(t *testing.T) {
	w := newWorld(t)
	w.install("chatty")
	w.start(acme("chatty", "LINES", "20000"))
	s := w.open("chatty")
	for seq := range uint64(3) {
		deliver(t, s, batch(seq+1, seq, `{}`))
	}
	w.log.await(t, "noise: a library prints a banner")
	w.log.await(t, "chatty: a package variable prints")
	w.log.await(t, "chatty is open")
	w.log.await(t, "position=4503599627370497")
	w.log.await(t, "plain text on standard error")
	w.log.await(t, "chatty: delivering 1 rows")
	w.log.await(t, strings.Repeat("x", 1<<20))
	w.log.await(t, "lines left out")
	require.Equal(t, StateRunning, w.status("chatty").State)
}

func TestTheHandshakeIsFoundAmongNoise(t *testing.T) {
	for _, line := range []string{
		"1|1|unix|/run/plugin-dir1/plugin2|grpc|",
		"1|1|unix|/run/plugin-dir1/plugin2|grpc",
		"loading 11|1|unix|/run/plugin-dir1/plugin2|grpc|",
		"a|b 1|1|unix|/run/plugin-dir1/plugin2|grpc||true\r\n",
	} {
		m := handshakeLine.FindStringSubmatch(line)
		require.NotNil(t, m, line)
		require.Equal(t, []string{"1", "unix", "/run/plugin-dir1/plugin2", "grpc"}, m[2:6], line)
	}
	for _, line := range []string{"", "Hello", "1|1", "1|1|pipe|x|grpc", "unix|/x"} {
		require.Nil(t, handshakeLine.FindStringSubmatch(line), line)
	}
}

func TestNoTextInsideAFieldPaintsTheTerminal(t *testing.T) {
	var out logBuffer
	p := newPluginLog(hclog.New(&hclog.LoggerOptions{Output: &out}))
	p.line([]byte(`{"@message":"m","a\u001b[2J":1,"b\n2026-01-01 [ERROR] x":2,"list":["\u001b[2J"],"deep":{"\u001b[2J":["\u001b[2J",7]}}`), 0, "")
	p.close()
	require.NotContains(t, out.text(), "\x1b")
	require.Equal(t, 1, strings.Count(out.text(), "\n"), out.text())
	require.Contains(t, out.text(), `list=[\x1b[2J]`)
}
