package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/IBM/sarama"

	"github.com/rivergate/rivergate/sdk"
)

// Deliver gives the whole batch to the producer and waits for the broker's word about each record.
//
// A row that is to be sent again has none of its uuid behind it that was delivered, as ORDER=key wants it: they are in one partition,
// and what a producer has for one ends with the first that it gives up.
func (k *Kafka) Deliver(ctx context.Context, b *sdk.Batch) error {
	ctx, cancel := context.WithTimeout(ctx, k.DeliveryTimeout)
	defer cancel()
	p, err := k.connected(ctx)
	if err != nil {
		return k.failure(err)
	}
	partitions, err := p.client.Partitions(k.Topic)
	if err != nil {
		k.drop(p)
		return k.failure(fmt.Errorf("find the partitions of topic %s: %w", k.Topic, err))
	}
	d := &delivery{rows: make([]sdk.Row, 0, b.Len()), done: make(chan struct{})}
	for row := range b.Rows() {
		d.rows = append(d.rows, row)
	}
	if shares := d.compose(partitions, p.limit); len(shares) > 0 {
		p.add(shares)
		p.settled(ctx, d, b.Working)
	}
	for _, f := range d.failures {
		err := f.err
		if ctx.Err() != nil && errors.Is(err, errEnded) {
			err = fmt.Errorf("wait for the broker's acknowledgement: %w: %w", ctx.Err(), err)
		}
		err = k.failure(err)
		for _, e := range f.entries {
			b.Fail(d.rows[e.row], err)
		}
	}
	return nil
}

// delivery is one call of Deliver. Once it is with a producer the producer's mu guards left and failures, until done is closed.
type delivery struct {
	rows     []sdk.Row
	records  []sarama.Record // of the rows
	left     int             // how many records are not settled
	failures []failure
	done     chan struct{} // closed when none is left; nobody looks at rows and records then
}

type failure struct {
	entries []entry
	err     error
}

func (d *delivery) settle(records int) {
	if d.left -= records; d.left == 0 {
		close(d.done)
	}
}

func (d *delivery) fail(entries []entry, err error) {
	d.failures = append(d.failures, failure{entries, err})
	d.settle(len(entries))
}

// settled waits until every record is settled. A producer that does not do that in time, or cannot go on, is given up.
func (p *producer) settled(ctx context.Context, d *delivery, working func()) {
	turn := time.NewTicker(time.Second)
	defer turn.Stop()
	for left := len(d.rows); ; {
		select {
		case <-d.done:
			return
		case <-ctx.Done():
			p.drop(p)
			<-d.done
			return
		case <-p.broken:
			p.drop(p)
			<-d.done
			return
		case <-turn.C:
			p.mu.Lock()
			now := d.left
			p.mu.Unlock()
			if now < left {
				working()
				left = now
			}
		}
	}
}
