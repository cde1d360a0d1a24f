package journal

import (
	"errors"
	"fmt"
	"io"
	"sync"
	"sync/atomic"
	"time"

	"github.com/hashicorp/go-hclog"
	"github.com/prometheus/client_golang/prometheus"
)

// Options configures Open. Dir is required; a zero elsewhere means the default.
type Options struct {
	Dir          string        // made when it is not there, mode 0700
	MaxBytes     int64         // size cap; 0: 10 GiB. Sidecar files of keys and quarantine/ do not count
	SegmentBytes int64         // 64 MiB, at most 128 MiB, and at most a quarter of MaxBytes
	KeyTTL       time.Duration // how long idempotency keys are kept; 0: 24 h
	MaxKeys      int           // keys kept, the newest; 0: 500,000, which take about 60 MB. Older ones are forgotten before KeyTTL
	// NotBelow is a position that the next row must not go below: the highest cursor of any pusher. Should the folder have
	// been lost or put back from a copy, new rows would otherwise hide behind cursors that have passed their positions.
	NotBelow uint64
	Log      hclog.Logger
	Registry prometheus.Registerer // nil: no metrics
	Now      func() time.Time      // nil: time.Now

	fs         filesystem    // nil: the operating system's
	retryEvery time.Duration // shortest time between two attempts on a disk that refused
}

const (
	defaultMaxBytes     = 10 << 30
	defaultSegmentBytes = 64 << 20
	maxSegmentBytes     = 128 << 20
	minSegmentBytes     = 4 << 10
	defaultKeyTTL       = 24 * time.Hour
	defaultMaxKeys      = 500_000
	defaultRetryEvery   = 200 * time.Millisecond
)

func (o *Options) setDefaults() error {
	if o.Dir == "" {
		return errors.New("no folder given")
	}
	if o.MaxBytes < 0 || o.SegmentBytes < 0 || o.SegmentBytes > maxSegmentBytes || o.KeyTTL < 0 || o.MaxKeys < 0 {
		return fmt.Errorf("out of range: MaxBytes %d, SegmentBytes %d (at most %d), KeyTTL %s, MaxKeys %d",
			o.MaxBytes, o.SegmentBytes, maxSegmentBytes, o.KeyTTL, o.MaxKeys)
	}
	if o.MaxBytes == 0 {
		o.MaxBytes = defaultMaxBytes
	}
	if o.SegmentBytes == 0 {
		o.SegmentBytes = defaultSegmentBytes
	}
	// Only whole segments are let go: under a small cap they must be small too.
	o.SegmentBytes = max(min(o.SegmentBytes, o.MaxBytes/4), minSegmentBytes)
	if o.KeyTTL == 0 {
		o.KeyTTL = defaultKeyTTL
	}
	if o.MaxKeys == 0 {
		o.MaxKeys = defaultMaxKeys
	}
	if o.Log == nil {
		o.Log = hclog.NewNullLogger()
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.fs == nil {
		o.fs = newOSFS()
	}
	if o.retryEvery == 0 {
		o.retryEvery = defaultRetryEvery
	}
	return nil
}

// Files is the journal in segment files. One process at a time may have a folder open; the host sees to that.
type Files struct {
	opts Options
	fs   filesystem
	log  hclog.Logger

	queue       queue
	writer      writer // owned by the writer goroutine once it runs
	writerDone  chan struct{}
	keys        *keyring
	metrics     *metrics
	quarantined atomic.Int64

	mu       sync.Mutex
	segs     []*segment    // in order; the active one, when there is one, is the last and not sealed
	end      uint64        // after the last durable row
	base     uint64        // the first position ever
	released uint64        // as far as Release was called
	news     chan struct{} // closed when there is something new to read; nil: nobody waits
	closed   bool
	refusal  error // what the disk said; nil: it takes rows
	sidecars []sidecar
	loaded   []*segment // sealed segments whose index is in memory, the newest last

	releaseMu sync.Mutex // one Release at a time
	damageMu  sync.Mutex // one search for the next valid record at a time
	buffers   sync.Pool  // *[]byte of readBytes
	closeOnce sync.Once
}

var _ Journal = (*Files)(nil)

// Open recovers what is in the folder and starts the writer. It fails only when the folder or a file in it cannot be read,
// never because of what the files hold: damage is set aside in quarantine/, logged and passed over. A disk that is full
// does not make it fail either: the journal then refuses rows until there is room.
func Open(opts Options) (*Files, error) {
	if err := opts.setDefaults(); err != nil {
		return nil, fmt.Errorf("open journal: %w", err)
	}
	f := &Files{opts: opts, fs: opts.fs, log: opts.Log, writerDone: make(chan struct{})}
	f.queue.wake = make(chan struct{}, 1)
	f.keys = newKeyring(opts.MaxKeys, opts.KeyTTL)
	f.buffers.New = func() any { b := make([]byte, readBytes); return &b }
	if err := f.recover(); err != nil {
		f.letGo()
		return nil, fmt.Errorf("open journal %s: %w", opts.Dir, err)
	}
	m, err := newMetrics(f, opts.Registry)
	if err != nil {
		f.letGo()
		return nil, fmt.Errorf("open journal: %w", err)
	}
	f.metrics = m
	go f.run()
	return f, nil
}

// Close writes what waits, makes it durable and ends the writer. Readers get ErrClosed.
func (f *Files) Close() error {
	f.closeOnce.Do(func() {
		f.queue.close()
		<-f.writerDone
		f.mu.Lock()
		f.closed = true
		f.announce()
		f.mu.Unlock()
		f.letGo()
		f.metrics.unregister()
	})
	return nil
}

// letGo gives back what the operating system lent.
func (f *Files) letGo() {
	f.writer.close()
	if c, ok := f.fs.(io.Closer); ok {
		_ = c.Close() // nothing is written through it any more
	}
}

// announce wakes the readers that wait. The caller holds mu.
func (f *Files) announce() {
	if f.news != nil {
		close(f.news)
		f.news = nil
	}
}

// Bounds implements Journal.
func (f *Files) Bounds() (oldest, next uint64) {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.oldest(), f.end
}

// oldest is the position of the first kept row, end when there is none. The caller holds mu.
func (f *Files) oldest() uint64 {
	for _, s := range f.segs {
		if s.rows > 0 {
			return s.start
		}
	}
	return f.end
}

// Stats implements Journal.
func (f *Files) Stats() Stats {
	f.mu.Lock()
	defer f.mu.Unlock()
	st := Stats{MaxBytes: f.opts.MaxBytes, Segments: len(f.segs), Quarantined: f.quarantined.Load(), Writable: f.refusal == nil}
	if f.refusal != nil {
		st.Reason = shown(f.refusal)
	}
	for _, s := range f.segs {
		st.Bytes += s.size()
		if st.Rows == 0 && s.rows > 0 {
			st.Oldest = time.Unix(0, s.firstAt).UTC()
		}
		st.Rows += s.rows
	}
	return st
}

// Repeated implements Journal. At most MaxKeys requests are remembered, the newest, for KeyTTL.
func (f *Files) Repeated(key [16]byte) (Accepted, bool) {
	return f.keys.get(key, f.opts.Now())
}
