package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"strconv"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/rivergate/rivergate/sdk"
)

// At least writeBytes are written at a time, but for the last, and at most copyBytes. flushBytes is how much is written before the kernel
// is asked to begin to put it on the disk, after the first piece: what is left for the sync at the end is little then.
const (
	writeBytes = 64 << 10
	copyBytes  = 1 << 20
	flushBytes = 8 << 20
)

var copyBuffers = sync.Pool{New: func() any {
	b := make([]byte, copyBytes)
	return &b
}}

// Put writes the object beside its place and moves it there.
func (l *Local) Put(ctx context.Context, put sdk.Put, body io.Reader) (sdk.Object, error) {
	t, err := l.tierOf(put.Tier)
	if err != nil {
		return sdk.Object{}, err
	}
	defer t.spares.refill()
	doing := fmt.Sprintf("put %q", put.Key)
	temp, info, err := t.write(put.Size, body)
	if err != nil {
		return sdk.Object{}, t.failure(doing, err)
	}
	return l.publish(ctx, doing, t, temp, info, put)
}

// write makes a temporary file of body, on the disk when it returns.
func (t *tier) write(size int64, body io.Reader) (temp string, info fs.FileInfo, err error) {
	file, err := t.create()
	if err != nil {
		return "", nil, err
	}
	if err = reserve(file, size); err == nil {
		err = fill(file, body)
	}
	info, err = t.finish(file, err)
	return file.Name(), info, err
}

// finish syncs and closes a temporary file that was written, or removes it when that has failed.
func (t *tier) finish(file *os.File, failed error) (info fs.FileInfo, err error) {
	if err = failed; err == nil {
		info, err = settle(file)
	}
	if err = errors.Join(err, file.Close()); err != nil {
		err = errors.Join(err, t.root.Remove(file.Name()))
	}
	return info, err
}

// settle syncs a file. A spare one that nothing was written to still has the times at which it was made.
func settle(file *os.File) (info fs.FileInfo, err error) {
	if err := file.Sync(); err != nil {
		return nil, err
	}
	if info, err = file.Stat(); err != nil || info.Size() > 0 {
		return info, err
	}
	now := unix.NsecToTimeval(time.Now().UnixNano())
	if err := unix.Futimes(int(file.Fd()), []unix.Timeval{now, now}); err != nil {
		return nil, fmt.Errorf("set the times of an empty file: %w", err)
	}
	if err := file.Sync(); err != nil {
		return nil, err
	}
	return file.Stat()
}

// fill writes what comes as soon as it is worth a call: the disk works while the rest is on its way.
func fill(file *os.File, body io.Reader) error {
	buf := copyBuffers.Get().(*[]byte)
	defer copyBuffers.Put(buf)
	var written, flushed int64
	for {
		n := 0
		var err error
		for n < writeBytes && err == nil {
			var m int
			m, err = body.Read((*buf)[n:])
			n += m
		}
		if err != nil && !errors.Is(err, io.EOF) {
			return err
		}
		if _, failed := file.Write((*buf)[:n]); failed != nil {
			return failed
		}
		if err != nil {
			return nil
		}
		if written += int64(n); written-flushed >= flushBytes || flushed == 0 {
			beginFlush(file, flushed, written-flushed)
			flushed = written
		}
	}
}

// publish moves a temporary file, which info describes, to its place; afterwards it is not there any more, whatever happens.
func (l *Local) publish(ctx context.Context, doing string, t *tier, temp string, info fs.FileInfo, put sdk.Put) (_ sdk.Object, err error) {
	defer func() {
		if err != nil {
			err = errors.Join(t.failure(doing, err), ignoreMissing(t.root.Remove(temp)))
		}
	}()
	if ctx.Err() != nil {
		return sdk.Object{}, context.Cause(ctx) // nobody waits for it: the caller takes it for not stored
	}
	release, err := l.keys.take(put.Key)
	if err != nil {
		return sdk.Object{}, err
	}
	defer release()
	if put.OnlyNew { // for t itself, rename looks
		if _, _, err := l.stat(put.Key, t); err == nil {
			return sdk.Object{}, sdk.ErrPrecondition
		} else if !errors.Is(err, fs.ErrNotExist) {
			return sdk.Object{}, err
		}
	}
	name := pathOf(put.Key)
	if err := t.rename(temp, name, put.OnlyNew); errors.Is(err, fs.ErrExist) {
		return sdk.Object{}, sdk.ErrPrecondition
	} else if err != nil {
		return sdk.Object{}, err
	}
	for i := len(l.tiers) - 1; i >= 0; i-- { // the coldest first: what is seen meanwhile is never an older one
		if other := l.tiers[i]; other != t {
			if err := other.remove(name); err != nil {
				return sdk.Object{}, err
			}
		}
	}
	return describe(put.Key, t, info), nil
}

// stat finds an object in the hottest tier that has it, but for one (nil: none); fs.ErrNotExist.
func (l *Local) stat(key string, but *tier) (fs.FileInfo, *tier, error) {
	name := pathOf(key)
	for _, t := range l.tiers {
		if t == but {
			continue
		}
		info, err := t.root.Lstat(name)
		if err == nil && info.Mode().IsRegular() {
			return info, t, nil
		}
		if err != nil && !missing(err) {
			return nil, nil, t.failure(fmt.Sprintf("stat %q", key), err)
		}
	}
	return nil, nil, fs.ErrNotExist
}

