package main

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"regexp"
	"strings"
	"sync"
	"time"

	"github.com/rivergate/rivergate/plugins/internal/tlsfiles"
	"github.com/rivergate/rivergate/sdk"
)

// The words of the settings.
type (
	Compression string
	Mechanism   string
)

const (
	mechanismNone  Mechanism = "none"
	mechanismPlain Mechanism = "plain"
)

// topicName is Kafka's own rule (Topic.java), which the broker would answer with INVALID_TOPIC_EXCEPTION.
var topicName = regexp.MustCompile(`^[a-zA-Z0-9._-]{1,249}$`)

// Kafka produces each row as one record: the key is its uuid, the value the client's bytes.
type Kafka struct {
	Brokers         []string      `config:"brokers" required:"true" doc:"Brokers to begin with, as host:port, comma separated." example:"kafka-1:9092,kafka-2:9092"`
	Topic           string        `config:"topic" default:"rivergate-rows" doc:"Topic that rows go to."`
	CreateTopic     bool          `config:"create_topic" default:"false" doc:"Create the topic when it is not there."`
	Partitions      int           `config:"partitions" default:"0" min:"0" max:"100000" doc:"Partitions of a topic that is created; 0: the broker's default."`
	Replication     int           `config:"replication" default:"0" min:"0" max:"100" doc:"Replicas of a topic that is created; 0: the broker's default."`
	Compression     Compression   `config:"compression" default:"none" enum:"none,gzip,snappy,lz4,zstd" doc:"Compression of record batches."`
	MaxRecordBytes  sdk.Bytes     `config:"max_record_bytes" default:"1000000" min:"1024" max:"64MiB" doc:"Largest request per partition; keep it at or below the topic's max.message.bytes. A larger row is rejected."`
	TLSOn           bool          `config:"tls" default:"false" doc:"Speak TLS with the brokers."`
	SASL            Mechanism     `config:"sasl" default:"none" enum:"none,plain,scram-sha-256,scram-sha-512" doc:"How to log in."`
	Username        string        `config:"username" doc:"User for SASL."`
	Password        sdk.Secret    `config:"password" doc:"Password for SASL."`
	ConnectTimeout  time.Duration `config:"connect_timeout" default:"5s" min:"100ms" max:"1m" doc:"Longest wait for a connection or an answer of a broker."`
	DeliveryTimeout time.Duration `config:"delivery_timeout" default:"15s" min:"500ms" max:"1h" doc:"Longest work on one batch, retries between brokers included; keep it and CONNECT_TIMEOUT below TIMEOUT."`
	tlsfiles.Files

	log      sdk.Logger
	instance string
	address  string // the brokers, for messages
	secure   *tls.Config

	mu       sync.Mutex // guards what follows
	producer *producer
	identity *identity
}

// Open checks what can be checked without a broker: one that is down is no configuration problem.
func (k *Kafka) Open(_ context.Context, env sdk.Env) error {
	k.identity = newIdentity()
	k.log, k.instance, k.address = env.Log, env.Instance, strings.Join(k.Brokers, ", ")
	var problems []error
	for _, broker := range k.Brokers {
		if _, port, err := net.SplitHostPort(broker); err != nil || port == "" {
			problems = append(problems, sdk.FieldError("brokers", fmt.Errorf("%q is not of the form host:port", broker)))
		}
	}
	if !topicName.MatchString(k.Topic) || k.Topic == "." || k.Topic == ".." {
		problems = append(problems, sdk.FieldError("topic", fmt.Errorf("%q is not a topic's name: 1 to 249 of letters, digits, '.', '_' and '-'", k.Topic)))
	}
	switch {
	case k.SASL != mechanismNone && k.Username == "":
		problems = append(problems, sdk.FieldError("username", errors.New("is needed beside SASL")))
	case k.SASL != mechanismNone && k.Password == "":
		problems = append(problems, sdk.FieldError("password", errors.New("is needed beside SASL")))
	case k.SASL == mechanismNone && (k.Username != "" || k.Password != ""):
		problems = append(problems, sdk.FieldError("sasl", errors.New("is needed beside USERNAME and PASSWORD: plain, scram-sha-256 or scram-sha-512")))
	}
	if k.TLSOn {
		var err error
		if k.secure, err = k.TLS(); err != nil {
			problems = append(problems, err)
		}
	} else if k.CAFile != "" || k.CertFile != "" || k.KeyFile != "" || k.Insecure {
		problems = append(problems, sdk.FieldError("tls", errors.New("is needed beside CA_FILE, CERT_FILE, KEY_FILE and INSECURE")))
	}
	return errors.Join(problems...)
}

// Health tells whether a broker can be reached and has the topic, unless a batch is about to find out.
func (k *Kafka) Health(ctx context.Context) error {
	if !k.mu.TryLock() {
		return nil
	}
	defer k.mu.Unlock()
	if err := k.connect(ctx); err != nil {
		return k.failure(err)
	}
	return nil
}

// Close ends the connections.
func (k *Kafka) Close(context.Context) error {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.producer != nil {
		k.producer.close()
		k.producer = nil
	}
	return nil
}
