package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"sync"
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
	answers := make([]error, len(rows))
	answered := make([]bool, len(rows))
	waiting := 0
	for i, row := range rows {
		if held[key{row.OrgID(), row.UUID()}] {
			answers[i], answered[i] = sdk.RetryIn(0, "not_sent", errBehind), true
		} else {
			waiting++
		}
	}
	// Records are made while the broker is at work on those before them.
	var feeding sync.WaitGroup
	compose := newComposer(k.Topic, waiting)
	skip := slices.Clone(answered) // the loop below writes to answered
	feeding.Go(func() {
		for i, row := range rows {
			if skip[i] {
				continue
			}
			select {
			case p.records.Input() <- compose.record(row, i):
			case <-ctx.Done():
				return
			}
		}
	})
	told := time.Now()
	for waiting > 0 && ctx.Err() == nil {
		select {
		case r := <-p.records.Successes():
			answered[r.Metadata.(int)] = true //nolint:forcetypeassert // set by the composer
		case e := <-p.records.Errors():
			i := e.Msg.Metadata.(int) //nolint:forcetypeassert // the same
			answers[i], answered[i] = e.Err, true
		case <-ctx.Done():
			continue
		}
		waiting--
		if waiting%256 == 0 && time.Since(told) > time.Second {
			b.Working()
			told = time.Now()
		}
	}
	feeding.Wait() // before the producer may be closed
	return k.settle(ctx, rows, answers, answered, alone, settle)
}

// composer makes the records of a batch as they travel: the key is the uuid, the value the client's bytes, what belongs to them in headers.
// What the rows of a request share is written once. The producer may hold a record after Deliver has given it up, so nothing in it
// is the batch's own. A record's timestamp is the producer's: a topic's retention would take a row that waited for days as soon as it came.
type composer struct {
	topic    string
	messages []sarama.ProducerMessage
	headers  []sarama.RecordHeader
	numbers  []byte

	frame  *sdk.Frame // of the last row
	data   []byte
	key    sarama.ByteEncoder
	shared []sarama.RecordHeader
}

// The names of headers. sarama only reads them.
var (
	headerPosition    = []byte("position")
	headerIndex       = []byte("index")
	headerOrg         = []byte("org_id")
	headerUser        = []byte("user_id")
	headerReceived    = []byte("received_at")
	headerRequest     = []byte("request_id")
	headerTraceParent = []byte("traceparent")
)

// ownHeaders is how many headers a row has of its own: position and index.
const ownHeaders = 2

func newComposer(topic string, rows int) *composer {
	return &composer{topic: topic, messages: make([]sarama.ProducerMessage, 0, rows)}
}

// record is that of the row, with i as its metadata. It is called for one row after the other.
func (c *composer) record(row sdk.Row, i int) *sarama.ProducerMessage {
	frame, n := row.Frame()
	if frame != c.frame {
		c.enter(frame, row)
	}
	if cap(c.headers)-len(c.headers) < len(c.shared)+ownHeaders {
		c.headers = make([]sarama.RecordHeader, 0, 512*(len(c.shared)+ownHeaders))
	}
	begin := len(c.headers)
	c.headers = append(c.headers, sarama.RecordHeader{Key: headerPosition, Value: c.number(row.Position())})
	if index, ok := row.Index(); ok {
		c.headers = append(c.headers, sarama.RecordHeader{Key: headerIndex, Value: c.number(uint64(index))}) //nolint:gosec // not below 0
	}
	c.headers = append(c.headers, c.shared...)
	from := uint32(0)
	if n > 0 {
		from = frame.Ends[n-1]
	}
	c.messages = append(c.messages, sarama.ProducerMessage{
		Topic: c.topic, Key: c.key, Value: sarama.ByteEncoder(c.data[from:frame.Ends[n]]),
		Headers: c.headers[begin:len(c.headers):len(c.headers)], Metadata: i,
	})
	return &c.messages[len(c.messages)-1]
}

// enter prepares what the rows of a frame share.
func (c *composer) enter(frame *sdk.Frame, row sdk.Row) {
	c.frame, c.data, c.key = frame, bytes.Clone(frame.Data), sarama.ByteEncoder(row.UUID())
	c.shared = []sarama.RecordHeader{
		{Key: headerOrg, Value: c.number(row.OrgID())},
		{Key: headerReceived, Value: []byte(row.ReceivedAt().Format(time.RFC3339Nano))},
	}
	if row.UserID() != 0 {
		c.shared = append(c.shared, sarama.RecordHeader{Key: headerUser, Value: c.number(row.UserID())})
	}
	if row.RequestID() != "" {
		c.shared = append(c.shared, sarama.RecordHeader{Key: headerRequest, Value: []byte(row.RequestID())})
	}
	if row.TraceParent() != "" {
		c.shared = append(c.shared, sarama.RecordHeader{Key: headerTraceParent, Value: []byte(row.TraceParent())})
	}
}

// number writes a number where many have room.
func (c *composer) number(n uint64) []byte {
	const digits = 20
	if cap(c.numbers)-len(c.numbers) < digits {
		c.numbers = make([]byte, 0, 1024*digits)
	}
	begin := len(c.numbers)
	c.numbers = strconv.AppendUint(c.numbers, n, 10)
	return c.numbers[begin:len(c.numbers):len(c.numbers)]
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
