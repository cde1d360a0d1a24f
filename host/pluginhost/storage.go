package pluginhost

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"sync/atomic"
	"time"

	"github.com/rivergate/rivergate/sdk/protocol"
	"github.com/rivergate/rivergate/sdk/wire"
)

// Storage is a storage instance as services see it: protocol.Storage without the instance. It outlives every process: a call waits
// for one that runs, and what can be repeated is repeated when the process dies in the middle of it. What cannot fails with
// protocol.ErrUnavailable, and so does everything when no process can be had in time.
type Storage struct {
	host *Host
	name string // of the instance
}

// Storage gives the storage instance of this name ("local", "s3"). Its process starts with the first call.
func (h *Host) Storage(_ context.Context, name string) (*Storage, error) {
	s := &Storage{host: h, name: InstanceName(protocol.KindStorage, name)}
	select {
	case <-h.started:
		if h.byName()[s.name] == nil && !h.sleeps(s.name) {
			return nil, unknown(s.name)
		}
	default: // before Start, nobody knows
	}
	return s, nil
}

// onSeat is one use of a process.
type onSeat struct {
	*seat
	member *member
}

// sit finds a process that runs, starting or waiting for one, and counts the caller in. The seat's leave counts him out.
func (s *Storage) sit(ctx context.Context) (onSeat, error) {
	m, err := s.host.wake(ctx, s.name)
	if err != nil {
		return onSeat{}, err
	}
	for {
		seat, err := m.ready(ctx)
		if err != nil {
			st := m.status()
			if why := cmp.Or(st.Reason, st.LastError); why != "" && ctx.Err() != nil {
				err = fmt.Errorf("it is %s: %s: %w", st.State, why, err)
			}
			return onSeat{}, err
		}
		if seat.enter() == nil {
			return onSeat{seat, m}, nil
		}
		if err := m.waitPast(ctx, seat); err != nil {
			return onSeat{}, err
		}
	}
}

// unavailable is the error of a call for which there is no process.
func (s *Storage) unavailable(err error) error {
	return fmt.Errorf("storage plugin %s: %w: %w", s.name, protocol.ErrUnavailable, err)
}

// broken tells whether an error is the process's, and not what the storage has to say. It ends a process that does not keep to
// the protocol, or is stuck.
func (on onSeat) broken(err error) bool {
	switch {
	case err == nil:
		return false
	case errors.Is(err, protocol.ErrMalformed):
		on.kill("it broke the protocol: " + err.Error())
		return true
	case errors.Is(err, wire.ErrStalled):
		// Where others get on, it is one transfer that is stuck, or what is behind the plugin.
		if time.Since(time.Unix(0, max(on.moved.Load(), on.since.UnixNano()))) >= stuckAfter {
			on.kill("wedged: " + err.Error())
			return true
		}
		return false
	}
	return wire.IsGone(err) || errors.Is(err, protocol.ErrUnknownInstance)
}

// stuckAfter is how long nothing at all has moved in a process that is given up.
const stuckAfter = 30 * time.Second

// gone waits a little for the end of a process that a call has found broken; false: it lives on, and the error was its own.
func (on onSeat) gone() bool {
	select {
	case <-on.retired:
		return true
	default:
		return closedWithin(on.dead, reapTimeout)
	}
}

// progress notes that the process gets on.
func (on onSeat) progress() {
	on.moved.Store(time.Now().UnixNano())
	on.progressed.Store(true)
}

// use makes a call, and makes it again at the next process when the one that it was made at has died and again allows it.
func use[A any](ctx context.Context, s *Storage, again func() bool, call func(on onSeat) (A, error)) (A, onSeat, error) {
	var none A
	wait, cancel := context.WithTimeout(ctx, s.host.opts.StartTimeout)
	defer cancel()
	for {
		on, err := s.sit(wait)
		if err != nil {
			if ctx.Err() != nil {
				return none, onSeat{}, context.Cause(ctx)
			}
			return none, onSeat{}, s.unavailable(err)
		}
		a, err := call(on)
		if err == nil {
			on.progress()
			return a, on, nil
		}
		on.leave()
		if ctx.Err() != nil || !on.broken(err) {
			return none, onSeat{}, err
		}
		if !on.gone() || !again() || wait.Err() != nil {
			return none, onSeat{}, s.unavailable(err)
		}
		if err := on.member.waitPast(wait, on.seat); err != nil {
			return none, onSeat{}, s.unavailable(err)
		}
	}
}

func always() bool { return true }
func never() bool  { return false }

// ask is use for calls that hold nothing.
func ask[A any](ctx context.Context, s *Storage, again func() bool, call func(on onSeat) (A, error)) (A, error) {
	a, on, err := use(ctx, s, again, call)
	if err == nil {
		on.leave()
	}
	return a, err
}

// counted is a body that knows whether it was begun, and tells that its transfer gets on.
type counted struct {
	r     io.Reader
	on    atomic.Pointer[onSeat]
	begun atomic.Bool
}

