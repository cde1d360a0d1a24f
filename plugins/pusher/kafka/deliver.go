package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/rivergate/rivergate/sdk"
)

var (
	errNotTried = errors.New("the batch took longer than DELIVERY_TIMEOUT; this row was not produced yet")
	errBehind   = errors.New("an earlier row of the same uuid is to be delivered first")
)

// key is what order is kept for: records of one key go to one partition.
type key struct {
	org  uint64
	uuid string
}

func keyOf(row sdk.Row) key { return key{row.OrgID(), row.UUID()} }

// Deliver produces the whole batch at once and waits for the broker's word about each record. Records that share a request with
// one that the broker refuses are refused with it, so they go again one by one until the guilty row stands alone.
func (k *Kafka) Deliver(ctx context.Context, b *sdk.Batch) error {
	ctx, cancel := context.WithTimeout(ctx, k.DeliveryTimeout)
	defer cancel()
	rows := make([]sdk.Row, 0, b.Len())
	for row := range b.Rows() {
		rows = append(rows, row)
	}
	d := delivery{Kafka: k, batch: b, held: map[key]bool{}}
	again := d.produce(ctx, rows, false)
	for i := range again {
		d.produce(ctx, again[i:i+1], true)
	}
	return nil
}

// delivery is one call of Deliver.
type delivery struct {
	*Kafka
	batch *sdk.Batch
	held  map[key]bool // under ORDER=key: a row of it is to be sent again, so those behind it are too
}

// fail says what became of a row that was not delivered.
func (d *delivery) fail(row sdk.Row, err error) {
	var typed *sdk.Error
	if d.batch.Ordered && (!errors.As(err, &typed) || typed.Class != sdk.Rejected) {
		d.held[keyOf(row)] = true
	}
	d.batch.Fail(row, err)
}

func (d *delivery) failAll(rows []sdk.Row, err error) {
	for _, row := range rows {
		d.fail(row, err)
	}
}

// produce sends the records and settles each row, but for those that are to go again alone; alone, a refused row is rejected.
func (d *delivery) produce(ctx context.Context, rows []sdk.Row, alone bool) (again []sdk.Row) {
	if ctx.Err() != nil {
		d.failAll(rows, sdk.Throttle(0, errNotTried))
		return nil
	}
	if len(d.held) > 0 && d.held[keyOf(rows[0])] { // alone: there is no other
		d.fail(rows[0], sdk.RetryIn(0, "not_sent", errBehind))
		return nil
	}
	p, err := d.connected(ctx)
	if err != nil {
		d.failAll(rows, d.failure(err))
		return nil
	}
	records := compose(d.Topic, rows)
	// A producer that does not take or answer them in time is given up. When drop returns it has ended, and nothing more is said.
	inTime := context.AfterFunc(ctx, func() { d.drop(p) })
	p.feed(records, d.batch.Working)
	p.settled(records, d.batch.Working)
	if !inTime() {
		d.drop(p)
	}
	return d.settle(ctx, p, rows, records, alone)
}

// settle gives each row its outcome. After what is no row's own fault the connections are made anew.
func (d *delivery) settle(ctx context.Context, p *producer, rows []sdk.Row, records *records, alone bool) (again []sdk.Row) {
	late := errEnded
	if ctx.Err() != nil {
		late = fmt.Errorf("wait for the broker's acknowledgement: %w", ctx.Err())
	}
	refused := map[key]bool{} // under ORDER=key: a row of it goes again
	broken := false
	for i, row := range rows {
		err := records.all[i].err
		switch {
		case !records.all[i].answered:
			d.fail(row, d.failure(late))
		case err == nil && len(d.held) > 0 && d.held[keyOf(row)]:
			// Produced in vain: with what is behind a row sent again, so that the last copies are in order.
			d.fail(row, sdk.RetryIn(0, "not_sent", errBehind))
		case err == nil && len(refused) > 0 && refused[keyOf(row)]:
			again = append(again, row)
		case err == nil:
		case refusesRecord(err) && alone:
			d.fail(row, sdk.Permanent(code(err), d.described(fmt.Errorf("topic %s: %w", d.Topic, err))))
		case refusesRecord(err):
			again = append(again, row)
			if d.batch.Ordered {
				refused[keyOf(row)] = true
			}
		default:
			broken = true
			d.fail(row, d.failure(err))
		}
	}
	if broken {
		d.drop(p)
	}
	return again
}

// settled waits until every record is answered, or the producer has ended.
func (p *producer) settled(r *records, working func()) {
	turn := time.NewTicker(time.Second)
	defer turn.Stop()
	for left := r.left.Load(); ; {
		select {
		case <-r.done:
			return
		case <-p.ended:
			return
		case <-turn.C:
			if now := r.left.Load(); now < left {
				working()
				left = now
			}
		}
	}
}
