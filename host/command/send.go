package command

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/google/uuid"
	"github.com/spf13/cobra"
)

// sendOptions are the flags of send.
type sendOptions struct {
	format     string
	uuid       string
	uuidField  string
	indexField string
	wrapped    bool
	batch      int
	skipBad    bool
	key        string
	giveUp     time.Duration
}

func (c *cli) sendCommand() *cobra.Command {
	var o sendOptions
	cmd := &cobra.Command{
		Use:   "send [FILE]",
		Short: "Post rows from a file or standard input to a running host",
		Long: `Post rows from a file, or from standard input, to a running host.

JSON Lines: each line is one JSON object, the row, and reaches the destination byte for byte.
CSV: the first record names the columns; each further record becomes one row, every value a string.

Every row belongs to a uuid: the same for all (--uuid), or taken from a field of each row (--uuid-field; the field stays in
the row). Rows of one uuid keep their order.

Passing troubles (no connection, 429, 5xx) are tried again with growing pauses, or after the time that the host names in
Retry-After. Each batch carries an Idempotency-Key, so that a repetition is never taken twice. After an interruption, run
the same command with the --key that was printed: what was accepted already is not accepted again, as long as the host
remembers it (RIVERGATE_IDEMPOTENCY_TTL) and the input, --batch and the other flags are the same.

A line that is no row stops the command, named by its number, after the rows before it were sent; with --skip-bad it is
reported and the rest is sent.

` + exitCodesHelp,
		Example: `  rivergate send --uuid 9f86d081884c7d65 rows.jsonl
  rivergate send --uuid-field sample results.csv
  seq 3 | sed 's/.*/{"n":&}/' | rivergate send --uuid demo
  rivergate send --wrapped --uuid-field uuid data/out/1/2026-01-31.jsonl     rows that the file pusher wrote`,
		Args: cobra.MaximumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error { return c.send(cmd.Context(), o, args) },
	}
	f := cmd.Flags()
	f.StringVar(&o.uuid, "uuid", "", "uuid of all rows")
	f.StringVar(&o.uuidField, "uuid-field", "", "field or column that holds the uuid of each row")
	f.StringVar(&o.indexField, "index-field", "", "field or column that holds the index of each row (it stays in the row)")
	f.BoolVar(&o.wrapped, "wrapped", false, `lines are {"data": row, "index": …, "uuid": …, …}, as the file pusher and deadletters export write them`)
	f.IntVar(&o.batch, "batch", 1000, "rows in one request, at most")
	f.StringVar(&o.format, "format", "", "jsonl or csv (default: by the name of the file, else jsonl)")
	f.BoolVar(&o.skipBad, "skip-bad", false, "report bad rows and send the others")
	f.StringVar(&o.key, "key", "", "start of the Idempotency-Keys, to go on after an interruption (default: new for each run)")
	f.DurationVar(&o.giveUp, "give-up", 5*time.Minute, "how long one batch is tried")
	c.clientFlags(cmd)
	return cmd
}

func (o *sendOptions) check(name string) error {
	switch {
	case (o.uuid == "") == (o.uuidField == ""):
		return mistake("give --uuid for all rows, or --uuid-field to take it from each row: one of them")
	case utf8.RuneCountInString(o.uuid) > maxUUID:
		return mistake("--uuid is longer than %d characters", maxUUID)
	case o.batch < 1 || o.batch > 1_000_000:
		return mistake("--batch is 1 to 1000000")
	case o.giveUp <= 0:
		return mistake("--give-up is a positive duration such as 5m")
	}
	if o.format == "" {
		o.format = "jsonl"
		if strings.EqualFold(filepath.Ext(name), ".csv") {
			o.format = "csv"
		}
	}
	if o.format != "jsonl" && o.format != "csv" {
		return mistake("--format is jsonl or csv, not %q", o.format)
	}
	if o.format == "csv" && o.wrapped {
		return mistake("--wrapped is for JSON Lines")
	}
	if o.key == "" {
		o.key = "send-" + uuid.NewString()
	}
	return nil
}

