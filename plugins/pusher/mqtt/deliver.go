package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strconv"
	"time"

	"github.com/eclipse/paho.golang/packets"
	"github.com/eclipse/paho.golang/paho"

	"github.com/rivergate/rivergate/plugins/internal/pipelined"
	"github.com/rivergate/rivergate/plugins/internal/template"
	"github.com/rivergate/rivergate/sdk"
)

// headroom is more than a PUBLISH holds beside topic, payload and the texts of a client, bytes.
const headroom = 4096

// errNotTried says that a batch took too long; what was not tried is tried with the next one.
var errNotTried = errors.New("the batch took longer than ACK_TIMEOUT; this row was not published yet")

// delivery is one batch on its way.
type delivery struct {
	*pipelined.Outcomes
	mqtt *MQTT
}

// Deliver publishes the batch, as many rows at once as the broker's receive maximum allows, and settles each by the reason code of its
// acknowledgement. Brokers may end the connection because of one message, with a reason, behind its refusal (the README names one), or
// without a word: then what is not acknowledged goes one by one, until the guilty row stands alone.
func (m *MQTT) Deliver(ctx context.Context, b *sdk.Batch) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	ctx, cancel := context.WithTimeout(ctx, m.AckTimeout)
	defer cancel()
	d := &delivery{Outcomes: pipelined.Of(b), mqtt: m}
	rows := make([]sdk.Row, 0, b.Len())
	for row := range b.Rows() {
		rows = append(rows, row)
	}
	for window := len(rows); len(rows) > 0; {
		if ctx.Err() != nil {
			d.SettleAll(rows, sdk.Throttle(0, errNotTried))
			return nil
		}
		s, err := m.connected(ctx)
		if err != nil {
			d.SettleAll(rows, m.failure(err))
			return nil
		}
		n := min(window, len(rows))
		unsettled, err := d.publish(ctx, s, rows[:n])
		rows = append(unsettled, rows[n:]...)
		if err == nil {
			continue
		}
		m.drop() // what is still on its way is not known under this session any more
		switch alone := len(unsettled) == 1; {
		case errors.Is(err, errLost) && s.refused: // a new session takes the others
		case alone && refusesRow(err):
			d.Settle(rows[0], sdk.Permanent(code(err), m.described(err)))
			rows = rows[1:]
		case !alone && (refusesRow(err) || errors.Is(err, errLost)):
			window = 1
		default:
			d.SettleAll(rows, m.failure(err))
			return nil
		}
	}
	return nil
}

// pending is a message that waits for its acknowledgement; refused says why it was never published.
type pending struct {
	row     sdk.Row
	topic   string
	answer  <-chan packets.ControlPacket
	refused error
}

// publish sends the rows and settles each by the broker's word. When the session or the time ends, it returns the rows about which
// the broker said nothing, and why.
func (d *delivery) publish(ctx context.Context, s *session, rows []sdk.Row) (unsettled []sdk.Row, err error) {
	stop := context.AfterFunc(ctx, s.abort) // a broker that reads nothing would hold a write for ever
	defer stop()
	waiting := make([]pending, 0, len(rows))
	for i, row := range rows {
		message := d.mqtt.message(row)
		if refused := s.refuses(message); refused != nil {
			waiting = append(waiting, pending{row: row, refused: refused})
			continue
		}
		answer, err := s.publish(ctx, message)
		if err != nil { // the session has ended; why, is said below
			unsettled = rows[i:]
			break
		}
		waiting = append(waiting, pending{row: row, topic: message.Topic, answer: answer})
	}
	var silent []sdk.Row
	for _, p := range waiting {
		if p.answer == nil {
			d.Settle(p.row, p.refused)
			continue
		}
		ack := s.answerTo(ctx, p.answer)
		if ack == nil {
			silent = append(silent, p.row)
			continue
		}
		s.refused = s.refused || ack.ReasonCode >= 0x80
		d.Settle(p.row, d.mqtt.outcome(ack, p.topic))
	}
	unsettled = append(silent, unsettled...)
	if len(unsettled) > 0 {
		return unsettled, s.endedBecause(ctx)
	}
	return nil, nil
}

// refuses tells what the broker need not be asked: it would end the connection because of a packet that is too large.
func (s *session) refuses(p *paho.Publish) error {
	if len(p.Topic) > maxString {
		return sdk.Permanent("topic", fmt.Errorf("the topic of this row would have %d bytes, MQTT allows %d", len(p.Topic), maxString))
	}
	if s.maxPacket == 0 || len(p.Payload)+len(p.Topic)+headroom < int(s.maxPacket) {
		return nil
	}
	size, err := p.Packet().WriteTo(io.Discard)
	if err != nil {
		return sdk.Permanent("packet", err)
	}
	if size > int64(s.maxPacket) {
		return sdk.Permanent("packet_too_large", fmt.Errorf("the message has %d bytes, the broker takes %d (its maximum packet size)", size, s.maxPacket))
	}
	return nil
}

// message is a row as it travels: the client's bytes, what belongs to them in user properties. Those are text without control characters,
// so what a client chose is escaped as it is in a topic.
func (m *MQTT) message(row sdk.Row) *paho.Publish {
	properties := &paho.PublishProperties{ContentType: "application/json"}
	add := properties.User.Add
	add("org_id", strconv.FormatUint(row.OrgID(), 10))
	add("uuid", template.Escape(row.UUID(), plain))
	add("position", strconv.FormatUint(row.Position(), 10))
	add("received_at", row.ReceivedAt().Format(time.RFC3339Nano))
	if index, ok := row.Index(); ok {
		add("index", strconv.Itoa(index))
	}
	if row.UserID() != 0 {
		add("user_id", strconv.FormatUint(row.UserID(), 10))
	}
	if row.RequestID() != "" {
		add("request_id", template.Escape(row.RequestID(), plain))
	}
	if row.TraceParent() != "" {
		add("traceparent", template.Escape(row.TraceParent(), plain))
	}
	return &paho.Publish{QoS: 1, Topic: m.topic.Fill(row, m.instance, plain), Properties: properties, Payload: row.JSON()}
}
