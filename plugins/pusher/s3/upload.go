package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strconv"
	"sync/atomic"

	"golang.org/x/sync/errgroup"

	"github.com/rivergate/rivergate/plugins/internal/template"
	"github.com/rivergate/rivergate/sdk"
	"github.com/rivergate/rivergate/sdk/protocol"
)

// upload takes the objects of one segment to the bucket.
type upload struct {
	bucket  *bucket
	spool   *spool
	segment *segment
	slots   chan []byte  // for all uploads together: who has one may put an object, and use these bytes
	done    map[int]bool // objects that are there
	lost    atomic.Bool  // acknowledged rows cannot be read
}

// put puts what is not there yet.
func (u *upload) put(ctx context.Context) error {
	file, err := os.Open(u.segment.path)
	if err != nil {
		return sdk.RetryIn(0, "spool", fmt.Errorf("read the spool: %w", err))
	}
	defer file.Close() // only read
	places, err := u.index(file)
	if err != nil {
		return sdk.RetryIn(0, "spool", fmt.Errorf("read the spool: %s: %w", u.segment.path, err))
	}
	putting, ctx := errgroup.WithContext(ctx)
	finished := make([]bool, len(u.segment.cut.Objects))
	for i, o := range u.segment.cut.Objects {
		if u.done[i] {
			continue
		}
		var slot []byte
		select {
		case slot = <-u.slots:
		case <-ctx.Done():
			continue // the rest, too: something failed, or the process is stopping
		}
		putting.Go(func() error {
			defer func() { u.slots <- slot }()
			var err error
			if slot, err = u.object(ctx, file, i, places[o.Path], slot); err != nil {
				return err
			}
			finished[i] = true
			return nil
		})
	}
	err = putting.Wait()
	for i, yes := range finished {
		if yes {
			u.done[i] = true
		}
	}
	if err == nil && len(u.done) < len(u.segment.cut.Objects) {
		err = context.Cause(ctx)
	}
	return err
}

// found is where the rows of an object are.
type found struct {
	extents []extent
	rows    int64
}

// index reads the segment through once.
func (u *upload) index(file *os.File) (map[string]*found, error) {
	path, err := parsePath(u.segment.cut.Path)
	if err != nil {
		return nil, err
	}
	places := map[string]*found{}
	seen, err := scanSegment(file, u.segment.cut.Size, func(at extent, f *protocol.Frame) error {
		for row := range rowsOf(f).Rows() {
			p := path.FillWith(row, u.spool.opts.instance, template.Name)
			if places[p] == nil {
				places[p] = new(found)
			}
			places[p].extents = append(places[p].extents, at)
			places[p].rows += int64(f.Len())
			break // all rows of a request go to one path
		}
		return nil
	})
	if errors.Is(err, errNoSegment) {
		seen.damaged, err = true, nil
	}
	if seen.damaged {
		u.lost.Store(true)
	}
	return places, err
}

// object puts one, and gives the slot's bytes back. When rows of it cannot be read, it holds those that can, unless a whole one is there
// already.
func (u *upload) object(ctx context.Context, from *os.File, number int, at *found, slot []byte) ([]byte, error) {
	if at == nil {
		at = new(found)
	}
	o := u.segment.cut.Objects[number]
	whole := at.rows == o.Rows
	if !whole {
		u.lost.Store(true)
	}
	if at.rows == 0 {
		return slot, nil
	}
	b := newBody(fmt.Sprintf("%s-%d%s", u.spool.name(u.segment.number, ""), number, objectSuffix), slot, u.sizeOf(at))
	defer b.remove()
	if err := u.render(b, from, at); err != nil {
		return b.held[:0], u.spoolError(err)
	}
	err := u.bucket.put(ctx, put{
		key: u.segment.cut.key(o, u.spool.id), contentType: u.segment.cut.contentType(),
		text: b.reader(), size: b.size, md5: b.sum.Sum(nil), onlyNew: !whole,
		metadata: map[string]string{"Rivergate-Rows": strconv.FormatInt(at.rows, 10)},
	})
	if err != nil || !whole {
		return nil, err // a request that ended before its body may still be reading it
	}
	return b.held[:0], nil
}

// envelopeSize is about what the envelope adds to a row, bytes.
const envelopeSize = 160

// sizeOf is about how large an object becomes that is as long as its rows; 0 for one that is compressed.
func (u *upload) sizeOf(at *found) (size int64) {
	if u.segment.cut.Format != jsonLines || u.segment.cut.Compression != plain {
		return 0
	}
	for _, where := range at.extents {
		size += int64(where.size)
	}
	if u.segment.cut.Envelope {
		size += envelopeSize * at.rows
	}
	return size
}

func (u *upload) spoolError(err error) error {
	code := "spool"
	if isFull(err) {
		code = "disk_full"
	}
	return sdk.RetryIn(0, code, fmt.Errorf("write an object in %s (SPOOL_DIR): %w", u.spool.dir, err))
}

func (u *upload) render(to *body, from *os.File, at *found) error {
	rows, err := u.segment.cut.writer(to)
	if err != nil {
		return err
	}
	var buf []byte
	for _, where := range at.extents {
		var f protocol.Frame
		if f, buf, err = readFrame(from, where, buf); err != nil {
			return err
		}
		for row := range rowsOf(&f).Rows() {
			if err := rows.write(row); err != nil {
				return fmt.Errorf("row at position %d: %w", row.Position(), err)
			}
		}
	}
	if err := rows.close(); err != nil {
		return err
	}
	return to.flush()
}
