package main

import (
	"math"
	"testing"

	"github.com/IBM/sarama"
	"github.com/hashicorp/go-hclog"
	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"
)

func TestAUUIDStaysInThePartitionThatSaramaPutItIn(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		key := rapid.SliceOf(rapid.Byte()).Draw(t, "key")
		count := rapid.Int32Range(1, 1000).Draw(t, "partitions")
		partitions := make([]int32, count)
		for i := range partitions {
			partitions[i] = int32(i)
		}
		want, err := sarama.NewHashPartitioner("t").Partition(&sarama.ProducerMessage{Key: sarama.ByteEncoder(key)}, count)
		require.NoError(t, err)
		require.Equal(t, want, partitionOf(key, partitions))
	})
}

func TestNumbersBeginAgainBehindTheHighest(t *testing.T) {
	i := newIdentity()
	i.producer = 7
	n := i.of(0)
	n.begin()
	n.next = math.MaxInt32
	n.advance(1)
	require.Equal(t, int32(0), n.next)
	n.next = math.MaxInt32 - 1
	n.advance(5)
	require.Equal(t, int32(3), n.next)
	n.epoch = math.MaxInt16
	n.renew()
	require.False(t, n.known(), "there is no epoch behind the last one: another producer's number is needed")
	require.Equal(t, int64(noProducer), i.producer, "which is not the same")
}

// log is a partition as a broker keeps it, and the rules by which it takes batches (ProducerAppendInfo, ProducerStateEntry).
type log struct {
	rows   []int32
	states map[int64]*state // by producer
}

type state struct {
	epoch int16
	next  int32
	last  [2]int32 // first number and count of the last batch
}

func (l *log) append(r *sarama.RecordBatch, rows []int32) sarama.KError {
	s := l.states[r.ProducerID]
	n := int32(len(rows))
	switch {
	case s == nil:
		s = &state{}
		l.states[r.ProducerID] = s
	case r.ProducerEpoch < s.epoch:
		return sarama.ErrInvalidProducerEpoch
	case r.ProducerEpoch > s.epoch:
		if r.FirstSequence != 0 {
			return sarama.ErrOutOfOrderSequenceNumber
		}
	case s.last == [2]int32{r.FirstSequence, n}:
		return sarama.ErrNoError // it has it
	case r.FirstSequence != s.next:
		return sarama.ErrOutOfOrderSequenceNumber
	}
	next := numbers{next: r.FirstSequence}
	next.advance(int(n))
	*s = state{epoch: r.ProducerEpoch, next: next.next, last: [2]int32{r.FirstSequence, n}}
	l.rows = append(l.rows, rows...)
	return sarama.ErrNoError
}

