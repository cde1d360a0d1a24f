package main

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	amqp "github.com/rabbitmq/amqp091-go"

	"github.com/rivergate/rivergate/sdk"
)

// setUpPause is how long rows wait for an operator to mend the set-up before they are tried again.
const setUpPause = 5 * time.Second

// errNacked: the broker could not take the message: its queue is full (overflow reject-publish), or not available.
var errNacked = sdk.Throttle(0, errors.New("RabbitMQ refused the message for now (nack): the queue is full or not available"))

// errBlocked says that an alarm of the broker stops all publishers.
type errBlocked struct{ reason string }

func (e *errBlocked) Error() string { return "RabbitMQ blocks publishers: " + e.reason }

// refusesRow tells whether the broker closed the channel because of one message: it is too large, or its routing key is not
// allowed to these credentials. Every other reason would meet each row alike.
func (a *AMQP) refusesRow(err error) bool {
	var closed *amqp.Error
	var setUp *errTopology
	if errors.As(err, &setUp) || !errors.As(err, &closed) || !closed.Server {
		return false
	}
	return closed.Code == amqp.PreconditionFailed || closed.Code == amqp.AccessRefused && aboutTopic(closed) && a.key.Varies()
}

// aboutTopic: topic permissions are the only ones that depend on the message.
func aboutTopic(err *amqp.Error) bool { return strings.Contains(err.Reason, "access to topic") }

// rejection is the outcome of the one row that makes the broker close the channel. As long as the broker has taken no row at all,
// missing topic permissions are a matter of the set-up.
func (a *AMQP) rejection(err error) error {
	var closed *amqp.Error
	if errors.As(err, &closed) && closed.Code == amqp.AccessRefused && !a.taken {
		return sdk.RetryIn(setUpPause, "access_refused", a.described(err))
	}
	return sdk.Permanent(code(err), a.described(err))
}

// unroutable is the outcome of a row that no queue takes.
func (a *AMQP) unroutable(r amqp.Return) error {
	err := fmt.Errorf("RabbitMQ at %s returned the message: %d %s, exchange %q, routing key %q; no queue is bound for it: set QUEUE, or bind one, or mend EXCHANGE or ROUTING_KEY",
		a.address, r.ReplyCode, r.ReplyText, r.Exchange, r.RoutingKey)
	if a.Unroutable == unroutableRetry {
		return sdk.RetryIn(setUpPause, "no_route", err)
	}
	return sdk.Permanent("no_route", err)
}

// failure gives what happened to the connection or the channel its class.
func (a *AMQP) failure(err error) error {
	var closed *amqp.Error
	var blocked *errBlocked
	var setUp *errTopology
	switch {
	case errors.As(err, &blocked):
		return sdk.Throttle(0, a.described(err))
	case errors.Is(err, context.DeadlineExceeded):
		return sdk.RetryIn(0, "timeout", a.described(err))
	case !errors.As(err, &closed):
		return sdk.RetryIn(0, "connection", a.described(err))
	case closed.Code == amqp.AccessRefused && strings.Contains(closed.Reason, "access to "):
		return sdk.BadCredentials(code(err), fmt.Errorf("%w; grant it (rabbitmqctl set_permissions: write on EXCHANGE, configure on a QUEUE that is to be made; set_topic_permissions for a topic), or name another user in URL", a.described(err)))
	case closed.Code == amqp.AccessRefused:
		return sdk.BadCredentials(code(err), fmt.Errorf("%w; check user, password and vhost in URL, and the user's permissions", a.described(err)))
	case closed.Code == amqp.NotFound, closed.Code == amqp.NotAllowed, closed.Code == amqp.PreconditionFailed, errors.As(err, &setUp) && closed.Server:
		return sdk.RetryIn(setUpPause, code(err), fmt.Errorf("%w; the broker is not set up for this (vhost in URL, EXCHANGE, EXCHANGE_TYPE, QUEUE, QUEUE_TYPE)", a.described(err)))
	}
	return sdk.RetryIn(0, code(err), a.described(err))
}

// code is short and stable, for grouping.
func code(err error) string {
	var closed *amqp.Error
	if !errors.As(err, &closed) {
		return "connection"
	}
	switch closed.Code {
	case amqp.AccessRefused:
		return "access_refused"
	case amqp.NotFound:
		return "not_found"
	case amqp.NotAllowed:
		return "not_allowed"
	case amqp.PreconditionFailed:
		return "precondition_failed"
	case amqp.ConnectionForced:
		return "connection_forced"
	}
	return "connection"
}

// described is the error with the broker's address, in one line.
func (a *AMQP) described(err error) error { return fmt.Errorf("RabbitMQ at %s: %w", a.address, err) }
