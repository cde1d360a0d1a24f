package files

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/rivergate/rivergate/sdk/protocol"
	"github.com/rivergate/rivergate/services/platform/api"
	"github.com/rivergate/rivergate/services/platform/database"
	"github.com/rivergate/rivergate/services/storage/inspect"
	"github.com/rivergate/rivergate/services/storage/ledger"
	"github.com/rivergate/rivergate/services/storage/seal"
)

// Incoming is a file on its way in: reservation (see booking) → bytes (sealed, hashed and looked at as they pass) → object → row and
// charge in one transaction. Whatever fails, the reservation is given back and no object stays.
type Incoming struct {
	// File is what is known before: all but sizes, hash and key.
	File ledger.File
	Mode ledger.Mode
	// Fresh: the name has random characters, and never comes again.
	Fresh bool
	// Replaces: with ledger.Replace, only the version with this SHA256 may be replaced; else ledger.ErrChanged. Empty: any.
	Replaces string
	// Size of the body; -1: not known. AtMost bounds it when it is not known; -1: not known either.
	Size, AtMost int64
	Limit        int64 // bytes of one file; 0: none
	Sums         []announced
	// Late is called when the body has ended, and nothing is stored unless it returns nil: what stood behind the file may change File.
	Late func(file *ledger.File) error
}

const (
	growStep  = 8 << 20
	idleLimit = 2 * time.Minute  // for the backend to take, or to give, the next bytes
	undoLimit = 15 * time.Second // for taking back what a failed upload has left
)

// Store takes a file in. Errors are those of answerTo, and those of body as they are.
func (s *Service) Store(ctx context.Context, in Incoming, body io.Reader) (ledger.File, error) {
	if in.Limit > 0 && (in.Size > in.Limit || in.Size < 0 && in.AtMost > in.Limit+maxFields) {
		return ledger.File{}, errFileTooLarge(in.Limit)
	}
	hold, file, err := s.put(ctx, &in, body)
	if err != nil {
		return ledger.File{}, err
	}
	return s.commit(ctx, hold, file, &in)
}

// put reserves and stores the bytes; when that fails, it takes the hold and the object back.
func (s *Service) put(ctx context.Context, in *Incoming, body io.Reader) (_ *ledger.Hold, file ledger.File, err error) {
	ctx, watch := watched(ctx, idleLimit)
	defer watch.stop()
	b, err := s.book(ctx, in)
	if err != nil {
		return nil, file, err
	}
	m := s.newMeter(ctx, in, body, watch)
	defer m.digests.settle()
	m.booking = b
	defer func() {
		if err == nil {
			return
		}
		if m.failed != nil {
			err = m.failed
		}
		if b.made {
			s.undo(b.hold, m.failed == nil && !errors.Is(err, protocol.ErrPrecondition))
		}
	}()
	stored := in.Size
	if s.keys != nil && stored >= 0 {
		stored = seal.StoredSize(stored)
	}
	out := &outgoing{keys: s.keys, m: m}
	object, err := s.objects.Put(ctx, protocol.Put{Key: b.hold.Key(), Size: stored, ContentType: in.File.ContentType, OnlyNew: true}, out)
	if err != nil {
		return nil, file, backend("put an object", err)
	}
	if !m.ended {
		return nil, file, backend("put an object", errors.New("it was stored before its body had ended"))
	}
	file = in.File
	file.KeyID, file.StoredSize, file.Size, file.SHA256, file.Tier = out.keyID, object.Size, m.n, m.digests.hex(), protocol.TierHot
	m.describe(&file)
	return b.hold, file, nil
}

// commit makes the file visible; when that fails, it takes the hold and the object back.
func (s *Service) commit(ctx context.Context, hold *ledger.Hold, file ledger.File, in *Incoming) (ledger.File, error) {
	hold.As(file.ObjectName)
	committed, replaced, err := hold.Commit(ctx, file, in.Mode)
	if errors.Is(err, database.ErrUnknown) {
		return ledger.File{}, err // it may have happened: the sweeper finds out
	}
	if err != nil {
		s.undo(hold, true)
		return ledger.File{}, err
	}
	if replaced != nil {
		s.purge(replaced.Key)
	}
	return committed, nil
}

// undo gives the reservation back; stored: there may be an object. The ledger keeps a tombstone of it until it is gone.
func (s *Service) undo(hold *ledger.Hold, stored bool) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(s.life), undoLimit)
	defer cancel()
	err := hold.Release(ctx)
	if err == nil && !stored {
		err = s.ledger.Purged(ctx, hold.Key())
	}
	if err != nil {
		s.log.Warn("the reservation of a failed upload is left to the sweeper", "key", hold.Key(), "error", err)
		return
	}
	if stored {
		s.purge(hold.Key())
	}
}

// purge deletes the object of a tombstone; what does not work now is left to the sweeper.
func (s *Service) purge(key string) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(s.life), undoLimit)
	defer cancel()
	err := s.objects.Delete(ctx, key)
	if err == nil {
		err = s.ledger.Purged(ctx, key)
	}
	if err != nil {
		s.log.Warn("an object without a row is left to the sweeper", "key", key, "error", err)
	}
}

// meter is the body as it passes: counted, charged, hashed, looked at.
type meter struct {
	ctx        context.Context
	in         *Incoming
	from       io.Reader
	booking    *booking // nil: all is charged already
	watch      *watch
	digests    *digests
	inspection *inspect.Inspection // nil: nobody looks
	found      inspect.Result
	n          int64
	ended      bool
	failed     error
}

