// Command lying breaks the plugin protocol in the way that the variable LIE names (to be passed with PASS_ENV). It proves
// that the host passes on nothing malformed, and survives a plugin that does not keep its word.
//
// It is written against the raw protocol, since the SDK would not let it lie. Its lies:
//
//	future-ack     acknowledges a batch that was never sent
//	back-ack       acknowledges an earlier batch again after a later one
//	double-ack     acknowledges each batch twice
//	unknown-rows   gives outcomes for rows that were not in the batch
//	bad-class      gives an outcome class that does not exist
//	no-class       gives an outcome without a class
//	zero-window    asks for a window of 0 in each acknowledgement, which means no change
//	deaf           takes batches, and never acknowledges
//	kind           says that it is an engine
//	trigger        no lie: it needs triggers, and dies on a frame without the trigger of its uuid
//	schema         has a configuration schema that is none
//	version        chooses protocol version 99
//	wedged         never answers Health after the first time
//	unwell         answers every Health with no
//	forgetful      knows no instance after it was configured
//	refuses        finds a problem in every configuration
//	mute           never answers Describe
//	deaf-drain     never answers Drain
//	tcp            no lie: it serves on TCP, without go-plugin
//
// These are for the conformance suite, each the break of one rule:
//
//	prints         prints on standard output before the handshake
//	changing       describes itself in another way in each process
//	strict         refuses messages with fields that it does not know
//	careless       has a strict schema, and takes every configuration
//	any-instance   knows every instance
//	twice          gives two outcomes for one row
//	huge-ack       acknowledges with a message of 65 MiB
//	unordered      delivers rows behind one of the same uuid that it failed
//	greedy         acknowledges only when it has two batches
//	half-packs     says that it takes packs, and takes the first batch of each
//	no-repeat      dies when a row comes again
//	no-reconfigure dies when an instance is configured again
//	leaves-out     ends a closed stream without acknowledging what it has (in the rule drain)
//	remembers      knows an instance after it was drained
//	stale-lock     does not start when it was killed before
//	exclusive      does not start while another runs
//	one-slot       says that it serves several instances, and serves the last one
//	choosy         dies on a row that is no object
//	spoilt         needs triggers, and dies on one without metadata
//	small          receives 4 MiB and no more
//	ignores-term   runs on after SIGTERM
//	vast-ack       acknowledges with a message of 256 MiB
//	crowded-ack    acknowledges with five million outcomes of nothing
//	endless-acks   acknowledges the first batch again and again, and never stops
//	never-reads    opens the stream and reads nothing of it
//	hangs-up       ends each delivery stream at once
//	vast-schema    has a configuration schema of 100 MiB
//	huge-schema    has one of 2 MiB
//	deep-schema    has one of 5,000 levels
//	long-name      describes itself in megabytes
//	vast-reason    answers Health, but for the first time, with a reason of 100 MiB
//	huge-reason    answers Health, but for the first time, with a reason of 3 MiB
//	problems       finds 9,000 problems in every configuration
//	never-accepts  announces a socket and never accepts a connection
package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"sync"
	"sync/atomic"

	"github.com/hashicorp/go-plugin"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	pluginv1 "github.com/rivergate/rivergate/proto/rivergate/plugin/v1" //nolint:depguard // package wire would not let it lie
	pluginv2 "github.com/rivergate/rivergate/proto/rivergate/plugin/v2" //nolint:depguard // the same
	"github.com/rivergate/rivergate/sdk/protocol"
	"github.com/rivergate/rivergate/sdk/wire"
)

func main() {
	l := &liar{lie: os.Getenv("LIE"), seen: map[uint64]bool{}}
	l.behave()
	if l.lie == "tcp" && os.Getenv(wire.EnvCookie) == wire.CookieValue {
		if err := serveTCP(l); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		return
	}
	if l.lie == "never-accepts" {
		if err := answersForNothing(); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
	}
	if l.lie == "prints" {
		fmt.Println("lying 1.0.0, a banner that nobody asked for")
	}
	plugin.Serve(&plugin.ServeConfig{
		HandshakeConfig:  wire.Handshake(),
		VersionedPlugins: map[int]plugin.PluginSet{int(l.version()): {wire.Name: l}},
		GRPCServer: func(opts []grpc.ServerOption) *grpc.Server {
			if l.lie != "small" {
				opts = append(opts, wire.ServerOptions()...)
			}
			return grpc.NewServer(vast(l.lie, opts)...)
		},
	})
}

