package main

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"time"

	"github.com/IBM/sarama"
)

// kafkaVariable says where a broker for measurements is; deploy/services sets it.
const kafkaVariable = "RIVERGATE_TEST_KAFKA_BROKERS"

// kafkaPartitions is how many partitions the topics of this measurement have. It makes and deletes them.
const kafkaPartitions = 4

// largeRecordBatches are what the pusher's README advises.
var largeRecordBatches = map[string]string{"PLUGIN_KAFKA_BATCH_ROWS": "10000", "PLUGIN_KAFKA_BATCH_BYTES": "8388608"}

// kafka compares the way through host and plugin with sarama's async producer, bare, that has the same settings and produces the very same
// records: they are read back from the topic that the pusher filled, by partition and offset. The rows wait in the journal while the
// pusher is paused, so that the intake takes no time from either side.
func (b *bench) kafka(ctx context.Context) (err error) {
	broker := os.Getenv(kafkaVariable)
	if broker == "" {
		return fmt.Errorf("no broker: run it as `make bench`, or set %s", kafkaVariable)
	}
	k, err := openKafka(broker)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, k.close()) }()
	rows := int64(400_000)
	if b.quick {
		rows = 100_000
	}
	// A broker that has just begun compiles itself: what comes first would pay for it.
	if _, err := b.pushToKafka(ctx, k, rows, nil); err != nil {
		return err
	}
	if _, err := k.produceAgain(ctx); err != nil {
		return err
	}
	var large, small, bare series
	for range b.rounds {
		byDefault, err := b.pushToKafka(ctx, k, rows, nil)
		if err != nil {
			return err
		}
		pushed, err := b.pushToKafka(ctx, k, rows, largeRecordBatches)
		if err != nil {
			return err
		}
		alone, err := k.produceAgain(ctx)
		if err != nil {
			return err
		}
		b.say("%d rows: bare async producer %.0f rows/s, pusher with large batches %.0f (%.0f %%), by default %.0f (%.0f %%)",
			rows, alone, pushed, 100*pushed/alone, byDefault, 100*byDefault/alone)
		large, small, bare = append(large, pushed), append(small, byDefault), append(bare, alone)
	}
	b.report.add(figure{Name: "bare sarama async producer: idempotent, acks=all, the same records", Unit: "rows/s", Runs: bare})
	b.report.add(figure{Name: "kafka pusher with BATCH_ROWS=10000, BATCH_BYTES=8MiB, counted by offsets", Unit: "rows/s", Runs: large})
	ratio := 100 * large.median() / bare.median()
	b.report.add(figure{Name: "… against the bare producer", Unit: "%", Value: ratio, Noise: large.noise() + bare.noise(),
		Target: "≥ 80", Met: met(ratio >= 80)})
	b.report.add(figure{Name: "kafka pusher by default (1000 rows per batch)", Unit: "rows/s", Runs: small})
	b.report.add(figure{Name: "… against the bare producer", Unit: "%", Value: 100 * small.median() / bare.median(),
		Noise: small.noise() + bare.noise()})
	return nil
}

// kafkaTopics is a broker and the two topics of the measurement.
type kafkaTopics struct {
	broker       string
	admin        sarama.ClusterAdmin
	client       sarama.Client
	pushed, bare string // names; "" when not made
	count        int
}

func openKafka(broker string) (*kafkaTopics, error) {
	client, err := sarama.NewClient([]string{broker}, sarama.NewConfig())
	if err != nil {
		return nil, fmt.Errorf("connect: %w", err)
	}
	admin, err := sarama.NewClusterAdminFromClient(client)
	if err != nil {
		return nil, errors.Join(err, client.Close())
	}
	return &kafkaTopics{broker: broker, client: client, admin: admin}, nil
}

func (k *kafkaTopics) close() error {
	var err error
	for _, topic := range []*string{&k.pushed, &k.bare} {
		err = errors.Join(err, k.remove(topic))
	}
	return errors.Join(err, k.admin.Close()) // and the client
}

func (k *kafkaTopics) remove(topic *string) error {
	if *topic == "" {
		return nil
	}
	err := k.admin.DeleteTopic(*topic)
	*topic = ""
	return err
}

// renew replaces a topic by an empty one with another name: a deleted one lingers.
func (k *kafkaTopics) renew(ctx context.Context, topic *string) error {
	if err := k.remove(topic); err != nil {
		return fmt.Errorf("delete the topic of the last run: %w", err)
	}
	k.count++
	name := fmt.Sprintf("rivergate-bench-%d-%d", os.Getpid(), k.count)
	if err := k.admin.CreateTopic(name, &sarama.TopicDetail{NumPartitions: kafkaPartitions, ReplicationFactor: 1}, false); err != nil {
		return fmt.Errorf("create topic: %w", err)
	}
	*topic = name
	for {
		if _, err := k.counted(name); err == nil {
			return nil
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(50 * time.Millisecond):
		}
	}
}

