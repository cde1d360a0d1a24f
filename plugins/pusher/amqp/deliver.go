package main

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"time"

	amqp "github.com/rabbitmq/amqp091-go"

	"github.com/rivergate/rivergate/plugins/internal/pipelined"
	"github.com/rivergate/rivergate/sdk"
)

// errNotTried says that a batch took too long; what was not tried is tried with the next one.
var errNotTried = errors.New("the batch took longer than CONFIRM_TIMEOUT; this row was not published yet")

// delivery is one batch on its way.
type delivery struct {
	*pipelined.Outcomes
	amqp *AMQP
}

// Deliver publishes the whole batch and then waits for its confirms. When the broker closes the channel because of a row, what is
// not confirmed goes one by one until the guilty row stands alone.
func (a *AMQP) Deliver(ctx context.Context, b *sdk.Batch) error {
	a.mu.Lock()
	defer a.mu.Unlock()
	ctx, cancel := context.WithTimeout(ctx, a.ConfirmTimeout)
	defer cancel()
	d := &delivery{Outcomes: pipelined.Of(b), amqp: a}
	rows := make([]sdk.Row, 0, b.Len())
	for row := range b.Rows() {
		rows = append(rows, row)
	}
	window := inFlight
	for len(rows) > 0 {
		if ctx.Err() != nil {
			d.SettleAll(rows, sdk.Throttle(0, errNotTried))
			return nil
		}
		s, err := a.connected(ctx)
		if err != nil {
			d.SettleAll(rows, a.failure(err))
			return nil
		}
		some := rows[:min(window, len(rows))]
		unsettled, err := d.publish(ctx, s, some)
		rest := rows[len(some):]
		switch {
		case err == nil:
			rows = rest
		case !a.refusesRow(err):
			if ctx.Err() != nil {
				a.drop() // it was cut off, and the next batch must not find it before the library has noticed
			}
			d.SettleAll(unsettled, a.failure(err))
			d.SettleAll(rest, a.failure(err))
			return nil
		case len(unsettled) == 1:
			d.Settle(unsettled[0], a.rejection(err))
			rows, window = rest, inFlight
		default:
			rows, window = append(unsettled, rest...), 1
		}
	}
	return nil
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
			d.Settle(p.row, p.refused)
			continue
		}
		select {
		case <-p.confirm.Done():
		case <-ctx.Done():
		}
		s.takeReturns(returned)
		switch r, unroutable := returned[messageID(p.row)]; {
		case p.confirm.Acked() && unroutable:
			d.Settle(p.row, d.amqp.unroutable(r))
		case p.confirm.Acked():
			d.amqp.taken = true
			d.Settle(p.row, nil)
		case ctx.Err() == nil && !s.channel.IsClosed():
			d.Settle(p.row, errNacked)
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
