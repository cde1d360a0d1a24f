package main

import (
	"context"
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/IBM/sarama"
	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/rivergate/rivergate/plugins/internal/trouble"
	"github.com/rivergate/rivergate/sdk"
	"github.com/rivergate/rivergate/sdk/plugintest"
	"github.com/rivergate/rivergate/sdk/protocol"
)

// same: the batch is sent again as it was. nextEpoch and newProducer: under other numbers, from 0.
func same(t *testing.T, a, b attempt) { t.Helper(); require.Equal(t, a, b) }

func nextEpoch(t *testing.T, a, b attempt) {
	t.Helper()
	require.Equal(t, attempt{producer: a.producer, epoch: a.epoch + 1, count: a.count}, b)
}

func newProducer(t *testing.T, a, b attempt) {
	t.Helper()
	require.NotEqual(t, a.producer, b.producer)
	require.Equal(t, attempt{producer: b.producer, count: a.count}, b)
}

func TestWhatABrokerAnswersDecidesHowABatchIsSentAgain(t *testing.T) {
	lost := func(codes ...sarama.KError) (all []deed) {
		for _, code := range codes {
			all = append(all, deed{answer: code})
		}
		return all
	}
	for name, c := range map[string]struct {
		deeds []deed
		again func(t *testing.T, a, b attempt) // of each attempt and the next one; nil: there is one only
	}{
		"corrupt on the way":                     {lost(sarama.ErrInvalidMessage, sarama.ErrInvalidMessage), same},
		"unknown topic or partition":             {lost(sarama.ErrUnknownTopicOrPartition), same},
		"no leader":                              {lost(sarama.ErrLeaderNotAvailable), same},
		"not the leader":                         {lost(sarama.ErrNotLeaderForPartition, sarama.ErrNotLeaderForPartition), same},
		"timed out, not written":                 {lost(sarama.ErrRequestTimedOut), same},
		"timed out, written":                     {[]deed{{write: true, answer: sarama.ErrRequestTimedOut}}, same},
		"broker not available":                   {lost(sarama.ErrBrokerNotAvailable), same},
		"replica not available":                  {lost(sarama.ErrReplicaNotAvailable), same},
		"network exception":                      {lost(sarama.ErrNetworkException), same},
		"not enough replicas":                    {lost(sarama.ErrNotEnoughReplicas), same},
		"not enough replicas when it is written": {[]deed{{write: true, answer: sarama.ErrNotEnoughReplicasAfterAppend}}, same},
		"storage error":                          {lost(sarama.ErrKafkaStorageError), same},
		"fenced leader epoch":                    {lost(sarama.ErrFencedLeaderEpoch), same},
		"unknown leader epoch":                   {lost(sarama.ErrUnknownLeaderEpoch), same},
		"listener not found":                     {lost(sarama.ErrListenerNotFound), same},
		"quota":                                  {lost(sarama.ErrThrottlingQuotaExceeded), same},
		"connection cut, not written":            {[]deed{{cut: true}, {cut: true}}, same},
		"connection cut, written":                {[]deed{{cut: true, write: true}, {cut: true, write: true}}, same},
		"no answer, not written":                 {[]deed{{mute: true}}, same},
		"no answer, written":                     {[]deed{{mute: true, write: true}}, same},
		"written before":                         {[]deed{{write: true, answer: sarama.ErrDuplicateSequenceNumber}}, nil},
		"out of order":                           {lost(sarama.ErrOutOfOrderSequenceNumber, sarama.ErrOutOfOrderSequenceNumber), nextEpoch},
		"unknown producer":                       {lost(sarama.ErrUnknownProducerID), nextEpoch},
		"fenced epoch":                           {lost(sarama.ErrInvalidProducerEpoch), newProducer},
		"fenced producer":                        {lost(sarama.ErrProducerFenced), newProducer},
		"another's number":                       {lost(sarama.ErrInvalidProducerIDMapping), newProducer},
	} {
		t.Run(name, func(t *testing.T) {
			b := newBroker(t)
			m := newMeddler(t, b.address)
			h := b.start(map[string]any{"brokers": []string{m.Address}, "connect_timeout": "1s", "delivery_timeout": "25s"})
			require.Empty(t, h.DeliverOrdered(plugintest.FrameAt(1, "a", `{}`, `{}`)))
			m.do(c.deeds...)
			require.Empty(t, h.DeliverOrdered(plugintest.FrameAt(3, "a", `{}`, `{}`, `{}`)))
			attempts := m.seen()
			if c.again == nil {
				require.Len(t, attempts, 1)
			} else {
				require.Len(t, attempts, len(c.deeds)+1)
				for i := range attempts[1:] {
					c.again(t, attempts[i], attempts[i+1])
				}
			}
			m.do()
			require.Empty(t, h.DeliverOrdered(plugintest.FrameAt(6, "a", `{}`)))
			last := attempts[len(attempts)-1]
			require.Equal(t, []attempt{{last.producer, last.epoch, last.sequence + last.count, 1}}, m.seen(), "numbers go on")
			require.Equal(t, []string{"1", "2", "3", "4", "5", "6"}, positions(b.take()), "once, and in order")
		})
	}
}

