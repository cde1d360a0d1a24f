package command

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"strconv"
	"time"

	"github.com/spf13/cobra"
)

const deadLettersPath = "/api/v1/gateway/dead-letters"

// deadLetter is an item of GET /api/v1/gateway/dead-letters.
type deadLetter struct {
	ID            json.RawMessage `json:"id"`
	Pusher        string          `json:"pusher"`
	DeliveryID    string          `json:"delivery_id"`
	UUID          string          `json:"uuid"`
	Index         *int64          `json:"index"`
	Data          json.RawMessage `json:"data"`
	Class         string          `json:"class"`
	Code          string          `json:"code"`
	Message       string          `json:"message"`
	Attempts      int             `json:"attempts"`
	FirstFailedAt time.Time       `json:"first_failed_at"`
	FailedAt      time.Time       `json:"failed_at"`
}

// id is the dead letter's id as text, be it a number or a string.
func (d *deadLetter) id() string {
	var s string
	if json.Unmarshal(d.ID, &s) == nil {
		return s
	}
	return string(d.ID)
}

// deadLetterFilter chooses dead letters, by flags.
type deadLetterFilter struct {
	pusher, uuid, class, since, until string
}

func (f *deadLetterFilter) flags(cmd *cobra.Command) {
	cmd.Flags().StringVar(&f.pusher, "pusher", "", "only those of this pusher")
	cmd.Flags().StringVar(&f.uuid, "uuid", "", "only those of this uuid")
	cmd.Flags().StringVar(&f.class, "class", "", "only this class: rejected, retry, poison")
	cmd.Flags().StringVar(&f.since, "since", "", "failed at or after: a time (2026-01-31T12:00:00Z) or an age (15m, 24h)")
	cmd.Flags().StringVar(&f.until, "until", "", "failed before: a time or an age")
}

// members are the filter's parts that are set, times as RFC 3339.
func (f *deadLetterFilter) members(now time.Time) (map[string]string, error) {
	m := map[string]string{}
	for name, value := range map[string]string{"pusher": f.pusher, "uuid": f.uuid, "class": f.class} {
		if value != "" {
			m[name] = value
		}
	}
	for name, value := range map[string]string{"since": f.since, "until": f.until} {
		if value == "" {
			continue
		}
		at, err := time.Parse(time.RFC3339, value)
		if err != nil {
			back, errAge := time.ParseDuration(value)
			if errAge != nil {
				return nil, mistake("--%s %q is neither a time (2026-01-31T12:00:00Z) nor an age (15m)", name, value)
			}
			at = now.Add(-back)
		}
		m[name] = at.UTC().Format(time.RFC3339Nano)
	}
	return m, nil
}

func (f *deadLetterFilter) query(now time.Time) (url.Values, error) {
	members, err := f.members(now)
	if err != nil {
		return nil, err
	}
	q := url.Values{}
	for name, value := range members {
		q.Set(name, value)
	}
	return q, nil
}

// choice is what replay and delete act on: ids, a filter, or everything when that is said plainly.
func (f *deadLetterFilter) choice(ids []string, all bool) (map[string]any, error) {
	filter, err := f.members(time.Now())
	if err != nil {
		return nil, err
	}
	switch {
	case len(ids) > 0 && (len(filter) > 0 || all), len(filter) > 0 && all:
		return nil, mistake("give ids, or a filter, or --all: one of them")
	case len(ids) > 0:
		return map[string]any{"ids": ids}, nil
	case len(filter) > 0 || all:
		return map[string]any{"filter": filter}, nil
	default:
		return nil, mistake("which dead letters? Give ids, a filter such as --pusher NAME, or --all")
	}
}

func (c *cli) deadLettersCommand() *cobra.Command {
	deadLetters := group("deadletters", "Rows that a destination refused for good: list, show, replay, export, delete",
		`Rows that a destination refused for good, or that crashed its plugin. They keep the client's own bytes, the reason and
the number of attempts, until they are replayed or deleted.

`+exitCodesHelp,
		c.deadLettersListCommand(), c.deadLettersShowCommand(), c.deadLettersReplayCommand(),
		c.deadLettersExportCommand(), c.deadLettersDeleteCommand())
	deadLetters.Aliases = []string{"dead-letters"}
	c.clientFlags(deadLetters)
	return deadLetters
}

