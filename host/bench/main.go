// Command bench measures what Rivergate promises about speed and memory, against the built binaries, and prints each
// figure beside its floor and its noise.
//
//	go run ./host/bench                                  all figures, as a table
//	go run ./host/bench --only single,through --quick    some of them, short
//	go run ./host/bench --write deploy/BENCHMARKS.md     also write the report and its plots
//
// The host, the load generator, the no-op server and the plugins are processes of their own and share the machine's cores.
// Each figure is measured several times in turn with its floor; odd and even runs are compared with each other, which
// gives the noise of the machine (an A/A test): a difference smaller than that says nothing.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/rivergate/rivergate/host/e2e/rig"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err := run(ctx, os.Args[1:], os.Stdout)
	stop()
	switch {
	case errors.Is(err, errMissed):
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	case err != nil:
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(2)
	}
}

// errMissed: everything was measured, and not every promise was kept.
var errMissed = errors.New("a figure misses its target")

// bench is one run of the program.
type bench struct {
	rig.Binaries
	dir    string // scratch on a real disk, removed at the end
	self   string // this program, for the processes that it starts of itself
	rounds int    // an even number: half of them are A, half A'
	long   time.Duration
	quick  bool
	out    io.Writer
	report *report
}

// figures are all measurements in the order in which they run.
var figures = []struct {
	name string
	run  func(*bench, context.Context) error
}{
	{"disk", (*bench).disk},
	{"single", (*bench).single},
	{"batches", (*bench).batches},
	{"through", (*bench).through},
	{"python", (*bench).python},
	{"postgres", (*bench).postgres},
	{"mysql", (*bench).mysql},
	{"kafka", (*bench).kafka},
	{"s3", (*bench).s3},
	{"storage", (*bench).storage},
	{"storage-s3", (*bench).storageS3},
	{"listing", (*bench).listing},
	{"vectors", (*bench).vectors},
	{"boundary", (*bench).boundary},
	{"start", (*bench).pluginStart},
	{"fifty", (*bench).fifty},
	{"backlog", (*bench).backlog},
	{"restart", (*bench).pluginRestart},
	{"isolation", (*bench).isolation},
}

func run(ctx context.Context, args []string, out io.Writer) (err error) {
	if len(args) > 0 {
		switch args[0] { // what this program starts of itself
		case "load":
			return generate(ctx, os.Stdin, out)
		case "noop":
			return serveNoop(ctx, args[1:])
		case "plain":
			return servePlain(ctx, args[1:])
		}
	}
	flags := flag.NewFlagSet("bench", flag.ContinueOnError)
	only := flags.String("only", "", "figures to measure, comma separated: "+strings.Join(names(), ", "))
	quick := flags.Bool("quick", false, "short runs and a small backlog: tells whether it works, not how fast")
	write := flags.String("write", "", "write the report to this Markdown file, and the plots beside it")
	scratch := flags.String("dir", "", "where data is kept during the run; must be on a real disk (default: the temporary folder)")
	if err := flags.Parse(args); err != nil {
		return err
	}
	wanted := names()
	if *only != "" {
		wanted = strings.Split(*only, ",")
		for _, w := range wanted {
			if !slices.Contains(names(), w) {
				return fmt.Errorf("no figure %q; there are: %s", w, strings.Join(names(), ", "))
			}
		}
	}
	b := &bench{rounds: 4, long: 6 * time.Second, quick: *quick, out: out}
	if *quick {
		b.rounds, b.long = 2, 2*time.Second
	}
	if b.self, err = os.Executable(); err != nil {
		return err
	}
	if b.dir, err = scratchDir(*scratch); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(b.dir)) }()
	fmt.Fprintln(out, "building")
	if b.Binaries, err = rig.Build(ctx, b.dir, "plugins/testdata/null", "plugins/pusher/postgres", "plugins/pusher/mysql", "plugins/pusher/kafka", "plugins/pusher/s3", "plugins/storage/local", "plugins/storage/s3"); err != nil {
		return err
	}
	if b.report, err = newReport(ctx, b.dir, *quick); err != nil {
		return err
	}
	for _, f := range figures {
		if !slices.Contains(wanted, f.name) {
			continue
		}
		fmt.Fprintf(out, "\n== %s\n", f.name)
		if err := f.run(b, ctx); err != nil {
			return fmt.Errorf("%s: %w", f.name, err)
		}
	}
	fmt.Fprintln(out)
	b.report.table(out)
	if *write != "" {
		if err := b.report.write(*write); err != nil {
			return err
		}
	}
	if b.report.missed() {
		return errMissed
	}
	return nil
}

func names() []string {
	var all []string
	for _, f := range figures {
		all = append(all, f.name)
	}
	return all
}

func (b *bench) say(format string, args ...any) { fmt.Fprintf(b.out, "  "+format+"\n", args...) }
