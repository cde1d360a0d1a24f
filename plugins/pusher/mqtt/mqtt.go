package main

import (
	"context"
	"crypto/tls"
	"errors"
	"net"
	"net/url"
	"strings"
	"sync"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/rivergate/rivergate/plugins/internal/template"
	"github.com/rivergate/rivergate/plugins/internal/tlsfiles"
	"github.com/rivergate/rivergate/sdk"
)

// NoSubscriber says what becomes of rows that nobody subscribes to.
type NoSubscriber string

const (
	noSubscriberAccept NoSubscriber = "accept"
	noSubscriberReject NoSubscriber = "reject"

	// maxString bounds a topic and a client identifier, bytes: MQTT 5, 1.5.4.
	maxString = 65535
	// plain may stay in a topic and in a property beside letters and digits. A slash separates levels, + and # are wildcards, and
	// a leading $ belongs to the broker.
	plain = "-_.~:"
)

// MQTT publishes each row with QoS 1 on one connection.
type MQTT struct {
	URL            sdk.Secret    `config:"url" required:"true" pattern:"^mqtts?://[^/ ]" doc:"Where the broker is, as mqtt://user:password@host:1883; mqtts for TLS, port 8883."`
	Topic          string        `config:"topic" default:"rivergate/{org}/{uuid}" pattern:"^([^$+#{}]|\\{(org|uuid|instance)\\})([^+#{}]|\\{(org|uuid|instance)\\})*$" doc:"Topic, with {org}, {uuid} and {instance}; without the wildcards + and #, which are for subscriptions, and no $ in front."`
	ClientID       string        `config:"client_id" doc:"Client identifier; the broker knows one connection by it. Empty: rivergate-, and the name of the instance."`
	NoSubscriber   NoSubscriber  `config:"no_subscriber" default:"accept" enum:"accept,retry,reject" doc:"What becomes of a row that the broker has no subscriber for, when it says so: accept its loss, retry until there is one, or reject to the dead letters."`
	ConnectTimeout time.Duration `config:"connect_timeout" default:"5s" min:"100ms" max:"1m" doc:"Longest wait for a connection."`
	AckTimeout     time.Duration `config:"ack_timeout" default:"15s" min:"100ms" max:"1h" doc:"Longest wait for the acknowledgements of a batch; keep it and CONNECT_TIMEOUT below TIMEOUT."`
	tlsfiles.Files

	log      sdk.Logger
	instance string
	address  string // host and port
	user     *url.Userinfo
	secure   *tls.Config // nil: no TLS
	topic    template.Template

	mu      sync.Mutex // guards what follows
	session *session
	taken   bool // the broker took a row, so the credentials are right for some topic
}

// Open checks what can be checked without the broker: one that is down is no configuration problem.
func (m *MQTT) Open(_ context.Context, env sdk.Env) error {
	m.log, m.instance = env.Log, env.Instance
	u, err := url.Parse(m.URL.Reveal())
	if err != nil || u.Hostname() == "" {
		return sdk.FieldError("url", errors.New("is not of the form mqtt://user:password@host:1883 (special characters in a password are written %XX)")) // the parser's text quotes it
	}
	if strings.Trim(u.Path, "/") != "" || u.RawQuery != "" {
		return sdk.FieldError("url", errors.New("holds more than user, password, host and port; the topic belongs into TOPIC"))
	}
	port := u.Port()
	if port == "" {
		port = map[string]string{"mqtt": "1883", "mqtts": "8883"}[u.Scheme]
	}
	m.address, m.user = net.JoinHostPort(u.Hostname(), port), u.User
	secure, err := m.TLS()
	if err != nil {
		return err
	}
	if u.Scheme == "mqtts" {
		secure.ServerName = u.Hostname()
		m.secure = secure
	}
	if m.topic, err = template.Parse(m.Topic); err != nil {
		return sdk.FieldError("topic", err)
	}
	if !printable(m.Topic) || len(m.Topic) > maxString {
		return sdk.FieldError("topic", errors.New("holds a control character, or is too long"))
	}
	if m.ClientID == "" {
		m.ClientID = "rivergate-" + template.Escape(m.instance, plain)
	}
	if !printable(m.ClientID) || len(m.ClientID) > maxString {
		return sdk.FieldError("client_id", errors.New("holds a control character, or is too long"))
	}
	return nil
}

// printable: a string of MQTT is UTF-8, and brokers may end the connection over a control character in it (MQTT 5, 1.5.4).
func printable(text string) bool {
	return utf8.ValidString(text) && !strings.ContainsFunc(text, unicode.IsControl)
}

// Health tells whether the broker takes our connections, unless a batch is on its way and shows it. Without a connection it asks
// under a name of its own: during an upgrade the name of the instance belongs to the process that still delivers, and the broker would end that one's connection.
func (m *MQTT) Health(ctx context.Context) error {
	if !m.mu.TryLock() {
		return nil
	}
	defer m.mu.Unlock()
	if m.session != nil && m.session.lives() {
		return nil
	}
	s, err := m.dial(ctx, m.ClientID+"-check")
	if err != nil {
		return m.failure(err)
	}
	s.close()
	return nil
}

// Close ends the connection.
func (m *MQTT) Close(context.Context) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.drop()
	return nil
}
