package command

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"strings"
	"time"
	"unicode"

	"github.com/rivergate/rivergate/sdk/protocol"
)

// shownRows is how many rows of a batch are printed one by one when they were simply delivered.
const shownRows = 10

// rowOutcome is what became of one row.
type rowOutcome struct {
	Row        int     `json:"row"` // in the batch, from 1
	UUID       string  `json:"uuid"`
	Position   uint64  `json:"position"`
	Class      string  `json:"class"`
	Code       string  `json:"code,omitempty"`
	Message    string  `json:"message,omitempty"`
	RetryAfter float64 `json:"retry_after_ms,omitempty"`
	Host       string  `json:"host"` // what the host would do
	class      protocol.Class
}

// deliver sends one batch, waits for its acknowledgement and prints the outcomes.
func (p *prompt) deliver(ctx context.Context, frames []protocol.Frame) error {
	pid := p.status().PID
	if p.session == nil {
		opening, cancel := context.WithTimeout(ctx, p.options.timeout)
		session, err := p.host.Destination(p.name).Open(opening)
		cancel()
		if err != nil {
			return fmt.Errorf("no delivery stream could be opened: %w", err)
		}
		p.session, p.seq = session, 0
	}
	p.seq++
	began := time.Now()
	ack, err := p.exchange(ctx, frames)
	if err != nil {
		return p.broken(ctx, pid, began, err)
	}
	took := time.Since(began)
	outcomes, err := match(frames, ack)
	if err != nil {
		p.closeSession()
		return err
	}
	return p.printOutcomes(outcomes, ack.Window, took)
}

// exchange sends the batch and waits for its acknowledgement, as long as the plugin says that it gets on with it.
func (p *prompt) exchange(ctx context.Context, frames []protocol.Frame) (protocol.Ack, error) {
	session := p.session
	// Closing the session is what ends Send and Recv.
	defer context.AfterFunc(ctx, session.Close)()
	stuck := time.AfterFunc(p.options.timeout, func() {
		session.Kill(fmt.Sprintf("wedged on a batch: it acknowledged nothing for %s", p.options.timeout))
	})
	defer stuck.Stop()
	if err := session.Send(&protocol.Batch{Seq: p.seq, Frames: frames, Ordered: p.options.ordered}); err != nil {
		return protocol.Ack{}, err
	}
	for {
		ack, err := session.Recv()
		switch {
		case err != nil:
			return protocol.Ack{}, err
		case ack.Working:
			stuck.Reset(p.options.timeout)
			if !p.c.json {
				p.printf("  it says that it is still working on the batch\n")
			}
		case ack.ThroughSeq != p.seq:
			return protocol.Ack{}, fmt.Errorf("%w: batch %d was acknowledged, %d was sent", protocol.ErrMalformed, ack.ThroughSeq, p.seq)
		default:
			return ack, nil
		}
	}
}

// broken tells why there is no acknowledgement, and waits for the next process when there is to be one.
func (p *prompt) broken(ctx context.Context, pid int, began time.Time, err error) error {
	if ctx.Err() != nil {
		return ctx.Err()
	}
	how, crashed := p.session.Crashed()
	p.closeSession()
	if how == "" {
		return fmt.Errorf("the delivery stream broke: %w; the host would open another and send the rows again", err)
	}
	if p.c.json {
		if err := p.event("ended", map[string]any{"how": how, "crashed": crashed}); err != nil {
			return err
		}
	} else {
		p.printf("  the process has ended: %s\n  the host would send the rows again, and when it ends again, halve the batch until it knows the guilty row\n", how)
	}
	if errors.Is(err, protocol.ErrMalformed) && !p.c.json {
		p.printf("  it broke the protocol: %v\n", err)
	}
	return p.restarted(ctx, pid, began)
}

func (p *prompt) closeSession() {
	if p.session != nil {
		p.session.Close()
		p.session = nil
	}
}

