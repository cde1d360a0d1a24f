package command

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"golang.org/x/term"
)

// tone is what a cell says beyond its text; it is shown as a colour where there is one.
type tone int

const (
	plain tone = iota
	good
	doubtful
	bad
	faint
)

var escapes = map[tone]string{good: "\x1b[32m", doubtful: "\x1b[33m", bad: "\x1b[31m", faint: "\x1b[2m"}

type cell struct {
	text  string
	tone  tone
	right bool // numbers
}

func text(s string) cell   { return cell{text: s} }
func number(s string) cell { return cell{text: s, right: true} }

// table prints rows under a header, columns as wide as their widest cell. Empty columns are left out. What clients and
// plugins wrote is among the texts, and must not steer the terminal.
func (c *cli) table(header []string, rows [][]cell) {
	colour := c.colour(c.Stdout)
	for _, row := range rows {
		for i := range row {
			row[i].text = visible(row[i].text)
		}
	}
	widths := make([]int, len(header))
	for i, h := range header {
		for _, row := range rows {
			if n := utf8.RuneCountInString(row[i].text); n > 0 {
				widths[i] = max(widths[i], n, utf8.RuneCountInString(h))
			}
		}
	}
	line := func(cells []cell) {
		var b strings.Builder
		for i, cl := range cells {
			if widths[i] == 0 {
				continue
			}
			if b.Len() > 0 {
				b.WriteString("  ")
			}
			pad := strings.Repeat(" ", widths[i]-utf8.RuneCountInString(cl.text))
			if cl.right {
				b.WriteString(pad)
			}
			if escape := escapes[cl.tone]; colour && escape != "" {
				b.WriteString(escape + cl.text + "\x1b[0m")
			} else {
				b.WriteString(cl.text)
			}
			if !cl.right {
				b.WriteString(pad)
			}
		}
		fmt.Fprintln(c.Stdout, strings.TrimRight(b.String(), " "))
	}
	heads := make([]cell, len(header))
	for i, h := range header {
		heads[i] = cell{text: h, tone: faint, right: len(rows) > 0 && rows[0][i].right}
	}
	line(heads)
	for _, row := range rows {
		line(row)
	}
}

// printJSON prints v indented. Strings stay readable: no HTML escapes.
func (c *cli) printJSON(v any) error {
	var b bytes.Buffer
	encoder := json.NewEncoder(&b)
	encoder.SetEscapeHTML(false)
	encoder.SetIndent("", "  ")
	if err := encoder.Encode(v); err != nil {
		return fmt.Errorf("encode output: %w", err)
	}
	_, err := c.Stdout.Write(b.Bytes())
	return err
}

// terminal tells whether a person sits at w.
func terminal(w io.Writer) bool {
	f, ok := w.(*os.File)
	return ok && term.IsTerminal(int(f.Fd()))
}

// colour tells whether w may get colours (https://no-color.org).
func (c *cli) colour(w io.Writer) bool {
	return terminal(w) && c.env("NO_COLOR") == "" && c.env("TERM") != "dumb"
}

// env is the value of a variable, empty when it is not set. The last setting wins, as in a shell.
func (c *cli) env(name string) string {
	for _, entry := range slices.Backward(c.Environ) {
		if value, ok := strings.CutPrefix(entry, name+"="); ok {
			return value
		}
	}
	return ""
}

// count writes a number with thousands separated: 1,234,567.
func count[T int | int64 | uint64](n T) string {
	s := strconv.FormatInt(int64(n), 10)
	for i := len(s) - 3; i > 0 && s[i-1] != '-'; i -= 3 {
		s = s[:i] + "," + s[i:]
	}
	return s
}

// some writes a number with its noun: 1 row, 2 rows.
func some(n int64, noun string) string {
	if n != 1 {
		noun += "s"
	}
	return count(n) + " " + noun
}

// size writes bytes in binary units, short: 1.5 MiB.
func size(n int64) string {
	const units = "KMGTPE"
	if n < 1024 {
		return fmt.Sprintf("%d B", n)
	}
	value, unit := float64(n)/1024, 0
	for value >= 1024 && unit < len(units)-1 {
		value, unit = value/1024, unit+1
	}
	return fmt.Sprintf("%.1f %ciB", value, units[unit])
}

// age writes a duration with the precision that a person wants of it.
func age(d time.Duration) string {
	switch {
	case d <= 0:
		return ""
	case d < time.Second:
		return d.Round(time.Millisecond).String()
	case d < time.Minute:
		return d.Round(100 * time.Millisecond).String()
	case d < time.Hour:
		return d.Round(time.Second).String()
	default:
		return strings.TrimSuffix(d.Round(time.Minute).String(), "0s")
	}
}

// rate writes a number per second.
func rate(perSecond float64) string {
	switch {
	case perSecond <= 0:
		return "0/s"
	case perSecond < 10:
		return fmt.Sprintf("%.1f/s", perSecond)
	default:
		return count(int64(perSecond+0.5)) + "/s"
	}
}