func TestWhatABrokerRefusesIsSaidOfTheRow(t *testing.T) {
	for name, c := range map[string]struct {
		answers []sarama.KError
		class   sdk.Class
		code    string
		says    string
	}{
		"too large":           {[]sarama.KError{sarama.ErrMessageSizeTooLarge}, sdk.Rejected, "kafka_10", "too large"},
		"list too large":      {[]sarama.KError{sarama.ErrMessageSetSizeTooLarge}, sdk.Rejected, "kafka_18", "than the configured segment size"},
		"invalid record":      {[]sarama.KError{sarama.ErrInvalidRecord}, sdk.Rejected, "kafka_87", ""},
		"invalid timestamp":   {[]sarama.KError{sarama.ErrInvalidTimestamp}, sdk.Rejected, "kafka_32", "timestamp"},
		"corrupt every time":  {slices.Repeat([]sarama.KError{sarama.ErrInvalidMessage}, 3), sdk.Rejected, "kafka_2", ""},
		"no WRITE":            {[]sarama.KError{sarama.ErrTopicAuthorizationFailed}, sdk.Unauthenticated, "kafka_29", "needs WRITE and DESCRIBE"},
		"no cluster rights":   {[]sarama.KError{sarama.ErrClusterAuthorizationFailed}, sdk.Unauthenticated, "kafka_31", "needs WRITE and DESCRIBE"},
		"unknown to everyone": {[]sarama.KError{sarama.ErrUnknown}, sdk.Retry, "kafka_-1", ""},
		"policy":              {[]sarama.KError{sarama.ErrPolicyViolation}, sdk.Retry, "kafka_44", ""},
	} {
		t.Run(name, func(t *testing.T) {
			b := newBroker(t)
			m := newMeddler(t, b.address)
			h := b.start(map[string]any{"brokers": []string{m.Address}})
			var deeds []deed
			for _, code := range c.answers {
				deeds = append(deeds, deed{answer: code})
			}
			m.do(deeds...)
			o := plugintest.RequireAll(t, h.DeliverOrdered(plugintest.FrameAt(1, "a", `{}`)), 1, c.class, c.code)
			require.Contains(t, o.Message, m.Address)
			require.Contains(t, o.Message, c.says)
			require.Empty(t, h.DeliverOrdered(plugintest.FrameAt(2, "a", `{}`)), "the next one goes through")
			require.Equal(t, []string{"2"}, positions(b.take()))
		})
	}
}

func TestABatchThatIsRefusedIsHalvedUntilTheGuiltyRowStandsAlone(t *testing.T) {
	b := newBroker(t)
	m := newMeddler(t, b.address)
	h := b.start(map[string]any{"brokers": []string{m.Address}})
	no := deed{answer: sarama.ErrInvalidRecord}
	m.do(no, deed{write: true}, no, no, no) // of 1 to 8 the guilty one is 5
	o := plugintest.RequireAll(t, h.DeliverOrdered(plugintest.FrameAt(1, "a", slices.Repeat([]string{`{}`}, 8)...)), 1, sdk.Rejected, "kafka_87")
	require.Equal(t, 4, o.Row)
	counts := []int32{}
	for _, a := range m.seen() {
		counts = append(counts, a.count)
	}
	require.Equal(t, []int32{8, 4, 4, 2, 1, 1, 2}, counts)
	require.Equal(t, []string{"1", "2", "3", "4", "6", "7", "8"}, positions(b.take()))
}