// counted is how many records the topic holds, by the high-water marks of its partitions.
func (k *kafkaTopics) counted(topic string) (n int64, err error) {
	for p := range int32(kafkaPartitions) {
		end, err := k.client.GetOffset(topic, p, sarama.OffsetNewest)
		if err != nil {
			return 0, fmt.Errorf("offset: %w", err)
		}
		n += end
	}
	return n, nil
}

// pushToKafka returns rows per second from resume until the last row is in the topic.
func (b *bench) pushToKafka(ctx context.Context, k *kafkaTopics, rows int64, more map[string]string) (rate float64, err error) {
	if err := k.renew(ctx, &k.pushed); err != nil {
		return 0, err
	}
	env := map[string]string{"PLUGIN_KAFKA_ENABLED": "true", "PLUGIN_KAFKA_BROKERS": k.broker, "PLUGIN_KAFKA_TOPIC": k.pushed}
	maps.Copy(env, more)
	return b.push(ctx, push{pusher: "kafka", env: env, count: func() (int64, error) { return k.counted(k.pushed) }}, rows)
}

// produceAgain produces what the pusher produced into an empty topic of the same kind.
func (k *kafkaTopics) produceAgain(ctx context.Context) (rate float64, err error) {
	messages, err := k.readBack(ctx)
	if err != nil {
		return 0, fmt.Errorf("read the records back: %w", err)
	}
	if err := k.renew(ctx, &k.bare); err != nil {
		return 0, err
	}
	for i := range messages {
		messages[i].Topic = k.bare
	}
	c := sarama.NewConfig() // as the pusher has it; sarama's idempotent producer has one request on its way
	c.Version = sarama.V2_4_0_0
	c.Producer.MaxMessageBytes = 1_000_000
	c.Net.MaxOpenRequests = 1
	c.Producer.Idempotent = true
	c.Producer.RequiredAcks = sarama.WaitForAll
	c.Producer.Return.Successes = true
	c.Producer.Partitioner = sarama.NewHashPartitioner
	c.ChannelBufferSize = 1024
	producer, err := sarama.NewAsyncProducer([]string{k.broker}, c)
	if err != nil {
		return 0, fmt.Errorf("bare producer: %w", err)
	}
	begun := time.Now()
	go func() {
		for i := range messages {
			producer.Input() <- &messages[i]
		}
	}()
	var failed error
	for range messages {
		select {
		case <-producer.Successes():
		case e := <-producer.Errors():
			failed = e
		}
	}
	took := time.Since(begun)
	if err := errors.Join(failed, producer.Close()); err != nil {
		return 0, fmt.Errorf("bare producer: %w", err)
	}
	counted, err := k.counted(k.bare)
	if err != nil {
		return 0, err
	}
	if counted != int64(len(messages)) {
		return 0, fmt.Errorf("produced %d of %d records", counted, len(messages))
	}
	return float64(counted) / took.Seconds(), nil
}

// readBack returns the pushed records as they can be produced again, in the order of the positions of each partition, a
// thousand of each in turn: as mixed as they were.
func (k *kafkaTopics) readBack(ctx context.Context) (all []sarama.ProducerMessage, err error) {
	consumer, err := sarama.NewConsumerFromClient(k.client)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, consumer.Close()) }()
	var parts [kafkaPartitions][]sarama.ProducerMessage
	for p := range int32(kafkaPartitions) {
		end, err := k.client.GetOffset(k.pushed, p, sarama.OffsetNewest)
		if err != nil {
			return nil, err
		}
		if parts[p], err = readPartition(ctx, consumer, k.pushed, p, end); err != nil {
			return nil, err
		}
	}
	for more := true; more; {
		more = false
		for p := range parts {
			n := min(1000, len(parts[p]))
			all = append(all, parts[p][:n]...)
			parts[p] = parts[p][n:]
			more = more || len(parts[p]) > 0
		}
	}
	return all, nil
}

func readPartition(ctx context.Context, consumer sarama.Consumer, topic string, partition int32, end int64) (all []sarama.ProducerMessage, err error) {
	if end == 0 {
		return nil, nil
	}
	from, err := consumer.ConsumePartition(topic, partition, sarama.OffsetOldest)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, from.Close()) }()
	for int64(len(all)) < end {
		select {
		case m := <-from.Messages():
			headers := make([]sarama.RecordHeader, len(m.Headers))
			for i, h := range m.Headers {
				headers[i] = *h
			}
			all = append(all, sarama.ProducerMessage{Key: sarama.ByteEncoder(m.Key), Value: sarama.ByteEncoder(m.Value), Headers: headers})
		case <-ctx.Done():
			return nil, ctx.Err()
		case <-time.After(30 * time.Second):
			return nil, errors.New("the broker does not hand out what it holds")
		}
	}
	return all, nil
}
