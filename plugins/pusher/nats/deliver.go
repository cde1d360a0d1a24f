package main

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/rivergate/rivergate/plugins/internal/template"
	"github.com/rivergate/rivergate/sdk"
)

// maxSubject bounds subjects: the server closes the connection when the line of a message is longer than max_control_line,
// by default 4096 bytes, and the line also holds the address of the answer.
const maxSubject = 3500

var (
	errNotTried = errors.New("the batch took longer than ACK_TIMEOUT; this row was not published yet")
	errBehind   = errors.New("an earlier row of the same uuid is to be delivered first")
)

type key struct {
	org  uint64
	uuid string
}

// delivery is one batch on its way.
type delivery struct {
	nats    *NATS
	batch   *sdk.Batch
	free    []sdk.Row         // may be published
	behind  map[key][]sdk.Row // wait for the acknowledgement of a row of the same uuid
	waiting map[*nats.Msg]sdk.Row
}

// Deliver has the whole batch in flight, but under ORDER=key one row of each uuid: the stream drops what comes again, so a row that it
// took ahead of one that it refused could not be put behind it any more.
func (n *NATS) Deliver(ctx context.Context, b *sdk.Batch) error {
	n.mu.Lock()
	defer n.mu.Unlock()
	ctx, cancel := context.WithTimeout(ctx, n.AckTimeout)
	defer cancel()
	s, err := n.connected(ctx)
	if err != nil {
		return n.failure(err)
	}
	stop := context.AfterFunc(ctx, s.abort) // a server that reads nothing would hold a write for ever
	defer stop()
	d := &delivery{nats: n, batch: b, behind: map[key][]sdk.Row{}, waiting: map[*nats.Msg]sdk.Row{}}
	seen := map[key]bool{}
	for row := range b.Rows() {
		k := key{row.OrgID(), row.UUID()}
		if b.Ordered && seen[k] {
			d.behind[k] = append(d.behind[k], row)
			continue
		}
		seen[k] = true
		d.free = append(d.free, row)
	}
	if err := d.run(ctx, s); err != nil {
		d.abandon(err)
		n.drop()
	}
	return nil
}

// run ends when every row has its outcome, or with why the others have none.
func (d *delivery) run(ctx context.Context, s *session) error {
	for {
		for len(d.free) > 0 && len(d.waiting) < inFlight {
			if ctx.Err() != nil || s.ended.Err() != nil {
				break
			}
			row := d.free[0]
			d.free = d.free[1:]
			if err := d.publish(s, row); err != nil {
				d.free = append(d.free, row)
				return lostBecause(ctx, s, err)
			}
		}
		if len(d.waiting) == 0 && len(d.free) == 0 {
			return nil
		}
		select {
		case a := <-s.answers:
			row, ours := d.waiting[a.message]
			if !ours {
				continue
			}
			delete(d.waiting, a.message)
			d.settle(row, d.nats.outcome(a, a.message.Subject))
		case subject := <-s.denied:
			for message, row := range d.waiting {
				if message.Subject == subject {
					delete(d.waiting, message)
					d.settle(row, d.nats.notPermitted(subject))
				}
			}
		case <-s.ended.Done():
			return lostBecause(ctx, s, context.Cause(s.ended))
		case <-ctx.Done():
			return lostBecause(ctx, s, ctx.Err())
		}
		d.batch.Working()
	}
}

// lostBecause prefers the deadline, which cuts the connection off, to the loss of the connection.
func lostBecause(ctx context.Context, s *session, err error) error {
	switch {
	case ctx.Err() != nil:
		return fmt.Errorf("wait for acknowledgements: %w", ctx.Err())
	case s.ended.Err() != nil:
		return context.Cause(s.ended)
	}
	return err
}

// publish sends a row; an error means that the connection is of no use any more.
func (d *delivery) publish(s *session, row sdk.Row) error {
	subject := d.nats.subject.Fill(row, d.nats.instance, plainInToken)
	switch {
	case len(subject) > maxSubject:
		d.settle(row, sdk.Permanent("subject", fmt.Errorf("the subject of this row would have %d bytes, at most %d can be sent", len(subject), maxSubject)))
		return nil
	case !subjectForm.MatchString(subject):
		d.settle(row, sdk.Permanent("subject", fmt.Errorf("the subject of this row would be %q, which has an empty token", subject)))
		return nil
	}
	m := d.nats.message(row, subject)
	_, err := s.stream.PublishMsgAsync(m, jetstream.WithExpectStream(d.nats.Stream), jetstream.WithRetryAttempts(0))
	if errors.Is(err, nats.ErrMaxPayload) {
		d.settle(row, sdk.Permanent("max_payload", fmt.Errorf("%d bytes and headers are more than NATS at %s takes (max_payload %d)", len(m.Data), d.nats.address, s.conn.MaxPayload())))
		return nil
	}
	if err == nil {
		d.waiting[m] = row
	}
	return err
}

// settle notes what became of a row, and lets go or holds those of its uuid behind it.
func (d *delivery) settle(row sdk.Row, err error) {
	d.batch.Fail(row, err)
	k := key{row.OrgID(), row.UUID()}
	next := d.behind[k]
	if len(next) == 0 {
		return
	}
	var typed *sdk.Error
	if err == nil || errors.As(err, &typed) && (typed.Class == sdk.Rejected || typed.Class == sdk.Duplicate) {
		d.free, d.behind[k] = append(d.free, next[0]), next[1:]
		return
	}
	delete(d.behind, k)
	for _, r := range next {
		d.batch.Fail(r, sdk.RetryIn(0, "not_sent", errBehind))
	}
}

// abandon settles what the server said nothing about.
func (d *delivery) abandon(err error) {
	failed := d.nats.failure(err)
	for _, row := range d.waiting {
		d.settle(row, failed)
	}
	if errors.Is(err, context.DeadlineExceeded) {
		failed = sdk.Throttle(0, errNotTried)
	}
	for len(d.free) > 0 {
		row := d.free[0]
		d.free = d.free[1:]
		d.settle(row, failed)
	}
}

// message is a row as it travels: the client's bytes, what belongs to them in headers. A header is one line, so a uuid is escaped.
func (n *NATS) message(row sdk.Row, subject string) *nats.Msg {
	position := strconv.FormatUint(row.Position(), 10)
	headers := nats.Header{
		jetstream.MsgIDHeader: {n.idPrefix + "-" + position},
		"content-type":        {"application/json"},
		"org_id":              {strconv.FormatUint(row.OrgID(), 10)},
		"uuid":                {template.Escape(row.UUID(), plainInToken+".")},
		"position":            {position},
		"received_at":         {row.ReceivedAt().Format(time.RFC3339Nano)},
	}
	if index, ok := row.Index(); ok {
		headers["index"] = []string{strconv.Itoa(index)}
	}
	if row.UserID() != 0 {
		headers["user_id"] = []string{strconv.FormatUint(row.UserID(), 10)}
	}
	if row.RequestID() != "" {
		headers["request_id"] = []string{strings.Join(strings.Fields(row.RequestID()), " ")}
	}
	if row.TraceParent() != "" {
		headers["traceparent"] = []string{row.TraceParent()}
	}
	return &nats.Msg{Subject: subject, Header: headers, Data: row.JSON()}
}
