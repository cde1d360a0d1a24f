package main

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/minio/minio-go/v7"

	"github.com/rivergate/rivergate/sdk"
)

// abortTime is what the abort of an upload that came to nothing may take.
const abortTime = 10 * time.Second

// key checks what S3 gives room for. Its lists are XML, which has no word for most control characters, and changes a carriage return.
func (s *S3) key(doing, key string) error {
	for _, r := range key {
		if r < ' ' && r != '\t' && r != '\n' || r == 0xfffe || r == 0xffff {
			return fmt.Errorf("%s: %w: the lists of S3 cannot carry %q", doing, sdk.ErrKey, r)
		}
	}
	if len(s.Prefix)+len(key) > 1024 {
		return fmt.Errorf("%s: %w: with PREFIX it has more than 1024 bytes", doing, sdk.ErrKey)
	}
	return nil
}

// Put puts a small object at once, and a larger one in parts.
func (s *S3) Put(ctx context.Context, put sdk.Put, body io.Reader) (sdk.Object, error) {
	doing := fmt.Sprintf("put %q", put.Key)
	if err := s.key(doing, put.Key); err != nil {
		return sdk.Object{}, err
	}
	options, err := s.bucket.optionsFor(put)
	if err != nil {
		return sdk.Object{}, err
	}
	if put.Size > s.bucket.parts.size || put.Size < 0 {
		return s.putInParts(ctx, doing, put, options, body)
	}
	info, err := s.putAtOnce(ctx, put, options, body)
	if err != nil {
		return s.whose(ctx, put, options, s.clash(ctx, put.Key, s.bucket.failure(doing, err)))
	}
	return s.made(put, info.ETag, put.Size, info.LastModified), nil
}

// heldAlways is the size up to which an object is held in memory whether there is a place for it or not.
const heldAlways = 1 << 20

// putAtOnce holds the object when there is memory for it, so that it can be sent again to a busy server.
func (s *S3) putAtOnce(ctx context.Context, put sdk.Put, options minio.PutObjectOptions, body io.Reader) (minio.UploadInfo, error) {
	b := s.bucket
	options.DisableMultipart = true
	name := b.prefix + put.Key
	var slot []byte
	switch taken, ok := b.parts.take(); {
	case ok:
		defer b.parts.give(taken)
		slot = taken[:put.Size]
	case put.Size <= heldAlways:
		slot = make([]byte, put.Size)
	default:
		return b.client.PutObject(ctx, b.name, name, body, put.Size, "", "", options)
	}
	if _, err := io.ReadFull(body, slot); err != nil {
		return minio.UploadInfo{}, err
	}
	if err := atEnd(body); err != nil {
		return minio.UploadInfo{}, err
	}
	return b.client.PutObject(ctx, b.name, name, bytes.NewReader(slot), put.Size, "", "", options)
}

func (s *S3) putInParts(ctx context.Context, doing string, put sdk.Put, options minio.PutObjectOptions, body io.Reader) (sdk.Object, error) {
	b := s.bucket
	if put.OnlyNew {
		// Asked now to spare the bytes, and again by the server when it counts.
		if _, err := s.Stat(ctx, put.Key); err == nil {
			return sdk.Object{}, fmt.Errorf("%s: %w", doing, sdk.ErrPrecondition)
		}
	}
	t, err := b.begin(ctx, put, options)
	if err != nil {
		return sdk.Object{}, b.failure(doing, err)
	}
	total, err := t.put(ctx, put.Size, body)
	if err == nil {
		err = context.Cause(ctx)
	}
	if err == nil {
		slices.SortFunc(t.done, func(a, b minio.CompletePart) int { return a.PartNumber - b.PartNumber })
		var info minio.UploadInfo
		if info, err = b.client.CompleteMultipartUpload(ctx, b.name, b.prefix+put.Key, t.upload, t.done, completing(put)); err == nil {
			return s.made(put, info.ETag, total, info.LastModified), nil
		}
	}
	o, err := s.whose(ctx, put, options, s.clash(ctx, put.Key, b.failure(doing, err)))
	if err != nil {
		b.forget(ctx, put.Key, t.upload)
	}
	return o, err
}

