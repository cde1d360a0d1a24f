package main

import (
	"fmt"
	"math"

	"github.com/IBM/sarama"
)

// numbers are those by which a broker knows what it has of a partition, and in which order (KIP-98). Each partition has an epoch of
// its own: the broker compares them by partition, and takes the next one without being asked (KIP-360).
type numbers struct {
	identity *identity
	producer int64 // noProducer: none yet
	epoch    int16
	next     int32 // of the next record
}

// identity is the numbers of all partitions. It outlives the connections, so that what was sent through an old one, and is written
// late, is refused instead of coming behind what was sent since.
type identity struct {
	producer int64 // the one that partitions are given; noProducer: to be requested
	all      map[int32]*numbers
}

const noProducer = -1

func newIdentity() *identity { return &identity{producer: noProducer, all: map[int32]*numbers{}} }

func (i *identity) of(partition int32) *numbers {
	n := i.all[partition]
	if n == nil {
		n = &numbers{identity: i, producer: noProducer}
		i.all[partition] = n
	}
	return n
}

// request asks a broker for a producer's number.
func request(client sarama.Client) (producer int64, err error) {
	answer, err := client.InitProducerID()
	if err == nil && answer.Err != sarama.ErrNoError {
		err = answer.Err
	}
	if err != nil {
		return noProducer, fmt.Errorf("start an idempotent producer: %w", err)
	}
	return answer.ProducerID, nil
}

func (n *numbers) known() bool { return n.producer != noProducer }

// begin takes the identity's producer.
func (n *numbers) begin() { n.producer, n.epoch, n.next = n.identity.producer, 0, 0 }

// forget is for a producer that cannot go on here: another one is requested.
func (n *numbers) forget() {
	if n.producer == n.identity.producer {
		n.identity.producer = noProducer
	}
	n.producer = noProducer
}

// advance is DefaultRecordBatch.incrementSequence: behind the highest number comes 0.
func (n *numbers) advance(records int) {
	n.next = int32((int64(n.next) + int64(records)) & math.MaxInt32) //nolint:gosec // 31 bits
}

// renew begins again at 0 in the next epoch.
func (n *numbers) renew() {
	if n.epoch == math.MaxInt16 {
		n.forget()
		return
	}
	n.epoch, n.next = n.epoch+1, 0
}
