package main

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/eclipse/paho.golang/packets"

	"github.com/rivergate/rivergate/sdk"
)

// setUpPause is how long rows wait for an operator to mend the set-up before they are tried again.
const setUpPause = 5 * time.Second

// maxReason bounds what the broker's words may take of a message, bytes.
const maxReason = 300

// errLost: the connection ended without a word.
var errLost = errors.New("the connection was lost")

// Reason codes of MQTT 5, 2.4, that this pusher tells apart.
const (
	noMatchingSubscribers      = 0x10
	unsupportedProtocolVersion = 0x84
	clientIDNotValid           = 0x85
	badUserNameOrPassword      = 0x86
	notAuthorized              = 0x87
	serverUnavailable          = 0x88
	serverBusy                 = 0x89
	banned                     = 0x8A
	badAuthenticationMethod    = 0x8C
	sessionTakenOver           = 0x8E
	topicNameInvalid           = 0x90
	packetTooLarge             = 0x95
	quotaExceeded              = 0x97
	payloadFormatInvalid       = 0x99
	connectionRateExceeded     = 0x9F
)

// names of the reason codes, in the words of the standard.
var names = map[byte]string{
	noMatchingSubscribers: "no matching subscribers", 0x80: "unspecified error", 0x81: "malformed packet", 0x82: "protocol error",
	0x83: "implementation specific error", unsupportedProtocolVersion: "unsupported protocol version", clientIDNotValid: "client identifier not valid",
	badUserNameOrPassword: "bad user name or password", notAuthorized: "not authorized", serverUnavailable: "server unavailable",
	serverBusy: "server busy", banned: "banned", 0x8B: "server shutting down", badAuthenticationMethod: "bad authentication method",
	0x8D: "keep alive timeout", sessionTakenOver: "session taken over", topicNameInvalid: "topic name invalid", 0x91: "packet identifier in use",
	0x93: "receive maximum exceeded", packetTooLarge: "packet too large", 0x96: "message rate too high", quotaExceeded: "quota exceeded",
	0x98: "administrative action", payloadFormatInvalid: "payload format invalid", 0x9B: "QoS not supported", 0x9C: "use another server",
	0x9D: "server moved", connectionRateExceeded: "connection rate exceeded",
}

func name(code byte) string {
	if n, ok := names[code]; ok {
		return n
	}
	return fmt.Sprintf("reason 0x%02X", code)
}

// reasonText is the name of a code with what the broker adds, in one line of bounded length.
func reasonText(code byte, said string) string {
	said = strings.Join(strings.Fields(said), " ")
	if len(said) > maxReason {
		said = strings.ToValidUTF8(said[:maxReason], "") + "…"
	}
	if said == "" {
		return name(code)
	}
	return name(code) + ": " + said
}

// stable makes an outcome's code of a reason code: packet_too_large.
func stable(code byte) string { return strings.ToLower(strings.ReplaceAll(name(code), " ", "_")) }

// outcome of an acknowledged row; nil: delivered.
func (m *MQTT) outcome(ack *packets.Puback, topic string) error {
	said := ""
	if ack.Properties != nil {
		said = ack.Properties.ReasonString
	}
	err := fmt.Errorf("the broker at %s answered 0x%02X %s for topic %q", m.address, ack.ReasonCode, reasonText(ack.ReasonCode, said), topic)
	code := stable(ack.ReasonCode)
	switch ack.ReasonCode {
	case noMatchingSubscribers:
		m.taken = true
		switch m.NoSubscriber {
		case noSubscriberAccept:
			return nil
		case noSubscriberReject:
			return sdk.Permanent(code, err)
		}
		return sdk.RetryIn(setUpPause, code, err)
	case notAuthorized:
		// A topic that is the same for all rows is a matter of the set-up; so is one that varies, as long as nothing was taken.
		err = fmt.Errorf("%w; allow the user to write to it, or change TOPIC", err)
		switch {
		case !m.topic.Varies():
			return sdk.BadCredentials(code, err)
		case !m.taken:
			return sdk.RetryIn(setUpPause, code, err)
		}
		return sdk.Permanent(code, err)
	case topicNameInvalid, packetTooLarge, payloadFormatInvalid:
		return sdk.Permanent(code, err)
	case quotaExceeded:
		return &sdk.Error{Class: sdk.Throttled, Code: code, Err: err}
	}
	if ack.ReasonCode >= 0x80 {
		return sdk.RetryIn(0, code, err)
	}
	m.taken = true
	return nil
}

// refusesRow tells whether the broker ended the connection because of one message.
func refusesRow(err error) bool {
	var refused *errRefused
	if !errors.As(err, &refused) {
		return false
	}
	switch refused.code {
	case topicNameInvalid, packetTooLarge, payloadFormatInvalid:
		return true
	}
	return false
}

// failure gives what happened to the connection its class.
func (m *MQTT) failure(err error) error {
	var refused *errRefused
	switch {
	case errors.Is(err, context.DeadlineExceeded):
		return sdk.RetryIn(0, "timeout", m.described(err))
	case !errors.As(err, &refused):
		return sdk.RetryIn(0, "connection", m.described(err))
	}
	switch refused.code {
	case badUserNameOrPassword, notAuthorized, banned, badAuthenticationMethod:
		return sdk.BadCredentials(code(err), fmt.Errorf("%w; check user and password in URL", m.described(err)))
	case clientIDNotValid, sessionTakenOver:
		return sdk.RetryIn(setUpPause, code(err), fmt.Errorf("%w; another client uses %q, or the broker does not allow it: set CLIENT_ID", m.described(err), m.ClientID))
	case unsupportedProtocolVersion:
		return sdk.RetryIn(setUpPause, code(err), fmt.Errorf("%w; the broker must speak MQTT 5", m.described(err)))
	case serverBusy, serverUnavailable, quotaExceeded, connectionRateExceeded:
		return &sdk.Error{Class: sdk.Throttled, Code: code(err), Err: m.described(err)}
	}
	return sdk.RetryIn(0, code(err), m.described(err))
}

// code is short and stable, for grouping.
func code(err error) string {
	var refused *errRefused
	if errors.As(err, &refused) {
		return stable(refused.code)
	}
	return "connection"
}

// described is the error with the broker's address.
func (m *MQTT) described(err error) error {
	return fmt.Errorf("MQTT broker at %s: %w", m.address, err)
}
