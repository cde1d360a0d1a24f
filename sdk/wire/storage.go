package wire

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	pluginv1 "github.com/rivergate/rivergate/proto/rivergate/plugin/v1"
	"github.com/rivergate/rivergate/sdk/protocol"
)

// A storage plugin is called without streams of its own: each Put and Get is a stream that carries one body, in frames. The
// frames are written and read by hand (body.go), since the generated code would copy each megabyte once more.

const (
	// frameBytes is what a frame carries when there is so much.
	frameBytes = 1 << 20
	// maxFrame is the most that is taken from the other side.
	maxFrame = 4<<20 + 64<<10
	// maxFaultText bounds the text of an error, bytes.
	maxFaultText = 4 << 10
	// maxList is the most that List and ListUploads are asked for.
	maxList = 1000
)

// patience is how long the host waits for a storage plugin.
type patience struct {
	answer   time.Duration // for the answer to a call that moves no bytes
	progress time.Duration // for the next byte, or for room for one: a transfer may take as long as it likes
	work     time.Duration // for the answer to what may move bytes out of our sight: the end of a Put, Copy, CompleteUpload
}

var defaultPatience = patience{answer: time.Minute, progress: time.Minute, work: 15 * time.Minute}

// ErrStalled: the plugin lives, and has neither taken nor given a byte for too long.
var ErrStalled = fmt.Errorf("the plugin is stuck: %w", protocol.ErrUnavailable)

// faults are the errors that are told apart across the wire. The code is for clients that know no StorageFault.
var faults = []struct {
	err   error
	class pluginv1.FaultClass
	code  codes.Code
}{
	{protocol.ErrNotFound, pluginv1.FaultClass_FAULT_CLASS_NOT_FOUND, codes.NotFound},
	{protocol.ErrPrecondition, pluginv1.FaultClass_FAULT_CLASS_PRECONDITION, codes.AlreadyExists},
	{protocol.ErrRange, pluginv1.FaultClass_FAULT_CLASS_RANGE, codes.OutOfRange},
	{protocol.ErrKey, pluginv1.FaultClass_FAULT_CLASS_KEY, codes.InvalidArgument},
	{protocol.ErrChecksum, pluginv1.FaultClass_FAULT_CLASS_CHECKSUM, codes.DataLoss},
	{protocol.ErrFull, pluginv1.FaultClass_FAULT_CLASS_FULL, codes.ResourceExhausted},
	{protocol.ErrUnsupported, pluginv1.FaultClass_FAULT_CLASS_UNSUPPORTED, codes.Unimplemented},
	{protocol.ErrSize, pluginv1.FaultClass_FAULT_CLASS_SIZE, codes.InvalidArgument},
	{protocol.ErrUnavailable, pluginv1.FaultClass_FAULT_CLASS_UNAVAILABLE, codes.Unavailable},
}

// fault is an error with the plugin's own words and the class that it gave.
type fault struct {
	text  string
	class error
}

func (f *fault) Error() string { return f.text }
func (f *fault) Unwrap() error { return f.class }

// faultToStatus is toStatus with the errors of a storage.
func faultToStatus(err error) error {
	if err == nil || errors.Is(err, protocol.ErrUnknownInstance) {
		return toStatus(err)
	}
	for _, f := range faults {
		if errors.Is(err, f.err) {
			st := status.New(f.code, text(cut(err.Error(), maxFaultText)))
			if detailed, failed := st.WithDetails(&pluginv1.StorageFault{Class: f.class}); failed == nil {
				st = detailed
			}
			return st.Err()
		}
	}
	return toStatus(err)
}

// faultFromStatus is fromStatus with the errors of a storage.
func faultFromStatus(ctx context.Context, doing string, err error) error {
	if st, ok := status.FromError(err); ok && ctx.Err() == nil {
		for _, detail := range st.Details() {
			given, ok := detail.(*pluginv1.StorageFault)
			if !ok {
				continue
			}
			for _, f := range faults {
				if f.class == given.Class {
					said := cut(st.Message(), maxFaultText)
					if !strings.HasPrefix(said, doing) { // what a plugin says of itself
						said = doing + ": " + said
					}
					return &fault{text: said, class: f.err}
				}
			}
		}
	}
	return fromStatus(ctx, doing, err)
}

// withInstance names the instance of a call.
func withInstance(ctx context.Context, instance string) context.Context {
	return metadata.AppendToOutgoingContext(ctx, instanceKey, instance)
}

// instanceOf is the instance that a call names.
func instanceOf(ctx context.Context) (string, error) {
	md, _ := metadata.FromIncomingContext(ctx)
	if named := md.Get(instanceKey); len(named) == 1 && named[0] != "" {
		return named[0], nil
	}
	return "", fmt.Errorf("%w: a call without the metadata %s", protocol.ErrMalformed, instanceKey)
}