type liar struct {
	plugin.NetRPCUnsupportedPlugin
	pluginv1.UnimplementedBaseServer
	pluginv1.UnimplementedPusherServer
	lie    string
	health atomic.Int64

	configured instances
	mu         sync.Mutex
	seen       map[uint64]bool // positions
}

func (l *liar) GRPCServer(_ *plugin.GRPCBroker, s *grpc.Server) error {
	pluginv1.RegisterBaseServer(s, l)
	pluginv1.RegisterPusherServer(s, l)
	pluginv2.RegisterPusherServer(s, packing{liar: l})
	return nil
}

func (l *liar) version() uint32 {
	if l.lie == "half-packs" {
		return protocol.Version2
	}
	return protocol.Version1
}

func (l *liar) GRPCClient(context.Context, *plugin.GRPCBroker, *grpc.ClientConn) (any, error) {
	return nil, status.Error(codes.Unimplemented, "a plugin has no client")
}

func (l *liar) Handshake(context.Context, *pluginv1.HandshakeRequest) (*pluginv1.HandshakeResponse, error) {
	version := l.version()
	if l.lie == "version" {
		version = 99
	}
	return &pluginv1.HandshakeResponse{ProtocolVersion: version, Sdk: "lies", Capabilities: l.capabilities()}, nil
}

func (l *liar) capabilities() []string {
	switch l.lie {
	case "one-slot":
		return []string{protocol.CapInstances}
	case "half-packs":
		return []string{protocol.CapPacks}
	}
	return nil
}

func (l *liar) Describe(_ context.Context, m *pluginv1.DescribeRequest) (*pluginv1.DescribeResponse, error) {
	d := &pluginv1.DescribeResponse{
		Name: "lying", Version: "1.0.0", Kind: pluginv1.Kind_KIND_PUSHER, ConfigSchema: []byte(`{"type":"object"}`),
		NeedsTrigger: l.lie == "trigger" || l.lie == "spoilt",
	}
	switch l.lie {
	case "mute":
		select {}
	case "kind":
		d.Kind = pluginv1.Kind_KIND_ENGINE
	case "schema":
		d.ConfigSchema = []byte(`{"type": 12}`)
	case "changing":
		d.Summary = fmt.Sprintf("I am process %d.", os.Getpid())
	case "careless":
		d.ConfigSchema = []byte(`{"type":"object","properties":{"path":{"type":"string"}},"additionalProperties":false}`)
	case "strict":
		if len(m.ProtoReflect().GetUnknown()) > 0 {
			return nil, status.Error(codes.InvalidArgument, "what is this?")
		}
	}
	describeTooMuch(l.lie, d)
	return d, nil
}

func (l *liar) Configure(_ context.Context, m *pluginv1.ConfigureRequest) (*pluginv1.ConfigureResponse, error) {
	if l.lie == "refuses" {
		return problem("cannot be written"), nil
	}
	if l.lie == "problems" {
		return manyProblems(), nil
	}
	if l.lie == "stale-lock" || l.lie == "exclusive" {
		if why := l.configured.take(l.lie == "stale-lock"); why != "" {
			return problem(why), nil
		}
	}
	if first := l.configured.add(m.InstanceId, l.lie == "one-slot"); !first && l.lie == "no-reconfigure" {
		panic("configured already")
	}
	return &pluginv1.ConfigureResponse{}, nil
}

func problem(reason string) *pluginv1.ConfigureResponse {
	return &pluginv1.ConfigureResponse{Problems: []*pluginv1.ConfigProblem{{Field: "path", Reason: reason}}}
}

func (l *liar) Health(_ context.Context, m *pluginv1.HealthRequest) (*pluginv1.HealthResponse, error) {
	n := l.health.Add(1)
	switch {
	case l.lie == "unwell":
		return &pluginv1.HealthResponse{Reason: "I feel unwell"}, nil
	case l.lie == "wedged" && n > 1:
		select {}
	case l.lie == "forgetful" && n > 1:
		return nil, errUnknown
	case m.InstanceId != "" && !l.knows(m.InstanceId):
		return nil, errUnknown
	}
	if m := longReason(l.lie); m != nil && n > 1 {
		return m, nil
	}
	return &pluginv1.HealthResponse{Healthy: true}, nil
}

var errUnknown = status.Error(codes.NotFound, "no such instance")

func (l *liar) knows(name string) bool { return l.lie == "any-instance" || l.configured.has(name) }

func (l *liar) Drain(_ context.Context, m *pluginv1.DrainRequest) (*pluginv1.DrainResponse, error) {
	switch l.lie {
	case "deaf-drain":
		select {}
	case "remembers":
	default:
		l.configured.remove(m.InstanceId)
	}
	return &pluginv1.DrainResponse{}, nil
}

