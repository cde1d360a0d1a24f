package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"runtime"
	"strings"
	"time"

	"github.com/hashicorp/go-hclog"

	"github.com/rivergate/rivergate/host/pluginhost"
	"github.com/rivergate/rivergate/sdk"
	"github.com/rivergate/rivergate/sdk/protocol"
	"github.com/rivergate/rivergate/services/gateway/delivery"
)

// boundaryWindow is how many batches are in flight: the default of PLUGIN_<NAME>_WINDOW.
const boundaryWindow = 8

// boundary is what it costs that a plugin is a process of its own: the time per row through the plugin host and gRPC to
// the null pusher, less that of the same batches given to the same code in this process. Both sides run in turn.
func (b *bench) boundary(ctx context.Context) error {
	for _, shape := range []struct {
		name         string
		frames, rows int // of one batch
		target       float64
	}{
		{"batches of 1 row", 1, 1, 20},
		{"batches of 100 rows, one request", 1, 100, 1.0},
		{"batches of 100 rows, 100 requests", 100, 1, 0},
	} {
		var near, far, over series
		for range b.rounds {
			in, err := b.inProcess(ctx, shape.frames, shape.rows)
			if err != nil {
				return err
			}
			out, err := b.outOfProcess(ctx, shape.frames, shape.rows)
			if err != nil {
				return err
			}
			near, far, over = append(near, in), append(far, out), append(over, out-in)
			b.say("%s: %.3f µs per row in process, %.3f µs through the boundary", shape.name, in, out)
		}
		b.report.add(figure{Name: "in-process call, " + shape.name, Unit: "µs/row", Runs: near})
		b.report.add(figure{Name: "through the boundary, " + shape.name, Unit: "µs/row", Runs: far})
		f := figure{Name: "overhead of the boundary, " + shape.name, Unit: "µs/row", Runs: over}
		if shape.target > 0 {
			f.Target, f.Met = fmt.Sprintf("≤ %.1f", shape.target), met(over.median() <= shape.target)
		}
		b.report.add(f)
	}
	return nil
}

// tally is the null pusher's work, for the in-process side.
type tally struct{ rows, bytes uint64 }

func (t *tally) Deliver(_ context.Context, batch *sdk.Batch) error {
	for i := range batch.Frames {
		t.rows += uint64(batch.Frames[i].Len())
		t.bytes += uint64(len(batch.Frames[i].Data))
	}
	return nil
}

// batches makes batch after batch of 256-byte rows, with rising seq and positions.
func batches(frames, rows int) func() *protocol.Batch {
	row := `{"seq":1234567,"pad":"` + strings.Repeat("x", 256-24) + `"}`
	data, ends := []byte(strings.Repeat(row, rows)), make([]uint32, rows)
	for i := range ends {
		ends[i] = uint32((i + 1) * len(row))
	}
	position, seq, now := uint64(1), uint64(0), time.Now()
	return func() *protocol.Batch {
		seq++
		batch := &protocol.Batch{Seq: seq, Frames: make([]protocol.Frame, frames)}
		for i := range batch.Frames {
			batch.Frames[i] = protocol.Frame{OrgID: 1, UUID: "9f86d081884c7d65", Position: position, ReceivedAt: now, Data: data, Ends: ends}
			position += uint64(rows)
		}
		return batch
	}
}

