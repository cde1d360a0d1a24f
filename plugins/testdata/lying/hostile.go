package main

import (
	"bytes"
	"fmt"
	"math"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"google.golang.org/grpc"

	pluginv1 "github.com/rivergate/rivergate/proto/rivergate/plugin/v1" //nolint:depguard // package wire would not let it lie
)

// vast lets messages of any size out, as a plugin without the SDK may, for the lies that are about size.
func vast(lie string, opts []grpc.ServerOption) []grpc.ServerOption {
	if !strings.HasPrefix(lie, "vast-") {
		return opts
	}
	return append(opts, grpc.MaxSendMsgSize(math.MaxInt32))
}

// manyProblems are what no operator reads to the end.
func manyProblems() *pluginv1.ConfigureResponse {
	one := &pluginv1.ConfigProblem{Field: strings.Repeat("f", 100), Reason: strings.Repeat("r", 100)}
	return &pluginv1.ConfigureResponse{Problems: slices.Repeat([]*pluginv1.ConfigProblem{one}, 9_000)}
}

// longReason is an answer to Health that is longer than any screen; nil when the lie is another.
func longReason(lie string) *pluginv1.HealthResponse {
	switch lie {
	case "vast-reason":
		return &pluginv1.HealthResponse{Reason: strings.Repeat("so unwell ", 10<<20)}
	case "huge-reason":
		return &pluginv1.HealthResponse{Reason: strings.Repeat("so unwell\n", 300_000)}
	}
	return nil
}

// vastAck is one message of 256 MiB: four times what is allowed, and no more than a slow machine makes between two checks of its health.
func vastAck(through uint64) *pluginv1.Ack {
	ack := &pluginv1.Ack{ThroughSeq: through}
	// Field 15, which no version has: bytes that are not made of objects here.
	b := append(make([]byte, 0, 1<<28+8), 0x7a, 0x80, 0x80, 0x80, 0x80, 0x01)
	ack.ProtoReflect().SetUnknown(b[:1<<28+6])
	return ack
}

// crowdedAck has so many empty outcomes that they would take gigabytes to decode. They are ten megabytes on the wire.
func crowdedAck(through uint64) *pluginv1.Ack {
	ack := &pluginv1.Ack{ThroughSeq: through}
	ack.ProtoReflect().SetUnknown(bytes.Repeat([]byte{0x12, 0x00}, 5<<20))
	return ack
}

// describeTooMuch makes the description of the lies that are about size.
func describeTooMuch(lie string, d *pluginv1.DescribeResponse) {
	switch lie {
	case "vast-schema":
		d.ConfigSchema = []byte(`{"type":"object","description":"` + strings.Repeat("x", 100<<20) + `"}`)
	case "huge-schema":
		d.ConfigSchema = []byte(`{"type":"object","description":"` + strings.Repeat("x", 2<<20) + `"}`)
	case "deep-schema":
		d.ConfigSchema = []byte(strings.Repeat(`{"not":`, 5_000) + `{}` + strings.Repeat(`}`, 5_000))
	case "long-name":
		d.Version, d.Author, d.Summary = strings.Repeat("v", 1<<20), strings.Repeat("a\x1b[31m", 1<<18), strings.Repeat("s\n", 1<<19)
	}
}

// answersForNothing listens where it should, says so, and never accepts.
func answersForNothing() error {
	listener, err := net.Listen("unix", filepath.Join(os.Getenv("PLUGIN_UNIX_SOCKET_DIR"), "plugin"))
	if err != nil {
		return err
	}
	fmt.Printf("1|1|unix|%s|grpc|\n", listener.Addr())
	hang := make(chan struct{})
	<-hang
	return nil
}
