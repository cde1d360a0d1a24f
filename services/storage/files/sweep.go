package files

import (
	"context"
	"errors"
	"time"

	"github.com/rivergate/rivergate/services/storage/ledger"
)

const (
	sweepBatch = 100
	sweepLimit = 10 * time.Minute // for one round
)

// sweepOn clears up until the service ends.
func (s *Service) sweepOn(every time.Duration) {
	tick := time.NewTicker(every)
	defer tick.Stop()
	for {
		if err := s.Sweep(s.life); err != nil && s.life.Err() == nil {
			s.log.Warn("the storage was not swept to the end; the next round goes on", "error", err)
		}
		select {
		case <-s.life.Done():
			return
		case <-tick.C:
		}
	}
}

// Sweep clears what is left behind, once: reservations of uploads that ended without a word, files past their time, uploads that
// nobody completed, and the objects of all of them. Several hosts may sweep at once.
func (s *Service) Sweep(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, sweepLimit)
	defer cancel()
	var failed error
	for _, step := range []struct {
		what  string
		batch func(context.Context) (cleared int, err error)
	}{
		{"uploads", s.sweepUploads},
		{"reservations", func(ctx context.Context) (int, error) { return s.ledger.Sweep(ctx, sweepBatch) }},
		{"expired", s.sweepExpired},
		{"objects", s.sweepObjects},
	} {
		for ctx.Err() == nil {
			n, err := step.batch(ctx)
			s.metrics.swept.WithLabelValues(step.what).Add(float64(n))
			failed = errors.Join(failed, err)
			if err != nil || n < sweepBatch {
				break
			}
		}
	}
	return errors.Join(failed, ctx.Err())
}

// sweepExpired deletes files whose time is over.
func (s *Service) sweepExpired(ctx context.Context) (cleared int, err error) {
	files, err := s.ledger.Expired(ctx, 0, sweepBatch)
	for _, file := range files {
		gone, failed := s.ledger.DeleteVersion(ctx, file)
		switch {
		case failed == nil:
			cleared++
			s.purge(gone.Key)
		case !errors.Is(failed, ledger.ErrNotFound) && !errors.Is(failed, ledger.ErrChanged):
			err = errors.Join(err, failed)
		}
	}
	return cleared, err
}

// sweepObjects deletes the objects of tombstones.
func (s *Service) sweepObjects(ctx context.Context) (cleared int, err error) {
	tombstones, err := s.ledger.Tombstones(ctx, sweepBatch)
	for _, t := range tombstones {
		failed := s.objects.Delete(ctx, t.Key)
		if failed == nil {
			failed = s.ledger.Purged(ctx, t.Key)
		}
		if failed != nil {
			err = errors.Join(err, backend("delete "+t.Key, failed))
			continue
		}
		cleared++
	}
	return cleared, err
}
