package pluginhost

import (
	"context"
	"errors"
	"fmt"
	"io"

	"github.com/rivergate/rivergate/sdk/protocol"
)

// download reads an object from one process after the other.
type download struct {
	s    *Storage
	ctx  context.Context
	key  string
	part protocol.Range // that is still to come

	object protocol.Object
	from   io.ReadCloser // of the process; nil: closed
	on     onSeat
	err    error // why nothing more comes
}

var _ io.WriterTo = (*download)(nil)

func (d *download) open() (protocol.Object, error) {
	type content struct {
		object protocol.Object
		from   io.ReadCloser
	}
	c, on, err := use(d.ctx, d.s, always, func(on onSeat) (content, error) {
		object, from, err := on.plugin.Get(d.ctx, on.instance, d.key, d.part)
		return content{object, from}, err
	})
	if err != nil {
		return protocol.Object{}, err
	}
	d.object, d.from, d.on = c.object, c.from, on
	return c.object, nil
}

// got counts what has come.
func (d *download) got(n int64) {
	if n == 0 {
		return
	}
	d.part.From += n
	if d.part.Length > 0 {
		d.part.Length -= n
	}
	d.on.progress()
}

// goOn finds another process after an error of the one that was read from; the error that it returns is the reader's.
func (d *download) goOn(err error) error {
	if !d.on.broken(err) || d.ctx.Err() != nil {
		return err
	}
	before, gone := d.object, d.on.gone()
	if closing := d.release(); closing != nil || !gone {
		return d.s.unavailable(errors.Join(err, closing))
	}
	if d.part.Length == 0 || d.part.From >= before.Size {
		return io.EOF // all of it was there
	}
	now, failed := d.open()
	switch {
	case errors.Is(failed, protocol.ErrNotFound), errors.Is(failed, protocol.ErrRange), failed == nil && (now.ETag != before.ETag || now.Size != before.Size):
		return d.s.unavailable(fmt.Errorf("the plugin died while %q was read, which is another object now: %w", d.key, err))
	case failed != nil:
		return failed
	}
	return nil
}

func (d *download) release() error {
	if d.from == nil {
		return nil
	}
	err := d.from.Close()
	d.from = nil
	d.on.leave()
	return err
}

func (d *download) Read(p []byte) (int, error) {
	for d.err == nil {
		n, err := d.from.Read(p)
		d.got(int64(n))
		if err != nil && !errors.Is(err, io.EOF) {
			err = d.goOn(err)
		}
		d.err = err
		if n > 0 || len(p) == 0 {
			return n, nil
		}
	}
	return 0, d.err
}

// WriteTo passes on what comes without another copy.
func (d *download) WriteTo(w io.Writer) (int64, error) {
	var total int64
	for d.err == nil {
		out := &outlet{w: w}
		n, err := io.Copy(out, d.from)
		total += n
		d.got(n)
		switch {
		case out.err != nil:
			return total, out.err
		case err == nil:
			d.err = io.EOF
		default:
			d.err = d.goOn(err)
		}
	}
	if errors.Is(d.err, io.EOF) {
		return total, nil
	}
	return total, d.err
}

// outlet tells an error of the writer from one of the reader.
type outlet struct {
	w   io.Writer
	err error
}

func (o *outlet) Write(p []byte) (int, error) {
	n, err := o.w.Write(p)
	o.err = err
	return n, err
}

// Close ends the transfer. It is not for another goroutine than the one that reads.
func (d *download) Close() error {
	if d.err == nil {
		d.err = errClosed
	}
	return d.release()
}

var errClosed = errors.New("the object was closed")
