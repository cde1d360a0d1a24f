package main

import (
	"context"
	"fmt"
	"strconv"
	"sync"
	"time"

	"github.com/IBM/sarama"
	"github.com/xdg-go/scram"
)

// retryPause is how long the producer waits before it asks for the leader of a partition again.
const retryPause = 100 * time.Millisecond

// producer is a client with its asynchronous producer.
type producer struct {
	client  sarama.Client
	records sarama.AsyncProducer
	ended   sync.WaitGroup
}

// settings are those of an idempotent producer: acks of all replicas, one request in flight per broker, so that what is
// retried stays in order and is written once.
//
// It retries for as long as it is let: the deadline of a batch ends it. A record that failed for good while later ones of its
// uuid went through would break their order.
func (k *Kafka) settings() *sarama.Config {
	c := sarama.NewConfig()
	c.ChannelBufferSize = 1024
	c.ClientID = "rivergate-" + k.instance
	c.Version = sarama.V2_4_0_0 // idempotence, headers, zstd, and a topic's defaults from the broker
	c.Net.DialTimeout, c.Net.ReadTimeout, c.Net.WriteTimeout = k.ConnectTimeout, k.ConnectTimeout, k.ConnectTimeout
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
	c.Metadata.Retry.Backoff = retryPause
	c.Metadata.Timeout = k.ConnectTimeout
	c.Admin.Timeout = k.ConnectTimeout
	c.Producer.Idempotent = true
	c.Producer.RequiredAcks = sarama.WaitForAll
	c.Producer.Timeout = k.ConnectTimeout
	c.Producer.MaxMessageBytes = int(k.MaxRecordBytes)
	c.Producer.Compression = compressions[k.Compression]
	c.Producer.Retry.Max = int(k.DeliveryTimeout/retryPause) + 10 // each waits retryPause; sarama keeps a place for each
	c.Producer.Retry.Backoff = retryPause
	c.Producer.Return.Successes, c.Producer.Return.Errors = true, true
	return c
}

var compressions = map[Compression]sarama.CompressionCodec{
	"none": sarama.CompressionNone, "gzip": sarama.CompressionGZIP, "snappy": sarama.CompressionSnappy, "lz4": sarama.CompressionLZ4, "zstd": sarama.CompressionZSTD,
}

// connected returns a producer that was seen to work, or makes one: a broker answers and has the topic. The caller holds mu.
func (k *Kafka) connected(ctx context.Context) (*producer, error) {
	if k.producer != nil {
		return k.producer, nil
	}
	// sarama takes no context; its own time-outs bound each step, and k.ConnectTimeout all of them.
	type made struct {
		producer *producer
		err      error
	}
	done := make(chan made, 1)
	go func() {
		p, err := k.connect()
		done <- made{p, err}
	}()
	ctx, cancel := context.WithTimeout(ctx, 2*k.ConnectTimeout)
	defer cancel()
	select {
	case m := <-done:
		k.producer = m.producer
		return m.producer, m.err
	case <-ctx.Done():
		go func() { // it ends by the time-outs of its connections
			if m := <-done; m.producer != nil {
				m.producer.close()
			}
		}()
		return nil, fmt.Errorf("connect: %w", ctx.Err())
	}
}

func (k *Kafka) connect() (*producer, error) {
	client, err := sarama.NewClient(k.Brokers, k.settings())
	if err != nil {
		return nil, fmt.Errorf("connect: %w", err)
	}
	if err := k.findTopic(client); err != nil {
		_ = client.Close()
		return nil, err
	}
	k.bound(client)
	records, err := sarama.NewAsyncProducerFromClient(client)
	if err != nil {
		_ = client.Close()
		return nil, fmt.Errorf("start an idempotent producer: %w", err)
	}
	return &producer{client: client, records: records}, nil
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

// drop closes the connections; the next batch makes new ones. The caller holds mu.
func (k *Kafka) drop() {
	if k.producer != nil {
		k.producer.close()
		k.producer = nil
	}
}

// close gives up what is on its way. The client goes first: without it nothing is retried, and the producer ends.
func (p *producer) close() {
	_ = p.client.Close() // it has no state to lose
	p.records.AsyncClose()
	p.ended.Go(func() {
		for range p.records.Successes() { //nolint:revive // nobody waits for them any more
		}
	})
	for range p.records.Errors() { //nolint:revive // nor for these
	}
	p.ended.Wait()
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
