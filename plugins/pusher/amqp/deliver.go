package main

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"time"

	amqp "github.com/rabbitmq/amqp091-go"

	"github.com/rivergate/rivergate/sdk"
)

var (
	errNotTried = errors.New("the batch took longer than CONFIRM_TIMEOUT; this row was not published yet")
	errBehind   = errors.New("an earlier row of the same uuid is to be delivered first")
)

// key is what order is kept for.
type key struct {
	org  uint64
	uuid string
}

// delivery is one batch on its way.
type delivery struct {
	amqp  *AMQP
	batch *sdk.Batch
	held  map[key]bool // a row is to be sent again, and those behind it with it
}

// Deliver publishes the whole batch and then waits for its confirms. When the broker closes the channel because of a row, what is
// not confirmed goes one by one until the guilty row stands alone.
func (a *AMQP) Deliver(ctx context.Context, b *sdk.Batch) error {
	a.mu.Lock()
	defer a.mu.Unlock()
	ctx, cancel := context.WithTimeout(ctx, a.ConfirmTimeout)
	defer cancel()
	d := &delivery{amqp: a, batch: b, held: map[key]bool{}}
	rows := make([]sdk.Row, 0, b.Len())
	for row := range b.Rows() {
		rows = append(rows, row)
	}
	window := inFlight
	for len(rows) > 0 {
		if ctx.Err() != nil {
			d.settleAll(rows, sdk.Throttle(0, errNotTried))
			return nil
		}
		s, err := a.connected(ctx)
		if err != nil {
			d.settleAll(rows, a.failure(err))
			return nil
		}
		some := rows[:min(window, len(rows))]
		unsettled, err := d.publish(ctx, s, some)
		rest := rows[len(some):]
		switch {
		case err == nil:
			rows = rest
		case !a.refusesRow(err):
			d.settleAll(unsettled, a.failure(err))
			d.settleAll(rest, a.failure(err))
			return nil
		case len(unsettled) == 1:
			d.settle(unsettled[0], a.rejection(err))
			rows, window = rest, inFlight
		default:
			rows, window = append(unsettled, rest...), 1
		}
	}
	return nil
}

// settle notes what became of a row; nil: delivered. Rows go out in the order of the batch, so a row behind one of its uuid that comes
// again was published after it, and comes again behind it.
func (d *delivery) settle(row sdk.Row, err error) {
	k := key{row.OrgID(), row.UUID()}
	if d.held[k] {
		err = sdk.RetryIn(0, "not_sent", errBehind)
	}
	var typed *sdk.Error
	if err != nil && d.batch.Ordered && (!errors.As(err, &typed) || typed.Class != sdk.Rejected) {
		d.held[k] = true
	}
	d.batch.Fail(row, err)
	d.batch.Working()
}

func (d *delivery) settleAll(rows []sdk.Row, err error) {
	for _, row := range rows {
		d.settle(row, err)
	}
}

// pending is a message that waits for its confirm; refused says why it was never published.
type pending struct {
	row     sdk.Row
	confirm *amqp.DeferredConfirmation
	refused error
}

// publish sends the rows and settles each by the broker's word. When the channel is lost or the time is up, it returns the rows about
// which the broker said nothing, and why.
func (d *delivery) publish(ctx context.Context, s *session, rows []sdk.Row) (unsettled []sdk.Row, err error) {
	stop := context.AfterFunc(ctx, s.abort) // a broker that reads nothing would hold a write for ever
	defer stop()
	waiting := make([]pending, 0, len(rows))
	for i, row := range rows {
		routingKey := d.amqp.key.Fill(row, d.amqp.instance, plainInKey)
		if len(routingKey) > maxShortString {
			waiting = append(waiting, pending{row: row, refused: sdk.Permanent("routing_key", fmt.Errorf("the routing key of this row would have %d bytes, AMQP allows %d", len(routingKey), maxShortString))})
			continue
		}
		confirm, err := s.channel.PublishWithDeferredConfirm(d.amqp.Exchange, routingKey, d.amqp.Unroutable != unroutableAccept, false, message(row))
		if err != nil { // the channel is lost; why, is said when the confirms are
			unsettled = rows[i:]
			break
		}
		waiting = append(waiting, pending{row: row, confirm: confirm})
	}
	returned := map[string]amqp.Return{}
	var silent []sdk.Row
	for _, p := range waiting {
		if p.confirm == nil {
			d.settle(p.row, p.refused)
			continue
		}
		select {
		case <-p.confirm.Done():
		case <-ctx.Done():
		}
		s.takeReturns(returned)
		switch r, unroutable := returned[messageID(p.row)]; {
		case p.confirm.Acked() && unroutable:
			d.settle(p.row, d.amqp.unroutable(r))
		case p.confirm.Acked():
			d.amqp.taken = true
			d.settle(p.row, nil)
		case ctx.Err() == nil && !s.channel.IsClosed():
			d.settle(p.row, errNacked)
		default:
			silent = append(silent, p.row)
		}
	}
	unsettled = append(silent, unsettled...)
	if len(unsettled) > 0 {
		return unsettled, s.lostBecause(ctx)
	}
	return nil, nil
}

// takeReturns reads what came back. The broker returns a message before it confirms it, so after a confirm its return is
// in the channel.
func (s *session) takeReturns(into map[string]amqp.Return) {
	for {
		select {
		case r, open := <-s.returns:
			if !open {
				return
			}
			r.Body = nil
			into[r.MessageId] = r
		default:
			return
		}
	}
}

// lostBecause says why the channel was lost.
func (s *session) lostBecause(ctx context.Context) error {
	if ctx.Err() != nil {
		if reason := s.blockedBecause(); reason != "" {
			return &errBlocked{reason}
		}
		return fmt.Errorf("wait for confirms: %w", ctx.Err())
	}
	select {
	case err := <-s.closed:
		if err != nil {
			return err
		}
	case <-ctx.Done():
		return fmt.Errorf("wait for confirms: %w", ctx.Err())
	}
	return amqp.ErrClosed
}

func messageID(row sdk.Row) string { return strconv.FormatUint(row.Position(), 10) }

// message is a row as it travels: the client's bytes, what belongs to them in headers.
func message(row sdk.Row) amqp.Publishing {
	headers := amqp.Table{
		"org_id":      int64(row.OrgID()),
		"uuid":        row.UUID(),
		"position":    int64(row.Position()),
		"received_at": row.ReceivedAt().Format(time.RFC3339Nano), // the timestamp property has seconds only
	}
	if index, ok := row.Index(); ok {
		headers["index"] = int32(index)
	}
	if row.UserID() != 0 {
		headers["user_id"] = int64(row.UserID())
	}
	if row.RequestID() != "" {
		headers["request_id"] = row.RequestID()
	}
	if row.TraceParent() != "" {
		headers["traceparent"] = row.TraceParent()
	}
	return amqp.Publishing{
		Headers:      headers,
		ContentType:  "application/json",
		DeliveryMode: amqp.Persistent,
		MessageId:    messageID(row),
		Timestamp:    row.ReceivedAt(),
		AppId:        "rivergate",
		Body:         row.JSON(),
	}
}
