package wire

import (
	"google.golang.org/grpc"

	"github.com/rivergate/rivergate/sdk/protocol"
)

const (
	// window is the initial flow-control window of a stream and of the connection. With gRPC's 64 KiB a unix socket
	// carries a third of what it can.
	window = 8 << 20
	// socketBuffer is the size of the read and write buffers of a connection, bytes.
	socketBuffer = 256 << 10
)

// ServerOptions are the gRPC options of the plugin side. Register needs them.
func ServerOptions() []grpc.ServerOption {
	return []grpc.ServerOption{
		grpc.InitialWindowSize(window),
		grpc.InitialConnWindowSize(window),
		grpc.ReadBufferSize(socketBuffer),
		grpc.WriteBufferSize(socketBuffer),
		grpc.MaxRecvMsgSize(protocol.MaxMessage),
		grpc.MaxSendMsgSize(protocol.MaxMessage),
		grpc.ForceServerCodecV2(newCodec()),
	}
}

// DialOptions are the gRPC options of the host's side, for go-plugin's ClientConfig.GRPCDialOptions. Credentials and
// dialer are not among them: go-plugin sets those.
func DialOptions() []grpc.DialOption {
	return []grpc.DialOption{
		grpc.WithInitialWindowSize(window),
		grpc.WithInitialConnWindowSize(window),
		grpc.WithReadBufferSize(socketBuffer),
		grpc.WithWriteBufferSize(socketBuffer),
		grpc.WithDefaultCallOptions(
			grpc.MaxCallRecvMsgSize(protocol.MaxMessage),
			grpc.MaxCallSendMsgSize(protocol.MaxMessage),
			grpc.ForceCodecV2(newGuard()),
		),
	}
}
