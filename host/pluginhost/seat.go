package pluginhost

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/rivergate/rivergate/sdk/protocol"
)

// seat is one instance in one process: configured, with its delivery streams.
type seat struct {
	*running
	instance string
	plugin   protocol.Client // the connection as the instance is to use it
	health   error           // of the first check: nil, or *protocol.Unhealthy

	retired chan struct{} // closed when its streams are to end
	idle    chan struct{} // closed when they have

	moved atomic.Int64 // when a call of a storage last got on, Unix nanoseconds

	mu       sync.Mutex
	sessions int  // open delivery streams; of a storage: calls
	closing  bool // no further one

	// Of the supervisor's watch alone.
	asking     bool
	unanswered int
}

// sit makes the instance in the process, and asks it for its health.
func (h *Host) sit(ctx context.Context, r *running, in Instance, plugin protocol.Client) (*seat, error) {
	config, err := in.config(r.desc.ConfigSchema)
	if err != nil {
		return nil, err
	}
	call, cancel := context.WithTimeout(ctx, h.opts.StartTimeout)
	defer cancel()
	problems, err := plugin.Configure(call, in.Name, config)
	if err != nil {
		return nil, r.failedCall("configuration", err)
	}
	if len(problems) > 0 {
		return nil, &problemsError{prefix: in.Prefix, problems: problems}
	}
	call, cancel = context.WithTimeout(ctx, h.opts.StartTimeout) // no shorter: many start at once, on a busy machine
	defer cancel()
	err = plugin.Health(call, in.Name)
	var unhealthy *protocol.Unhealthy
	if err != nil && !errors.As(err, &unhealthy) {
		return nil, r.failedCall("first health check", err)
	}
	return &seat{
		running: r, instance: in.Name, plugin: plugin, health: err,
		retired: make(chan struct{}), idle: make(chan struct{}),
	}, nil
}

// describe is what the process said about itself, as a status shows it.
func (s *seat) describe() *Status {
	r := s.running
	return &Status{
		Version: r.desc.Version, Protocol: r.version(), SDK: r.hello.Software, SHA256: r.sha256, Trust: r.trust, Attached: r.attached,
		Capabilities: r.hello.Capabilities, ConfigSchema: r.desc.ConfigSchema, NeedsTrigger: r.desc.NeedsTrigger, Author: r.desc.Author, Summary: r.desc.Summary,
		Limits: r.limits,
	}
}

// processID is 0 for no seat.
func (s *seat) processID() int {
	if s == nil {
		return 0
	}
	return s.pid
}

// enter counts a stream in.
func (s *seat) enter() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closing {
		return errRetired
	}
	s.sessions++
	return nil
}

func (s *seat) leave() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.sessions--; s.closing && s.sessions == 0 {
		close(s.idle)
	}
}

// retire asks the streams to end in good order and waits for that. No new one opens.
func (s *seat) retire(ctx context.Context) error {
	s.shut()
	select {
	case <-s.idle:
		return nil
	case <-s.dead:
		return nil
	case <-ctx.Done():
		return fmt.Errorf("it is still at work: %w", context.Cause(ctx))
	}
}

// shut lets no new stream or call begin.
func (s *seat) shut() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closing {
		return
	}
	s.closing = true
	close(s.retired)
	if s.sessions == 0 {
		close(s.idle)
	}
}

// drain ends the instance in the process: what it accepted is finished.
func (s *seat) drain(ctx context.Context) error {
	err := s.plugin.Drain(ctx, s.instance)
	if err == nil || errors.Is(err, protocol.ErrUnknownInstance) || s.endedItself() {
		return nil
	}
	return fmt.Errorf("drain: %w", err)
}

// halfOf leaves half of the time that ctx has for what comes after.
func halfOf(ctx context.Context) (context.Context, context.CancelFunc) {
	deadline, ok := ctx.Deadline()
	if !ok {
		return context.WithCancel(ctx)
	}
	return context.WithTimeout(ctx, time.Until(deadline)/2)
}
