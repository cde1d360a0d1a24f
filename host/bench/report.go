package main

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"math"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"text/tabwriter"
	"time"

	"golang.org/x/sys/unix"

	"github.com/rivergate/rivergate/host/e2e/rig"
)

// figure is one line of the table.
type figure struct {
	Name   string
	Unit   string
	Runs   series  // all runs; their median is the value
	Value  float64 // without Runs
	Noise  float64 // A/A, a part of the value; with Runs it is computed
	Target string
	Met    *bool // nil: a floor, or a figure for orientation
}

func met(yes bool) *bool { return &yes }

type report struct {
	figures []figure
	phases  []*phase
	machine []string
	commit  string
	when    time.Time
	quick   bool
}

func newReport(ctx context.Context, dir string, quick bool) (*report, error) {
	r := &report{when: time.Now().UTC(), quick: quick}
	root, err := rig.Root(ctx)
	if err != nil {
		return nil, err
	}
	r.commit = commit(ctx, root)
	var u unix.Utsname
	if err := unix.Uname(&u); err != nil {
		return nil, fmt.Errorf("ask for the kernel: %w", err)
	}
	memory, model := machine()
	r.machine = []string{
		fmt.Sprintf("%d cores (%s), %s of memory", runtime.NumCPU(), model, memory),
		fmt.Sprintf("%s %s, %s", text(u.Sysname[:]), text(u.Release[:]), runtime.Version()),
		"data on " + diskOf(dir),
	}
	return r, nil
}

func text(b []byte) string { return string(b[:max(0, bytes.IndexByte(b, 0))]) }

// commit names the tree that was measured, and says when the sources differ from it.
func commit(ctx context.Context, root string) string {
	git := func(args ...string) string {
		cmd := exec.CommandContext(ctx, "git", args...)
		cmd.Dir = root
		out, err := cmd.Output()
		if err != nil {
			return ""
		}
		return strings.TrimSpace(string(out))
	}
	id := git("rev-parse", "--short=12", "HEAD")
	if id == "" {
		return "unknown"
	}
	if git("status", "--porcelain", "--", "*.go", "go.mod") != "" {
		id += " with uncommitted changes"
	}
	return id
}

func machine() (memory, model string) {
	memory, model = "unknown", "unknown"
	if raw, err := os.ReadFile("/proc/meminfo"); err == nil {
		var kib float64
		if _, err := fmt.Sscanf(string(raw), "MemTotal: %f kB", &kib); err == nil {
			memory = fmt.Sprintf("%.1f GiB", kib/(1<<20))
		}
	}
	if raw, err := os.ReadFile("/proc/cpuinfo"); err == nil {
		for line := range strings.Lines(string(raw)) {
			if name, value, ok := strings.Cut(line, ":"); ok && strings.TrimSpace(name) == "model name" {
				return memory, strings.TrimSpace(value)
			}
		}
	}
	return memory, model
}

// diskOf names the file system below dir: the mount with the longest path that holds it.
func diskOf(dir string) string {
	raw, err := os.ReadFile("/proc/self/mounts")
	if err != nil {
		return "an unknown disk"
	}
	var best, kind string
	for line := range strings.Lines(string(raw)) {
		f := strings.Fields(line)
		if len(f) > 2 && len(f[1]) >= len(best) && (dir == f[1] || f[1] == "/" || strings.HasPrefix(dir, f[1]+"/")) {
			best, kind = f[1], f[2]
		}
	}
	return kind
}

func (r *report) add(f figure) {
	if len(f.Runs) > 0 {
		f.Value, f.Noise = f.Runs.median(), f.Runs.noise()
	}
	r.figures = append(r.figures, f)
}

func (r *report) missed() bool {
	for _, f := range r.figures {
		if f.Met != nil && !*f.Met {
			return true
		}
	}
	return false
}

func (f figure) verdict() string {
	switch {
	case f.Met == nil:
		return ""
	case *f.Met:
		return "met"
	default:
		return "MISSED"
	}
}

func (f figure) value() string { return strings.TrimSpace(number(f.Value) + " " + f.Unit) }

func (f figure) noise() string {
	if math.IsNaN(f.Noise) || (f.Noise == 0 && len(f.Runs) == 0) {
		return ""
	}
	return fmt.Sprintf("%.1f %%", 100*f.Noise)
}

// runs is the range of all runs, which says more than a noise figure where a disk stalls now and then.
func (f figure) runs() string {
	if len(f.Runs) < 2 {
		return ""
	}
	return fmt.Sprintf("%s – %s (%d)", number(f.Runs.min()), number(f.Runs.max()), len(f.Runs))
}

// number keeps three figures of a small number and groups the digits of a large one.
func number(v float64) string {
	switch {
	case v == 0:
		return "0"
	case math.Abs(v) >= 1000:
		digits := fmt.Sprintf("%.0f", v)
		for i := len(digits) - 3; i > 0; i -= 3 {
			digits = digits[:i] + " " + digits[i:]
		}
		return digits
	case math.Abs(v) >= 100:
		return fmt.Sprintf("%.0f", v)
	case math.Abs(v) >= 10:
		return fmt.Sprintf("%.1f", v)
	default:
		return fmt.Sprintf("%.2f", v)
	}
}