func (l *liar) Deliver(stream grpc.BidiStreamingServer[pluginv1.Batch, pluginv1.Ack]) error {
	md, _ := metadata.FromIncomingContext(stream.Context())
	if names := md.Get("rivergate-instance"); len(names) != 1 || !l.knows(names[0]) {
		return errUnknown
	}
	switch l.lie {
	case "hangs-up":
		return nil
	case "never-reads":
		<-stream.Context().Done()
		return nil
	}
	for {
		b, err := stream.Recv()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		l.look(b)
		for _, ack := range l.acks(b) {
			if err := stream.Send(ack); err != nil {
				return err
			}
		}
		for l.lie == "endless-acks" {
			if err := stream.Send(&pluginv1.Ack{ThroughSeq: b.Seq}); err != nil {
				return err
			}
		}
	}
}

func isTriggerOf(trigger []byte, uuid string) bool {
	var t struct {
		UUID string `json:"uuid"`
	}
	return json.Unmarshal(trigger, &t) == nil && t.UUID == uuid
}

// look dies of what some lies cannot stand.
func (l *liar) look(b *pluginv1.Batch) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, f := range b.Frames {
		switch {
		case l.lie == "trigger" && !isTriggerOf(f.Trigger, f.Uuid):
			panic("a frame without its trigger")
		case l.lie == "spoilt" && !bytes.Contains(f.Trigger, []byte("metadata")):
			panic("a trigger has metadata")
		}
		if l.lie == "no-repeat" {
			if l.seen[f.Position] {
				panic("that row was here before")
			}
			l.seen[f.Position] = true
		}
		start := uint32(0)
		for _, end := range f.Ends {
			if l.lie == "choosy" && !bytes.HasPrefix(bytes.TrimSpace(f.Data[start:end]), []byte("{")) {
				panic("a row is an object")
			}
			start = end
		}
	}
}

func (l *liar) acks(b *pluginv1.Batch) []*pluginv1.Ack {
	ack := &pluginv1.Ack{ThroughSeq: b.Seq}
	position := uint64(0)
	if len(b.Frames) > 0 {
		position = b.Frames[0].Position
	}
	switch l.lie {
	case "deaf":
		return nil
	case "future-ack":
		ack.ThroughSeq += 1000
	case "back-ack":
		return []*pluginv1.Ack{ack, {ThroughSeq: b.Seq - 1}}
	case "double-ack":
		return []*pluginv1.Ack{ack, {ThroughSeq: b.Seq}}
	case "unknown-rows":
		ack.Outcomes = []*pluginv1.Outcome{
			{Position: position + 1_000_000, Class: pluginv1.OutcomeClass_OUTCOME_CLASS_REJECTED, Code: "lie", Message: "no such frame"},
			{Position: position, Row: 1_000_000, Class: pluginv1.OutcomeClass_OUTCOME_CLASS_REJECTED, Code: "lie", Message: "no such row"},
		}
	case "bad-class":
		ack.Outcomes = []*pluginv1.Outcome{{Position: position, Class: 77}}
	case "no-class":
		ack.Outcomes = []*pluginv1.Outcome{{Position: position}}
	case "zero-window":
		ack.Window = 0
	case "vast-ack":
		return []*pluginv1.Ack{vastAck(b.Seq)}
	case "crowded-ack":
		return []*pluginv1.Ack{crowdedAck(b.Seq)}
	case "twice":
		o := &pluginv1.Outcome{Position: position, Class: pluginv1.OutcomeClass_OUTCOME_CLASS_SKIPPED, Code: "lie"}
		ack.Outcomes = []*pluginv1.Outcome{o, o}
	case "huge-ack":
		ack.Outcomes = []*pluginv1.Outcome{{
			Position: position, Class: pluginv1.OutcomeClass_OUTCOME_CLASS_SKIPPED, Message: strings.Repeat("x", protocol.MaxMessage+1<<20),
		}}
	case "unordered":
		if b.Ordered {
			ack.Outcomes = []*pluginv1.Outcome{{Position: position, Class: pluginv1.OutcomeClass_OUTCOME_CLASS_RETRY, Code: "lie"}}
		}
	case "greedy":
		if b.Seq%2 == 1 {
			return nil
		}
	case "leaves-out":
		if len(b.Frames) > 0 && b.Seq > 1 && b.Frames[0].Uuid == "conformance-drain" {
			return nil
		}
	}
	return []*pluginv1.Ack{ack}
}
