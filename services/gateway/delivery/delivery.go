// Package delivery takes rows from the journal to the destinations. Each pusher instance has a chain of its own and waits
// alone; nothing here is shared between two of them but the journal and the store.
//
//	journal → reader → lanes → batch → send (deadline) → outcomes ─┬→ settled → cursor (durable)
//	                    (trigger) ↑                                ├→ retry (backoff, jitter, retry_after) ─┐
//	                              └────────────────────────────────┼────────────────────────────────────────┘
//	                                                               ├→ poison search (halving) after a crash
//	                                                               └→ dead letter (durable before the cursor)
//
// A row is settled when it is delivered, skipped or dead-lettered. The cursor is the position of the first unsettled row.
// Rows settled beyond the cursor are remembered in memory only: after a crash of the host they are sent again, with the
// same position. So are rows whose acknowledgement came less than a flush (100 ms) before the crash.
package delivery

import (
	"context"
	"time"

	"github.com/rivergate/rivergate/sdk/protocol"
	"github.com/rivergate/rivergate/sdk/settings"
)

// Destination is one pusher instance as delivery sees it. The plugin host provides it.
type Destination interface {
	// Open waits until the plugin process is up and the instance is configured, then opens a delivery stream. It returns
	// an error only when ctx ends or the plugin host stops; a plugin that fails to start is retried inside.
	Open(ctx context.Context) (Session, error)
}

// Session is one stream to one process. After Send or Recv failed, it is over: Close it and Open another. Recv returns io.EOF
// only when the plugin ended the stream in good order; a process that died shows as another error.
type Session interface {
	protocol.DeliverStream
	// Limits are those agreed in the handshake.
	Limits() protocol.Limits
	// NeedsTrigger tells whether the plugin wants the trigger of each uuid.
	NeedsTrigger() bool
	// Crashed tells, after the stream broke, whether the process died (how: "exit status 2", "signal: killed"). It waits
	// up to a second for the process to be reaped. A process that was stopped or replaced on purpose did not crash.
	Crashed() (how string, crashed bool)
	// Kill ends a process that does not do its work; the plugin host shows the reason, with whether the process still
	// answers health checks, and starts it again. It may take seconds.
	Kill(reason string)
	// Retired is closed when the plugin host wants the stream to end in good order (upgrade, stop): send no more, CloseSend,
	// take the remaining acks, Close.
	Retired() <-chan struct{}
	Close()
}

// Order says what must stay in order on the way to a destination.
type Order string

// The orders.
const (
	// OrderKey: rows of one uuid are sent in the order in which they were accepted, and a later one only after the
	// earlier ones are settled.
	OrderKey Order = "key"
	// OrderNone: journal order at first try; a retry lets others pass.
	OrderNone Order = "none"
)

// Start says where a pusher begins that has no cursor yet.
type Start string

// The starts.
const (
	StartNew    Start = "new"    // with the rows that come after it
	StartOldest Start = "oldest" // with all that the journal still holds
)

// Pusher is the configuration of one instance; the tags are its host-owned variables, PLUGIN_<NAME>_….
type Pusher struct {
	Name string `config:"-"`

	BatchRows     int            `config:"batch_rows" default:"1000" min:"1" max:"100000" doc:"Rows in one batch, at most."`
	BatchBytes    settings.Bytes `config:"batch_bytes" default:"1MiB" min:"1" max:"33554432" doc:"Bytes in one batch, at most; a larger row goes alone."`
	BatchWait     time.Duration  `config:"batch_wait" default:"5ms" min:"0s" max:"1m" doc:"How long a batch waits to fill up."`
	Window        int            `config:"window" default:"8" min:"1" max:"64" doc:"Batches in flight, at most."`
	Order         Order          `config:"order" default:"key" enum:"key,none" doc:"key: rows of one uuid stay in order; none: a retry lets others pass."`
	Timeout       time.Duration  `config:"timeout" default:"30s" min:"100ms" max:"1h" doc:"A plugin that acknowledges nothing for so long is killed and restarted."`
	RetryMin      time.Duration  `config:"retry_min" default:"200ms" min:"1ms" max:"1h" doc:"First backoff after a failure; doubles with jitter."`
	RetryMax      time.Duration  `config:"retry_max" default:"30s" min:"1ms" max:"24h" doc:"Longest backoff."`
	RetryAttempts int            `config:"retry_attempts" default:"20" min:"0" max:"1000000" doc:"Failed attempts after which a row goes to the dead letters; 0: never. Attempts while the destination accepts nothing at all do not count."`
	MaxBacklog    int64          `config:"max_backlog" default:"0" min:"0" doc:"Rows that may wait for this pusher before POSTs get 429; 0: only the journal's size limits."`
	Orgs          []string       `config:"orgs" doc:"Organisations whose rows go to this pusher; empty: all."`
	Start         Start          `config:"start" default:"new" enum:"new,oldest" doc:"Where a pusher begins that has no cursor: new rows only, or all that the journal holds."`

	Select []string          `config:"select" doc:"Fields of a row that go to this pusher, in this order; a dot goes into an object (meta.batch), \\. is a dot in a name. Empty: the row byte for byte." example:"timeElapsed,odMeasured,meta.batch"`
	Rename map[string]string `config:"rename" doc:"New names of fields, old=new; the old one is a path as in SELECT." example:"odMeasured=od"`
	Filter string            `config:"filter" doc:"Rows for which this expression is false are skipped. It sees row (with the client's names), uuid, index, org, user, position, received_at and request_id. See Transforms." example:"float(row.odMeasured) > 0.5 and index != nil"`

	Destination Destination `config:"-"`
}

// Progress is what became of one accepted request at one pusher.
type Progress struct {
	Name      string `json:"name"`
	State     string `json:"state" enum:"pending,delivered,partly_dead,dead"`
	Delivered int    `json:"delivered"`
	Skipped   int    `json:"skipped"`
	Dead      int    `json:"dead"`
	Attempts  int    `json:"attempts"`
	LastError string `json:"last_error,omitempty"`
}

// Status is the delivery side of one pusher, for the API and metrics. What the process does (version, restarts, pid) is
// known to the plugin host; the server joins the two by name.
type Status struct {
	Name           string
	Paused         bool
	Disabled       bool   // known by its cursor only: not in the configuration
	Blocked        string // why nothing moves: credentials, dead letters full, destination down; empty otherwise
	Cursor         uint64
	LagRows        uint64
	LagBytes       int64
	OldestAge      time.Duration
	DeliveredTotal uint64
	SkippedTotal   uint64
	DeadTotal      uint64
	RowsPerSecond  float64 // delivered, over the last 10 s
	LastError      string
	WaitsTriggers  int // uuids whose rows wait for their trigger

	Window          int    // batches that may be in flight now
	Condition       string // empty: it keeps up; "slow": its window is lowered; "stuck": it was killed, and has not got on since
	ConditionReason string
}
