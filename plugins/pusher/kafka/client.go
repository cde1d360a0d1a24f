package main

import (
	"context"
	"fmt"
	"strconv"
	"time"

	"github.com/IBM/sarama"
	"github.com/xdg-go/scram"
)

// settings are those of the client. When life ends so do its connections, and it pauses no more.
func (k *Kafka) settings(life context.Context) *sarama.Config {
	pause := func(int, int) time.Duration {
		if life.Err() != nil {
			return 0
		}
		return retryPause
	}
	c := sarama.NewConfig()
	c.ClientID = "rivergate-" + k.instance
	c.Version = sarama.V2_4_0_0 // headers, zstd, the reason of a refusal, and a topic's defaults from the broker
	c.Net.DialTimeout, c.Net.ReadTimeout, c.Net.WriteTimeout = k.ConnectTimeout, k.ConnectTimeout, k.ConnectTimeout
	c.Net.Proxy.Enable, c.Net.Proxy.Dialer = true, dialer{life, k.ConnectTimeout}
	c.Net.MaxOpenRequests = maxFlying + 1 // one for what the client itself asks
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
	return c
}

var compressions = map[Compression]sarama.CompressionCodec{
	"none": sarama.CompressionNone, "gzip": sarama.CompressionGZIP, "snappy": sarama.CompressionSnappy, "lz4": sarama.CompressionLZ4, "zstd": sarama.CompressionZSTD,
}

// open connects, finds the topic or makes it, and tells how large a request for one partition may be.
func (k *Kafka) open(life context.Context) (client sarama.Client, limit int, err error) {
	client, err = sarama.NewClient(k.Brokers, k.settings(life))
	if err != nil {
		return nil, 0, fmt.Errorf("connect: %w", err)
	}
	if err := k.findTopic(client); err != nil {
		_ = client.Close()
		return nil, 0, err
	}
	return client, k.limit(client), nil
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

// limit keeps requests below the topic's own limit where the broker tells it: it refuses a larger one as a whole.
func (k *Kafka) limit(client sarama.Client) int {
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
	return max(limit-batchHeader, 1)
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
