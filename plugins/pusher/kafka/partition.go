package main

import (
	"time"

	"github.com/IBM/sarama"
)

// part is what one delivery has for a partition, in order. It becomes part of one record batch, or of several.
type part struct {
	of      *delivery
	entries []entry
}

// entry is a record of a delivery: the place of its row, and the bytes that it takes at most.
type entry struct{ row, size int32 }

func (s part) delivered()     { s.of.settle(len(s.entries)) }
func (s part) fail(err error) { s.of.fail(s.entries, err) }

// partition is one of the topic's, with what is to go there.
type partition struct {
	id      int32
	numbers *numbers
	lane    *lane    // nil: its leader is to be found
	queued  bool     // it is in lane.ready
	sent    bool     // out waits for its answer
	out     *batch   // sent, or to be sent again
	halves  [][]part // of batches that were refused: each goes by itself, before what waits
	waiting []part
	err     error // of the last attempt
}

// batch is a record batch: the rows that the broker writes, or refuses, together.
type batch struct {
	parts    []part
	records  *sarama.RecordBatch
	bytes    int
	attempts int
	corrupt  int // how often the broker found it corrupt
}

func (q *partition) hasRecords() bool { return q.out != nil || len(q.halves) > 0 || len(q.waiting) > 0 }

// next is the batch to send: the one that is to be sent again, with the numbers that it had, or a new one of at most so many bytes.
func (q *partition) next(limit int, codec sarama.CompressionCodec) *batch {
	if q.out == nil {
		parts := []part(nil)
		if len(q.halves) > 0 {
			parts, q.halves = q.halves[0], q.halves[1:]
		} else {
			parts, q.waiting = split(q.waiting, func(_, bytes int) bool { return bytes <= limit })
		}
		q.out = build(parts, codec)
	}
	q.out.attempts++
	r := q.out.records
	r.ProducerID, r.ProducerEpoch, r.FirstSequence = q.numbers.producer, q.numbers.epoch, q.numbers.next
	return q.out
}

// split cuts parts where the next record no longer fits; the first one always does.
func split(parts []part, fits func(records, bytes int) bool) (head, tail []part) {
	records, bytes := 0, 0
	for i, s := range parts {
		for j, e := range s.entries {
			records, bytes = records+1, bytes+int(e.size)
			if records == 1 || fits(records, bytes) {
				continue
			}
			head = append(head, parts[:i]...)
			if j > 0 {
				head = append(head, part{s.of, s.entries[:j:j]})
			}
			return head, append([]part{{s.of, s.entries[j:]}}, parts[i+1:]...)
		}
	}
	return parts, nil
}

// build makes a batch of records that are dated now: a topic's retention would take a row that waited for days as soon as it came.
func build(parts []part, codec sarama.CompressionCodec) *batch {
	n := 0
	for _, s := range parts {
		n += len(s.entries)
	}
	now := time.Now()
	b := &batch{parts: parts, records: &sarama.RecordBatch{
		Version: 2, Codec: codec, CompressionLevel: sarama.CompressionLevelDefault, FirstTimestamp: now, MaxTimestamp: now,
		LastOffsetDelta: int32(n - 1), Records: make([]*sarama.Record, 0, n), //nolint:gosec // bounded by the bytes of a request
	}}
	for _, s := range parts {
		for _, e := range s.entries {
			r := &s.of.records[e.row]
			r.OffsetDelta = int64(len(b.records.Records))
			b.records.Records = append(b.records.Records, r)
			b.bytes += int(e.size)
		}
	}
	return b
}

func (q *partition) delivered() {
	q.numbers.advance(len(q.out.records.Records))
	for _, s := range q.out.parts {
		s.delivered()
	}
	q.out = nil
}

// corrupt notes that the broker found the batch corrupt, and tells whether that is so often that it will not be better the next time.
func (q *partition) corrupt() bool {
	const often = 3
	q.out.corrupt++
	return q.out.corrupt >= often
}

// refused cuts a batch that the broker does not write because of one of its records into halves, until the guilty one stands alone.
// It was not written, so its numbers go to the next one. Had an earlier attempt been after all, the broker calls that out of order.
func (q *partition) refused(err error) {
	b := q.out
	q.out = nil
	n := len(b.records.Records)
	if n == 1 {
		b.parts[0].fail(&errRefused{err})
		return
	}
	head, tail := split(b.parts, func(records, _ int) bool { return records <= n/2 })
	q.halves = append([][]part{head, tail}, q.halves...)
}

// giveUp settles everything. What was sent may still be written, so what comes next has other numbers: the broker then refuses it.
func (q *partition) giveUp(err error) {
	if q.out != nil {
		if q.out.attempts > 0 && q.numbers.known() {
			q.numbers.renew()
		}
		q.halves = append(q.halves, q.out.parts)
	}
	for _, parts := range append(q.halves, q.waiting) {
		for _, s := range parts {
			s.fail(err)
		}
	}
	q.out, q.halves, q.waiting = nil, nil, nil
}
