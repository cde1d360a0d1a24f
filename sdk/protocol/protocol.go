// Package protocol is the plugin boundary in plain Go: the values that cross it and the two interfaces on either side.
// It knows neither gRPC nor protobuf (package wire adapts it), neither authors (package sdk) nor the host.
package protocol

import (
	"context"
	"encoding/json"
)

// The protocol versions, all served side by side. What is new in 2: the delivery stream opens with a message of its own
// instead of metadata, so that a plugin refuses an instance before the first batch, and a plugin at work on a long batch
// can say so (Ack.Working).
const (
	Version1 = 1
	Version2 = 2
	// Version is the newest that this SDK serves.
	Version = Version2
)

// Versions is what both sides offer, the newest first.
func Versions() []uint32 { return []uint32{Version2, Version1} }

// The capabilities of plugins.
const (
	CapInstances = "instances" // one process serves any number of instances
	CapPacks     = "packs"     // a pusher that takes several batches in one message (protocol version 2)
	CapPresign   = "presign"   // a storage that signs URLs
	CapMultipart = "multipart" // a storage that takes objects in parts
	CapBeside    = "beside"    // a storage that takes large bodies beside the call, through a unix socket
)

// PackBytes bounds a message that carries several batches. What is larger gains nothing by it, and the first of them would wait
// until the last is written.
const PackBytes = 16 << 10

// MaxMessage bounds one gRPC message in either direction, bytes. A batch of one 16 MiB row with its frame fits.
const MaxMessage = 64 << 20

// Kind is what a plugin is for.
type Kind string

// The kinds of plugins. Pushers and storages exist so far; the other words are reserved.
const (
	KindPusher    Kind = "pusher"
	KindConnector Kind = "connector"
	KindStorage   Kind = "storage"
	KindEngine    Kind = "engine"
)

// Limits bounds one batch; zero means no limit.
type Limits struct {
	MaxBatchBytes uint64 // of a message, too, that carries several
	MaxBatchRows  uint32
}

// Hello is what each side says in the handshake.
type Hello struct {
	Versions     []uint32 // the host offers several, the plugin answers with the one it chose
	Capabilities []string
	Limits       Limits
	Software     string // host version, or the plugin's SDK with its version
}

// Description is what a plugin is; it needs no configuration.
type Description struct {
	Name         string
	Version      string
	Kind         Kind
	ConfigSchema json.RawMessage // JSON Schema 2020-12 of the object that Configure takes
	Author       string
	Summary      string
	NeedsTrigger bool
}

// ConfigProblem is something only the plugin could find out. Field is a property of the schema, or empty.
type ConfigProblem struct {
	Field  string
	Reason string
}

// Base is served by every plugin and called by the host. All calls carry a deadline.
type Base interface {
	// Handshake is the first call; both sides state versions and limits.
	Handshake(ctx context.Context, host Hello) (Hello, error)
	// Describe says what the plugin is.
	Describe(ctx context.Context) (Description, error)
	// Configure makes or replaces an instance. Problems mean that it does not run; an error, that the call failed.
	Configure(ctx context.Context, instance string, config json.RawMessage) ([]ConfigProblem, error)
	// Health returns an error with the reason when the instance ("": the process) cannot do its work now.
	Health(ctx context.Context, instance string) error
	// Drain finishes what the instance ("": all) accepted and releases it.
	Drain(ctx context.Context, instance string) error
}

// Batch is a unit of work on a delivery stream. Seq starts at 1 on each stream and rises by one.
type Batch struct {
	Seq    uint64
	Frames []Frame
	// Ordered: once a row could not be delivered, the later rows of its org and uuid are to stay undelivered too. Of the ordered
	// batches in flight one at most has rows of an org and uuid.
	Ordered bool
}

// DeliverStream is the host's end of one instance's delivery stream. Send and Recv may run in two goroutines, each in one
// at a time. Both return io.EOF or an error once the stream has ended; the process may be gone then.
type DeliverStream interface {
	// Send sends batches that are ready at the same moment: together where they are small and the plugin takes packs, otherwise
	// one by one.
	Send(...*Batch) error
	Recv() (Ack, error)
	// CloseSend says that no more batches come; the plugin acknowledges what it has and ends the stream.
	CloseSend() error
}

// PusherClient is what the host calls on a pusher.
type PusherClient interface {
	Base
	// Deliver opens the stream of an instance. Cancelling ctx breaks it. ErrUnknownInstance comes from here, or, in protocol
	// version 1, from the first Recv.
	Deliver(ctx context.Context, instance string) (DeliverStream, error)
}

// PusherServer is what the plugin side of a pusher implements.
type PusherServer interface {
	Base
	// Deliver serves one stream until recv, which gives the batches of one message, at least one, returns io.EOF or an error.
	// send and recv may run in two goroutines, each in one at a time. The first call of recv tells the host that the instance is
	// there: return ErrUnknownInstance before it, and do not let it wait.
	Deliver(ctx context.Context, instance string, recv func() ([]Batch, error), send func(Ack) error) error
}
