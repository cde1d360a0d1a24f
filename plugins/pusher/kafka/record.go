package main

import (
	"strconv"
	"sync/atomic"
	"time"

	"github.com/IBM/sarama"

	"github.com/rivergate/rivergate/sdk"
)

// records are those of a batch, and what the broker has said about them.
type records struct {
	all  []record
	left atomic.Int64  // how many have no answer
	done chan struct{} // closed when none is left; what was said can be read then, or when the producer has ended
}

// record is its own message's Metadata.
type record struct {
	sarama.ProducerMessage
	of       *records
	answered bool
	err      error
}

// answer is called by one of the producer's goroutines, once for a record that was fed.
func answer(m *sarama.ProducerMessage, err error) {
	r := m.Metadata.(*record) //nolint:forcetypeassert // set by compose
	r.answered, r.err = true, err
	if r.of.left.Add(-1) == 0 {
		close(r.of.done)
	}
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

const (
	ownHeaders = 2 // at most, that a row has of its own: position and index
	allHeaders = 7 // at most, of a record
)

// compose makes records as they travel: the key is the uuid, the value the client's bytes, what belongs to them in headers. What
// the rows of a request share is written once. A record's timestamp is the producer's: a topic's retention would take a row that
// waited for days as soon as it came.
func compose(topic string, rows []sdk.Row) *records {
	all := &records{all: make([]record, len(rows)), done: make(chan struct{})}
	all.left.Store(int64(len(rows)))
	c := composer{}
	for i, row := range rows {
		frame, n := row.Frame()
		if frame != c.frame {
			c.enter(frame, row)
		}
		r := &all.all[i]
		r.of = all
		r.Topic, r.Metadata, r.Key, r.Value = topic, r, c.key, sarama.ByteEncoder(frame.Row(n))
		r.Headers = c.headersOf(row)
	}
	return all
}

// composer holds what the rows of a frame share, and room for what they do not.
type composer struct {
	frame   *sdk.Frame
	key     sarama.Encoder
	shared  []sarama.RecordHeader
	headers []sarama.RecordHeader
	numbers []byte
}

func (c *composer) headersOf(row sdk.Row) []sarama.RecordHeader {
	if cap(c.headers)-len(c.headers) < len(c.shared)+ownHeaders {
		c.headers = make([]sarama.RecordHeader, 0, 64*allHeaders)
	}
	begin := len(c.headers)
	c.headers = append(c.headers, sarama.RecordHeader{Key: headerPosition, Value: c.number(row.Position())})
	if index, ok := row.Index(); ok {
		c.headers = append(c.headers, sarama.RecordHeader{Key: headerIndex, Value: c.number(uint64(index))}) //nolint:gosec // not below 0
	}
	c.headers = append(c.headers, c.shared...)
	return c.headers[begin:len(c.headers):len(c.headers)]
}

// enter prepares what the rows of a frame share.
func (c *composer) enter(frame *sdk.Frame, row sdk.Row) {
	c.frame, c.key = frame, sarama.ByteEncoder(row.UUID())
	c.shared = append(c.shared[:0],
		sarama.RecordHeader{Key: headerOrg, Value: c.number(row.OrgID())},
		sarama.RecordHeader{Key: headerReceived, Value: row.ReceivedAt().AppendFormat(nil, time.RFC3339Nano)},
	)
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
		c.numbers = make([]byte, 0, 128*digits)
	}
	begin := len(c.numbers)
	c.numbers = strconv.AppendUint(c.numbers, n, 10)
	return c.numbers[begin:len(c.numbers):len(c.numbers)]
}
