package main

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/rivergate/rivergate/sdk"
)

// setUpPause is how long rows wait for an operator to mend the set-up before they are tried again.
const setUpPause = 5 * time.Second

// errLost: the connection ended.
var errLost = errors.New("the connection was lost")

// Error codes of JetStream (server/errors.json of nats-server) that this pusher tells apart.
const (
	accountResourcesExceeded jetstream.ErrorCode = 10002
	insufficientResources    jetstream.ErrorCode = 10023
	memoryResourcesExceeded  jetstream.ErrorCode = 10028
	storageResourcesExceeded jetstream.ErrorCode = 10047
	messageExceedsMaximum    jetstream.ErrorCode = 10054
	streamNotMatch           jetstream.ErrorCode = 10060
	streamStoreFailed        jetstream.ErrorCode = 10077
	headerExceedsMaximum     jetstream.ErrorCode = 10097
	streamSealed             jetstream.ErrorCode = 10109
)

// outcome of a message; nil: delivered.
func (n *NATS) outcome(a answer, subject string) error {
	if a.err == nil {
		n.taken = true
		if a.ack.Duplicate {
			return &sdk.Error{Class: sdk.Duplicate, Code: "duplicate", Err: errors.New("the stream has this message id already")}
		}
		return nil
	}
	err := n.described(fmt.Errorf("subject %q: %w", subject, a.err))
	var refused jetstream.JetStreamError
	if errors.Is(a.err, jetstream.ErrNoStreamResponse) {
		return sdk.RetryIn(setUpPause, "no_stream", fmt.Errorf("%w; no stream takes this subject, or it has no leader: add the subject to stream %s, or mend SUBJECT", err, n.Stream))
	}
	if !errors.As(a.err, &refused) || refused.APIError() == nil {
		return sdk.RetryIn(0, "answer", err)
	}
	api := refused.APIError()
	code := fmt.Sprintf("jetstream_%d", api.ErrorCode)
	switch api.ErrorCode {
	case messageExceedsMaximum, headerExceedsMaximum:
		return sdk.Permanent(code, err)
	case accountResourcesExceeded, insufficientResources, memoryResourcesExceeded, storageResourcesExceeded:
		return &sdk.Error{Class: sdk.Throttled, Code: code, Err: err}
	case streamStoreFailed: // also what is wrong with a disk
		if strings.Contains(api.Description, "maximum") {
			return &sdk.Error{Class: sdk.Throttled, Code: code, Err: fmt.Errorf("%w; stream %s is full", err, n.Stream)}
		}
	case streamNotMatch:
		return sdk.RetryIn(setUpPause, code, fmt.Errorf("%w; the subject belongs to another stream than %s: mend STREAM or SUBJECT", err, n.Stream))
	case streamSealed:
		return sdk.RetryIn(setUpPause, code, err)
	}
	return sdk.RetryIn(0, code, err)
}

// notPermitted is the outcome of a row whose subject the credentials do not allow. A subject that is the same for all rows is a matter
// of the set-up; so is one that varies, as long as no row was taken.
func (n *NATS) notPermitted(subject string) error {
	err := n.described(fmt.Errorf("no permission to publish to %q; allow it to the user, or mend SUBJECT", subject))
	if n.subject.Varies() && n.taken {
		return sdk.Permanent("permissions", err)
	}
	return sdk.BadCredentials("permissions", err)
}

// failure gives what happened to the connection or the stream its class.
func (n *NATS) failure(err error) error {
	var setUp *errSetUp
	said := n.described(err)
	switch {
	case errors.Is(err, nats.ErrPermissionViolation):
		return sdk.BadCredentials("permissions", fmt.Errorf("%w; the user needs to publish to $JS.API.STREAM.INFO.%s and to SUBJECT, and to subscribe to _INBOX.>", said, n.Stream))
	case errors.Is(err, nats.ErrAuthorization), errors.Is(err, nats.ErrAuthExpired), errors.Is(err, nats.ErrAuthRevoked),
		errors.Is(err, nats.ErrAccountAuthExpired), errors.Is(err, nats.ErrNkeyButNoSigCB):
		return sdk.BadCredentials("authorization", fmt.Errorf("%w; check user and password in URL, TOKEN or CREDS_FILE", said))
	case errors.As(err, &setUp):
		return sdk.RetryIn(setUpPause, "stream", said)
	case errors.Is(err, jetstream.ErrJetStreamNotEnabled), errors.Is(err, jetstream.ErrJetStreamNotEnabledForAccount), errors.Is(err, nats.ErrNoResponders):
		return sdk.RetryIn(setUpPause, "no_jetstream", fmt.Errorf("%w; enable JetStream in the server and for the account", said))
	case errors.Is(err, context.DeadlineExceeded):
		return sdk.RetryIn(0, "timeout", said)
	}
	return sdk.RetryIn(0, "connection", said)
}

// described is the error with the server's address, in one line.
func (n *NATS) described(err error) error {
	return &atServer{n.address, err}
}

// atServer puts an error of several causes into one line.
type atServer struct {
	address string
	err     error
}

func (e *atServer) Error() string {
	return "NATS at " + e.address + ": " + strings.ReplaceAll(e.err.Error(), "\n", "; ")
}
func (e *atServer) Unwrap() error { return e.err }
