package main

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/rivergate/rivergate/plugins/internal/durable"
	"github.com/rivergate/rivergate/sdk"
)

// keeper owns the spool and takes what is sealed to the bucket. Everything runs in goroutines that end with run.
type keeper struct {
	folder  string
	opts    spoolOptions
	bucket  *bucket
	uploads int
	log     sdk.Logger

	trouble troubles
	ready   chan struct{} // closed: spool is set
	spool   *spool
	wakeup  chan struct{}
	sealNow atomic.Bool
	proven  chan struct{} // closed: the bucket is known to take objects
	prove   func()

	closing atomic.Bool
	drained chan struct{} // closed: there is nothing more to wait for
	stop    context.CancelFunc
	ended   sync.WaitGroup
}

// What trouble is about, beside the numbers of segments, which begin at 1.
const (
	spoolTrouble = uint64(1<<64 - 1)
	probeTrouble = uint64(0)
)

const (
	lockPause  = 100 * time.Millisecond
	firstPause = 250 * time.Millisecond
	lastPause  = 30 * time.Second
)

func newKeeper(folder string, opts spoolOptions, b *bucket, uploads int, log sdk.Logger) *keeper {
	k := &keeper{folder: folder, opts: opts, bucket: b, uploads: uploads, log: log,
		ready: make(chan struct{}), wakeup: make(chan struct{}, 1), proven: make(chan struct{}), drained: make(chan struct{})}
	k.prove = sync.OnceFunc(func() { close(k.proven) })
	return k
}

func (k *keeper) start() {
	ctx, cancel := context.WithCancel(context.Background())
	k.stop = cancel
	k.ended.Go(func() { k.probe(ctx) })
	k.ended.Go(func() { k.run(ctx) })
}

// close seals what is there and waits for it to be in the bucket, until ctx ends or the bucket refuses. What is left stays in the spool.
func (k *keeper) close(ctx context.Context) error {
	select {
	case <-k.ready:
		k.closing.Store(true)
		k.hurry()
		select {
		case <-k.drained:
		case <-ctx.Done():
		}
	default: // another process has it, or it cannot be read
	}
	k.stop()
	k.ended.Wait()
	if k.spool == nil {
		return nil
	}
	if left := len(k.spool.waiting()); left > 0 {
		k.log.Info("segments stay in the spool until the next start", "segments", left, "folder", k.folder)
	}
	return k.spool.release()
}

// wake makes run look at the spool.
func (k *keeper) wake() {
	select {
	case k.wakeup <- struct{}{}:
	default:
	}
}

// hurry has the growing segment sealed, however young.
func (k *keeper) hurry() {
	k.sealNow.Store(true)
	k.wake()
}

func (k *keeper) run(ctx context.Context) {
	if !k.take(ctx) {
		return
	}
	var uploading sync.WaitGroup
	defer uploading.Wait()
	slots := make(chan []byte, k.uploads)
	for range k.uploads {
		slots <- nil
	}
	finished := make(chan uint64, k.uploads)
	running := map[uint64]bool{}
	for {
		closing := k.closing.Load() // before the rest: what is found empty then stays so
		again, err := k.spool.sealAged(k.sealNow.Swap(false) || closing)
		if err != nil {
			k.trouble.set(spoolTrouble, sdk.RetryIn(0, "spool", fmt.Errorf("spool in %s (SPOOL_DIR): %w", k.folder, err)))
		} else {
			k.trouble.clear(spoolTrouble)
		}
		waiting := k.spool.waiting()
		for _, seg := range waiting {
			if running[seg.number] || len(running) == k.uploads {
				continue
			}
			running[seg.number] = true
			uploading.Go(func() {
				k.upload(ctx, seg, slots)
				finished <- seg.number // there is a place for each
			})
		}
		if closing && (len(waiting) == 0 && err == nil || k.trouble.first() != nil) {
			k.closing.Store(false)
			close(k.drained) // once: nothing sets closing again
		}
		timer := time.NewTimer(max(again, time.Millisecond))
		select {
		case <-ctx.Done():
			timer.Stop()
			return
		case n := <-finished:
			delete(running, n)
		case <-k.wakeup:
		case <-timer.C:
		}
		timer.Stop()
	}
}