// table prints the report for a terminal.
func (r *report) table(out io.Writer) {
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "figure\tmeasured\ttarget\t\tnoise (A/A)\truns, from – to\t")
	for _, f := range r.figures {
		fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\t%s\t\n", f.Name, f.value(), f.Target, f.verdict(), f.noise(), f.runs())
	}
	_ = w.Flush() // the writer below is a terminal or a pipe: nothing could be done
}

// write makes the Markdown file, and the plot beside it.
func (r *report) write(path string) error {
	var b strings.Builder
	b.WriteString("# Benchmarks\n\nWritten by `deploy/services run postgres mysql kafka s3 -- go run ./host/bench --write deploy/BENCHMARKS.md`; do not edit.\n\n")
	fmt.Fprintf(&b, "- Commit %s, %s\n", r.commit, r.when.Format("2006-01-02 15:04 MST"))
	for _, m := range r.machine {
		fmt.Fprintf(&b, "- %s\n", m)
	}
	if r.quick {
		b.WriteString("- **Measured with --quick: short runs, a small backlog. Not the figures of record.**\n")
	}
	b.WriteString("\n| figure | measured | target | verdict | noise (A/A) | runs, from – to (number) |\n|---|---|---|---|---|---|\n")
	for _, f := range r.figures {
		fmt.Fprintf(&b, "| %s | %s | %s | %s | %s | %s |\n", f.Name, f.value(), f.Target, f.verdict(), f.noise(), f.runs())
	}
	if r.phases != nil {
		const plot = "bench-isolation.svg"
		if err := os.WriteFile(filepath.Join(filepath.Dir(path), plot), isolationPlot(r.phases), 0o644); err != nil {
			return fmt.Errorf("write the plot: %w", err)
		}
		fmt.Fprintf(&b, "\n## One destination in trouble, the other not\n\nRows per second in steps of %s; the load is 30 000 rows/s by the clock.\n\n"+
			"![Rate of pusher A and pusher B while B is well, down, slow and crashing](%s)\n\n", bin, plot)
		b.WriteString("| pusher B is | A, rows/s | weakest 100 ms of A | B, rows/s |\n|---|---|---|---|\n")
		for _, p := range r.phases {
			fmt.Fprintf(&b, "| %s | %s | %s | %s |\n", p.name, number(series(p.a).mean()), number(series(p.a).min()), number(series(p.b).mean()))
		}
	}
	b.WriteString(method)
	if err := os.WriteFile(path, []byte(b.String()), 0o644); err != nil {
		return fmt.Errorf("write the report: %w", err)
	}
	return nil
}

const method = `
## Method

- Everything runs on one machine and shares its cores: the host, the load generator, the plugins, PostgreSQL and the floors
  are processes of their own. Data lies on a real disk; each run begins with an empty data folder.
- A row is a JSON object of 256 bytes; a request is one row or a batch, with a uuid of its own. The load generator speaks
  HTTP/1.1 over keep-alive connections and checks every answer: any other than 202 fails the run.
- Rates come from a closed loop (64 connections unless said otherwise; 16 with 1000 rows per request) after a warm-up. "Durable" has no pusher
  (RIVERGATE_GATEWAY_HOLD): only the intake is measured.
- Latency comes from an open loop at half the rate that was just measured. It runs from the moment a request was due, so a
  stall counts for every request that had to wait.
- The floors are measured in turn with the figures, in the same run: a Fiber handler that does nothing; an append of 4 KiB
  with fdatasync; one pgx COPY of the same rows into a table like that of the plugin.
- "Through" counts rows inside the plugin, in a page shared with it; the clock runs until the last accepted row is counted.
  PostgreSQL's rows are counted with SELECT count(*). A count that differs from what was accepted fails the run.
- The s3 pusher's clock runs until its spool is empty; lines in the objects are counted. The floor puts the same objects, read back
  into memory before, by the same requests (one PUT each, Content-MD5): one after another, and for orientation as many at once as
  the pusher does. Then server and sums take all cores of two, and the pusher needs some of them for the journal and its spool.
- Noise: each figure is measured several times; the medians of odd and even runs, which measure the same, differ by that
  much. A smaller difference between two versions says nothing. "from – to" is the range of all runs.
- A killed plugin: from kill -9 until the next process has counted a row, a fresh host each time, polled each millisecond.
- The boundary: the same batches, window 8, once to the null pusher in its own process (plugin host, unix socket, gRPC, SDK) and
  once straight into the SDK's server in the measuring process; the overhead is the difference per row.
- Fifty instances are fifty processes of the null pusher. Idle is the processor time of the host and all of them, from the
  kernel's schedstat of each thread.
- Vectors: bodies of 1000 vectors with ids and metadata are made before the clock runs; reading the JSON, the transaction and its
  fdatasync count, the network does not. Searches go through the package, the question for the version included, with GOMAXPROCS=1.
- Resident memory is VmRSS of the host process; the peak is VmHWM.
`