// whose finds out what an OnlyNew put has come to whose answer is an error: a request that is sent again, since its first answer was
// lost, finds its own object there, or its upload gone, and a server that refuses one before it has read the body may cut the connection
// instead of saying so.
func (s *S3) whose(ctx context.Context, put sdk.Put, options minio.PutObjectOptions, err error) (sdk.Object, error) {
	if !put.OnlyNew || !errors.Is(err, sdk.ErrPrecondition) && !errors.Is(err, sdk.ErrUnavailable) && !errors.Is(err, sdk.ErrNotFound) {
		return sdk.Object{}, err
	}
	asking, said := listening(ctx)
	info, failed := s.bucket.client.StatObject(asking, s.bucket.name, s.bucket.prefix+put.Key, minio.StatObjectOptions{})
	switch {
	case failed != nil:
		return sdk.Object{}, err
	case info.Metadata.Get("X-Amz-Meta-"+putNote) == options.UserMetadata[putNote] && !s.bucket.asksFor(*said):
		return sdk.Object{}, s.bucket.failure(fmt.Sprintf("put %q", put.Key), errNotEncrypted)
	case info.Metadata.Get("X-Amz-Meta-"+putNote) == options.UserMetadata[putNote]:
		return s.describe(put.Key, info), nil
	case errors.Is(err, sdk.ErrPrecondition):
		return sdk.Object{}, err
	}
	return sdk.Object{}, fmt.Errorf("%w: %s", sdk.ErrPrecondition, err.Error()) // it is another one's
}

// completing are the options of an upload's end: all the rest was said at its beginning.
func completing(put sdk.Put) (o minio.PutObjectOptions) {
	if put.OnlyNew {
		o.SetMatchETagExcept("*")
	}
	return o
}

// maxSegment is what a file system gives a name.
const maxSegment = 255

// clash finds out why a Put has failed on a server that keeps objects as files: it cannot have both a and a/b, nor long names, and
// not every one says so.
func (s *S3) clash(ctx context.Context, key string, err error) error {
	var answer minio.ErrorResponse
	if !errors.As(err, &answer) || answer.Code != "InternalError" {
		return err
	}
	if long(key) {
		return fmt.Errorf("%w: the server cannot keep more than %d bytes without a slash: %w", sdk.ErrKey, maxSegment, err)
	}
	if below, _, failed := s.List(ctx, key+"/", "", 1); failed == nil && len(below) > 0 {
		return fmt.Errorf("%w: the server cannot keep it beside %q: %w", sdk.ErrKey, below[0].Key, err)
	}
	for at := strings.LastIndexByte(key, '/'); at > 0; at = strings.LastIndexByte(key[:at], '/') {
		if _, failed := s.Stat(ctx, key[:at]); failed == nil {
			return fmt.Errorf("%w: the server cannot keep it beside %q: %w", sdk.ErrKey, key[:at], err)
		}
	}
	return err
}

func long(key string) bool {
	for segment := range strings.SplitSeq(key, "/") {
		if len(segment) > maxSegment {
			return true
		}
	}
	return false
}

// unkept is the error of a read. A server that cannot keep a key says odd things when it is asked for it; there is no such object.
func (s *S3) unkept(key string, err error) error {
	var answer minio.ErrorResponse
	if long(key) && errors.As(err, &answer) && (answer.StatusCode == http.StatusBadRequest || answer.Code == "InternalError") {
		return fmt.Errorf("%w: %w", sdk.ErrNotFound, err)
	}
	return err
}

// forget aborts an upload of our own. What cannot be aborted is found by who looks for old uploads.
func (b *bucket) forget(ctx context.Context, key, upload string) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), abortTime)
	defer cancel()
	_ = b.client.AbortMultipartUpload(ctx, b.name, b.prefix+key, upload)
}

// made describes what was just stored. Not every server says when that was.
func (s *S3) made(put sdk.Put, etag string, size int64, modified time.Time) sdk.Object {
	if modified.IsZero() {
		modified = time.Now()
	}
	tier := put.Tier
	if tier == "" {
		tier = sdk.TierHot
	}
	return sdk.Object{Key: put.Key, Size: size, ETag: strings.Trim(etag, `"`), Modified: modified.UTC(), Tier: tier}
}