// inProcess is the time per row, µs, of the SDK's server called directly.
func (b *bench) inProcess(ctx context.Context, frames, rows int) (float64, error) {
	count := new(tally)
	served, err := sdk.NewServer(sdk.Plugin{Name: "tally", Version: "1.0.0", Summary: "Counts.", Pusher: func() sdk.Pusher { return count }}, hclog.NewNullLogger())
	if err != nil {
		return 0, err
	}
	server, ok := served.(protocol.PusherServer)
	if !ok {
		return 0, fmt.Errorf("the SDK serves a pusher as %T", served)
	}
	if problems, err := server.Configure(ctx, "tally", json.RawMessage("{}")); err != nil || len(problems) > 0 {
		return 0, fmt.Errorf("configure: %v %w", problems, err)
	}
	runtime.GC()
	next, until, sent := batches(frames, rows), time.Now().Add(b.boundaryTime()), 0
	begun := time.Now()
	err = server.Deliver(ctx, "tally", func() ([]protocol.Batch, error) {
		if sent%64 == 0 && time.Now().After(until) {
			return nil, io.EOF
		}
		sent++
		return []protocol.Batch{*next()}, nil
	}, func(protocol.Ack) error { return nil })
	took := time.Since(begun)
	if err != nil && !errors.Is(err, io.EOF) {
		return 0, err
	}
	if want := uint64(sent * frames * rows); count.rows != want {
		return 0, fmt.Errorf("%d rows were sent, the pusher counted %d", want, count.rows)
	}
	return float64(took.Microseconds()) / float64(count.rows), server.Drain(ctx, "")
}

func (b *bench) boundaryTime() time.Duration { return b.long / 3 }

// outOfProcess is the time per row, µs, with the null pusher as a process of its own; rows are counted there.
func (b *bench) outOfProcess(ctx context.Context, frames, rows int) (_ float64, err error) {
	path := filepath.Join(b.dir, fmt.Sprintf("boundary-%d", time.Now().UnixNano()))
	count, unmap, err := openCounter(path)
	if err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, unmap()) }()
	session, end, err := b.openNull(ctx, path)
	if err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, end()) }()

	runtime.GC()
	slots := make(chan struct{}, boundaryWindow)
	received := make(chan error, 1)
	go func() {
		through := uint64(0)
		for {
			ack, err := session.Recv()
			if err != nil {
				received <- err
				return
			}
			for ; through < ack.ThroughSeq; through++ {
				<-slots
			}
		}
	}()
	next, begun, sent := batches(frames, rows), time.Now(), 0
	var pack []*protocol.Batch
	for until := begun.Add(b.boundaryTime()); time.Now().Before(until); sent++ {
		select {
		case slots <- struct{}{}:
		case err := <-received:
			return 0, fmt.Errorf("the stream ended: %w", err)
		}
		pack = append(pack[:0], next())
		for waits := true; waits && (len(pack)+1)*frames*rows*256 <= protocol.PackBytes; { // as delivery does
			select {
			case slots <- struct{}{}:
				pack = append(pack, next())
				sent++
			default:
				waits = false
			}
		}
		if err := session.Send(pack...); err != nil {
			return 0, fmt.Errorf("send: %w", err)
		}
	}
	if err := session.CloseSend(); err != nil {
		return 0, err
	}
	if err := <-received; !errors.Is(err, io.EOF) {
		return 0, fmt.Errorf("the stream ended: %w", err)
	}
	took := time.Since(begun)
	if want := uint64(sent * frames * rows); count.Rows.Load() != want {
		return 0, fmt.Errorf("%d rows were sent, the plugin counted %d", want, count.Rows.Load())
	}
	return float64(took.Microseconds()) / float64(count.Rows.Load()), nil
}

// openNull starts a plugin host with one null pusher and opens a stream to it. end stops both.
func (b *bench) openNull(ctx context.Context, counts string) (session delivery.Session, end func() error, err error) {
	host, err := pluginhost.New(pluginhost.Options{Dir: b.Plugins, RunDir: filepath.Join(b.dir, "run")})
	if err != nil {
		return nil, nil, err
	}
	instance := pluginhost.Instance{Name: "null", Vars: map[string]string{"PLUGIN_NULL_COUNT_FILE": counts}}
	if problems := host.Start(ctx, []pluginhost.Instance{instance}); len(problems) > 0 {
		return nil, nil, errors.Join(fmt.Errorf("start the null pusher: %+v", problems), host.Stop(ctx))
	}
	if session, err = host.Destination("null").Open(ctx); err != nil {
		return nil, nil, errors.Join(err, host.Stop(ctx))
	}
	return session, func() error {
		session.Close()
		return host.Stop(ctx)
	}, nil
}