func (s *Service) newMeter(ctx context.Context, in *Incoming, body io.Reader, watch *watch) *meter {
	m := &meter{ctx: ctx, in: in, from: body, watch: watch, digests: newDigests(in.Sums)}
	if s.rules != nil {
		m.inspection = inspect.New(inspect.Claim{
			Name: in.File.FileName, ContentType: in.File.ContentType, DataSource: in.File.Category == categoryDefault,
		}, *s.rules)
	}
	return m
}

// describe adds what the inspection has found.
func (m *meter) describe(file *ledger.File) {
	if m.inspection != nil {
		file.ContentType, file.Columns = m.found.ContentType, m.found.Columns
	} else if file.ContentType == "" {
		file.ContentType = octets
	}
}

func (m *meter) Read(p []byte) (int, error) {
	switch {
	case m.failed != nil:
		return 0, m.failed
	case m.ended:
		return 0, io.EOF
	}
	n, err := m.from.Read(p)
	m.watch.touch()
	if n > 0 {
		if failed := m.pass(p[:n]); failed != nil {
			m.failed = failed
			return 0, failed
		}
	}
	switch {
	case err == nil:
	case !errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF):
		m.failed = err
	default:
		if m.failed = m.end(); m.failed == nil {
			m.ended = true
			return n, io.EOF
		}
	}
	return n, m.failed
}

func (m *meter) pass(p []byte) error {
	m.n += int64(len(p))
	if m.in.Limit > 0 && m.n > m.in.Limit {
		return errFileTooLarge(m.in.Limit)
	}
	if m.in.Size >= 0 && m.n > m.in.Size {
		return api.BadRequest("", "the body is longer than the %d bytes that were announced", m.in.Size)
	}
	if err := m.charge(); err != nil {
		return err
	}
	m.digests.write(p)
	if m.inspection != nil {
		if _, err := m.inspection.Write(p); err != nil {
			return err
		}
	}
	return nil
}

// charge sees to it that what has come is reserved, unless it is little and more may come.
func (m *meter) charge() error {
	switch {
	case m.booking == nil:
		return nil
	case m.booking.made:
		return m.grow()
	case m.ended:
		return m.booking.make(m.ctx, m.n, true)
	case m.n > unbooked:
		if err := m.booking.make(m.ctx, max(m.n, m.in.expected()), m.in.Size >= 0); err != nil {
			return err
		}
		return m.grow()
	}
	return nil
}

// grow reserves ahead; at the edge of the quota, exactly what has come.
func (m *meter) grow() error {
	b := m.booking
	need := m.n - b.reserved
	if need <= 0 {
		return nil
	}
	step := max(need, growStep)
	err := b.hold.Grow(m.ctx, step)
	var full *ledger.QuotaError
	if errors.As(err, &full) && step > need {
		step = need
		err = b.hold.Grow(m.ctx, step)
	}
	if err == nil {
		b.reserved += step
	}
	return err
}

func (m *meter) end() (err error) {
	if m.in.Size >= 0 && m.n < m.in.Size {
		return api.BadRequest("", "the body ended after %d of the %d bytes that were announced", m.n, m.in.Size)
	}
	if err := m.digests.check(m.in.Sums); err != nil {
		return err
	}
	if m.in.Late != nil {
		if err := m.in.Late(&m.in.File); err != nil {
			return err
		}
	}
	if m.inspection != nil {
		if m.found, err = m.inspection.Finish(); err != nil {
			return err
		}
	}
	return nil
}

// outgoing is a file as it goes to the backend: sealed, where there are keys. It does not end before its reservation is there.
type outgoing struct {
	keys  *seal.Keys // nil: none
	keyID string
	m     *meter
	from  io.Reader // nil until read: the backend makes ready meanwhile
}

func (o *outgoing) Read(p []byte) (n int, err error) {
	if o.from == nil {
		o.from = o.m
		if o.keys != nil {
			if o.from, o.keyID, o.m.failed = o.keys.Seal(o.m.ctx, o.m.in.File.Org, o.m); o.m.failed != nil {
				return 0, o.m.failed
			}
		}
	}
	if n, err = o.from.Read(p); errors.Is(err, io.EOF) {
		if o.m.failed = o.m.charge(); o.m.failed != nil {
			return 0, o.m.failed
		}
	}
	return n, err
}

// watch ends a context when nothing has moved for a while.
type watch struct {
	timer  *time.Timer
	idle   time.Duration
	cancel context.CancelCauseFunc
	last   time.Time
}

var errIdle = fmt.Errorf("%w: nothing moved for %v", context.DeadlineExceeded, idleLimit)

func watched(ctx context.Context, idle time.Duration) (context.Context, *watch) {
	ctx, cancel := context.WithCancelCause(ctx)
	w := &watch{idle: idle, cancel: cancel, last: time.Now()}
	w.timer = time.AfterFunc(idle, func() { cancel(errIdle) })
	return ctx, w
}

// touch: something moved.
func (w *watch) touch() {
	if now := time.Now(); now.Sub(w.last) > time.Second {
		w.last = now
		w.timer.Reset(w.idle)
	}
}

func (w *watch) stop() {
	w.timer.Stop()
	w.cancel(context.Canceled)
}
