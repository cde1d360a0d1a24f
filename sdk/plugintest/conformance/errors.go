package conformance

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/rivergate/rivergate/sdk/wire"
)

// failure is a broken rule.
type failure struct {
	expected, got, change string
	when                  string // in which part of the rule; may be empty
}

func (f *failure) Error() string {
	text := "Expected: " + f.expected + "\nCame: " + f.got
	if f.when != "" {
		text = "When: " + f.when + "\n" + text
	}
	return text
}

// during says in which part of a rule it failed.
func during(err error, format string, args ...any) error {
	var f *failure
	if !errors.As(err, &f) {
		return err
	}
	out := *f
	if out.when == "" {
		out.when = fmt.Sprintf(format, args...)
	}
	return &out
}

// addChange puts what the rule knows in the place of a more general advice.
func addChange(err error, change string) error {
	var f *failure
	if !errors.As(err, &f) {
		return err
	}
	out := *f
	out.change = change
	return &out
}

// skip is a rule that could not be judged.
type skip struct{ why string }

func (s *skip) Error() string { return s.why }

func skipf(format string, args ...any) error { return &skip{why: fmt.Sprintf(format, args...)} }

// endTime is how long a broken connection waits for the process's end to be its explanation.
const endTime = 2 * time.Second

// failed makes a failure out of the error of a call or stream: what the plugin did instead of an answer.
func (p *process) failed(doing string, err error, change string) error {
	var known *failure
	if errors.As(err, &known) {
		return err
	}
	expected := fmt.Sprintf("an answer to %s within %s", doing, p.timeout)
	switch {
	case wire.IsGone(err) && closedWithin(p.dead, endTime):
		return &failure{expected: expected, got: "the process ended: " + p.how, change: "find out why it ends, from what it wrote; a plugin stays up whatever it is sent"}
	case errors.Is(err, context.DeadlineExceeded):
		return &failure{expected: expected, got: "nothing", change: change}
	}
	return &failure{expected: expected, got: "the error: " + oneLine(err.Error()), change: change}
}

// oneLine is text from a plugin, fit for a report.
func oneLine(s string) string {
	s = strings.Join(strings.Fields(s), " ")
	if len(s) > 600 {
		s = strings.ToValidUTF8(s[:600], "") + "…"
	}
	return s
}

func closedWithin(c <-chan struct{}, d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-c:
		return true
	case <-timer.C:
		return false
	}
}

func fail(expected, got, change string) error {
	return &failure{expected: expected, got: got, change: change}
}
