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
type failure struct{ expected, got, change string }

func (f *failure) Error() string { return "Expected: " + f.expected + "\nCame: " + f.got }

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
		return &failure{expected, "the process ended: " + p.how, "find out why it ends, from what it wrote; a plugin stays up whatever it is sent"}
	case errors.Is(err, context.DeadlineExceeded):
		return &failure{expected, "nothing", change}
	}
	return &failure{expected, "the error: " + oneLine(err.Error()), change}
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
