package main

import (
	"context"
	"crypto/tls"
	"fmt"
	"net"
	"sync"
	"time"

	"github.com/eclipse/paho.golang/packets"
	"github.com/eclipse/paho.golang/paho"
	pahosession "github.com/eclipse/paho.golang/paho/session"
	"github.com/eclipse/paho.golang/paho/session/state"
)

// keepAlive is the longest silence on a connection, seconds.
const keepAlive = 30

// session is a connection to the broker.
type session struct {
	conn      net.Conn
	client    *paho.Client
	answers   *answers
	maxPacket uint32 // that the broker takes; 0: any
	refused   bool   // the broker refused a message, and may end the connection for it
}

// answers hands the acknowledgement of a message to the one who published it. paho's own Publish waits for it, so a single goroutine,
// which keeps the order, could have one message in flight; its asynchronous form does not say what the answer was.
type answers struct {
	pahosession.SessionManager
	next chan packets.ControlPacket // for the message that is published next

	mu         sync.Mutex
	disconnect *packets.Disconnect // what the broker said when it ended the connection
}

// AddToSession is called by Publish, on its goroutine, after a place in the broker's receive maximum is free.
func (a *answers) AddToSession(ctx context.Context, packet pahosession.Packet, _ chan<- packets.ControlPacket) error {
	return a.SessionManager.AddToSession(ctx, packet, a.next)
}

// ConnectionLost is told of the broker's last word before anybody can notice that the connection has ended.
func (a *answers) ConnectionLost(d *packets.Disconnect) error {
	if d != nil {
		a.mu.Lock()
		a.disconnect = d
		a.mu.Unlock()
	}
	return a.SessionManager.ConnectionLost(d)
}

// errRefused is a reason code of the broker, at the connection or when it ended it.
type errRefused struct {
	when   string
	code   byte
	reason string
}

func (e *errRefused) Error() string { return fmt.Sprintf("%s: 0x%02X %s", e.when, e.code, e.reason) }

// connected returns the session, a new one when there is none or the last one ended. The caller holds mu.
func (m *MQTT) connected(ctx context.Context) (*session, error) {
	if m.session != nil && m.session.lives() {
		return m.session, nil
	}
	m.drop()
	s, err := m.dial(ctx, m.ClientID)
	if err != nil {
		return nil, err
	}
	m.session = s
	return s, nil
}

func (m *MQTT) dial(ctx context.Context, clientID string) (*session, error) {
	ctx, cancel := context.WithTimeout(ctx, m.ConnectTimeout)
	defer cancel()
	conn, err := m.dialNetwork(ctx)
	if err != nil {
		return nil, fmt.Errorf("connect: %w", err)
	}
	stop := context.AfterFunc(ctx, func() { _ = conn.Close() })
	s := &session{conn: conn, answers: &answers{SessionManager: state.NewInMemory()}}
	s.client = paho.NewClient(paho.ClientConfig{
		ClientID: clientID, Conn: packets.NewThreadSafeConn(conn), Session: s.answers, PacketTimeout: m.AckTimeout,
	})
	connect := &paho.Connect{ClientID: clientID, CleanStart: true, KeepAlive: keepAlive}
	if m.user != nil {
		connect.Username, connect.UsernameFlag = m.user.Username(), true
		if password, ok := m.user.Password(); ok {
			connect.Password, connect.PasswordFlag = []byte(password), true
		}
	}
	answer, err := s.client.Connect(ctx, connect)
	inTime := stop()
	switch {
	case answer != nil && answer.ReasonCode >= 0x80:
		said := ""
		if answer.Properties != nil {
			said = answer.Properties.ReasonString
		}
		return nil, &errRefused{"connect", answer.ReasonCode, reasonText(answer.ReasonCode, said)}
	case err == nil && inTime:
	case ctx.Err() != nil:
		if err == nil {
			s.close()
		}
		return nil, fmt.Errorf("connect: %w", ctx.Err())
	default:
		return nil, fmt.Errorf("connect: %w", err)
	}
	if answer.Properties != nil && answer.Properties.MaximumPacketSize != nil {
		s.maxPacket = *answer.Properties.MaximumPacketSize
	}
	return s, nil
}

func (m *MQTT) dialNetwork(ctx context.Context) (net.Conn, error) {
	if m.secure != nil {
		return (&tls.Dialer{Config: m.secure}).DialContext(ctx, "tcp", m.address)
	}
	return (&net.Dialer{}).DialContext(ctx, "tcp", m.address)
}

// publish sends a message as soon as the broker's receive maximum allows. The channel gets its acknowledgement, or nothing when
// the session ends before.
func (s *session) publish(ctx context.Context, p *paho.Publish) (<-chan packets.ControlPacket, error) {
	answer := make(chan packets.ControlPacket, 1)
	s.answers.next = answer
	_, err := s.client.PublishWithOptions(ctx, p, paho.PublishOptions{Method: paho.PublishMethod_AsyncSend})
	return answer, err
}

// answerTo waits for an acknowledgement; nil: the session or the time ended without one.
func (s *session) answerTo(ctx context.Context, answer <-chan packets.ControlPacket) *packets.Puback {
	var packet packets.ControlPacket
	select {
	case packet = <-answer:
	case <-ctx.Done():
	case <-s.client.Done():
		select {
		case packet = <-answer: // came before the end
		default:
		}
	}
	ack, _ := packet.Content.(*packets.Puback)
	return ack
}

// endedBecause says why there was no acknowledgement. After a failed write the broker's last word may still be on its way.
func (s *session) endedBecause(ctx context.Context) error {
	select {
	case <-s.client.Done():
	case <-ctx.Done():
		return fmt.Errorf("wait for acknowledgements: %w", ctx.Err())
	}
	s.answers.mu.Lock()
	defer s.answers.mu.Unlock()
	if d := s.answers.disconnect; d != nil {
		text := ""
		if d.Properties != nil {
			text = d.Properties.ReasonString
		}
		return &errRefused{"the broker ended the connection", d.ReasonCode, reasonText(d.ReasonCode, text)}
	}
	return errLost
}

func (s *session) lives() bool {
	select {
	case <-s.client.Done():
		return false
	default:
		return true
	}
}

// abort cuts the connection off, so that nothing waits on it any longer: the library's writes know no context.
func (s *session) abort() { _ = s.conn.Close() }

// close says goodbye to a broker that may not listen.
func (s *session) close() {
	_ = s.conn.SetWriteDeadline(time.Now().Add(time.Second)) // it may be closed
	_ = s.client.Disconnect(&paho.Disconnect{})              // closes it either way
	_ = s.answers.Close()                                    // holds nothing but what was given up
}

// drop ends the session. The caller holds mu.
func (m *MQTT) drop() {
	if m.session != nil {
		m.session.close()
		m.session = nil
	}
}
