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

// meaning is what an answer of a broker says about a batch.
type meaning int

const (
	isFatal           meaning = iota // it will be no better the next time, and it is no record's fault
	isDelivered                      // or was before
	isRefused                        // because of what a record holds: nothing of it was written
	isCorrupt                        // on the way, or as it was built
	isAgain                          // it may have been written
	isMisnumbered                    // the broker does not know, or no longer, what it got before
	isUnknownProducer                // the broker knows another one under this number
)

var meanings = map[sarama.KError]meaning{
	sarama.ErrNoError:                         isDelivered,
	sarama.ErrDuplicateSequenceNumber:         isDelivered,
	sarama.ErrMessageSizeTooLarge:             isRefused,
	sarama.ErrMessageSetSizeTooLarge:          isRefused,
	sarama.ErrInvalidRecord:                   isRefused,
	sarama.ErrInvalidTimestamp:                isRefused,
	sarama.ErrInvalidMessage:                  isCorrupt,
	sarama.ErrUnknownTopicOrPartition:         isAgain,
	sarama.ErrLeaderNotAvailable:              isAgain,
	sarama.ErrNotLeaderForPartition:           isAgain,
	sarama.ErrRequestTimedOut:                 isAgain,
	sarama.ErrBrokerNotAvailable:              isAgain,
	sarama.ErrReplicaNotAvailable:             isAgain,
	sarama.ErrNetworkException:                isAgain,
	sarama.ErrOffsetsLoadInProgress:           isAgain,
	sarama.ErrConsumerCoordinatorNotAvailable: isAgain,
	sarama.ErrNotEnoughReplicas:               isAgain,
	sarama.ErrNotEnoughReplicasAfterAppend:    isAgain,
	sarama.ErrKafkaStorageError:               isAgain,
	sarama.ErrListenerNotFound:                isAgain,
	sarama.ErrFencedLeaderEpoch:               isAgain,
	sarama.ErrUnknownLeaderEpoch:              isAgain,
	sarama.ErrThrottlingQuotaExceeded:         isAgain,
	sarama.ErrOutOfOrderSequenceNumber:        isMisnumbered,
	sarama.ErrUnknownProducerID:               isMisnumbered,
	sarama.ErrInvalidProducerEpoch:            isUnknownProducer,
	sarama.ErrInvalidProducerIDMapping:        isUnknownProducer,
	sarama.ErrProducerFenced:                  isUnknownProducer,
}

// meaningOf: an error that is not Kafka's own is the connection's.
func meaningOf(err error) meaning {
	if err == nil {
		return isDelivered
	}
	var kafka sarama.KError
	if errors.As(err, &kafka) {
		return meanings[kafka]
	}
	var encoding sarama.PacketEncodingError
	if errors.As(err, &encoding) {
		return isFatal
	}
	return isAgain
}

// answerOf is what the broker says about a partition, with its own words where it has some.
func answerOf(block *sarama.ProduceResponseBlock) error {
	switch {
	case block == nil:
		return sarama.ErrIncompleteResponse
	case block.Err == sarama.ErrNoError:
		return nil
	case block.ErrorMessage != nil:
		return fmt.Errorf("%w: %s", block.Err, *block.ErrorMessage)
	}
	return block.Err
}

func isKafka(err error, codes ...sarama.KError) bool {
	for _, code := range codes {
		if errors.Is(err, code) {
			return true
		}
	}
	return false
}

// errRefused says that a row can never be written.
type errRefused struct{ err error }

func (e *errRefused) Error() string { return e.err.Error() }
func (e *errRefused) Unwrap() error { return e.err }

// errTooLarge: the producer itself does not take the record.
type errTooLarge struct{ size, limit int }

func (e *errTooLarge) Error() string {
	return fmt.Sprintf("the row makes a record of up to %d bytes; MAX_RECORD_BYTES or the topic's max.message.bytes leaves room for %d", e.size, e.limit)
}

// failure gives what happened to a row its class.
func (k *Kafka) failure(err error) error {
	var topic *errTopic
	var refused *errRefused
	switch {
	case errors.As(err, &refused):
		return sdk.Permanent(code(err), k.described(fmt.Errorf("topic %s: %w", k.Topic, err)))
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
	var large *errTooLarge
	if errors.As(err, &large) {
		return "too_large"
	}
	if errors.As(err, &kafka) {
		return fmt.Sprintf("kafka_%d", int16(kafka))
	}
	return "connection"
}

// described is the error with the brokers' addresses.
func (k *Kafka) described(err error) error { return fmt.Errorf("Kafka at %s: %w", k.address, err) }