// missing: also what somebody else has put there, a file in place of a folder or a link, is no object.
func missing(err error) bool {
	return errors.Is(err, fs.ErrNotExist) || errors.Is(err, syscall.ENOTDIR) || errors.Is(err, syscall.ENAMETOOLONG) || errors.Is(err, syscall.ELOOP)
}

// settled looks once, and once more while nothing can move: an object on its way to a hotter tier is missed when one looks into
// the hotter one too early and into the colder one too late.
func (l *Local) settled(key string, look func() error) error {
	err := look()
	if !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	release, failed := l.keys.take(key)
	if failed != nil {
		return failed
	}
	defer release()
	if err = look(); errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("%w: %q", sdk.ErrNotFound, key)
	}
	return err
}

func describe(key string, t *tier, info fs.FileInfo) sdk.Object {
	return sdk.Object{Key: key, Size: info.Size(), Modified: info.ModTime().UTC(), ETag: etagOf(info), Tier: t.tier}
}

// etagOf changes with the content: each Put makes a new file.
func etagOf(info fs.FileInfo) string {
	number := uint64(0)
	if st, ok := info.Sys().(*syscall.Stat_t); ok {
		number = st.Ino
	}
	return strconv.FormatUint(number, 36) + "-" + strconv.FormatInt(info.ModTime().UnixNano(), 36) + "-" + strconv.FormatInt(info.Size(), 36)
}

// Stat looks into the tiers, the hottest first.
func (l *Local) Stat(_ context.Context, key string) (o sdk.Object, err error) {
	err = l.settled(key, func() error {
		info, t, err := l.stat(key, nil)
		if err == nil {
			o = describe(key, t, info)
		}
		return err
	})
	return o, err
}

// open opens the file of an object; fs.ErrNotExist. The file stays whole while it is open, whatever becomes of the object.
func (l *Local) open(key string) (*os.File, fs.FileInfo, *tier, error) {
	name := pathOf(key)
	for _, t := range l.tiers {
		file, err := t.root.OpenFile(name, os.O_RDONLY|syscall.O_NONBLOCK|syscall.O_NOFOLLOW, 0) // a pipe that somebody has put there is not waited for
		if missing(err) {
			continue
		}
		if err != nil {
			return nil, nil, nil, t.failure(fmt.Sprintf("get %q", key), err)
		}
		info, err := file.Stat()
		if err == nil && info.Mode().IsRegular() {
			return file, info, t, nil
		}
		if err := errors.Join(err, file.Close()); err != nil {
			return nil, nil, nil, err
		}
	}
	return nil, nil, nil, fs.ErrNotExist
}

func (l *Local) find(key string) (file *os.File, info fs.FileInfo, t *tier, err error) {
	err = l.settled(key, func() (err error) {
		file, info, t, err = l.open(key)
		return err
	})
	return file, info, t, err
}

// Get opens the file at the part's place.
func (l *Local) Get(_ context.Context, key string, part sdk.Range) (sdk.Object, io.ReadCloser, error) {
	file, info, t, err := l.find(key)
	if err != nil {
		return sdk.Object{}, nil, err
	}
	if part.From >= info.Size() && (part.From > 0 || part.Length >= 0) {
		return sdk.Object{}, nil, errors.Join(fmt.Errorf("%w: %q has %d bytes", sdk.ErrRange, key, info.Size()), file.Close())
	}
	if _, err := file.Seek(part.From, io.SeekStart); err != nil {
		return sdk.Object{}, nil, errors.Join(err, file.Close())
	}
	return describe(key, t, info), file, nil
}

// Delete removes the coldest first: what is seen meanwhile is never an older object.
func (l *Local) Delete(_ context.Context, key string) error {
	release, err := l.keys.take(key)
	if err != nil {
		return err
	}
	defer release()
	name := pathOf(key)
	for i := len(l.tiers) - 1; i >= 0; i-- {
		if err := l.tiers[i].remove(name); err != nil && !missing(err) {
			return l.tiers[i].failure(fmt.Sprintf("delete %q", key), err)
		}
	}
	return nil
}

// Copy makes a second name of the same bytes where it can: a file is never written again, only replaced.
func (l *Local) Copy(ctx context.Context, from string, to sdk.Put) (sdk.Object, error) {
	target, err := l.tierOf(to.Tier)
	if err != nil {
		return sdk.Object{}, err
	}
	doing := fmt.Sprintf("copy %q to %q", from, to.Key)
	file, info, source, err := l.find(from)
	if err != nil {
		return sdk.Object{}, fmt.Errorf("%s: %w", doing, err)
	}
	defer file.Close() // only read
	if from == to.Key && source == target && !to.OnlyNew {
		return describe(from, source, info), nil
	}
	temp := path.Join(target.temp, random())
	if source == target && source.root.Link(pathOf(from), temp) == nil {
		o, err := l.publish(ctx, doing, target, temp, info, to)
		_ = target.root.Remove(temp) // two names of one file: renaming the one to the other does nothing
		return o, err
	}
	if temp, info, err = target.write(info.Size(), &contextReader{ctx, file}); err != nil {
		return sdk.Object{}, target.failure(doing, err)
	}
	return l.publish(ctx, doing, target, temp, info, to)
}

// contextReader ends a copy that nobody waits for.
type contextReader struct {
	ctx context.Context
	r   io.Reader
}

func (c *contextReader) Read(p []byte) (int, error) {
	if c.ctx.Err() != nil {
		return 0, context.Cause(c.ctx)
	}
	return c.r.Read(p)
}
