package main

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/IBM/sarama"
	"github.com/xdg-go/scram"
)

// retryPause is how long the producer waits before it asks for the leader of a partition again.
const retryPause = 100 * time.Millisecond

// producer is a client with its asynchronous producer. Several batches may feed it; each record's answer goes to its batch.
type producer struct {
	client  sarama.Client
	records sarama.AsyncProducer
	cut     context.CancelFunc // ends its connections

	feeding sync.WaitGroup // calls of feed; added to under Kafka.mu
	hearing sync.WaitGroup // the goroutines that take its answers
	once    sync.Once
	ending  atomic.Bool   // feed no more
	ended   chan struct{} // closed: every record that was fed is answered
}

var errEnded = errors.New("the connection was given up because of another batch")

// settings are those of an idempotent producer: acks of all replicas, one request in flight per broker, so that what is
// retried stays in order and is written once.
//
// It retries for as long as it is let: the deadline of a batch ends it. A record that failed for good while later ones of its
// uuid went through would break their order.
//
// When life ends so do its connections, and it pauses no more.
func (k *Kafka) settings(life context.Context) *sarama.Config {
	pause := func(int, int) time.Duration {
		if life.Err() != nil {
			return 0
		}
		return retryPause
	}
	c := sarama.NewConfig()
	c.ChannelBufferSize = 1024
	c.ClientID = "rivergate-" + k.instance
	c.Version = sarama.V2_4_0_0 // idempotence, headers, zstd, and a topic's defaults from the broker
	c.Net.DialTimeout, c.Net.ReadTimeout, c.Net.WriteTimeout = k.ConnectTimeout, k.ConnectTimeout, k.ConnectTimeout
	c.Net.Proxy.Enable, c.Net.Proxy.Dialer = true, dialer{life, k.ConnectTimeout}
	c.Net.MaxOpenRequests = 1
	c.Net.TLS.Enable, c.Net.TLS.Config = k.TLSOn, k.secure
	if k.SASL != mechanismNone {
		c.Net.SASL.Enable, c.Net.SASL.User, c.Net.SASL.Password = true, k.Username, k.Password.Reveal()
		c.Net.SASL.Mechanism = sarama.SASLTypePlaintext
		switch k.SASL {
		case "scram-sha-256":
			c.Net.SASL.Mechanism = sarama.SASLTypeSCRAMSHA256
			c.Net.SASL.SCRAMClientGeneratorFunc = func() sarama.SCRAMClient { return &conversation{hash: scram.SHA256} }
		case "scram-sha-512":
			c.Net.SASL.Mechanism = sarama.SASLTypeSCRAMSHA512
			c.Net.SASL.SCRAMClientGeneratorFunc = func() sarama.SCRAMClient { return &conversation{hash: scram.SHA512} }
		}
	}
	c.Metadata.Full = false
	c.Metadata.AllowAutoTopicCreation = false
	c.Metadata.Retry.Max = 1
	c.Metadata.Retry.BackoffFunc = pause
	c.Metadata.Timeout = k.ConnectTimeout
	c.Admin.Timeout = k.ConnectTimeout
	c.Producer.Idempotent = true
	c.Producer.RequiredAcks = sarama.WaitForAll
	c.Producer.Timeout = k.ConnectTimeout
	c.Producer.MaxMessageBytes = int(k.MaxRecordBytes)
	c.Producer.Compression = compressions[k.Compression]
	c.Producer.Retry.Max = int(k.DeliveryTimeout/retryPause) + 10 // each waits retryPause; sarama keeps a place for each
	c.Producer.Retry.BackoffFunc = pause
	c.Producer.Transaction.Retry.BackoffFunc = pause // of the request for a producer's number too
	c.Producer.Return.Successes, c.Producer.Return.Errors = true, true
	return c
}

var compressions = map[Compression]sarama.CompressionCodec{
	"none": sarama.CompressionNone, "gzip": sarama.CompressionGZIP, "snappy": sarama.CompressionSnappy, "lz4": sarama.CompressionLZ4, "zstd": sarama.CompressionZSTD,
}

// connected returns a producer that was seen to work, or makes one: a broker answers and has the topic. The caller feeds it once.
func (k *Kafka) connected(ctx context.Context) (*producer, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if err := k.connect(ctx); err != nil {
		return nil, err
	}
	k.producer.feeding.Add(1)
	return k.producer, nil
}

// connect makes a producer where there is none. The caller holds mu.
func (k *Kafka) connect(ctx context.Context) error {
	if k.producer != nil {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, 2*k.ConnectTimeout)
	defer cancel()
	life, cut := context.WithCancel(context.Background())
	stop := context.AfterFunc(ctx, cut)
	client, records, err := k.open(life)
	if inTime := stop(); err != nil || !inTime {
		cut()
		if ctx.Err() != nil {
			err = fmt.Errorf("connect: %w", ctx.Err())
		}
	}
	if client == nil {
		return err
	}
	p := &producer{client: client, records: records, cut: cut, ended: make(chan struct{})}
	p.hearing.Go(func() {
		for m := range records.Successes() {
			answer(m, nil)
		}
	})
	p.hearing.Go(func() {
		for e := range records.Errors() {
			answer(e.Msg, e.Err)
		}
	})
	if err != nil {
		p.close()
		return err
	}
	k.producer = p
	return nil
}

