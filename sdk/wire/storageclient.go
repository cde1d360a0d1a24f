package wire

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/protobuf/proto"

	pluginv1 "github.com/rivergate/rivergate/proto/rivergate/plugin/v1"
	"github.com/rivergate/rivergate/sdk/protocol"
)

var (
	frameCodec  = grpc.ForceCodecV2(newGuard())
	frameAnswer = grpc.MaxCallRecvMsgSize(maxFrame)
)

// watch cancels a call when the plugin makes no progress while it is waited for.
type watch struct {
	timer *time.Timer
	after time.Duration
}

func newWatch(after time.Duration, cancel context.CancelCauseFunc) *watch {
	w := &watch{after: after}
	w.timer = time.AfterFunc(after, func() {
		cancel(fmt.Errorf("%w: not a byte moved for %s", ErrStalled, after))
	})
	w.timer.Stop()
	return w
}

// during runs a call that is progress when it returns. Without a watch, nobody waits for that.
func (w *watch) during(call func() error) error {
	if w == nil {
		return call()
	}
	w.timer.Reset(w.after)
	err := call()
	w.timer.Stop()
	return err
}

// uploading is the host's end of a Put or PutPart.
type uploading struct {
	ctx       context.Context
	stream    grpc.ClientStream
	watch     *watch
	beside    bool   // what is large may go beside the call
	unreached func() // called when that could not be had
}

// send takes the body to the plugin. bodyErr is an error of the body itself; ended: the plugin has ended the stream, and the
// answer says why.
func (u *uploading) send(head proto.Message, size int64, from io.Reader) (total int64, ended bool, bodyErr, err error) {
	in := &pieces{r: from, size: size, most: frameBytes}
	// The head alone: the plugin makes ready while the first bytes are read.
	if ended, err := u.frame(&outgoingFrame{head: head}); ended || err != nil {
		return 0, ended, nil, err
	}
	for {
		data, err := in.next()
		if err != nil {
			return in.read, false, err, nil
		}
		aside := u.beside && !in.done && in.read >= frameBytes
		frame := &outgoingFrame{data: data, beside: aside}
		if in.done {
			frame.end = in.end()
		}
		if ended, err := u.frame(frame); ended || err != nil {
			return in.read, ended, nil, err
		}
		if in.done {
			return in.read, false, nil, u.stream.CloseSend()
		}
		if aside {
			if done, ended, bodyErr, err := u.sendBeside(in); done {
				return in.read, ended, bodyErr, err
			}
			u.beside = false
		}
	}
}

// frame sends one frame; ended: the plugin has ended the stream.
func (u *uploading) frame(f *outgoingFrame) (ended bool, err error) {
	err = u.watch.during(func() error { return u.stream.SendMsg(f) })
	if errors.Is(err, io.EOF) {
		return true, nil
	}
	return false, err
}

// end says that the body is over.
func (u *uploading) end(in *pieces) (ended bool, err error) {
	if ended, err = u.frame(&outgoingFrame{end: in.end()}); ended || err != nil {
		return ended, err
	}
	return false, u.stream.CloseSend()
}

// upload sends a body and waits for the answer, in which it returns.
func (c *client) upload(
	parent context.Context, doing, instance string, open func(context.Context, ...grpc.CallOption) (grpc.ClientStream, error),
	head proto.Message, size int64, from io.Reader, answered proto.Message,
) (int64, error) {
	ctx, cancel := context.WithCancelCause(withInstance(parent, instance))
	defer cancel(nil)
	stream, err := open(ctx, frameCodec, answer)
	if err != nil {
		return 0, faultFromStatus(ctx, doing, err)
	}
	u := &uploading{
		ctx: ctx, stream: stream, watch: newWatch(c.wait.progress, cancel), beside: c.takesBeside(), unreached: func() { c.beside.Store(false) },
	}
	total, ended, bodyErr, err := u.send(head, size, from)
	switch {
	case bodyErr != nil:
		// The plugin sees the stream break off before the end of the body.
		if parent.Err() != nil && errors.Is(bodyErr, parent.Err()) {
			return total, fmt.Errorf("%s: %w", doing, context.Cause(parent))
		}
		return total, bodyErr
	case err != nil:
		return total, faultFromStatus(ctx, doing, err)
	}
	finish := newWatch(c.wait.work, cancel)
	if err := finish.during(func() error { return stream.RecvMsg(answered) }); err != nil {
		return total, faultFromStatus(ctx, doing, err)
	}
	if ended {
		return total, fmt.Errorf("%s: %w: the plugin acknowledged before it had the end of the body", doing, protocol.ErrMalformed)
	}
	return total, nil
}

