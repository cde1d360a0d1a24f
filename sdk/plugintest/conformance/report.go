package conformance

import (
	"encoding/json"
	"encoding/xml"
	"fmt"
	"io"
	"strings"
	"time"
)

// Status is the verdict about one rule.
type Status string

// The verdicts. A skipped rule says why it could not be judged.
const (
	Pass    Status = "pass"
	Fail    Status = "fail"
	Skipped Status = "skipped"
)

// Result is the verdict about one rule.
type Result struct {
	Rule   string        `json:"rule"`
	Title  string        `json:"title"`
	Status Status        `json:"status"`
	Detail string        `json:"detail,omitempty"` // failed: what was expected and what came; skipped: why; else a remark
	Change string        `json:"change,omitempty"` // failed: what to change
	Took   time.Duration `json:"took"`             // nanoseconds
}

// Report is what a run found out.
type Report struct {
	Plugin   string         `json:"plugin"` // its name, or that of the file when it never said one
	Version  string         `json:"version,omitempty"`
	SDK      string         `json:"sdk,omitempty"`
	Protocol int            `json:"protocol,omitempty"` // version that was spoken
	Rows     map[string]int `json:"rows,omitempty"`     // how many rows got which outcome: "delivered", "retry", …
	Results  []Result       `json:"results"`
}

// Failed are the rules that the plugin breaks.
func (r *Report) Failed() []Result {
	var out []Result
	for _, x := range r.Results {
		if x.Status == Fail {
			out = append(out, x)
		}
	}
	return out
}

// Remark is what the verdicts do not say: that no row ever arrived, so that little was proved. Empty: nothing.
func (r *Report) Remark() string {
	total := 0
	for _, n := range r.Rows {
		total += n
	}
	if total == 0 || r.Rows["delivered"]+r.Rows["duplicate"] > 0 {
		return ""
	}
	return fmt.Sprintf("Not one of %d rows was delivered: the plugin speaks the protocol, but whether it reaches its destination was not seen. Give it a destination that takes rows.", total)
}

func (r *Report) counts() (passed, failed, skipped int) {
	for _, x := range r.Results {
		switch x.Status {
		case Pass:
			passed++
		case Fail:
			failed++
		default:
			skipped++
		}
	}
	return passed, failed, skipped
}

// WriteText writes one line a rule, with explanations beneath.
func (r *Report) WriteText(w io.Writer) error {
	var b strings.Builder
	for _, x := range r.Results {
		b.WriteString(x.Text())
	}
	b.WriteString(r.Summary())
	_, err := io.WriteString(w, b.String())
	return err
}

// Text is one result for a person, lines with their ends.
func (x Result) Text() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%-7s  %-17s  %s\n", strings.ToUpper(string(x.Status)), x.Rule, x.Title)
	const indent = "\n                            "
	if x.Detail != "" {
		fmt.Fprintf(&b, "%s%s\n", indent[1:], strings.ReplaceAll(x.Detail, "\n", indent))
	}
	if x.Change != "" {
		fmt.Fprintf(&b, "%sChange: %s\n", indent[1:], strings.ReplaceAll(x.Change, "\n", indent))
	}
	return b.String()
}

// Summary is the end of the text: who was tested, and the counts.
func (r *Report) Summary() string {
	var b strings.Builder
	passed, failed, skipped := r.counts()
	fmt.Fprintf(&b, "\n%s", r.Plugin)
	if r.Version != "" {
		fmt.Fprintf(&b, " %s", r.Version)
	}
	if r.Protocol > 0 {
		fmt.Fprintf(&b, ", protocol %d", r.Protocol)
	}
	if r.SDK != "" {
		fmt.Fprintf(&b, ", %s", r.SDK)
	}
	fmt.Fprintf(&b, ": %d passed, %d failed, %d skipped\n", passed, failed, skipped)
	if remark := r.Remark(); remark != "" {
		fmt.Fprintln(&b, remark)
	}
	return b.String()
}

// WriteJSON writes the report as one JSON object.
func (r *Report) WriteJSON(w io.Writer) error {
	enc := json.NewEncoder(w)
	enc.SetEscapeHTML(false)
	enc.SetIndent("", "  ")
	return enc.Encode(r)
}

// The JUnit form that build servers read: one suite, one case a rule.
type (
	junitSuite struct {
		XMLName  xml.Name    `xml:"testsuite"`
		Name     string      `xml:"name,attr"`
		Tests    int         `xml:"tests,attr"`
		Failures int         `xml:"failures,attr"`
		Errors   int         `xml:"errors,attr"`
		Skipped  int         `xml:"skipped,attr"`
		Time     string      `xml:"time,attr"`
		Cases    []junitCase `xml:"testcase"`
	}
	junitCase struct {
		Class   string       `xml:"classname,attr"`
		Name    string       `xml:"name,attr"`
		Time    string       `xml:"time,attr"`
		Failure *junitReason `xml:"failure"`
		Skipped *junitReason `xml:"skipped"`
		Output  string       `xml:"system-out,omitempty"`
	}
	junitReason struct {
		Message string `xml:"message,attr"`
		Text    string `xml:",chardata"`
	}
)

// WriteJUnit writes the report as JUnit XML.
func (r *Report) WriteJUnit(w io.Writer) error {
	_, failed, skipped := r.counts()
	suite := junitSuite{Name: "rivergate conformance of " + r.Plugin, Tests: len(r.Results), Failures: failed, Skipped: skipped}
	var total time.Duration
	for _, x := range r.Results {
		total += x.Took
		c := junitCase{Class: "rivergate.conformance." + r.Plugin, Name: x.Rule, Time: seconds(x.Took)}
		switch x.Status {
		case Fail:
			c.Failure = &junitReason{Message: x.Detail, Text: x.Title + "\n" + x.Detail + "\nChange: " + x.Change}
		case Skipped:
			c.Skipped = &junitReason{Message: x.Detail}
		default:
			c.Output = x.Detail
		}
		suite.Cases = append(suite.Cases, c)
	}
	suite.Time = seconds(total)
	text, err := xml.MarshalIndent(suite, "", "  ")
	if err != nil {
		return fmt.Errorf("write JUnit: %w", err)
	}
	_, err = fmt.Fprintf(w, "%s%s\n", xml.Header, text)
	return err
}

func seconds(d time.Duration) string { return fmt.Sprintf("%.3f", d.Seconds()) }