func (c *cli) deadLettersListCommand() *cobra.Command {
	var filter deadLetterFilter
	var cursor string
	var limit int
	cmd := &cobra.Command{
		Use: "list", Short: "List dead letters, newest first",
		Example: "  rivergate deadletters list --pusher postgres --since 24h\n  rivergate deadletters list --class poison --limit 100",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			query, err := filter.query(time.Now())
			if err != nil {
				return err
			}
			query.Set("limit", strconv.Itoa(limit))
			if cursor != "" {
				query.Set("cursor", cursor)
			}
			return c.listDeadLetters(cmd, query)
		},
	}
	filter.flags(cmd)
	cmd.Flags().IntVar(&limit, "limit", 20, "how many")
	cmd.Flags().StringVar(&cursor, "cursor", "", "go on where the last list ended")
	return cmd
}

func (c *cli) listDeadLetters(cmd *cobra.Command, query url.Values) error {
	host, err := c.client()
	if err != nil {
		return err
	}
	if c.json {
		return c.passJSON(cmd, host, deadLettersPath, query)
	}
	var page struct {
		Items      []deadLetter `json:"items"`
		NextCursor string       `json:"next_cursor"`
	}
	if _, err := host.call(cmd.Context(), http.MethodGet, deadLettersPath, query, nil, &page); err != nil {
		return err
	}
	if len(page.Items) == 0 {
		fmt.Fprintln(c.Stdout, "No dead letters.")
		return nil
	}
	rows := make([][]cell, len(page.Items))
	for i := range page.Items {
		d := &page.Items[i]
		rows[i] = []cell{
			text(d.id()), text(d.Pusher), {text: d.Class, tone: bad}, text(d.Code), text(d.UUID), number(indexText(d.Index)),
			number(strconv.Itoa(d.Attempts)), text(d.FailedAt.UTC().Format(time.RFC3339)), text(short(d.Message, 60)),
		}
	}
	c.table([]string{"ID", "PUSHER", "CLASS", "CODE", "UUID", "INDEX", "ATTEMPTS", "FAILED", "MESSAGE"}, rows)
	if page.NextCursor != "" {
		fmt.Fprintf(c.Stdout, "\nMore: --cursor %s\n", page.NextCursor)
	}
	return nil
}

func (c *cli) deadLettersShowCommand() *cobra.Command {
	return &cobra.Command{
		Use: "show ID", Short: "Show one dead letter with its row",
		Example: "  rivergate deadletters show dlq-42",
		Args:    cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			host, err := c.client()
			if err != nil {
				return err
			}
			path := deadLettersPath + "/" + url.PathEscape(args[0])
			var raw json.RawMessage
			if _, err := host.call(cmd.Context(), http.MethodGet, path, nil, nil, &raw); err != nil {
				return err
			}
			if c.json {
				return c.printJSON(raw)
			}
			var d deadLetter
			if err := json.Unmarshal(raw, &d); err != nil {
				return fmt.Errorf("decode answer of %s: %w", path, err)
			}
			for _, line := range [][2]string{
				{"id", d.id()}, {"pusher", d.Pusher}, {"delivery", d.DeliveryID}, {"uuid", d.UUID}, {"index", indexText(d.Index)},
				{"class", d.Class}, {"code", d.Code}, {"message", d.Message}, {"attempts", strconv.Itoa(d.Attempts)},
				{"first failed", d.FirstFailedAt.UTC().Format(time.RFC3339)}, {"failed", d.FailedAt.UTC().Format(time.RFC3339)},
			} {
				if line[1] != "" {
					fmt.Fprintf(c.Stdout, "%-12s  %s\n", line[0], visible(line[1]))
				}
			}
			fmt.Fprintf(c.Stdout, "\n%s\n", d.Data)
			return nil
		},
	}
}