func (c *client) Put(ctx context.Context, instance string, put protocol.Put, from io.Reader) (protocol.Object, error) {
	doing := "put " + quoted(put.Key)
	head, err := putOut(put)
	if err != nil {
		return protocol.Object{}, fmt.Errorf("%s: %w", doing, err)
	}
	open := func(ctx context.Context, opts ...grpc.CallOption) (grpc.ClientStream, error) {
		return c.storage.Put(ctx, opts...)
	}
	m := &pluginv1.StoredObject{}
	total, err := c.upload(ctx, doing, instance, open, head, put.Size, from, m)
	if err != nil {
		return protocol.Object{}, err
	}
	o, err := stored(put.Key, total, m)
	return o, within(doing, err)
}

func (c *client) PutPart(ctx context.Context, instance, key, upload string, number int, size int64, from io.Reader) (protocol.Part, error) {
	doing := fmt.Sprintf("put part %d of %s", number, quoted(key))
	if err := protocol.CheckKey(key); err != nil {
		return protocol.Part{}, fmt.Errorf("%s: %w", doing, err)
	}
	head := &pluginv1.PartHead{Key: key, Upload: text(upload), Number: uint32(max(number, 0)), Size: max(size, -1)}
	open := func(ctx context.Context, opts ...grpc.CallOption) (grpc.ClientStream, error) {
		return c.storage.PutPart(ctx, opts...)
	}
	m := &pluginv1.StoredPart{}
	total, err := c.upload(ctx, doing, instance, open, head, size, from, m)
	if err != nil {
		return protocol.Part{}, err
	}
	p := partIn(m)
	if p.Number != number || p.Size != total {
		return protocol.Part{}, fmt.Errorf("%s: %w: the plugin says it has stored %d bytes as part %d, %d were sent", doing, protocol.ErrMalformed, p.Size, p.Number, total)
	}
	return p, nil
}

// Get returns when the plugin has said what the object is.
func (c *client) Get(parent context.Context, instance, key string, part protocol.Range) (protocol.Object, io.ReadCloser, error) {
	doing := "get " + quoted(key)
	if err := protocol.CheckKey(key); err != nil {
		return protocol.Object{}, nil, fmt.Errorf("%s: %w", doing, err)
	}
	if part.From < 0 {
		return protocol.Object{}, nil, fmt.Errorf("%s: %w: it begins at byte %d", doing, protocol.ErrRange, part.From)
	}
	ctx, cancel := context.WithCancelCause(withInstance(parent, instance))
	d := &downloading{ctx: ctx, cancel: cancel, doing: doing, watch: newWatch(c.wait.progress, cancel)}
	object, file, err := d.open(c, key, part)
	if errors.Is(err, errUnreached) {
		cancel(err)
		c.beside.Store(false)
		return c.Get(parent, instance, key, part)
	}
	if err != nil {
		cancel(nil)
		return protocol.Object{}, nil, err
	}
	if file == nil {
		return object, d, nil
	}
	body, err := openFile(parent, doing, file, d.body.most)
	cancel(errClosed) // the plugin keeps its file open as long as the call
	if err == nil {
		return object, body, nil
	}
	if parent.Err() != nil { // the plugin saw it, too, and has closed its file
		return protocol.Object{}, nil, fmt.Errorf("%s: %w", doing, context.Cause(parent))
	}
	// What the plugin has open is out of reach, and will be the next time.
	c.takesFiles.Store(false)
	return c.Get(parent, instance, key, part)
}