// match gives each row its outcome. An outcome for a row that was not sent, or a second one, is the plugin's mistake.
func match(frames []protocol.Frame, ack protocol.Ack) ([]rowOutcome, error) {
	type place struct {
		position uint64
		row      int
	}
	var rows []rowOutcome
	at := map[place]int{}
	for i := range frames {
		f := &frames[i]
		for n := range f.Len() {
			at[place{f.Position, n}] = len(rows)
			rows = append(rows, rowOutcome{
				Row: len(rows) + 1, UUID: f.UUID, Position: f.Position + uint64(n), Class: protocol.Delivered.String(), Host: "done",
			})
		}
	}
	said := map[place]bool{}
	for _, o := range ack.Outcomes {
		key := place{o.Position, o.Row}
		i, sent := at[key]
		switch {
		case !sent:
			return nil, fmt.Errorf("the plugin breaks the contract: an outcome for position %d, row %d, which was not in the batch; the host would kill it", o.Position, o.Row)
		case said[key]:
			return nil, fmt.Errorf("the plugin breaks the contract: two outcomes for position %d, row %d; the host would kill it", o.Position, o.Row)
		}
		said[key] = true
		r := &rows[i]
		r.Class, r.Code, r.Message, r.class = o.Class.String(), o.Code, o.Message, o.Class
		r.RetryAfter, r.Host = milliseconds(o.RetryAfter), consequence(o)
	}
	return rows, nil
}

// consequence is what the host does with a row.
func consequence(o protocol.Outcome) string {
	again := "sent again after its backoff"
	if o.RetryAfter > 0 {
		again = "sent again, not before " + elapsed(o.RetryAfter)
	}
	switch o.Class {
	case protocol.Retry:
		return again + "; after RETRY_ATTEMPTS into the dead letters"
	case protocol.Throttled:
		return again + "; no attempt is counted"
	case protocol.Rejected:
		return "into the dead letters, at once"
	case protocol.Unauthenticated:
		return "the whole destination is held, one batch is tried now and then; no attempt is counted"
	case protocol.Skipped:
		return "done, counted as skipped"
	default:
		return "done"
	}
}

func (p *prompt) printOutcomes(rows []rowOutcome, window int, took time.Duration) error {
	if p.c.json {
		fields := map[string]any{"rows": rows, "took_ms": milliseconds(took)}
		if window > 0 {
			fields["window"] = window
		}
		return p.event("outcomes", fields)
	}
	counts := map[protocol.Class]int{}
	for _, r := range rows {
		counts[r.class]++
		if r.class == protocol.Delivered && len(rows) > shownRows {
			continue
		}
		p.printf("  row %d  position %d  %s", r.Row, r.Position, r.Class)
		if r.class != protocol.Delivered {
			p.printf("  %s  %s\n      → %s", cmp.Or(visible(r.Code), "(no code)"), visible(r.Message), r.Host)
		}
		p.printf("\n")
	}
	summary := ""
	for class := protocol.Delivered; class <= protocol.Skipped; class++ {
		if n := counts[class]; n > 0 {
			summary += fmt.Sprintf(", %d %s", n, class)
		}
	}
	p.printf("  %s in %s%s\n", some(int64(len(rows)), "row"), elapsed(took), summary)
	return nil
}

func rowsIn(frames []protocol.Frame) (n int) {
	for i := range frames {
		n += frames[i].Len()
	}
	return n
}

func milliseconds(d time.Duration) float64 { return float64(d.Microseconds()) / 1000 }

// elapsed writes a duration short, down to a hundredth of a millisecond.
func elapsed(d time.Duration) string {
	if d >= time.Second {
		return d.Round(10 * time.Millisecond).String()
	}
	return d.Round(10 * time.Microsecond).String()
}

// visible is a plugin's text as it may be printed on a terminal: on one line, without control characters.
func visible(s string) string {
	return strings.Join(strings.Fields(strings.Map(func(r rune) rune {
		if !unicode.IsPrint(r) {
			return ' '
		}
		return r
	}, s)), " ")
}