func (c *cli) deadLettersReplayCommand() *cobra.Command {
	var filter deadLetterFilter
	var all bool
	var to string
	var perSecond float64
	cmd := &cobra.Command{
		Use: "replay [ID…]", Short: "Send dead letters again; those that succeed leave the list",
		Example: "  rivergate deadletters replay dlq-42 dlq-43\n  rivergate deadletters replay --pusher postgres --class rejected --rate 100",
		RunE: func(cmd *cobra.Command, ids []string) error {
			body, err := filter.choice(ids, all)
			if err != nil {
				return err
			}
			if perSecond < 0 {
				return mistake("--rate is not below 0")
			}
			if to != "" {
				body["to"] = to
			}
			if perSecond > 0 {
				body["rate_per_second"] = perSecond
			}
			return c.actOnDeadLetters(cmd, http.MethodPost, deadLettersPath+"/replay", body)
		},
	}
	filter.flags(cmd)
	cmd.Flags().BoolVar(&all, "all", false, "every dead letter")
	cmd.Flags().StringVar(&to, "to", "", "to this pusher in place of the one that refused them")
	cmd.Flags().Float64Var(&perSecond, "rate", 0, "rows per second, at most (0: as fast as the pusher takes them)")
	return cmd
}

func (c *cli) deadLettersDeleteCommand() *cobra.Command {
	var filter deadLetterFilter
	var all bool
	cmd := &cobra.Command{
		Use: "delete [ID…]", Short: "Give dead letters up for good; export them first if in doubt",
		Example: "  rivergate deadletters delete dlq-42\n  rivergate deadletters delete --pusher file --until 720h",
		RunE: func(cmd *cobra.Command, ids []string) error {
			body, err := filter.choice(ids, all)
			if err != nil {
				return err
			}
			return c.actOnDeadLetters(cmd, http.MethodDelete, deadLettersPath, body)
		},
	}
	filter.flags(cmd)
	cmd.Flags().BoolVar(&all, "all", false, "every dead letter")
	return cmd
}

func (c *cli) actOnDeadLetters(cmd *cobra.Command, method, path string, body map[string]any) error {
	host, err := c.client()
	if err != nil {
		return err
	}
	var data json.RawMessage
	message, err := host.call(cmd.Context(), method, path, nil, body, &data)
	if err != nil {
		return err
	}
	if c.json {
		return c.printJSON(data)
	}
	var done struct{ Replayed, Deleted *int64 }
	if err := json.Unmarshal(data, &done); err != nil {
		return fmt.Errorf("decode answer of %s: %w", path, err)
	}
	switch {
	case done.Replayed != nil:
		fmt.Fprintf(c.Stdout, "%s on the way again; those that succeed leave the list.\n", some(*done.Replayed, "row"))
	case done.Deleted != nil:
		fmt.Fprintf(c.Stdout, "%s deleted.\n", some(*done.Deleted, "dead letter"))
	default:
		fmt.Fprintln(c.Stdout, message)
	}
	return nil
}

func (c *cli) deadLettersExportCommand() *cobra.Command {
	var filter deadLetterFilter
	var output string
	cmd := &cobra.Command{
		Use: "export", Short: "Write dead letters as JSON Lines, one a line",
		Long: `Write dead letters as JSON Lines, one a line, with the client's own bytes in "data".

What was exported can be sent again: rivergate send --wrapped --uuid-field uuid FILE`,
		Example: "  rivergate deadletters export --pusher postgres --output dead.jsonl",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) (err error) {
			query, err := filter.query(time.Now())
			if err != nil {
				return err
			}
			host, err := c.client()
			if err != nil {
				return err
			}
			answer, err := host.do(cmd.Context(), http.MethodGet, deadLettersPath+"/export", query, nil, nil)
			if err != nil {
				return err
			}
			defer answer.Body.Close()
			to := c.Stdout
			if output != "" && output != "-" {
				file, err := os.Create(output)
				if err != nil {
					return fmt.Errorf("create export: %w", err)
				}
				defer func() { err = errors.Join(err, file.Close()) }()
				to = file
			}
			if _, err := io.Copy(to, answer.Body); err != nil {
				return fmt.Errorf("write export: %w", err)
			}
			return nil
		},
	}
	filter.flags(cmd)
	cmd.Flags().StringVarP(&output, "output", "o", "", "file to write (default: standard output)")
	return cmd
}

func indexText(index *int64) string {
	if index == nil {
		return ""
	}
	return strconv.FormatInt(*index, 10)
}

// short cuts a text for a table, by characters.
func short(s string, n int) string {
	r := []rune(s)
	if len(r) <= n {
		return s
	}
	return string(r[:n-1]) + "…"
}