func (s *S3) describe(key string, info minio.ObjectInfo) sdk.Object {
	class := info.StorageClass
	if class == "" {
		class = info.Metadata.Get("X-Amz-Storage-Class")
	}
	return sdk.Object{Key: key, Size: info.Size, ETag: strings.Trim(info.ETag, `"`), Modified: info.LastModified.UTC(), Tier: s.bucket.tierOf(info.Metadata.Get("X-Amz-Meta-"+tierNote), class)}
}

// Get opens one GET of the part.
func (s *S3) Get(ctx context.Context, key string, part sdk.Range) (sdk.Object, io.ReadCloser, error) {
	doing := fmt.Sprintf("get %q", key)
	if part.Length == 0 {
		return s.nothing(ctx, key, part)
	}
	var options minio.GetObjectOptions
	if part.From > 0 || part.Length > 0 {
		end := "" // an open end
		if part.Length > 0 {
			end = strconv.FormatInt(part.From+min(part.Length, maxObject)-1, 10)
		}
		options.Set("Range", fmt.Sprintf("bytes=%d-%s", part.From, end))
	}
	content, info, header, err := s.bucket.client.GetObject(ctx, s.bucket.name, s.bucket.prefix+key, options)
	if err != nil {
		return sdk.Object{}, nil, s.unkept(key, s.bucket.failure(doing, err))
	}
	if options.Header().Get("Range") != "" {
		if info.Size, err = wholeSize(header, info.Size); err != nil {
			return sdk.Object{}, nil, errors.Join(s.bucket.failure(doing, err), content.Close())
		}
		if part.From >= info.Size {
			return sdk.Object{}, nil, errors.Join(fmt.Errorf("%s: %w: it has %d bytes", doing, sdk.ErrRange, info.Size), content.Close())
		}
	}
	return s.describe(key, info), &read{ReadCloser: content, b: s.bucket, doing: doing}, nil
}

// nothing is no byte of an object.
func (s *S3) nothing(ctx context.Context, key string, part sdk.Range) (sdk.Object, io.ReadCloser, error) {
	o, err := s.Stat(ctx, key)
	if err == nil && part.From >= o.Size {
		err = fmt.Errorf("%w: it has %d bytes", sdk.ErrRange, o.Size)
	}
	return o, http.NoBody, err
}

// wholeSize is the size of the object of which a part came: "bytes 0-9/100".
func wholeSize(header http.Header, got int64) (int64, error) {
	said := header.Get("Content-Range")
	if said == "" {
		return got, nil // the server gave all of it, which it may
	}
	_, total, ok := strings.Cut(said, "/")
	size, err := strconv.ParseInt(total, 10, 64)
	if !ok || err != nil {
		return 0, fmt.Errorf("the server answers with the range %q", said)
	}
	return size, nil
}

// read gives errors in the middle of an object their class.
type read struct {
	io.ReadCloser
	b     *bucket
	doing string
}

func (c *read) Read(p []byte) (int, error) {
	n, err := c.ReadCloser.Read(p)
	if err != nil && !errors.Is(err, io.EOF) {
		err = c.b.failure(c.doing, err)
	}
	return n, err
}

// Stat asks for the head.
func (s *S3) Stat(ctx context.Context, key string) (sdk.Object, error) {
	info, err := s.bucket.client.StatObject(ctx, s.bucket.name, s.bucket.prefix+key, minio.StatObjectOptions{})
	if err != nil {
		return sdk.Object{}, s.unkept(key, s.bucket.failure(fmt.Sprintf("stat %q", key), err))
	}
	return s.describe(key, info), nil
}

// pageSize is what a server gives at once.
const pageSize = 1000

// List reads one key more than it gives, to know whether there are more.
func (s *S3) List(ctx context.Context, prefix, after string, limit int) (objects []sdk.Object, more bool, err error) {
	ctx, cancel := context.WithCancel(ctx)
	options := minio.ListObjectsOptions{Prefix: s.Prefix + prefix, Recursive: true, MaxKeys: min(limit+1, pageSize)}
	if after != "" {
		options.StartAfter = s.Prefix + after
	}
	listed := s.bucket.client.Client.ListObjects(ctx, s.bucket.name, options)
	for o := range listed {
		key := strings.TrimPrefix(o.Key, s.Prefix)
		switch {
		case o.Err != nil:
			err = s.bucket.failure(fmt.Sprintf("list %q", prefix), o.Err)
		case strings.HasSuffix(key, "/"): // a folder, which some servers list: no key of ours
			continue
		case len(objects) == limit:
			more = true
		default:
			objects = append(objects, s.describe(key, o))
			continue
		}
		break
	}
	cancel()
	for range listed { // its goroutine ends
		continue
	}
	return objects, more, err
}

