package wire

import (
	"context"
	"errors"
	"fmt"
	"io"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/rivergate/rivergate/sdk/protocol"
)

// ErrGone: the process, its connection or the stream is gone. The caller's own cancel or deadline is never ErrGone.
var ErrGone = errors.New("plugin is gone")

// IsGone tells whether err means that the other side went away, so that what was not acknowledged must be sent again over
// a new stream. A stream that ended in good order (io.EOF) is gone as well. It is false when the caller cancelled or ran
// out of time, also when the process died at the same moment: the caller's word is the better explanation.
func IsGone(err error) bool {
	return errors.Is(err, ErrGone) || errors.Is(err, io.EOF)
}

// fromStatus makes the host's error out of a gRPC one. gRPC says Canceled both for the caller's cancel and for a
// connection that is closing; only ctx tells the two apart.
func fromStatus(ctx context.Context, doing string, err error) error {
	if err == nil {
		return nil
	}
	if ctx.Err() != nil {
		return fmt.Errorf("%s: %w", doing, context.Cause(ctx))
	}
	if errors.Is(err, io.EOF) {
		return fmt.Errorf("%s: %w: stream has ended", doing, ErrGone)
	}
	st, ok := status.FromError(err)
	if !ok {
		return fmt.Errorf("%s: %w", doing, err)
	}
	if err := oversized(st); err != nil {
		return fmt.Errorf("%s: %w", doing, err)
	}
	switch st.Code() {
	case codes.Unavailable, codes.Canceled, codes.Aborted:
		return fmt.Errorf("%s: %w: %s", doing, ErrGone, st.Message())
	case codes.DeadlineExceeded:
		return fmt.Errorf("%s: %w", doing, context.DeadlineExceeded)
	case codes.NotFound:
		return fmt.Errorf("%s: %w", doing, protocol.ErrUnknownInstance)
	case codes.InvalidArgument:
		return fmt.Errorf("%s: %w: %s", doing, protocol.ErrMalformed, st.Message())
	default:
		return fmt.Errorf("%s: %s: %s", doing, st.Code(), st.Message())
	}
}

// toStatus makes the gRPC error of what the plugin side returned.
func toStatus(err error) error {
	switch {
	case err == nil:
		return nil
	case errors.Is(err, protocol.ErrUnknownInstance):
		return status.Error(codes.NotFound, err.Error())
	case errors.Is(err, protocol.ErrMalformed):
		return status.Error(codes.InvalidArgument, err.Error())
	case errors.Is(err, context.DeadlineExceeded):
		return status.Error(codes.DeadlineExceeded, err.Error())
	case errors.Is(err, context.Canceled):
		return status.Error(codes.Canceled, err.Error())
	}
	if st, ok := status.FromError(err); ok { // an error of the transport that passed through
		return st.Err()
	}
	return status.Error(codes.Unknown, err.Error())
}
