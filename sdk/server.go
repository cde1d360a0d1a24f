package sdk

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"sync"

	"github.com/rivergate/rivergate/sdk/protocol"
	"github.com/rivergate/rivergate/sdk/settings"
)

// NewServer is the plugin's side of the protocol without the process around it: Serve uses it, and a harness that runs a
// plugin in its own process. It reports what is wrong with p.
func NewServer(p Plugin, log Logger) (protocol.Base, error) {
	description, err := p.describe()
	if err != nil {
		return nil, err
	}
	return newServer(p, description, log).kind(), nil
}

func newServer(p Plugin, d protocol.Description, log Logger) *server {
	return &server{plugin: p, description: d, log: log, slots: map[string]*slot{}}
}

// kind is the server with what its kind serves beside Base.
func (s *server) kind() protocol.Base {
	if s.plugin.Storage != nil {
		return storageServer{s}
	}
	return pusherServer{s}
}

// server holds the instances of one process.
type server struct {
	plugin      Plugin
	description protocol.Description
	log         Logger

	mu    sync.Mutex
	slots map[string]*slot // by instance name
}

// slot is the place of one instance: empty before Configure and after Drain.
type slot struct {
	change  chan struct{} // held while the instance is being made, replaced or released
	current occupant      // guarded by server.mu
}

// occupant is an open instance of some kind.
type occupant interface {
	author() any                     // the author's value
	close(ctx context.Context) error // in good order; after errBusy it may be called again
	stop(cause error)                // breaks off what is at work
}

// Handshake chooses the newest version that both sides speak.
func (s *server) Handshake(_ context.Context, host protocol.Hello) (protocol.Hello, error) {
	ours := protocol.Versions()
	i := slices.IndexFunc(ours, func(v uint32) bool { return slices.Contains(host.Versions, v) })
	if i < 0 {
		return protocol.Hello{}, fmt.Errorf("%w: the host speaks protocol versions %v, this plugin %v", protocol.ErrMalformed, host.Versions, ours)
	}
	hello := protocol.Hello{
		Versions: ours[i : i+1],
		Limits:   protocol.Limits{MaxBatchRows: uint32(s.plugin.MaxBatchRows), MaxBatchBytes: uint64(s.plugin.MaxBatchBytes)},
		Software: "rivergate-sdk-go/" + Version,
	}
	if ours[i] >= protocol.Version2 && s.plugin.Pusher != nil {
		hello.Capabilities = append(hello.Capabilities, protocol.CapPacks)
	}
	if s.plugin.Instances {
		hello.Capabilities = append(hello.Capabilities, protocol.CapInstances)
	}
	if s.plugin.Storage != nil {
		hello.Capabilities = append(hello.Capabilities, protocol.CapBeside)
		storage := s.plugin.Storage()
		if _, ok := storage.(Presigner); ok {
			hello.Capabilities = append(hello.Capabilities, protocol.CapPresign)
		}
		if _, ok := storage.(Multiparter); ok {
			hello.Capabilities = append(hello.Capabilities, protocol.CapMultipart)
		}
	}
	return hello, nil
}

func (s *server) Describe(context.Context) (protocol.Description, error) { return s.description, nil }

