// Command elder is a pusher built against version 1 of the plugin protocol, as that was before there was a second one: its own
// copy of the generated code, go-plugin and grpc, and none of Rivergate's SDK. Each row becomes a line of a file:
// position, a tab, the client's bytes. A row with the member "reject" is rejected.
package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"slices"
	"sync"
	"syscall"
	"time"

	"github.com/hashicorp/go-plugin"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	"example.com/elder/pluginv1"
)

const version = 1

func main() {
	e := &elder{files: map[string]*os.File{}}
	plugin.Serve(&plugin.ServeConfig{
		HandshakeConfig:  plugin.HandshakeConfig{MagicCookieKey: "RIVERGATE_PLUGIN", MagicCookieValue: "c9f1d3a0-rows-in-kept-safe-out"},
		VersionedPlugins: map[int]plugin.PluginSet{version: {"rivergate": e}},
		GRPCServer: func(opts []grpc.ServerOption) *grpc.Server {
			s := grpc.NewServer(append(opts, grpc.MaxRecvMsgSize(64<<20))...)
			go endWithHost(s, os.Getppid())
			return s
		},
	})
}

// endWithHost stops the server, and with it the process, at SIGTERM or when the host is dead. Each batch was synced before
// it was acknowledged, so nothing is left to do.
func endWithHost(s *grpc.Server, parent int) {
	stop := make(chan os.Signal, 1)
	signal.Notify(stop, syscall.SIGTERM)
	look := time.NewTicker(500 * time.Millisecond)
	for os.Getppid() == parent {
		select {
		case <-stop:
			s.Stop()
			return
		case <-look.C:
		}
	}
	s.Stop()
}

type elder struct {
	plugin.NetRPCUnsupportedPlugin
	pluginv1.UnimplementedBaseServer
	pluginv1.UnimplementedPusherServer

	mu    sync.Mutex
	files map[string]*os.File // by instance
}

func (e *elder) GRPCServer(_ *plugin.GRPCBroker, s *grpc.Server) error {
	pluginv1.RegisterBaseServer(s, e)
	pluginv1.RegisterPusherServer(s, e)
	return nil
}

func (e *elder) GRPCClient(context.Context, *plugin.GRPCBroker, *grpc.ClientConn) (any, error) {
	return nil, errors.New("a plugin has no client")
}

func (e *elder) Handshake(_ context.Context, r *pluginv1.HandshakeRequest) (*pluginv1.HandshakeResponse, error) {
	if !slices.Contains(r.ProtocolVersions, version) {
		return nil, status.Errorf(codes.InvalidArgument, "the host speaks protocol versions %v, this plugin %d", r.ProtocolVersions, version)
	}
	return &pluginv1.HandshakeResponse{ProtocolVersion: version, Sdk: "none"}, nil
}

func (e *elder) Describe(context.Context, *pluginv1.DescribeRequest) (*pluginv1.DescribeResponse, error) {
	return &pluginv1.DescribeResponse{
		Name: "elder", Version: "1.0.0", Kind: pluginv1.Kind_KIND_PUSHER, Author: "Rivergate", Summary: "Writes rows to a file, in version 1 of the protocol.",
		ConfigSchema: []byte(`{
			"$schema": "https://json-schema.org/draft/2020-12/schema",
			"type": "object",
			"properties": {"path": {"type": "string", "minLength": 1, "description": "File that rows are appended to."}},
			"required": ["path"],
			"additionalProperties": false
		}`),
	}, nil
}

func (e *elder) Configure(_ context.Context, r *pluginv1.ConfigureRequest) (*pluginv1.ConfigureResponse, error) {
	var config map[string]any
	if err := json.Unmarshal(r.Config, &config); err != nil {
		return nil, status.Error(codes.InvalidArgument, err.Error())
	}
	var problems []*pluginv1.ConfigProblem
	path, ok := config["path"].(string)
	if !ok || path == "" {
		problems = append(problems, &pluginv1.ConfigProblem{Field: "path", Reason: "a file name is required"})
	}
	for name := range config {
		if name != "path" {
			problems = append(problems, &pluginv1.ConfigProblem{Field: name, Reason: "there is no such setting"})
		}
	}
	if len(problems) > 0 {
		return &pluginv1.ConfigureResponse{Problems: problems}, nil
	}
	file, err := os.OpenFile(path, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return &pluginv1.ConfigureResponse{Problems: []*pluginv1.ConfigProblem{{Field: "path", Reason: err.Error()}}}, nil
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	if former := e.files[r.InstanceId]; former != nil {
		_ = former.Close()
	}
	e.files[r.InstanceId] = file
	return &pluginv1.ConfigureResponse{}, nil
}

func (e *elder) Health(_ context.Context, r *pluginv1.HealthRequest) (*pluginv1.HealthResponse, error) {
	if r.InstanceId != "" && e.file(r.InstanceId) == nil {
		return nil, status.Error(codes.NotFound, "no such instance")
	}
	return &pluginv1.HealthResponse{Healthy: true}, nil
}

func (e *elder) Drain(_ context.Context, r *pluginv1.DrainRequest) (*pluginv1.DrainResponse, error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	for name, file := range e.files {
		if r.InstanceId == "" || r.InstanceId == name {
			_ = file.Close() // each batch was synced before it was acknowledged
			delete(e.files, name)
		}
	}
	return &pluginv1.DrainResponse{}, nil
}

func (e *elder) file(instance string) *os.File {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.files[instance]
}

func (e *elder) Deliver(stream grpc.BidiStreamingServer[pluginv1.Batch, pluginv1.Ack]) error {
	md, _ := metadata.FromIncomingContext(stream.Context())
	instance := md.Get("rivergate-instance")
	if len(instance) != 1 {
		return status.Error(codes.InvalidArgument, "deliver without the metadata rivergate-instance")
	}
	file := e.file(instance[0])
	if file == nil {
		return status.Error(codes.NotFound, "no such instance")
	}
	for {
		b, err := stream.Recv()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		ack, err := write(file, b)
		if err != nil {
			return err
		}
		if err := stream.Send(ack); err != nil {
			return err
		}
	}
}

func write(file *os.File, b *pluginv1.Batch) (*pluginv1.Ack, error) {
	ack := &pluginv1.Ack{ThroughSeq: b.Seq}
	var out bytes.Buffer
	for _, f := range b.Frames {
		start := uint32(0)
		for i, end := range f.Ends {
			row := f.Data[start:end]
			start = end
			var members map[string]json.RawMessage
			if err := json.Unmarshal(row, &members); err == nil && members["reject"] != nil {
				ack.Outcomes = append(ack.Outcomes, &pluginv1.Outcome{
					Position: f.Position, Row: uint32(i), Class: pluginv1.OutcomeClass_OUTCOME_CLASS_REJECTED, Code: "asked", Message: "the row asks to be rejected",
				})
				continue
			}
			fmt.Fprintf(&out, "%d\t%s\n", f.Position+uint64(i), row)
		}
	}
	if _, err := file.Write(out.Bytes()); err != nil {
		return nil, err
	}
	return ack, file.Sync()
}