// What a Deliver gives up may still be written. It never is behind, or between, what comes after it.
func TestWhatComesAfterABatchThatWasGivenUpHasOtherNumbers(t *testing.T) {
	b := newBroker(t)
	m := newMeddler(t, b.address)
	h := b.start(map[string]any{"brokers": []string{m.Address}, "connect_timeout": "2s", "delivery_timeout": "1s"})
	require.Empty(t, h.DeliverOrdered(plugintest.FrameAt(1, "a", `{}`)))
	m.do(deed{mute: true, write: true})
	o := plugintest.RequireAll(t, h.DeliverOrdered(plugintest.FrameAt(2, "a", `{}`, `{}`)), 2, sdk.Retry, "timeout")
	require.Contains(t, o.Message, m.Address)
	given := m.seen()
	require.Len(t, given, 1)
	m.do()
	require.Empty(t, h.DeliverOrdered(plugintest.FrameAt(2, "a", `{}`, `{}`)))
	nextEpoch(t, given[0], m.seen()[0])
	require.Equal(t, []string{"1", "2", "3", "2", "3"}, positions(b.take()))
}

// A broker that comes back within DELIVERY_TIMEOUT gets each row once: what it had is known by its numbers.
func TestABrokerThatIsKilledUnderLoadGetsEachRowOnce(t *testing.T) {
	b := newBroker(t)
	b.topic += "-three"
	admin, err := sarama.NewClusterAdminFromClient(b.Client)
	require.NoError(t, err)
	require.NoError(t, admin.CreateTopic(b.topic, &sarama.TopicDetail{NumPartitions: 3, ReplicationFactor: 1}, false))
	h := plugintest.Connect(t, plugin) // the stream is the test's own
	require.Empty(t, h.Configure(map[string]any{
		"brokers": []string{b.address}, "topic": b.topic, "connect_timeout": "5s", "delivery_timeout": "5m",
	}))
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Minute)
	defer cancel()
	stream, err := h.Client.Deliver(ctx, plugintest.Instance)
	require.NoError(t, err)
	const window, frames, rows = 16, 4, 50
	var position, sent, acked uint64 = 1, 0, 0
	send := func() {
		batch := &protocol.Batch{Seq: sent + 1, Ordered: true}
		for range frames {
			// Of a uuid there is nothing in another batch that is on its way, as the host has it.
			f := plugintest.FrameAt(position, fmt.Sprintf("u%d-%d", sent%window, position%3), slices.Repeat([]string{`{"text":"` + string(make([]byte, 0)) + `x"}`}, rows)...)
			position += rows
			batch.Frames = append(batch.Frames, f)
		}
		require.NoError(t, stream.Send(batch))
		sent++
	}
	acknowledged := func() {
		ack, err := stream.Recv()
		require.NoError(t, err)
		require.Empty(t, ack.Outcomes)
		acked = max(acked, ack.ThroughSeq)
	}
	run := func(until uint64) {
		for acked < until {
			for sent < until && sent-acked < window {
				send()
			}
			acknowledged()
		}
	}
	for sent < window {
		send()
	}
	for round := range uint64(3) {
		run(window * (3*round + 2))
		for sent < window*(3*round+3) && sent-acked < window { // on their way when it dies
			send()
		}
		trouble.Service(t, "kill", "kafka")
		trouble.Service(t, "revive", "kafka")
		run(window * (3*round + 3))
	}
	require.NoError(t, b.Client.Close())
	b.open()
	got := b.take()
	before := map[string]int{}
	for _, m := range got {
		p, err := strconv.Atoi(header(m, "position"))
		require.NoError(t, err)
		require.Less(t, before[string(m.Key)], p, "in order, and none twice")
		before[string(m.Key)] = p
	}
	require.Len(t, got, int(position-1))
}

// plan is a topic, the settings of a pusher, and what it is to deliver there.
type plan struct {
	partitions int32
	config     map[string]any
	batches    [][]protocol.Frame
}

