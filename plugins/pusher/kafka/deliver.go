package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"strconv"
	"time"

	"github.com/IBM/sarama"

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

// Deliver produces the whole batch at once and waits for the broker's word about each record. Records that share a request with
// one that the broker refuses are refused with it, so they go again one by one until the guilty row stands alone.
func (k *Kafka) Deliver(ctx context.Context, b *sdk.Batch) error {
	k.mu.Lock()
	defer k.mu.Unlock()
	ctx, cancel := context.WithTimeout(ctx, k.DeliveryTimeout)
	defer cancel()
	rows := make([]sdk.Row, 0, b.Len())
	for row := range b.Rows() {
		rows = append(rows, row)
	}
	held := map[key]bool{}
	refused := k.produce(ctx, b, rows, held, false)
	for _, row := range refused {
		k.produce(ctx, b, []sdk.Row{row}, held, true)
	}
	return nil
}

// produce sends the records and settles each row, but for those that were refused together; alone, a refused row is rejected.
func (k *Kafka) produce(ctx context.Context, b *sdk.Batch, rows []sdk.Row, held map[key]bool, alone bool) (refused []sdk.Row) {
	settle := func(row sdk.Row, err error) {
		at := key{row.OrgID(), row.UUID()}
		var typed *sdk.Error
		if err != nil && b.Ordered && (!errors.As(err, &typed) || typed.Class != sdk.Rejected) {
			held[at] = true
		}
		b.Fail(row, err)
	}
	if ctx.Err() != nil {
		for _, row := range rows {
			settle(row, sdk.Throttle(0, errNotTried))
		}
		return nil
	}
	p, err := k.connected(ctx)
	if err != nil {
		for _, row := range rows {
			settle(row, k.failure(err))
		}
		return nil
	}
	records, sent := k.records(rows), 0
	answers := make([]error, len(rows))
	answered := make([]bool, len(rows))
	note := func(record *sarama.ProducerMessage, err error) {
		i := record.Metadata.(int) //nolint:forcetypeassert // set by records
		answers[i], answered[i] = err, true
	}
	told := time.Now()
	for waiting := 0; (sent < len(rows) || waiting > 0) && ctx.Err() == nil; {
		var input chan<- *sarama.ProducerMessage
		var next *sarama.ProducerMessage
		if sent < len(rows) {
			if held[key{rows[sent].OrgID(), rows[sent].UUID()}] {
				answers[sent], answered[sent] = sdk.RetryIn(0, "not_sent", errBehind), true
				sent++
				continue
			}
			input, next = p.records.Input(), records[sent]
		}
		select {
		case input <- next:
			sent++
			waiting++
		case r := <-p.records.Successes():
			note(r, nil)
			waiting--
		case e := <-p.records.Errors():
			note(e.Msg, e.Err)
			waiting--
		case <-ctx.Done():
		}
		if sent%256 == 0 && time.Since(told) > time.Second {
			b.Working()
			told = time.Now()
		}
	}
	return k.settle(ctx, rows, answers, answered, alone, settle)
}

// records are the rows as they travel: the key is the uuid, the value the client's bytes, what belongs to them in headers. The producer
// may hold a record after Deliver has given it up, so it gets bytes of its own. Its timestamp is the producer's: a topic's retention would
// take a row that waited for days as soon as it came.
func (k *Kafka) records(rows []sdk.Row) []*sarama.ProducerMessage {
	records := make([]*sarama.ProducerMessage, len(rows))
	backing := make([]sarama.ProducerMessage, len(rows))
	for i, row := range rows {
		headers := make([]sarama.RecordHeader, 0, 7)
		add := func(name, value string) {
			headers = append(headers, sarama.RecordHeader{Key: []byte(name), Value: []byte(value)})
		}
		add("position", strconv.FormatUint(row.Position(), 10))
		add("org_id", strconv.FormatUint(row.OrgID(), 10))
		add("received_at", row.ReceivedAt().Format(time.RFC3339Nano))
		if index, ok := row.Index(); ok {
			add("index", strconv.Itoa(index))
		}
		if row.UserID() != 0 {
			add("user_id", strconv.FormatUint(row.UserID(), 10))
		}
		if row.RequestID() != "" {
			add("request_id", row.RequestID())
		}
		if row.TraceParent() != "" {
			add("traceparent", row.TraceParent())
		}
		backing[i] = sarama.ProducerMessage{
			Topic: k.Topic, Key: sarama.StringEncoder(row.UUID()), Value: sarama.ByteEncoder(bytes.Clone(row.JSON())),
			Headers: headers, Metadata: i,
		}
		records[i] = &backing[i]
	}
	return records
}

// settle gives each row its outcome. After what is no row's own fault the connections are made anew.
func (k *Kafka) settle(ctx context.Context, rows []sdk.Row, answers []error, answered []bool, alone bool, say func(sdk.Row, error)) (refused []sdk.Row) {
	late := fmt.Errorf("wait for the broker's acknowledgement: %w", ctx.Err())
	broken := false
	for i, row := range rows {
		var typed *sdk.Error
		switch err := answers[i]; {
		case !answered[i]:
			broken = true
			say(row, k.failure(late))
		case err == nil, errors.As(err, &typed):
			say(row, err)
		case refusesRecord(err) && alone:
			say(row, sdk.Permanent(code(err), k.described(fmt.Errorf("topic %s: %w", k.Topic, err))))
		case refusesRecord(err):
			refused = append(refused, row)
		default:
			broken = true
			say(row, k.failure(err))
		}
	}
	if broken {
		k.drop()
	}
	return refused
}
