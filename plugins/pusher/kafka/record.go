package main

import (
	"strconv"
	"time"

	"github.com/IBM/sarama"

	"github.com/rivergate/rivergate/sdk"
)

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

	// What a record and a header take beside their bytes, at most: the lengths, and numbers of at most so many digits.
	recordOverhead = 36
	headerOverhead = 10
)

// partitionOf is sarama's hash partitioner (FNV-1a; not Java's murmur2): a uuid stays where its rows have gone since the first version.
func partitionOf(key []byte, partitions []int32) int32 {
	hash := uint32(2166136261)
	for _, c := range key {
		hash = (hash ^ uint32(c)) * 16777619
	}
	choice := int32(hash) % int32(len(partitions)) //nolint:gosec // as sarama has it
	if choice < 0 {
		choice = -choice
	}
	return partitions[choice]
}

// compose makes records as they travel: the key is the uuid, the value the client's bytes, what belongs to them in headers. What the
// rows of a request share is made once. It returns what is for each partition; a record of more bytes than limit fails at once.
func (d *delivery) compose(partitions []int32, limit int) map[int32]part {
	d.records = make([]sarama.Record, len(d.rows))
	shares := make(map[int32]part, len(partitions))
	c := composer{}
	var share part
	var partition int32
	for i, row := range d.rows {
		frame, n := row.Frame()
		if frame != c.frame {
			if c.frame != nil {
				shares[partition] = share
			}
			c.enter(frame, row)
			partition = partitionOf(c.key, partitions)
			share = shares[partition]
			share.of = d
		}
		r := &d.records[i]
		r.Key, r.Value = c.key, frame.Row(n)
		size := recordOverhead + len(c.key) + len(r.Value) + c.sharedSize
		r.Headers = c.headersOf(row)
		for _, h := range r.Headers[:len(r.Headers)-len(c.shared)] {
			size += headerSize(h)
		}
		e := entry{row: int32(i), size: int32(size)} //nolint:gosec // of a message
		if size > limit {
			d.failures = append(d.failures, failure{[]entry{e}, &errRefused{&errTooLarge{size, limit}}})
			continue
		}
		share.entries = append(share.entries, e)
		d.left++
	}
	if c.frame != nil {
		shares[partition] = share
	}
	for id, share := range shares {
		if len(share.entries) == 0 {
			delete(shares, id)
		}
	}
	return shares
}

func headerSize(h *sarama.RecordHeader) int { return headerOverhead + len(h.Key) + len(h.Value) }

// composer holds what the rows of a frame share, and room for what they do not.
type composer struct {
	frame      *sdk.Frame
	key        []byte
	shared     []*sarama.RecordHeader
	sharedSize int
	headers    []sarama.RecordHeader
	pointers   []*sarama.RecordHeader
	numbers    []byte
}

func (c *composer) headersOf(row sdk.Row) []*sarama.RecordHeader {
	if cap(c.pointers)-len(c.pointers) < len(c.shared)+ownHeaders {
		c.pointers = make([]*sarama.RecordHeader, 0, 64*allHeaders)
	}
	begin := len(c.pointers)
	c.pointers = append(c.pointers, c.header(headerPosition, c.number(row.Position())))
	if index, ok := row.Index(); ok {
		c.pointers = append(c.pointers, c.header(headerIndex, c.number(uint64(index)))) //nolint:gosec // not below 0
	}
	c.pointers = append(c.pointers, c.shared...)
	return c.pointers[begin:len(c.pointers):len(c.pointers)]
}

// enter prepares what the rows of a frame share.
func (c *composer) enter(frame *sdk.Frame, row sdk.Row) {
	c.frame, c.key = frame, []byte(row.UUID())
	c.shared = append(c.shared[:0],
		c.header(headerOrg, c.number(row.OrgID())),
		c.header(headerReceived, row.ReceivedAt().AppendFormat(nil, time.RFC3339Nano)),
	)
	if row.UserID() != 0 {
		c.shared = append(c.shared, c.header(headerUser, c.number(row.UserID())))
	}
	if row.RequestID() != "" {
		c.shared = append(c.shared, c.header(headerRequest, []byte(row.RequestID())))
	}
	if row.TraceParent() != "" {
		c.shared = append(c.shared, c.header(headerTraceParent, []byte(row.TraceParent())))
	}
	c.sharedSize = 0
	for _, h := range c.shared {
		c.sharedSize += headerSize(h)
	}
}

// header makes a header where many have room.
func (c *composer) header(key, value []byte) *sarama.RecordHeader {
	if len(c.headers) == cap(c.headers) {
		c.headers = make([]sarama.RecordHeader, 0, 64*ownHeaders)
	}
	c.headers = append(c.headers, sarama.RecordHeader{Key: key, Value: value})
	return &c.headers[len(c.headers)-1]
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