// Configure makes a new value, fills it and opens it. An instance of that name is closed first, after its stream has
// finished the batch in hand, so that two never hold the same file or connection.
func (s *server) Configure(ctx context.Context, name string, config json.RawMessage) ([]protocol.ConfigProblem, error) {
	sl := s.slot(name)
	if err := sl.acquire(ctx); err != nil {
		return nil, err
	}
	defer sl.release()

	value := s.plugin.value()
	if problems := settings.DecodeJSON(config, value); len(problems) > 0 {
		out := make([]protocol.ConfigProblem, len(problems))
		for i, p := range problems {
			out[i] = protocol.ConfigProblem{Field: p.Variable, Reason: p.Reason}
			if p.Nearest != "" {
				out[i].Reason += "; " + p.Nearest + " is"
			}
		}
		return out, nil
	}
	if err := s.retire(ctx, sl); err != nil {
		return nil, fmt.Errorf("replace instance %s: %w", name, err)
	}
	log := s.log.With("instance", name)
	if opener, ok := value.(Opener); ok {
		if err := opener.Open(ctx, Env{Instance: name, Log: log}); err != nil {
			if ctx.Err() != nil {
				return nil, fmt.Errorf("open instance %s: %w", name, err)
			}
			return problemsOf(err), nil
		}
	}
	switch v := value.(type) {
	case Pusher:
		s.put(sl, newInstance(name, v, s.plugin, log))
	case Storage:
		s.put(sl, newKeeper(name, v))
	}
	return nil, nil
}

func (s *server) Health(ctx context.Context, name string) error {
	if name == "" {
		return nil
	}
	in := s.current(name)
	if in == nil {
		return fmt.Errorf("%w: %s", protocol.ErrUnknownInstance, name)
	}
	checker, ok := in.author().(HealthChecker)
	if !ok {
		return nil
	}
	if err := checker.Health(ctx); err != nil {
		if ctx.Err() != nil {
			return ctx.Err()
		}
		return &protocol.Unhealthy{Reason: err.Error()}
	}
	return nil
}

// Drain is idempotent: an instance that is not there has nothing left to finish.
func (s *server) Drain(ctx context.Context, name string) error {
	s.mu.Lock()
	var names []string
	for n := range s.slots {
		if name == "" || n == name {
			names = append(names, n)
		}
	}
	s.mu.Unlock()

	errs := make([]error, len(names))
	var wg sync.WaitGroup
	for i, n := range names {
		wg.Go(func() {
			sl := s.slot(n)
			if errs[i] = sl.acquire(ctx); errs[i] == nil {
				errs[i] = s.retire(ctx, sl)
				sl.release()
			}
		})
	}
	wg.Wait()
	return errors.Join(errs...)
}

// pusherServer serves the pushers of a process.
type pusherServer struct{ *server }

var _ protocol.PusherServer = pusherServer{}

func (s pusherServer) Deliver(ctx context.Context, name string, recv func() ([]protocol.Batch, error), send func(protocol.Ack) error) error {
	in, ok := s.current(name).(*instance)
	if !ok {
		return fmt.Errorf("%w: %s", protocol.ErrUnknownInstance, name)
	}
	return in.deliver(ctx, recv, send)
}

// stop breaks off every call that is still at work.
func (s *server) stop() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, sl := range s.slots {
		if sl.current != nil {
			sl.current.stop(errStopping)
		}
	}
}

// retire empties the slot, which the caller holds.
func (s *server) retire(ctx context.Context, sl *slot) error {
	s.mu.Lock()
	in := sl.current
	s.mu.Unlock()
	if in == nil {
		return nil
	}
	err := in.close(ctx)
	if errors.Is(err, errBusy) {
		return err // it keeps its place: the next attempt goes on from here
	}
	s.put(sl, nil)
	return err
}

func (s *server) slot(name string) *slot {
	s.mu.Lock()
	defer s.mu.Unlock()
	sl, ok := s.slots[name]
	if !ok {
		sl = &slot{change: make(chan struct{}, 1)}
		s.slots[name] = sl
	}
	return sl
}

func (s *server) put(sl *slot, in occupant) {
	s.mu.Lock()
	defer s.mu.Unlock()
	sl.current = in
}

func (s *server) current(name string) occupant {
	s.mu.Lock()
	defer s.mu.Unlock()
	if sl, ok := s.slots[name]; ok {
		return sl.current
	}
	return nil
}

func (sl *slot) acquire(ctx context.Context) error {
	select {
	case sl.change <- struct{}{}:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (sl *slot) release() { <-sl.change }
