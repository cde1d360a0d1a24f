package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"sync"
	"time"

	amqp "github.com/rabbitmq/amqp091-go"
)

// inFlight is how many messages may be unconfirmed at once. So many returns find room without anybody reading them: the
// library hands them over on the goroutine that reads the confirms.
const inFlight = 2048

// session is a connection with its channel in confirm mode.
type session struct {
	raw     net.Conn
	conn    *amqp.Connection
	channel *amqp.Channel
	returns chan amqp.Return
	closed  chan *amqp.Error // of the channel; the library tells it before it lets go of the confirms

	listening sync.WaitGroup
	mu        sync.Mutex
	blocked   string // why the broker takes no messages; empty: it does
}

// errTopology says which step of the set-up the broker refused.
type errTopology struct {
	what string
	err  error
}

func (e *errTopology) Error() string { return e.what + ": " + e.err.Error() }
func (e *errTopology) Unwrap() error { return e.err }

// connected returns a session that works: the last one, or that with a new channel after a refusal that closed the channel
// alone, or a new one. The caller holds mu.
func (a *AMQP) connected(ctx context.Context) (*session, error) {
	if a.session != nil && !a.session.conn.IsClosed() && !a.session.channel.IsClosed() {
		return a.session, nil
	}
	ctx, cancel := context.WithTimeout(ctx, a.ConnectTimeout)
	defer cancel()
	if a.session == nil || a.session.conn.IsClosed() {
		a.drop()
		s, err := a.dial(ctx)
		if err != nil {
			return nil, err
		}
		a.session = s
	}
	stop := context.AfterFunc(ctx, a.session.abort)
	err := a.openChannel(a.session)
	if !stop() {
		err = errors.Join(context.Cause(ctx), err)
	}
	if err != nil {
		a.drop()
		return nil, err
	}
	return a.session, nil
}

func (a *AMQP) dial(ctx context.Context) (*session, error) {
	s := &session{}
	config := amqp.Config{
		TLSClientConfig: a.secure.Clone(),
		Heartbeat:       10 * time.Second,
		Properties:      amqp.NewConnectionProperties(),
		Dial: func(network, address string) (net.Conn, error) {
			conn, err := (&net.Dialer{}).DialContext(ctx, network, address)
			if err != nil {
				return nil, err
			}
			s.raw = conn
			deadline, _ := ctx.Deadline()
			return conn, conn.SetDeadline(deadline) // the library lifts it after the handshake
		},
	}
	config.Properties.SetClientConnectionName("rivergate " + a.instance)
	conn, err := amqp.DialConfig(a.URL.Reveal(), config)
	if err != nil {
		if s.raw != nil {
			_ = s.raw.Close() // perhaps for the second time
		}
		// The library takes any silence during the login for wrong credentials. A broker that closes the connection means
		// them; one that did not answer in time does not.
		if deadline, _ := ctx.Deadline(); ctx.Err() != nil || !time.Now().Before(deadline) {
			return nil, fmt.Errorf("connect: %w", context.DeadlineExceeded)
		}
		return nil, fmt.Errorf("connect: %w", err)
	}
	s.conn = conn
	blockings := conn.NotifyBlocked(make(chan amqp.Blocking, 1))
	s.listening.Go(func() {
		for b := range blockings {
			s.mu.Lock()
			s.blocked = ""
			if b.Active {
				s.blocked = b.Reason
			}
			s.mu.Unlock()
		}
	})
	return s, nil
}

// openChannel makes a new channel and sets up what it needs.
func (a *AMQP) openChannel(s *session) error {
	channel, err := s.conn.Channel()
	if err != nil {
		return fmt.Errorf("open channel: %w", err)
	}
	s.channel = channel
	s.closed = channel.NotifyClose(make(chan *amqp.Error, 1))
	s.returns = channel.NotifyReturn(make(chan amqp.Return, inFlight))
	for _, d := range a.topology {
		if err := d.do(channel); err != nil {
			return &errTopology{d.what, err}
		}
	}
	if err := channel.Confirm(false); err != nil {
		return fmt.Errorf("ask for confirms: %w", err)
	}
	return nil
}

// abort cuts the connection off, so that nothing waits on it any longer: the library's writes know no context.
func (s *session) abort() { _ = s.raw.Close() }

func (s *session) blockedBecause() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.blocked
}

// drop ends the session. The caller holds mu.
func (a *AMQP) drop() {
	if a.session == nil {
		return
	}
	s := a.session
	a.session = nil
	_ = s.conn.CloseDeadline(time.Now().Add(time.Second)) // the broker may be gone, or the connection cut off
	s.abort()
	s.listening.Wait()
}
