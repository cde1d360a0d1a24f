package conformance

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"slices"
	"syscall"
	"time"

	"github.com/rivergate/rivergate/sdk/protocol"
)

const (
	// pollTime is between two looks at what nobody announces.
	pollTime = 20 * time.Millisecond
	// sigtermTime and orphanTime are the contract's own.
	sigtermTime = 10 * time.Second
	orphanTime  = 5 * time.Second
)

const drainChange = "finish what the instance has received, release it, and answer Drain; an instance that is not there has nothing left to finish"

func (s *suite) drain(ctx context.Context, p *process, name string) error {
	ctx, cancel := s.within(ctx)
	defer cancel()
	if err := p.client.Drain(ctx, name); err != nil {
		return p.failed("Drain", err, drainChange)
	}
	return nil
}

func checkDrain(ctx context.Context, s *suite) error {
	return s.onStream(ctx, func(p *process, st *stream) error {
		if err := st.send(ctx, false, pack(s.plain("drain", 8), st.limits, 1)...); err != nil {
			return err
		}
		if err := st.finish(ctx); err != nil {
			return err
		}
		for _, when := range []string{"the first Drain", "a second Drain"} {
			if err := s.drain(ctx, p, instance); err != nil {
				return during(err, "%s", when)
			}
		}
		return s.unknown(ctx, p, instance, "an instance that was drained")
	})
}

func checkRestart(ctx context.Context, s *suite) error {
	first, second := s.plain("restart", 2), s.plain("restart", 4)
	err := s.onStream(ctx, func(p *process, st *stream) error {
		if err := st.deliver(ctx, pack(first, st.limits, 1)...); err != nil {
			return err
		}
		if err := st.send(ctx, false, pack(second, st.limits, 1)...); err != nil {
			return err
		}
		p.kill()
		return nil
	})
	if err != nil {
		return err
	}
	const change = "leave nothing behind that keeps the next process from starting (a lock ends with its process: flock), and take rows that may have arrived before"
	err = s.onStream(ctx, func(_ *process, st *stream) error {
		if err := st.deliver(ctx, pack(append(slices.Clone(second), first...), st.limits, 2)...); err != nil {
			return err
		}
		s.note = st.summary()
		return nil
	})
	if err != nil {
		return during(addChange(err, change), "started again after kill -9")
	}
	return nil
}

func checkOverlap(ctx context.Context, s *suite) error {
	frames := s.plain("overlap", 12)
	return s.onStream(ctx, func(old *process, st *stream) error {
		if err := st.deliver(ctx, pack(frames[:4], st.limits, 1)...); err != nil {
			return err
		}
		const change = "make nothing exclusive in Configure: take a lock with the first batch, and free it in Drain"
		p, err := s.ready(ctx)
		if err != nil {
			return during(addChange(err, change), "a second process beside the first")
		}
		defer s.end(p)
		if err := s.healthy(ctx, p, instance); err != nil {
			return during(addChange(err, change), "a second process beside the first")
		}
		if err := st.deliver(ctx, pack(frames[4:8], st.limits, 1)...); err != nil {
			return during(err, "the first process, beside a second")
		}
		if err := st.finish(ctx); err != nil {
			return err
		}
		if err := s.drain(ctx, old, instance); err != nil {
			return err
		}
		next, err := s.deliver(ctx, p, instance)
		if err != nil {
			return err
		}
		defer next.close()
		if err := next.deliver(ctx, pack(frames[8:], st.limits, 1)...); err != nil {
			return during(err, "the second process, after the first was drained")
		}
		return nil
	})
}

