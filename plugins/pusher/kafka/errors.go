package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/IBM/sarama"

	"github.com/rivergate/rivergate/sdk"
)

// setUpPause is how long rows wait for an operator to mend the set-up before they are tried again.
const setUpPause = 5 * time.Second

func isKafka(err error, codes ...sarama.KError) bool {
	for _, code := range codes {
		if errors.Is(err, code) {
			return true
		}
	}
	return false
}

// refusesRecord tells whether the error is about what a record holds; every other error would meet each record alike.
func refusesRecord(err error) bool {
	return tooLarge(err) || isKafka(err, sarama.ErrMessageSizeTooLarge, sarama.ErrInvalidMessage, sarama.ErrInvalidRecord, sarama.ErrInvalidTimestamp)
}

// tooLarge: sarama itself does not take the record. It has no other complaint about one of ours.
func tooLarge(err error) bool {
	var size sarama.ConfigurationError
	return errors.As(err, &size)
}

// failure gives what happened to the connection or the topic its class.
func (k *Kafka) failure(err error) error {
	var topic *errTopic
	switch {
	case isKafka(err, sarama.ErrSASLAuthenticationFailed, sarama.ErrUnsupportedSASLMechanism, sarama.ErrIllegalSASLState):
		return sdk.BadCredentials(code(err), fmt.Errorf("%w; check SASL, USERNAME and PASSWORD", k.described(err)))
	case isKafka(err, sarama.ErrTopicAuthorizationFailed, sarama.ErrClusterAuthorizationFailed, sarama.ErrTransactionalIDAuthorizationFailed):
		return sdk.BadCredentials(code(err), fmt.Errorf("%w; the user needs WRITE and DESCRIBE on topic %s", k.described(err), k.Topic))
	case errors.As(err, &topic):
		return sdk.RetryIn(setUpPause, "topic", k.described(err))
	case errors.Is(err, context.DeadlineExceeded):
		return sdk.RetryIn(0, "timeout", k.described(err))
	}
	return sdk.RetryIn(0, code(err), k.described(err))
}

// code is short and stable, for grouping.
func code(err error) string {
	var kafka sarama.KError
	if tooLarge(err) {
		return "too_large"
	}
	if errors.As(err, &kafka) {
		return fmt.Sprintf("kafka_%d", int16(kafka))
	}
	return "connection"
}

// described is the error with the brokers' addresses.
func (k *Kafka) described(err error) error { return fmt.Errorf("Kafka at %s: %w", k.address, err) }