// Delete removes the object.
func (s *S3) Delete(ctx context.Context, key string) error {
	err := s.bucket.client.RemoveObject(ctx, s.bucket.name, s.bucket.prefix+key, minio.RemoveObjectOptions{})
	if err = s.bucket.failure(fmt.Sprintf("delete %q", key), err); errors.Is(err, sdk.ErrNotFound) {
		return nil
	}
	return err
}

// maxCopy is the most that one request copies, and copyPart what a part of a larger copy has.
const (
	maxCopy  = 5 << 30
	copyPart = 1 << 30
)

// Copy has the server copy.
func (s *S3) Copy(ctx context.Context, from string, to sdk.Put) (sdk.Object, error) {
	doing := fmt.Sprintf("copy %q to %q", from, to.Key)
	if err := s.key(doing, to.Key); err != nil {
		return sdk.Object{}, err
	}
	b := s.bucket
	options, err := b.optionsFor(to)
	if err != nil {
		return sdk.Object{}, err
	}
	options.UserMetadata[tierNote] = string(cmp.Or(to.Tier, sdk.TierHot)) // SeaweedFS keeps the old one where there is no new one
	source, err := s.Stat(ctx, from)
	if err != nil {
		return sdk.Object{}, fmt.Errorf("%s: %w", doing, err)
	}
	if to.OnlyNew {
		// Not every server looks at If-None-Match when it copies.
		if _, err := s.Stat(ctx, to.Key); err == nil {
			return sdk.Object{}, fmt.Errorf("%s: %w", doing, sdk.ErrPrecondition)
		}
	}
	if source.Size > maxCopy {
		return s.copyInParts(ctx, doing, source, to, options)
	}
	header := map[string]string{"X-Amz-Metadata-Directive": "REPLACE"} // without, an object cannot be copied to itself
	for name, values := range options.Header() {
		header[name] = values[0]
	}
	asking, said := listening(ctx)
	if _, err := b.client.CopyObject(asking, b.name, b.prefix+from, b.name, b.prefix+to.Key, header, minio.CopySrcOptions{}, minio.PutObjectOptions{}); err != nil {
		return sdk.Object{}, b.failure(doing, err)
	}
	sure := b.asksFor(*said)
	asking, said = listening(ctx)
	copied, err := s.Stat(asking, to.Key)
	if err == nil && !sure && !b.asksFor(*said) { // some servers say it of the object alone
		err = b.failure(doing, errNotEncrypted)
		if to.OnlyNew {
			err = errors.Join(err, s.Delete(ctx, to.Key))
		}
		return sdk.Object{}, err
	}
	return copied, err
}

func (s *S3) copyInParts(ctx context.Context, doing string, source sdk.Object, to sdk.Put, options minio.PutObjectOptions) (sdk.Object, error) {
	b := s.bucket
	upload, err := b.newUpload(ctx, to.Key, options, false)
	if err != nil {
		return sdk.Object{}, b.failure(doing, err)
	}
	size := max(copyPart, (source.Size+maxParts-1)/maxParts)
	var done []minio.CompletePart
	for at := int64(0); at < source.Size && err == nil; at += size {
		var part minio.CompletePart
		part, err = b.client.CopyObjectPart(ctx, b.name, b.prefix+source.Key, b.name, b.prefix+to.Key, upload, len(done)+1, at, min(size, source.Size-at), nil)
		done = append(done, part)
	}
	if err == nil {
		_, err = b.client.CompleteMultipartUpload(ctx, b.name, b.prefix+to.Key, upload, done, completing(to))
	}
	if err != nil {
		err = b.failure(doing, err)
		b.forget(ctx, to.Key, upload)
		return sdk.Object{}, err
	}
	return s.Stat(ctx, to.Key)
}