// take opens the spool, when an older process has left it.
func (k *keeper) take(ctx context.Context) bool {
	for attempt := 0; ; attempt++ {
		s, err := openSpool(k.folder, k.opts, k.log)
		if err == nil {
			k.trouble.clear(spoolTrouble)
			k.spool = s
			close(k.ready)
			return true
		}
		wait := lockPause
		if !errors.Is(err, durable.ErrLocked) {
			k.trouble.set(spoolTrouble, sdk.RetryIn(0, "spool", fmt.Errorf("spool in %s (SPOOL_DIR): %w", k.folder, err)))
			wait = pause(attempt)
		}
		if !rest(ctx, wait) {
			return false
		}
	}
}

// probe asks whether the bucket can be written to, until it can or an upload has shown it.
func (k *keeper) probe(ctx context.Context) {
	for attempt := 0; ; attempt++ {
		err := k.bucket.probe(ctx)
		if ctx.Err() != nil {
			return
		}
		if err == nil {
			k.trouble.clear(probeTrouble)
			k.prove()
			return
		}
		k.trouble.set(probeTrouble, err)
		k.log.Warn("the bucket cannot be used; rows are kept in the spool", "error", err)
		select {
		case <-ctx.Done():
			return
		case <-k.proven:
			return
		case <-time.After(pause(attempt)):
		}
	}
}

// upload takes a segment to the bucket, however long that lasts.
func (k *keeper) upload(ctx context.Context, seg *segment, slots chan []byte) {
	if k.bucket.encrypts() {
		select { // nothing goes to a server of which we do not know that it encrypts
		case <-k.proven:
		case <-ctx.Done():
			return
		}
	}
	u := upload{bucket: k.bucket, spool: k.spool, segment: seg, slots: slots, done: map[int]bool{}}
	for attempt := 0; ; attempt++ {
		err := u.put(ctx)
		if err == nil {
			k.trouble.clear(probeTrouble)
			k.prove()
			if err = k.spool.settle(seg, u.lost.Load()); err != nil {
				err = sdk.RetryIn(0, "spool", fmt.Errorf("spool in %s (SPOOL_DIR): %w", k.folder, err))
			}
		}
		if ctx.Err() != nil {
			return
		}
		if err == nil {
			k.trouble.clear(seg.number)
			k.log.Debug("a segment is in the bucket", "segment", seg.number, "objects", len(seg.cut.Objects))
			return
		}
		if k.trouble.set(seg.number, err) {
			k.log.Warn("an object cannot be put; its rows are kept in the spool", "error", err)
		}
		k.wake()
		if !rest(ctx, pause(attempt)) {
			return
		}
	}
}

// pause grows with the attempts, and is different for each upload.
func pause(attempt int) time.Duration {
	longest := min(firstPause<<min(attempt, 10), lastPause)
	return longest/2 + rand.N(longest/2)
}

// rest waits; false: ctx ended.
func rest(ctx context.Context, d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-ctx.Done():
		return false
	}
}

// troubles is what keeps things from the bucket at the moment.
type troubles struct {
	mu  sync.Mutex
	all map[uint64]error
}

// set notes what is wrong, and tells whether that is news.
func (t *troubles) set(about uint64, err error) (news bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.all == nil {
		t.all = map[uint64]error{}
	}
	before := t.all[about]
	t.all[about] = err
	return before == nil || before.Error() != err.Error()
}

func (t *troubles) clear(about uint64) {
	t.mu.Lock()
	defer t.mu.Unlock()
	delete(t.all, about)
}

func (t *troubles) of(about uint64) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.all[about]
}

// first is one of them, that of an upload before others; nil: all is well.
func (t *troubles) first() error {
	t.mu.Lock()
	defer t.mu.Unlock()
	var about []uint64
	for n := range t.all {
		about = append(about, n-1) // the probe, 0, becomes the last
	}
	if len(about) == 0 {
		return nil
	}
	return t.all[slices.Min(about)+1]
}