func (c *counted) Read(p []byte) (int, error) {
	c.begun.Store(true)
	if on := c.on.Load(); on != nil {
		on.progress() // the plugin has taken what was read before
	}
	return c.r.Read(p)
}

func (c *counted) untouched() bool { return !c.begun.Load() }

// Put can be repeated as long as nothing was read of body.
func (s *Storage) Put(ctx context.Context, put protocol.Put, body io.Reader) (protocol.Object, error) {
	c := &counted{r: body}
	return ask(ctx, s, c.untouched, func(on onSeat) (protocol.Object, error) {
		c.on.Store(&on)
		return on.plugin.Put(ctx, on.instance, put, c)
	})
}

// PutPart can be repeated as long as nothing was read of body.
func (s *Storage) PutPart(ctx context.Context, key, upload string, number int, size int64, body io.Reader) (protocol.Part, error) {
	c := &counted{r: body}
	return ask(ctx, s, c.untouched, func(on onSeat) (protocol.Part, error) {
		c.on.Store(&on)
		return on.plugin.PutPart(ctx, on.instance, key, upload, number, size, c)
	})
}

// Stat is repeated.
func (s *Storage) Stat(ctx context.Context, key string) (protocol.Object, error) {
	return ask(ctx, s, always, func(on onSeat) (protocol.Object, error) { return on.plugin.Stat(ctx, on.instance, key) })
}

// List is repeated.
func (s *Storage) List(ctx context.Context, prefix, after string, limit int) (objects []protocol.Object, more bool, err error) {
	objects, err = ask(ctx, s, always, func(on onSeat) (objects []protocol.Object, err error) {
		objects, more, err = on.plugin.List(ctx, on.instance, prefix, after, limit)
		return objects, err
	})
	return objects, more, err
}

// Delete is repeated: what is gone is gone.
func (s *Storage) Delete(ctx context.Context, key string) error {
	_, err := ask(ctx, s, always, func(on onSeat) (struct{}, error) {
		return struct{}{}, on.plugin.Delete(ctx, on.instance, key)
	})
	return err
}

// Copy is repeated unless the first time may have made what the second one would find in its way.
func (s *Storage) Copy(ctx context.Context, from string, to protocol.Put) (protocol.Object, error) {
	again := always
	if to.OnlyNew {
		again = never
	}
	return ask(ctx, s, again, func(on onSeat) (protocol.Object, error) { return on.plugin.Copy(ctx, on.instance, from, to) })
}

// Presign is repeated.
func (s *Storage) Presign(ctx context.Context, request protocol.Presign) (protocol.Presigned, error) {
	return ask(ctx, s, always, func(on onSeat) (protocol.Presigned, error) { return on.plugin.Presign(ctx, on.instance, request) })
}

// BeginUpload is not repeated: nobody would end the first one.
func (s *Storage) BeginUpload(ctx context.Context, put protocol.Put) (string, error) {
	return ask(ctx, s, never, func(on onSeat) (string, error) { return on.plugin.BeginUpload(ctx, on.instance, put) })
}

// CompleteUpload is not repeated: when the first one came through, there is no upload any more.
func (s *Storage) CompleteUpload(ctx context.Context, put protocol.Put, upload string, parts []protocol.Part) (protocol.Object, error) {
	return ask(ctx, s, never, func(on onSeat) (protocol.Object, error) {
		return on.plugin.CompleteUpload(ctx, on.instance, put, upload, parts)
	})
}

// AbortUpload is repeated.
func (s *Storage) AbortUpload(ctx context.Context, key, upload string) error {
	_, err := ask(ctx, s, always, func(on onSeat) (struct{}, error) {
		return struct{}{}, on.plugin.AbortUpload(ctx, on.instance, key, upload)
	})
	return err
}

// ListUploads is repeated.
func (s *Storage) ListUploads(ctx context.Context, prefix string, after protocol.Upload, limit int) (uploads []protocol.Upload, more bool, err error) {
	uploads, err = ask(ctx, s, always, func(on onSeat) (uploads []protocol.Upload, err error) {
		uploads, more, err = on.plugin.ListUploads(ctx, on.instance, prefix, after, limit)
		return uploads, err
	})
	return uploads, more, err
}

// Abilities of the process that runs now.
func (s *Storage) Abilities(ctx context.Context) (protocol.Abilities, error) {
	return ask(ctx, s, always, func(on onSeat) (protocol.Abilities, error) { return on.plugin.Abilities(ctx, on.instance) })
}

// Get is repeated, and what is read of the object goes on in the next process where the last one died, as long as the object
// is still the same. The caller closes it.
func (s *Storage) Get(ctx context.Context, key string, part protocol.Range) (protocol.Object, io.ReadCloser, error) {
	d := &download{s: s, ctx: ctx, key: key, part: part}
	object, err := d.open()
	if err != nil {
		return protocol.Object{}, nil, err
	}
	return object, d, nil
}