func checkInstances(ctx context.Context, s *suite) error {
	if !slices.Contains(s.hello.Capabilities, protocol.CapInstances) {
		return skipf("it does not say the capability %s: each instance gets a process of its own", protocol.CapInstances)
	}
	p, err := s.ready(ctx)
	if err != nil {
		return err
	}
	defer s.end(p)
	const change = "keep what belongs to an instance apart by its id; or do not say the capability instances"
	names := []string{instance, instance + "-2", instance + "-3"}
	var streams []*stream
	for i, name := range names {
		if i > 0 {
			if err := s.configure(ctx, p, name); err != nil {
				return addChange(err, change)
			}
		}
		st, err := s.deliver(ctx, p, name)
		if err != nil {
			return addChange(err, change)
		}
		defer st.close()
		streams = append(streams, st)
	}
	round := func(streams []*stream) error {
		for _, st := range streams { // all are sent to before one is waited for
			if err := st.send(ctx, false, pack(s.plain("instances", 2), st.limits, 1)...); err != nil {
				return addChange(err, change)
			}
		}
		for _, st := range streams {
			if err := st.settle(ctx); err != nil {
				return addChange(err, change)
			}
		}
		return nil
	}
	if err := round(streams); err != nil {
		return during(err, "%d instances at once", len(names))
	}
	if err := streams[0].finish(ctx); err != nil {
		return err
	}
	if err := s.drain(ctx, p, names[0]); err != nil {
		return err
	}
	if err := s.unknown(ctx, p, names[0], "an instance that was drained"); err != nil {
		return err
	}
	for _, name := range names[1:] {
		if err := s.healthy(ctx, p, name); err != nil {
			return during(addChange(err, change), "after another instance was drained")
		}
	}
	if err := round(streams[1:]); err != nil {
		return during(err, "after another instance was drained")
	}
	return nil
}

// settleIn configures the instance, when that is known to work.
func (s *suite) settleIn(ctx context.Context, p *process) error {
	if s.verdicts["configure"] != Pass {
		return nil
	}
	if _, err := s.greet(ctx, p); err != nil {
		return err
	}
	return s.configure(ctx, p, instance)
}

func checkSigterm(ctx context.Context, s *suite) error {
	p, err := s.start(ctx)
	if err != nil {
		return err
	}
	defer p.destroy()
	if err := s.settleIn(ctx, p); err != nil {
		return err
	}
	const change = "handle SIGTERM: finish the batch in hand, release what is open, and exit with code 0"
	p.hangUp()
	_ = p.cmd.Process.Signal(syscall.SIGTERM)
	switch {
	case !closedWithin(p.dead, sigtermTime):
		return fail(fmt.Sprintf("its end within %s of SIGTERM", sigtermTime), "it runs on", change)
	case p.code != 0:
		return fail("exit code 0", p.how, change)
	}
	return nil
}

// parentScript is a parent that does nothing but have the plugin as its child, and tell who it is itself. The plugin alone
// holds descriptor 3: it is closed when the plugin, and whatever inherited it, has ended.
const parentScript = `RIVERGATE_HOST_PID=$$ "$0" & exec 3>&-; wait`

func checkParentDeath(ctx context.Context, s *suite) error {
	const shell = "/bin/sh"
	if _, err := os.Stat(shell); err != nil {
		return skipf("there is no %s to be the parent", shell)
	}
	alive, held, err := os.Pipe()
	if err != nil {
		return &troubleError{fmt.Errorf("conformance: %w", err)}
	}
	defer func() { _ = alive.Close() }()
	dir, err := privateDir()
	if err != nil {
		_ = held.Close()
		return err
	}
	cmd := exec.Command(shell, "-c", parentScript, s.opts.Path) // #nosec G204 -- the plugin, under a parent that can be killed
	cmd.Env = s.environ(dir)
	cmd.ExtraFiles = []*os.File{held}
	p, err := s.launch(ctx, cmd, dir)
	_ = held.Close()
	if err != nil {
		return err
	}
	defer p.destroy()
	if err := s.settleIn(ctx, p); err != nil {
		return err
	}
	return orphan(p, alive)
}

// orphan kills the plugin's parent alone and sees what becomes of the plugin.
func orphan(p *process, alive *os.File) error {
	if err := alive.SetReadDeadline(time.Now().Add(orphanTime)); err != nil {
		return &troubleError{fmt.Errorf("conformance: %w", err)}
	}
	if err := p.orphan(); err != nil {
		return &troubleError{fmt.Errorf("conformance: %w", err)}
	}
	_, err := io.Copy(io.Discard, alive)
	left := p.sockets()
	if errors.Is(err, os.ErrDeadlineExceeded) {
		return fail(
			fmt.Sprintf("its end within %s of its parent's", orphanTime), "it runs on, or something does that it started",
			"watch the parent: end when the parent process is another than at the start, or RIVERGATE_HOST_PID is gone, and end first what was started",
		)
	}
	if err != nil {
		return &troubleError{fmt.Errorf("conformance: %w", err)}
	}
	if len(left) > 0 {
		return fail("no socket left in PLUGIN_UNIX_SOCKET_DIR", left[0], "remove the socket before the process ends")
	}
	return nil
}
