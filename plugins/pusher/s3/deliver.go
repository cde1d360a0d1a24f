package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/rivergate/rivergate/plugins/internal/durable"
	"github.com/rivergate/rivergate/plugins/internal/template"
	"github.com/rivergate/rivergate/sdk"
)

// readyWait is how long a batch waits for the spool: an older process may be finishing, or much is being read back.
const readyWait = 5 * time.Second

// Deliver writes the batch to the spool and syncs it: from then on the rows are safe here, and on their way to the bucket.
func (s *S3) Deliver(ctx context.Context, b *sdk.Batch) error {
	spool, err := s.spooled(ctx)
	if err != nil {
		return err
	}
	runs, size := s.sort(spool, b)
	if len(runs) == 0 {
		return nil
	}
	if held := spool.held(); held > 0 && held+size > int64(s.SpoolMax) {
		s.keeper.hurry()
		return s.full(held)
	}
	sealed, err := spool.append(runs, size)
	if err != nil {
		err = s.spoolError(err)
	}
	if sealed {
		s.keeper.wake()
	}
	return err
}

// sort gives the rows that are new and can be stored. Of the others, each gets its outcome.
func (s *S3) sort(spool *spool, b *sdk.Batch) (runs []run, size int64) {
	var of *sdk.Frame
	var path string
	for row := range b.Rows() {
		frame, n := row.Frame()
		if frame != of { // all rows of a request go to one path
			of, path = frame, spool.path.FillWith(row, s.instance, template.Name)
		}
		switch {
		case spool.has(row.Position()):
			b.Duplicate(row)
			continue
		case int64(len(row.JSON())) > int64(s.MaxRow):
			b.Reject(row, "too_large", fmt.Errorf("the row has %d bytes, more than MAX_ROW (%d)", len(row.JSON()), s.MaxRow))
			continue
		case len(path)+keyTail > maxKey:
			b.Reject(row, "key_too_long", fmt.Errorf("the key of its object would be longer than %d bytes, what S3 allows; mend PATH", maxKey))
			continue
		}
		if s.table != nil {
			if err := s.table.takes(row); err != nil {
				b.Reject(row, "column", err)
				continue
			}
		}
		size += int64(len(row.JSON()))
		if last := len(runs) - 1; last >= 0 && runs[last].frame == frame && runs[last].to == n {
			runs[last].to++
			continue
		}
		size += int64(recordHeadSize + len(row.UUID()) + len(row.RequestID()))
		runs = append(runs, run{frame: frame, path: path, from: n, to: n + 1})
	}
	return runs, size
}

// spooled waits for the spool.
func (s *S3) spooled(ctx context.Context) (*spool, error) {
	timer := time.NewTimer(readyWait)
	defer timer.Stop()
	select {
	case <-s.keeper.ready:
		return s.keeper.spool, nil
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	case <-timer.C:
	}
	if err := s.keeper.trouble.of(spoolTrouble); err != nil {
		return nil, err
	}
	return nil, sdk.Throttle(time.Second, errors.New("the spool is being read back, or another process still uses it"))
}

// full says why the spool takes no more: the last word of the bucket, or that it is slower than the rows.
func (s *S3) full(held int64) error {
	said := fmt.Errorf("the spool holds %s (SPOOL_MAX)", sdk.Bytes(held))
	var last *sdk.Error
	if err := s.keeper.trouble.first(); errors.As(err, &last) {
		return &sdk.Error{Class: last.Class, Code: last.Code, RetryAfter: last.RetryAfter, Err: fmt.Errorf("%w: %w", said, err)}
	}
	return sdk.Throttle(time.Second, fmt.Errorf("%w: the bucket takes objects more slowly than rows come", said))
}

// spoolError: everything that a file system can refuse may be mended.
func (s *S3) spoolError(err error) error {
	code := "spool"
	switch {
	case errors.Is(err, durable.ErrLocked):
		return sdk.Throttle(time.Second, err)
	case isFull(err):
		code = "disk_full"
	case isPermission(err):
		code = "permission"
	}
	return sdk.RetryIn(0, code, fmt.Errorf("spool in %s (SPOOL_DIR): %w", s.folder, err))
}