// downloading is the host's end of a Get. Close may be called at any time, also while Read waits.
type downloading struct {
	ctx    context.Context
	cancel context.CancelCauseFunc
	doing  string
	watch  *watch
	stream grpc.ClientStream
	body   body
}

var _ io.WriterTo = (*downloading)(nil)

// open returns a file when the plugin has answered with one.
func (d *downloading) open(c *client, key string, part protocol.Range) (protocol.Object, *pluginv1.OpenFile, error) {
	takes, beside := c.takesFiles.Load(), c.takesBeside()
	request := &pluginv1.GetRequest{Key: key, From: part.From, Length: max(part.Length, -1), TakesFile: takes, TakesBeside: beside}
	stream, err := c.storage.Get(d.ctx, request, frameCodec, frameAnswer)
	if err != nil {
		return protocol.Object{}, nil, faultFromStatus(d.ctx, d.doing, err)
	}
	d.stream = stream
	d.body = body{next: d.next}
	var first incomingFrame
	if err := d.next(&first); err != nil {
		if errors.Is(err, io.EOF) {
			err = fmt.Errorf("%s: %w: the plugin did not say what the object is", d.doing, protocol.ErrMalformed)
		}
		return protocol.Object{}, nil, err
	}
	object, err := d.describe(key, first.head)
	if err == nil {
		d.body.most, err = partOf(object, part)
	}
	var file *pluginv1.OpenFile
	if err == nil && first.file != nil {
		file, err = namedFile(takes, &first)
	}
	if err == nil && first.socket != "" {
		err = d.connect(beside, &first)
	}
	if err != nil {
		first.release()
		return protocol.Object{}, nil, within(d.doing, err)
	}
	d.body.begin(first)
	return object, file, nil
}

// connect takes what is to come beside the call.
func (d *downloading) connect(asked bool, frame *incomingFrame) (err error) {
	if !asked || frame.size > 0 || frame.file != nil {
		return fmt.Errorf("%w: a socket that was not asked for", protocol.ErrMalformed)
	}
	d.body.aside, err = dialBeside(d.ctx, frame.socket, d.watch)
	return err
}

func namedFile(asked bool, frame *incomingFrame) (*pluginv1.OpenFile, error) {
	m := &pluginv1.OpenFile{}
	if !asked || frame.size > 0 || proto.Unmarshal(frame.file, m) != nil || m.At < 0 {
		return nil, fmt.Errorf("%w: a file that was not asked for, or is none", protocol.ErrMalformed)
	}
	return m, nil
}

func (d *downloading) describe(key string, head []byte) (protocol.Object, error) {
	if head == nil {
		return protocol.Object{}, fmt.Errorf("%w: the plugin did not say what the object is", protocol.ErrMalformed)
	}
	m := &pluginv1.StoredObject{}
	if err := proto.Unmarshal(head, m); err != nil {
		return protocol.Object{}, fmt.Errorf("%w: an object that is no message", protocol.ErrMalformed)
	}
	return objectAt(key, m)
}

// partOf is how many bytes a part of an object has.
func partOf(o protocol.Object, part protocol.Range) (int64, error) {
	if part.From >= o.Size && (part.From > 0 || part.Length >= 0) {
		return 0, fmt.Errorf("%w: it has %d bytes", protocol.ErrRange, o.Size)
	}
	if rest := o.Size - part.From; part.Length < 0 || part.Length > rest {
		return rest, nil
	}
	return part.Length, nil
}

func (d *downloading) next(f *incomingFrame) error {
	err := d.watch.during(func() error { return d.stream.RecvMsg(f) })
	if err == nil || errors.Is(err, io.EOF) && d.ctx.Err() == nil {
		return err
	}
	return faultFromStatus(d.ctx, d.doing, err)
}