func (k *Kafka) open(life context.Context) (sarama.Client, sarama.AsyncProducer, error) {
	client, err := sarama.NewClient(k.Brokers, k.settings(life))
	if err != nil {
		return nil, nil, fmt.Errorf("connect: %w", err)
	}
	if err := k.findTopic(client); err != nil {
		_ = client.Close()
		return nil, nil, err
	}
	k.bound(client)
	records, err := sarama.NewAsyncProducerFromClient(client)
	if err != nil {
		_ = client.Close()
		return nil, nil, fmt.Errorf("start an idempotent producer: %w", err)
	}
	return client, records, nil
}

// errTopic says that the topic is not there, or cannot be made.
type errTopic struct{ err error }

func (e *errTopic) Error() string { return e.err.Error() }
func (e *errTopic) Unwrap() error { return e.err }

func (k *Kafka) findTopic(client sarama.Client) error {
	err := client.RefreshMetadata(k.Topic)
	if err == nil {
		return nil
	}
	if !isKafka(err, sarama.ErrUnknownTopicOrPartition) {
		return fmt.Errorf("look for topic %s: %w", k.Topic, err)
	}
	if !k.CreateTopic {
		return &errTopic{fmt.Errorf("there is no topic %s: create it, or set CREATE_TOPIC=true, or mend TOPIC", k.Topic)}
	}
	controller, err := client.Controller()
	if err != nil {
		return fmt.Errorf("find the controller: %w", err)
	}
	detail := &sarama.TopicDetail{NumPartitions: int32(k.Partitions), ReplicationFactor: int16(k.Replication)} //nolint:gosec // bounded by the schema
	if k.Partitions == 0 {
		detail.NumPartitions = -1
	}
	if k.Replication == 0 {
		detail.ReplicationFactor = -1
	}
	answer, err := controller.CreateTopics(&sarama.CreateTopicsRequest{
		Version: 4, TopicDetails: map[string]*sarama.TopicDetail{k.Topic: detail}, Timeout: k.ConnectTimeout,
	})
	if err != nil {
		return fmt.Errorf("create topic %s: %w", k.Topic, err)
	}
	if refused := answer.TopicErrors[k.Topic]; refused != nil && refused.Err != sarama.ErrNoError && refused.Err != sarama.ErrTopicAlreadyExists {
		return &errTopic{fmt.Errorf("create topic %s: %w", k.Topic, refused)}
	}
	k.log.Info("created the topic", "topic", k.Topic)
	if err := client.RefreshMetadata(k.Topic); err != nil {
		return fmt.Errorf("look for the new topic %s: %w", k.Topic, err)
	}
	return nil
}

// batchHeader is what a record batch needs beside its records, generously.
const batchHeader = 128

// bound keeps requests below the topic's own limit where the broker tells it. It refuses a larger one as a whole, and later ones of the
// same uuids would have gone through meanwhile.
func (k *Kafka) bound(client sarama.Client) {
	const name = "max.message.bytes"
	limit := int(k.MaxRecordBytes)
	if broker := client.LeastLoadedBroker(); broker != nil {
		answer, err := broker.DescribeConfigs(&sarama.DescribeConfigsRequest{
			Version: 1, Resources: []*sarama.ConfigResource{{Type: sarama.TopicResource, Name: k.Topic, ConfigNames: []string{name}}},
		})
		if err != nil {
			k.log.Debug("the topic's limit is not known", "error", err)
		} else {
			for _, resource := range answer.Resources {
				for _, entry := range resource.Configs {
					if bytes, err := strconv.Atoi(entry.Value); err == nil && entry.Name == name {
						limit = min(limit, bytes)
					}
				}
			}
		}
	}
	client.Config().Producer.MaxMessageBytes = max(limit-batchHeader, 1)
}

// drop closes the connections; the next batch makes new ones.
func (k *Kafka) drop(p *producer) {
	k.mu.Lock()
	if k.producer == p {
		k.producer = nil
	}
	k.mu.Unlock()
	p.close()
}

// feed gives the records to the producer, as fast as it takes them. When the producer is closed the rest stays unanswered.
func (p *producer) feed(r *records, working func()) {
	defer p.feeding.Done()
	told := time.Now()
	for i := range r.all {
		if p.ending.Load() {
			return
		}
		p.records.Input() <- &r.all[i].ProducerMessage
		if i%256 == 255 && time.Since(told) > time.Second {
			working()
			told = time.Now()
		}
	}
}

// close gives up what is on its way. The client goes first: without it nothing is retried, what is fed fails at once, and the
// producer ends.
func (p *producer) close() {
	p.once.Do(func() {
		p.ending.Store(true)
		p.cut()
		_ = p.client.Close() // it has no state to lose
		p.feeding.Wait()     // the input must not close under a feeder
		p.records.AsyncClose()
		p.hearing.Wait()
		close(p.ended)
	})
}

// conversation is SCRAM (RFC 5802) in the form that sarama asks for.
type conversation struct {
	hash scram.HashGeneratorFcn
	*scram.ClientConversation
}

func (c *conversation) Begin(user, password, authzID string) error {
	client, err := c.hash.NewClient(user, password, authzID)
	if err != nil {
		return fmt.Errorf("prepare SCRAM: %w", err)
	}
	c.ClientConversation = client.NewConversation()
	return nil
}
