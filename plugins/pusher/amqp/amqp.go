package main

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"strconv"
	"strings"
	"sync"
	"time"

	amqp "github.com/rabbitmq/amqp091-go"

	"github.com/rivergate/rivergate/plugins/internal/template"
	"github.com/rivergate/rivergate/plugins/internal/tlsfiles"
	"github.com/rivergate/rivergate/sdk"
)

// The words of the settings.
type (
	ExchangeType string
	QueueType    string
	Unroutable   string
)

const (
	unroutableRetry  Unroutable = "retry"
	unroutableAccept Unroutable = "accept"

	// maxShortString bounds names and routing keys: AMQP 0-9-1, 4.2.5.3.
	maxShortString = 255
	// plainInKey may stay in a routing key beside letters and digits. A dot separates words, * and # are wildcards of bindings.
	plainInKey = "-_~:"
)

// AMQP publishes each row as a persistent message on one channel in confirm mode.
type AMQP struct {
	URL            sdk.Secret    `config:"url" required:"true" pattern:"^amqps?://[^/ ]" doc:"Where the broker is, as amqp://user:password@host:5672/vhost; amqps for TLS."`
	Exchange       string        `config:"exchange" doc:"Exchange to publish to. Empty: the default exchange, where a routing key is the name of a queue." example:"rows"`
	ExchangeType   ExchangeType  `config:"exchange_type" default:"existing" enum:"existing,topic,direct,fanout" doc:"Declare EXCHANGE, durable, of this type; existing: it must be there."`
	RoutingKey     string        `config:"routing_key" pattern:"^([^{}]|\\{(org|uuid|instance)\\})*$" doc:"Routing key, with {org}, {uuid} and {instance}. Empty: the name of QUEUE." example:"rows.{org}.{uuid}"`
	Queue          string        `config:"queue" doc:"Durable queue to declare, and to bind to EXCHANGE by BINDING_KEY. Empty: nothing is declared."`
	QueueType      QueueType     `config:"queue_type" default:"classic" enum:"classic,quorum" doc:"Type of QUEUE."`
	BindingKey     string        `config:"binding_key" default:"#" doc:"Binding of QUEUE to EXCHANGE."`
	Unroutable     Unroutable    `config:"unroutable" default:"retry" enum:"retry,reject,accept" doc:"What becomes of a row that no queue takes: retry until one is bound, reject to the dead letters, or accept its loss."`
	ConnectTimeout time.Duration `config:"connect_timeout" default:"5s" min:"100ms" max:"1m" doc:"Longest wait for a connection."`
	ConfirmTimeout time.Duration `config:"confirm_timeout" default:"15s" min:"100ms" max:"1h" doc:"Longest wait for the confirms of a batch; keep it and CONNECT_TIMEOUT below TIMEOUT."`
	tlsfiles.Files

	log      sdk.Logger
	instance string
	address  string // host, port and virtual host, for messages
	secure   *tls.Config
	key      template.Template
	topology []declaration // what is done on each new channel

	mu      sync.Mutex // guards what follows
	session *session
	taken   bool // the broker took a row, so the credentials and the set-up are right for some
}

// declaration is one step of the set-up on a new channel.
type declaration struct {
	what string
	do   func(*amqp.Channel) error
}

// Open checks what can be checked without the broker: one that is down is no configuration problem.
func (a *AMQP) Open(_ context.Context, env sdk.Env) error {
	a.log, a.instance = env.Log, env.Instance
	uri, err := amqp.ParseURI(a.URL.Reveal())
	if err != nil {
		return sdk.FieldError("url", errors.New("is not of the form amqp://user:password@host:5672/vhost (special characters in a password are written %XX)")) // the parser's text quotes it
	}
	a.address = net.JoinHostPort(uri.Host, strconv.Itoa(uri.Port)) + " (vhost " + uri.Vhost + ")"
	if a.secure, err = a.TLS(); err != nil {
		return err
	}
	for field, name := range map[string]string{"exchange": a.Exchange, "queue": a.Queue, "binding_key": a.BindingKey} {
		if len(name) > maxShortString {
			return sdk.FieldError(field, fmt.Errorf("is longer than %d bytes", maxShortString))
		}
	}
	if strings.HasPrefix(a.Queue, "amq.") {
		return sdk.FieldError("queue", errors.New("must not begin with amq., which belongs to the broker"))
	}
	if a.Exchange == "" && a.ExchangeType != "existing" {
		return sdk.FieldError("exchange", errors.New("is needed beside EXCHANGE_TYPE"))
	}
	text := a.RoutingKey
	if text == "" {
		if a.Queue == "" {
			return sdk.FieldError("queue", errors.New("is needed, or ROUTING_KEY"))
		}
		text = a.Queue
		a.key = template.Fixed(text)
	} else if a.key, err = template.Parse(text); err != nil {
		return sdk.FieldError("routing_key", err)
	}
	if len(a.key.Literals()) > maxShortString {
		return sdk.FieldError("routing_key", fmt.Errorf("is longer than %d bytes", maxShortString))
	}
	a.declarations()
	return nil
}

func (a *AMQP) declarations() {
	add := func(what string, do func(*amqp.Channel) error) {
		a.topology = append(a.topology, declaration{what, do})
	}
	switch {
	case a.Exchange == "":
	case a.ExchangeType == "existing":
		add("look for EXCHANGE "+a.Exchange, func(c *amqp.Channel) error {
			return c.ExchangeDeclarePassive(a.Exchange, amqp.ExchangeDirect, true, false, false, false, nil) // the type is not compared
		})
	default:
		add("declare EXCHANGE "+a.Exchange, func(c *amqp.Channel) error {
			return c.ExchangeDeclare(a.Exchange, string(a.ExchangeType), true, false, false, false, nil)
		})
	}
	if a.Queue != "" {
		add("declare QUEUE "+a.Queue, func(c *amqp.Channel) error {
			_, err := c.QueueDeclare(a.Queue, true, false, false, false, amqp.Table{amqp.QueueTypeArg: string(a.QueueType)})
			return err
		})
		if a.Exchange != "" {
			add("bind QUEUE "+a.Queue+" to EXCHANGE "+a.Exchange, func(c *amqp.Channel) error {
				return c.QueueBind(a.Queue, a.BindingKey, a.Exchange, false, nil)
			})
		}
	}
}

// Health tells whether the broker can be reached and is set up, unless a batch is on its way and shows it.
func (a *AMQP) Health(ctx context.Context) error {
	if !a.mu.TryLock() {
		return nil
	}
	defer a.mu.Unlock()
	s, err := a.connected(ctx)
	if err != nil {
		return a.failure(err)
	}
	if reason := s.blockedBecause(); reason != "" {
		return fmt.Errorf("RabbitMQ at %s blocks publishers: %s", a.address, reason)
	}
	return nil
}

// Close ends the connection.
func (a *AMQP) Close(context.Context) error {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.drop()
	return nil
}