// Whatever the broker does and whatever answers are lost: each row is written once and in order, or said to be refused; and what was given
// up is not written behind what came after it.
func TestEachRowIsWrittenOnceAndInOrderWhateverIsLost(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		p := &producer{Kafka: &Kafka{identity: newIdentity(), log: hclog.NewNullLogger()}, stray: make(chan struct{}, 1), broken: make(chan struct{})}
		producers := int64(0)
		q := &partition{numbers: p.identity.of(0)}
		guilty := map[int32]bool{}
		all := make([]sarama.Record, 400)
		deliveries := []*delivery{}
		given := int32(0)
		limit := rapid.IntRange(1, 60).Draw(t, "limit")
		broker := &log{states: map[int64]*state{}}
		broker.states[99] = &state{}
		rowsOf := func(b *batch) (rows []int32) {
			for _, s := range b.parts {
				for _, e := range s.entries {
					rows = append(rows, e.row)
				}
			}
			return rows
		}
		add := func() {
			n := min(rapid.Int32Range(1, 40).Draw(t, "rows"), int32(len(all))-given)
			if n == 0 {
				return
			}
			d := &delivery{records: all, left: int(n), done: make(chan struct{})}
			s := part{of: d}
			for range n {
				if rapid.IntRange(0, 30).Draw(t, "guilty") == 0 {
					guilty[given] = true
				}
				s.entries = append(s.entries, entry{row: given, size: rapid.Int32Range(1, int32(limit)).Draw(t, "size")})
				given++
			}
			deliveries = append(deliveries, d)
			q.waiting = append(q.waiting, s)
		}
		identify := func() {
			p.lost = nil
			if !q.numbers.known() {
				if p.identity.producer == noProducer {
					p.identity.producer = producers
					producers++
				}
				q.numbers.begin()
			}
		}
		certain := true // nothing made the broker forget, so nothing can be there twice
		trouble := rapid.IntRange(0, 300).Draw(t, "trouble")
		identify()
		add()
		for given < int32(len(all)) || q.hasRecords() {
			if rapid.IntRange(0, 2).Draw(t, "more") == 0 {
				add()
			}
			if !q.hasRecords() {
				continue
			}
			b := q.next(limit, sarama.CompressionNone)
			rows := rowsOf(b)
			sum := 0
			for _, s := range b.parts {
				for _, e := range s.entries {
					sum += int(e.size)
				}
			}
			require.True(t, sum <= limit, "a batch keeps to the limit")
			require.Len(t, b.records.Records, len(rows))
			for i, r := range b.records.Records {
				require.Same(t, &all[rows[i]], r)
				require.Equal(t, int64(i), r.OffsetDelta)
			}
			refuse := false
			for _, row := range rows {
				refuse = refuse || guilty[row]
			}
			what := 0
			if trouble > 0 {
				what = rapid.IntRange(0, 8).Draw(t, "what")
				trouble--
			}
			var answer error
			if what != 1 && what != 2 {
				if refuse {
					answer = sarama.ErrInvalidRecord
				} else if code := broker.append(b.records, rows); code != sarama.ErrNoError {
					answer = code
				}
			}
			switch what {
			case 1:
				answer = sarama.ErrNotLeaderForPartition
			case 2, 3: // not written, or written, and the answer is lost
				answer = sarama.ErrIncompleteResponse
			case 4:
				if answer == nil {
					answer = sarama.ErrDuplicateSequenceNumber
				}
			case 5:
				if answer == nil {
					answer = sarama.ErrNotEnoughReplicasAfterAppend
				}
			case 6: // it forgets everybody, after it wrote
				if rapid.IntRange(0, 5).Draw(t, "forget") == 0 {
					clear(broker.states)
					certain = certain && answer == nil
				}
			}
			p.judge(q, answer)
			identify()
		}
		failed := map[int32]bool{}
		for _, d := range deliveries {
			<-d.done
			for _, f := range d.failures {
				var refused *errRefused
				require.ErrorAs(t, f.err, &refused)
				for _, e := range f.entries {
					require.False(t, failed[e.row])
					failed[e.row] = true
				}
			}
		}
		require.Len(t, failed, len(guilty))
		times := map[int32]int{}
		first := []int32{}
		for _, row := range broker.rows {
			require.False(t, guilty[row])
			if times[row] == 0 {
				first = append(first, row)
			}
			times[row]++
			if certain {
				require.Equal(t, 1, times[row])
			}
		}
		require.IsIncreasing(t, append(first, math.MaxInt32))
		require.Len(t, first, int(given)-len(guilty))
	})
}

func TestWhatWasGivenUpIsNotWrittenBehindWhatCameAfterIt(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		i := newIdentity()
		i.producer = 7
		records := make([]sarama.Record, 10)
		broker := &log{states: map[int64]*state{}}
		late := []*sarama.RecordBatch{}
		i.of(0).begin()
		for range rapid.IntRange(1, 20).Draw(t, "rounds") {
			q := &partition{numbers: i.of(0)} // of the next producer
			n := rapid.Int32Range(1, 10).Draw(t, "rows")
			d := &delivery{records: records, left: int(n), done: make(chan struct{})}
			s := part{of: d}
			for row := range n {
				s.entries = append(s.entries, entry{row: row, size: 1})
			}
			q.waiting = []part{s}
			b := q.next(100, sarama.CompressionNone)
			sent := *b.records
			if rapid.Bool().Draw(t, "late") {
				late = append(late, &sent)
				q.giveUp(errEnded)
				<-d.done
				require.Len(t, d.failures, 1)
				continue
			}
			require.Equal(t, sarama.ErrNoError, broker.append(&sent, make([]int32, n)), "it is taken")
			q.delivered()
			<-d.done
			for _, old := range late {
				before := len(broker.rows)
				require.Equal(t, sarama.ErrInvalidProducerEpoch, broker.append(old, make([]int32, len(old.Records))))
				require.Len(t, broker.rows, before)
			}
		}
	})
}
