package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"regexp"
	"strings"
	"sync"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

// inFlight is how many messages may wait for their acknowledgements at once.
const inFlight = 2048

// deniedPublish finds the subject in the server's words about a missing permission.
var deniedPublish = regexp.MustCompile(`(?i)permissions violation for publish to "([^"]+)"`)

// session is a connection that is never made again by the library: the next batch makes another, so no wait is hidden.
type session struct {
	dialing
	conn    *nats.Conn
	stream  jetstream.JetStream
	answers chan answer   // about messages, in the order in which the server said them
	denied  chan string   // subjects that these credentials may not publish to
	closed  chan struct{} // the connection is gone

	ended context.Context // with the cause; done when the session is of no use any more
	end   context.CancelCauseFunc
}

// answer is the server's word about a message.
type answer struct {
	message *nats.Msg
	ack     *jetstream.PubAck
	err     error
}

// dialing is the dialer of one attempt. It keeps what the library does not tell, and the connection, to cut it off.
type dialing struct {
	ctx context.Context //nolint:containedctx // the library's dialer has none

	mu  sync.Mutex
	raw net.Conn
	err error
}

// Dial implements nats.CustomDialer.
func (d *dialing) Dial(network, address string) (net.Conn, error) {
	conn, err := (&net.Dialer{}).DialContext(d.ctx, network, address)
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.err = err; err == nil {
		d.raw = conn
		if d.ctx.Err() != nil {
			_ = conn.Close() // abort has come before
		}
	}
	return conn, err
}

// abort cuts the connection off: the library's reads and writes know no context.
func (d *dialing) abort() {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.raw != nil {
		_ = d.raw.Close() // perhaps for the second time
	}
}

// errSetUp: the server has no stream as this pusher needs it.
type errSetUp struct{ what string }

func (e *errSetUp) Error() string { return e.what }

// connected returns the session, or a new one. The caller holds mu.
func (n *NATS) connected(ctx context.Context) (*session, error) {
	if n.session != nil {
		select {
		case <-n.session.ended.Done():
			n.drop()
		default:
			return n.session, nil
		}
	}
	ctx, cancel := context.WithTimeout(ctx, n.ConnectTimeout)
	defer cancel()
	s := &session{
		dialing: dialing{ctx: ctx}, answers: make(chan answer), denied: make(chan string), closed: make(chan struct{}),
	}
	s.ended, s.end = context.WithCancelCause(context.Background())
	stop := context.AfterFunc(ctx, s.abort)
	defer stop()
	n.session = s
	err := n.dial(s)
	if err == nil {
		err = n.lookAtStream(ctx, s)
	}
	if err == nil {
		return s, nil
	}
	switch cause := context.Cause(s.ended); {
	case errors.Is(cause, nats.ErrPermissionViolation): // the answer never comes
		err = cause
	case ctx.Err() != nil:
		err = fmt.Errorf("connect: %w", ctx.Err())
	}
	n.drop()
	return nil, err
}

func (n *NATS) dial(s *session) error {
	options := []nats.Option{
		nats.Name("rivergate " + n.instance), nats.NoReconnect(), nats.SkipHostLookup(), nats.SetCustomDialer(&s.dialing),
		nats.Timeout(n.ConnectTimeout + time.Second), // the context ends it before
		nats.PingInterval(10 * time.Second), nats.MaxPingsOutstanding(2),
		nats.ClosedHandler(func(c *nats.Conn) {
			s.end(errors.Join(errLost, c.LastError()))
			close(s.closed)
		}),
		nats.ErrorHandler(func(_ *nats.Conn, _ *nats.Subscription, err error) { s.complaint(err) }),
	}
	if n.secure != nil {
		options = append(options, nats.Secure(n.secure.Clone()))
	}
	if n.Token != "" {
		options = append(options, nats.Token(n.Token.Reveal()))
	}
	if n.CredsFile != "" {
		options = append(options, nats.UserCredentials(n.CredsFile))
	}
	conn, err := nats.Connect(n.URL.Reveal(), options...)
	if err != nil {
		if errors.Is(err, nats.ErrNoServers) && s.err != nil {
			err = s.err // what the library leaves out
		}
		return fmt.Errorf("connect: %w", err)
	}
	s.conn = conn
	s.stream, err = jetstream.New(conn, jetstream.WithPublishAsyncMaxPending(2*inFlight),
		jetstream.WithPublishAsyncAckHandler(func(_ jetstream.JetStream, m *nats.Msg, ack *jetstream.PubAck) { s.say(answer{m, ack, nil}) }),
		jetstream.WithPublishAsyncErrHandler(func(_ jetstream.JetStream, m *nats.Msg, err error) { s.say(answer{m, nil, err}) }))
	return err
}

