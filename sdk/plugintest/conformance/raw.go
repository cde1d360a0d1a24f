package conformance

import (
	"context"
	"encoding/binary"
	"fmt"

	"google.golang.org/grpc"
)

// rawCodec passes messages on as bytes, for what no generated type would send or needs to read.
type rawCodec struct{}

func (rawCodec) Marshal(v any) ([]byte, error) {
	if b, ok := v.([]byte); ok {
		return b, nil
	}
	return nil, fmt.Errorf("conformance: a raw message is []byte, not %T", v)
}

func (rawCodec) Unmarshal(data []byte, v any) error {
	into, ok := v.(*[]byte)
	if !ok {
		return fmt.Errorf("conformance: a raw message is read into *[]byte, not %T", v)
	}
	*into = append([]byte(nil), data...)
	return nil
}

func (rawCodec) Name() string { return "proto" }

// textField is one length-delimited protobuf field.
func textField(number uint64, value string) []byte {
	out := binary.AppendUvarint(nil, number<<3|2)
	out = binary.AppendUvarint(out, uint64(len(value)))
	return append(out, value...)
}

func (p *process) invoke(ctx context.Context, method string, request []byte) ([]byte, error) {
	var answer []byte
	err := p.conn.Invoke(ctx, "/rivergate.plugin.v1.Base/"+method, request, &answer, grpc.ForceCodec(rawCodec{}))
	return answer, err
}

// drainStdio reads what a plugin that uses go-plugin's own server prints: nobody else does, and its pipe must not fill. It
// ends when the process is to end: a server that stops in good order may wait for its streams.
func (p *process) drainStdio() {
	ctx, cancel := context.WithCancel(context.Background())
	p.hangUp = cancel
	p.stdio.Go(func() {
		desc := &grpc.StreamDesc{StreamName: "StreamStdio", ServerStreams: true}
		stream, err := p.conn.NewStream(ctx, desc, "/plugin.GRPCStdio/StreamStdio", grpc.ForceCodec(rawCodec{}))
		if err != nil || stream.SendMsg([]byte{}) != nil || stream.CloseSend() != nil {
			return
		}
		var message []byte
		for stream.RecvMsg(&message) == nil {
			continue // a plugin without the service ends this at once
		}
	})
}
