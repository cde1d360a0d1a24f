package main

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net/url"
	"regexp"
	"strings"
	"sync"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/rivergate/rivergate/plugins/internal/template"
	"github.com/rivergate/rivergate/plugins/internal/tlsfiles"
	"github.com/rivergate/rivergate/sdk"
)

// plainInToken may stay in a token of a subject beside letters and digits: a dot separates tokens, * and > are wildcards.
const plainInToken = "-_~:"

// subjectForm is that of a subject with rows' own words; SUBJECT itself is checked by its pattern.
var subjectForm = regexp.MustCompile(`^[^\s.*>\x00-\x1f\x7f]+(\.[^\s.*>\x00-\x1f\x7f]+)*$`)

// NATS publishes each row as a message whose Nats-Msg-Id is made of its position, so that the stream drops one that comes again.
type NATS struct {
	URL            sdk.Secret    `config:"url" required:"true" pattern:"^(nats|tls)://[^/ ]" doc:"Where the server is, as nats://user:password@host:4222; tls for TLS. Several of one cluster: with commas between."`
	Stream         string        `config:"stream" default:"rivergate" pattern:"^[^\\x00-\\x20.*>/\\\\\\x7f]{1,255}$" doc:"JetStream stream that the rows must go to; nothing goes to another."`
	Subject        string        `config:"subject" default:"rivergate.{org}" pattern:"^([^\\x00-\\x20.*>{}$\\x7f]|\\{(org|uuid|instance)\\})([^\\x00-\\x20.*>{}\\x7f]|\\{(org|uuid|instance)\\})*(\\.([^\\x00-\\x20.*>{}\\x7f]|\\{(org|uuid|instance)\\})+)*$" doc:"Subject, with {org}, {uuid} and {instance}; without blanks and the wildcards * and >, and no $ in front." example:"lab.{org}.{uuid}"`
	IDPrefix       string        `config:"id_prefix" default:"{instance}" pattern:"^([!-z|~]|\\{instance\\})+$" doc:"First part of message ids, before the position of the row; {instance} stands for the pusher's name. Two gateways that write to one stream need different ones."`
	CreateStream   bool          `config:"create_stream" default:"false" doc:"Create the stream when it is not there: on disk, for what SUBJECT can become, refusing new messages when it is full."`
	Duplicates     time.Duration `config:"duplicates" default:"1h" min:"100ms" max:"720h" doc:"For how long a stream that is created knows message ids again."`
	Replicas       int           `config:"replicas" default:"1" min:"1" max:"5" doc:"Servers that hold a stream that is created."`
	MaxBytes       sdk.Bytes     `config:"max_bytes" default:"0" min:"0" doc:"Size at which a stream that is created is full; 0: no bound."`
	Token          sdk.Secret    `config:"token" doc:"Token to log in with, in place of user and password."`
	CredsFile      string        `config:"creds_file" doc:"Credentials file (JWT and seed) to log in with, in place of user and password."`
	ConnectTimeout time.Duration `config:"connect_timeout" default:"5s" min:"100ms" max:"1m" doc:"Longest wait for a connection and a look at the stream."`
	AckTimeout     time.Duration `config:"ack_timeout" default:"15s" min:"100ms" max:"1h" doc:"Longest work on one batch; keep it below TIMEOUT."`
	tlsfiles.Files

	log      sdk.Logger
	instance string
	address  string // the servers, for messages
	secure   *tls.Config
	subject  template.Template
	idPrefix string

	mu      sync.Mutex // guards what follows
	session *session
	taken   bool // the stream took a row, so the permissions are right for some
}

// Open checks what can be checked without the server: one that is down is no configuration problem.
func (n *NATS) Open(_ context.Context, env sdk.Env) error {
	n.log, n.instance = env.Log, env.Instance
	var problems []error
	problem := func(field, format string, args ...any) {
		problems = append(problems, sdk.FieldError(field, fmt.Errorf(format, args...)))
	}
	user, overTLS, err := n.servers()
	if err != nil {
		return sdk.FieldError("url", err)
	}
	if n.subject, err = template.Parse(n.Subject); err != nil {
		problem("subject", "%w", err)
	}
	if id, err := template.Parse(n.IDPrefix); err != nil {
		problem("id_prefix", "%w", err)
	} else {
		n.idPrefix = id.Fill(sdk.Row{}, n.instance, plainInToken+".")
	}
	if user && (n.Token != "" || n.CredsFile != "") || n.Token != "" && n.CredsFile != "" {
		field := "creds_file"
		if n.Token != "" {
			field = "token"
		}
		problem(field, "only one of user in URL, TOKEN and CREDS_FILE can be set")
	}
	if n.CredsFile != "" {
		if err := readCreds(n.CredsFile); err != nil {
			problem("creds_file", "%w", err)
		}
	}
	if overTLS {
		if n.secure, err = n.TLS(); err != nil {
			problems = append(problems, err)
		}
	} else if n.Files != (tlsfiles.Files{}) {
		problem("url", "must begin with tls:// beside CA_FILE, CERT_FILE, KEY_FILE and INSECURE")
	}
	return errors.Join(problems...)
}

// readCreds reads the file as the library does at each connection.
func readCreds(file string) error {
	var login nats.Options
	if err := nats.UserCredentials(file)(&login); err != nil {
		return err
	}
	if _, err := login.UserJWT(); err != nil {
		return err
	}
	_, err := login.SignatureCB([]byte("nonce"))
	return err
}

// servers reads URL. What it complains of is not quoted: it may hold a password.
func (n *NATS) servers() (user, overTLS bool, err error) {
	var hosts []string
	for i, text := range strings.Split(n.URL.Reveal(), ",") {
		u, err := url.Parse(strings.TrimSpace(text))
		if err != nil || u.Scheme != "nats" && u.Scheme != "tls" || u.Hostname() == "" || u.Path != "" && u.Path != "/" {
			return false, false, errors.New("is not of the form nats://user:password@host:4222 (special characters in a password are written %XX)")
		}
		if i > 0 && overTLS != (u.Scheme == "tls") {
			return false, false, errors.New("must have nats:// or tls:// for all servers")
		}
		overTLS, user = u.Scheme == "tls", user || u.User != nil
		hosts = append(hosts, u.Host)
	}
	n.address = strings.Join(hosts, ", ")
	return user, overTLS, nil
}

// withWords is SUBJECT with another text in place of what varies.
func (n *NATS) withWords(text string) string {
	return strings.NewReplacer("{org}", text, "{uuid}", text, "{instance}", "x").Replace(n.Subject)
}

// Health tells whether the server can be reached and has the stream, unless a batch is on its way and shows it.
func (n *NATS) Health(ctx context.Context) error {
	if !n.mu.TryLock() {
		return nil
	}
	defer n.mu.Unlock()
	if _, err := n.connected(ctx); err != nil {
		return n.failure(err)
	}
	return nil
}

// Close ends the connection.
func (n *NATS) Close(context.Context) error {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.drop()
	return nil
}