func (c *cli) send(ctx context.Context, o sendOptions, args []string) error {
	name, input, bytes := "standard input", c.Stdin, int64(0)
	if len(args) == 1 && args[0] != "-" {
		name = args[0]
		file, err := os.Open(name)
		if err != nil {
			return &exitError{code: exitMistake, err: err}
		}
		defer func() { _ = file.Close() }()
		if info, err := file.Stat(); err == nil {
			bytes = info.Size()
		}
		input = file
	}
	if err := o.check(name); err != nil {
		return err
	}
	host, err := c.client()
	if err != nil {
		return err
	}
	if name == "standard input" && terminal(c.Stderr) {
		if in, ok := c.Stdin.(io.Writer); ok && terminal(in) {
			fmt.Fprintln(c.Stderr, "Reading rows from the terminal, one JSON object a line; Ctrl-D ends.")
		}
	}

	progress := newProgress(c.Stderr, bytes)
	s := &sender{host: host, options: o, wait: c.Wait, summary: sendSummary{Key: o.key}, report: progress.update, note: progress.note}
	started := time.Now()
	err = s.run(ctx, openRows(input, &o))
	progress.end()
	s.summary.finish(time.Since(started))

	if c.json {
		if jsonErr := c.printJSON(s.summary); jsonErr != nil {
			return jsonErr
		}
	} else {
		s.summary.print(c.Stdout, name)
	}
	if err != nil {
		if s.summary.Accepted > 0 {
			err = &exitError{code: exitFailed, err: err, hint: "To go on without sending anything twice: the same command with --key " + o.key}
		}
		return err
	}
	if s.summary.NotAccepted > 0 {
		return &exitError{code: exitFailed, err: fmt.Errorf("not accepted: %s", some(s.summary.NotAccepted, "row"))}
	}
	return nil
}

// sendSummary is what became of the input.
type sendSummary struct {
	Accepted      int64     `json:"accepted"`
	NotAccepted   int64     `json:"not_accepted"`
	Bytes         int64     `json:"bytes"` // of accepted requests
	Requests      int64     `json:"requests"`
	Retries       int64     `json:"retries"`
	Seconds       float64   `json:"seconds"`
	RowsPerSecond float64   `json:"rows_per_second"`
	Key           string    `json:"key"`
	Bad           []badLine `json:"bad,omitempty"` // the first maxBadListed
}

// badLine is a line of the input that was not accepted.
type badLine struct {
	Line   int    `json:"line"`
	Reason string `json:"reason"`
}

const maxBadListed = 100

func (s *sendSummary) bad(line int, reason string) {
	s.NotAccepted++
	if len(s.Bad) < maxBadListed {
		s.Bad = append(s.Bad, badLine{Line: line, Reason: reason})
	}
}

func (s *sendSummary) finish(took time.Duration) {
	s.Seconds = took.Seconds()
	if s.Seconds > 0 {
		s.RowsPerSecond = float64(s.Accepted) / s.Seconds
	}
}

func (s *sendSummary) print(w io.Writer, name string) {
	fmt.Fprintf(w, "%s: %s accepted in %s, %s in %v (%s)\n", name, some(s.Accepted, "row"), some(s.Requests, "request"),
		size(s.Bytes), time.Duration(s.Seconds*float64(time.Second)).Round(time.Millisecond), rate(s.RowsPerSecond))
	if s.Retries > 0 {
		fmt.Fprintf(w, "%s repeated\n", some(s.Retries, "request"))
	}
	if s.NotAccepted > 0 {
		fmt.Fprintf(w, "%s not accepted:\n", some(s.NotAccepted, "row"))
		for _, b := range s.Bad {
			fmt.Fprintf(w, "  line %d: %s\n", b.Line, b.Reason)
		}
		if more := s.NotAccepted - int64(len(s.Bad)); more > 0 {
			fmt.Fprintf(w, "  and %s more\n", count(more))
		}
	}
}

// errBadInput ends a run without --skip-bad.
var errBadInput = errors.New("the input has a line that is no row; --skip-bad sends the others")