func (d *downloading) Read(p []byte) (int, error) {
	n, err := d.body.Read(p)
	return n, d.explain(err)
}

func (d *downloading) WriteTo(w io.Writer) (int64, error) {
	n, err := d.body.WriteTo(w)
	return n, d.explain(err)
}

// explain makes an object that broke off a plugin that is gone: that is what the stream's good end before its time means.
func (d *downloading) explain(err error) error {
	if errors.Is(err, io.ErrUnexpectedEOF) {
		return fmt.Errorf("%s: %w: %w", d.doing, protocol.ErrMalformed, err)
	}
	return err
}

// Close does not let the buffers go, since Read may be at work on them; the collector does.
func (d *downloading) Close() error {
	d.cancel(errClosed)
	return nil
}

// call makes a unary call that is to be answered within a time.
func call[Q, A any](
	parent context.Context, limit time.Duration, instance, doing string, method func(context.Context, Q, ...grpc.CallOption) (A, error), request Q,
) (A, error) {
	ctx, cancel := context.WithTimeoutCause(withInstance(parent, instance), limit,
		fmt.Errorf("%w: it did not answer within %s", ErrStalled, limit))
	defer cancel()
	m, err := method(ctx, request, answer)
	if err != nil {
		return m, faultFromStatus(ctx, doing, err)
	}
	return m, nil
}

func (c *client) Stat(ctx context.Context, instance, key string) (protocol.Object, error) {
	doing := "stat " + quoted(key)
	if err := protocol.CheckKey(key); err != nil {
		return protocol.Object{}, fmt.Errorf("%s: %w", doing, err)
	}
	m, err := call(ctx, c.wait.answer, instance, doing, c.storage.Stat, &pluginv1.StatRequest{Key: key})
	if err != nil {
		return protocol.Object{}, err
	}
	o, err := objectAt(key, m)
	return o, within(doing, err)
}

func (c *client) List(ctx context.Context, instance, prefix, after string, limit int) ([]protocol.Object, bool, error) {
	doing := "list " + quoted(prefix)
	limit = min(max(limit, 1), maxList)
	request := &pluginv1.ListRequest{Prefix: text(prefix), After: text(after), Limit: uint32(limit)}
	m, err := call(ctx, c.wait.answer, instance, doing, c.storage.List, request)
	if err != nil {
		return nil, false, err
	}
	objects, more, err := listIn(prefix, after, limit, m)
	return objects, more, within(doing, err)
}

func (c *client) Delete(ctx context.Context, instance, key string) error {
	doing := "delete " + quoted(key)
	if err := protocol.CheckKey(key); err != nil {
		return fmt.Errorf("%s: %w", doing, err)
	}
	_, err := call(ctx, c.wait.answer, instance, doing, c.storage.Delete, &pluginv1.DeleteRequest{Key: key})
	return err
}

func (c *client) Copy(ctx context.Context, instance, from string, to protocol.Put) (protocol.Object, error) {
	doing := fmt.Sprintf("copy %s to %s", quoted(from), quoted(to.Key))
	head, err := putOut(to)
	if err == nil {
		err = protocol.CheckKey(from)
	}
	if err != nil {
		return protocol.Object{}, fmt.Errorf("%s: %w", doing, err)
	}
	m, err := call(ctx, c.wait.work, instance, doing, c.storage.Copy, &pluginv1.CopyRequest{From: from, To: head})
	if err != nil {
		return protocol.Object{}, err
	}
	o, err := stored(to.Key, -1, m)
	return o, within(doing, err)
}