// say hands an answer to the batch on its way.
func (s *session) say(a answer) {
	select {
	case s.answers <- a:
	case <-s.ended.Done():
	}
}

// complaint takes what the server says about no message in particular. Without permission to publish a row, that row gets no answer;
// without permission for JetStream's API or for the inbox, nothing does.
func (s *session) complaint(err error) {
	if !errors.Is(err, nats.ErrPermissionViolation) {
		return // the library closes the connection when it has to
	}
	if m := deniedPublish.FindStringSubmatch(err.Error()); m != nil && !strings.HasPrefix(m[1], "$JS.") {
		select {
		case s.denied <- m[1]:
		case <-s.ended.Done():
		}
		return
	}
	s.end(err)
	s.abort()
}

// lookAtStream makes sure that the stream is there.
func (n *NATS) lookAtStream(ctx context.Context, s *session) error {
	stream, err := s.stream.Stream(ctx, n.Stream)
	if errors.Is(err, jetstream.ErrStreamNotFound) {
		if !n.CreateStream {
			return &errSetUp{fmt.Sprintf("stream %s does not exist: create it, set CREATE_STREAM=true, or mend STREAM", n.Stream)}
		}
		stream, err = n.create(ctx, s)
	}
	if err != nil {
		return fmt.Errorf("look at stream %s: %w", n.Stream, err)
	}
	config := stream.CachedInfo().Config
	if config.NoAck {
		return &errSetUp{fmt.Sprintf("stream %s acknowledges nothing (no_ack): change it, or set another STREAM", n.Stream)}
	}
	n.log.Debug("stream found", "stream", n.Stream, "duplicates", config.Duplicates.String())
	return nil
}

func (n *NATS) create(ctx context.Context, s *session) (jetstream.Stream, error) {
	config := jetstream.StreamConfig{
		Name: n.Stream, Subjects: []string{n.withWords("*")}, Storage: jetstream.FileStorage, Replicas: n.Replicas,
		Discard: jetstream.DiscardNew, Duplicates: n.Duplicates, MaxBytes: int64(n.MaxBytes),
	}
	if config.MaxBytes == 0 {
		config.MaxBytes = -1
	}
	stream, err := s.stream.CreateStream(ctx, config)
	if errors.Is(err, jetstream.ErrStreamNameAlreadyInUse) { // somebody was faster
		return s.stream.Stream(ctx, n.Stream)
	}
	var refused jetstream.JetStreamError
	if errors.As(err, &refused) && refused.APIError() != nil {
		return nil, &errSetUp{fmt.Sprintf("create stream %s (SUBJECT, DUPLICATES, REPLICAS, MAX_BYTES): %v", n.Stream, err)}
	}
	if err == nil {
		n.log.Info("stream created", "stream", n.Stream, "subjects", config.Subjects, "duplicates", n.Duplicates.String())
	}
	return stream, err
}

// drop ends the session. The caller holds mu.
func (n *NATS) drop() {
	if n.session == nil {
		return
	}
	s := n.session
	n.session = nil
	s.end(errLost)
	s.abort()
	if s.conn != nil {
		s.conn.Close()
		<-s.closed
	}
}