var plans = rapid.Custom(func(r *rapid.T) (p plan) {
	p.partitions = rapid.Int32Range(1, 4).Draw(r, "partitions")
	p.config = map[string]any{
		"compression":      rapid.SampledFrom([]string{"none", "gzip", "snappy", "lz4", "zstd"}).Draw(r, "compression"),
		"max_record_bytes": rapid.SampledFrom([]string{"2KiB", "20KiB", "1MiB"}).Draw(r, "limit"),
	}
	row := rapid.Custom(func(r *rapid.T) string {
		return `{"text":"` + strings.Repeat("x", rapid.IntRange(0, 1000).Draw(r, "size")) + `"}`
	})
	position := uint64(1)
	for range rapid.IntRange(1, 5).Draw(r, "batches") {
		var frames []protocol.Frame
		for range rapid.IntRange(1, 10).Draw(r, "frames") {
			uuid := rapid.SampledFrom([]string{"a", "b", "c.*#/é", strings.Repeat("d", 200)}).Draw(r, "uuid")
			f := plugintest.FrameAt(position, uuid, rapid.SliceOfN(row, 1, 40).Draw(r, "rows")...)
			position += uint64(f.Len())
			f.OrgID, f.UserID = rapid.Uint64().Draw(r, "org"), rapid.Uint64Range(0, 1).Draw(r, "user")
			f.RequestID = rapid.SampledFrom([]string{"", "r1"}).Draw(r, "request")
			f.TraceParent = rapid.SampledFrom([]string{"", "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"}).Draw(r, "trace")
			if rapid.Bool().Draw(r, "indexed") {
				f.Index = rapid.SliceOfN(rapid.SampledFrom([]int32{protocol.NoIndex, 0, math.MaxInt32}), f.Len(), f.Len()).Draw(r, "index")
			}
			frames = append(frames, f)
		}
		p.batches = append(p.batches, frames)
	}
	return p
})

// headersOf is what a record of row i has beside its key and value.
func headersOf(f protocol.Frame, i int) string {
	all := []string{fmt.Sprintf("position=%d", f.Position+uint64(i))}
	if f.Index != nil && f.Index[i] != protocol.NoIndex {
		all = append(all, fmt.Sprintf("index=%d", f.Index[i]))
	}
	all = append(all, fmt.Sprintf("org_id=%d", f.OrgID), "received_at=2026-01-02T03:04:05.678Z")
	if f.UserID != 0 {
		all = append(all, fmt.Sprintf("user_id=%d", f.UserID))
	}
	if f.RequestID != "" {
		all = append(all, "request_id="+f.RequestID)
	}
	if f.TraceParent != "" {
		all = append(all, "traceparent="+f.TraceParent)
	}
	return strings.Join(all, " ")
}

// What a consumer reads is what the host delivered: all of it, in the partition of its uuid, in order.
func TestAConsumerReadsWhatWasDelivered(t *testing.T) {
	b := newBroker(t)
	admin, err := sarama.NewClusterAdminFromClient(b.Client)
	require.NoError(t, err)
	name := b.topic
	for seed := range 25 {
		p := plans.Example(seed)
		b.topic = fmt.Sprintf("%s-%d", name, seed)
		require.NoError(t, admin.CreateTopic(b.topic, &sarama.TopicDetail{NumPartitions: p.partitions, ReplicationFactor: 1}, false))
		h := b.start(p.config)
		type record struct{ key, value, headers string }
		want := map[int32][]record{}
		for _, frames := range p.batches {
			for _, f := range frames {
				key := &sarama.ProducerMessage{Key: sarama.StringEncoder(f.UUID)}
				partition, err := sarama.NewHashPartitioner(b.topic).Partition(key, p.partitions)
				require.NoError(t, err)
				for i := range f.Len() {
					want[partition] = append(want[partition], record{f.UUID, string(f.Row(i)), headersOf(f, i)})
				}
			}
			require.Empty(t, h.DeliverOrdered(frames...))
		}
		got := map[int32][]record{}
		for _, m := range b.take() {
			var headers []string
			for _, h := range m.Headers {
				headers = append(headers, string(h.Key)+"="+string(h.Value))
			}
			got[m.Partition] = append(got[m.Partition], record{string(m.Key), string(m.Value), strings.Join(headers, " ")})
		}
		require.Equal(t, want, got, "seed %d", seed)
	}
}