func (c *client) Presign(ctx context.Context, instance string, r protocol.Presign) (protocol.Presigned, error) {
	doing := fmt.Sprintf("sign a %s of %s", r.Method, quoted(r.Key))
	if err := protocol.CheckKey(r.Key); err != nil {
		return protocol.Presigned{}, fmt.Errorf("%s: %w", doing, err)
	}
	m, err := call(ctx, c.wait.answer, instance, doing, c.storage.Presign, &pluginv1.PresignRequest{
		Method: r.Method, Key: r.Key, ExpiresMs: uint64(max(r.Expires, 0) / time.Millisecond), ContentType: text(r.ContentType),
		FileName: text(r.FileName), Size: max(r.Size, -1), Upload: text(r.Upload), Part: uint32(max(r.Part, 0)),
	})
	if err != nil {
		return protocol.Presigned{}, err
	}
	if m.Url == "" || m.Expires == 0 {
		return protocol.Presigned{}, fmt.Errorf("%s: %w: the plugin gave no URL, or none that ends", doing, protocol.ErrMalformed)
	}
	return protocol.Presigned{URL: m.Url, Header: m.Header, Expires: instant(m.Expires)}, nil
}

func (c *client) BeginUpload(ctx context.Context, instance string, put protocol.Put) (string, error) {
	doing := "begin an upload of " + quoted(put.Key)
	head, err := putOut(put)
	if err != nil {
		return "", fmt.Errorf("%s: %w", doing, err)
	}
	m, err := call(ctx, c.wait.answer, instance, doing, c.storage.BeginUpload, &pluginv1.BeginUploadRequest{Put: head})
	if err != nil {
		return "", err
	}
	if m.Upload == "" {
		return "", fmt.Errorf("%s: %w: the plugin gave it no name", doing, protocol.ErrMalformed)
	}
	return m.Upload, nil
}

func (c *client) CompleteUpload(ctx context.Context, instance string, put protocol.Put, upload string, parts []protocol.Part) (protocol.Object, error) {
	doing := "complete the upload of " + quoted(put.Key)
	head, err := putOut(put)
	if err != nil {
		return protocol.Object{}, fmt.Errorf("%s: %w", doing, err)
	}
	request := &pluginv1.CompleteUploadRequest{Put: head, Upload: text(upload), Parts: partsOut(parts)}
	m, err := call(ctx, c.wait.work, instance, doing, c.storage.CompleteUpload, request)
	if err != nil {
		return protocol.Object{}, err
	}
	o, err := stored(put.Key, put.Size, m)
	return o, within(doing, err)
}

func (c *client) AbortUpload(ctx context.Context, instance, key, upload string) error {
	doing := "abort the upload of " + quoted(key)
	if err := protocol.CheckKey(key); err != nil {
		return fmt.Errorf("%s: %w", doing, err)
	}
	_, err := call(ctx, c.wait.answer, instance, doing, c.storage.AbortUpload, &pluginv1.AbortUploadRequest{Key: key, Upload: text(upload)})
	return err
}

func (c *client) ListUploads(ctx context.Context, instance, prefix string, after protocol.Upload, limit int) ([]protocol.Upload, bool, error) {
	doing := "list the uploads of " + quoted(prefix)
	limit = min(max(limit, 1), maxList)
	request := &pluginv1.ListUploadsRequest{Prefix: text(prefix), Limit: uint32(limit)}
	if after.Key != "" {
		request.After = &pluginv1.Upload{Key: text(after.Key), Id: text(after.ID), Begun: nanos(after.Begun)}
	}
	m, err := call(ctx, c.wait.answer, instance, doing, c.storage.ListUploads, request)
	if err != nil {
		return nil, false, err
	}
	uploads, more, err := uploadsIn(prefix, after, limit, m)
	return uploads, more, within(doing, err)
}

func (c *client) Abilities(ctx context.Context, instance string) (protocol.Abilities, error) {
	const doing = "ask for the abilities"
	m, err := call(ctx, c.wait.answer, instance, doing, c.storage.Abilities, &pluginv1.AbilitiesRequest{})
	if err != nil {
		return protocol.Abilities{}, err
	}
	a, err := abilitiesIn(m)
	return a, within(doing, err)
}

// within says what was being done.
func within(doing string, err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("%s: %w", doing, err)
}
