// Package storagetest has a storage backend for tests that need no plugin process: a folder, with faults on demand.
package storagetest

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/rivergate/rivergate/sdk/protocol"
)

// Op is a step of the backend that may be made to fail.
type Op struct {
	// Name is the method in lower case; "put.read" before each read of a body, "put.end" when all of it is there and the object
	// not yet visible, "put.done" when it is visible and the answer not yet given, "get.read" before each read of an object.
	Name string
	Key  string
	At   int64 // bytes so far, for the reads
}

// Dir is a protocol.Storage bound to its instance. The bytes are in files, what is known of them in memory: it may be used
// again by another service in the same test, not by another process.
type Dir struct {
	path      string
	abilities protocol.Abilities

	mu      sync.Mutex
	fault   func(Op) error
	objects map[string]stored
	uploads map[string]*upload
}

type stored struct {
	protocol.Object
	file string
}

type upload struct {
	protocol.Upload
	put   protocol.Put
	parts map[int]stored
}

// NewDir keeps objects in a folder. It can do everything but presigned URLs.
func NewDir(path string) *Dir {
	return &Dir{path: path, objects: map[string]stored{}, uploads: map[string]*upload{}, abilities: protocol.Abilities{
		Multipart: true, Tiers: []protocol.Tier{protocol.TierHot, protocol.TierWarm, protocol.TierCold}, Local: true,
	}}
}

// Set changes what the backend says it can do.
func (d *Dir) Set(change func(*protocol.Abilities)) {
	d.mu.Lock()
	defer d.mu.Unlock()
	change(&d.abilities)
}

// Fail makes steps fail for which fault returns an error; nil: none any more. fault may block, and may be called at once from
// several goroutines.
func (d *Dir) Fail(fault func(Op) error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.fault = fault
}

func (d *Dir) at(ctx context.Context, name, key string, at int64) error {
	d.mu.Lock()
	fault := d.fault
	d.mu.Unlock()
	if fault != nil {
		if err := fault(Op{name, key, at}); err != nil {
			return err
		}
	}
	return ctx.Err()
}

// Keys are all objects there are, and the unfinished uploads as "upload of KEY".
func (d *Dir) Keys() []string {
	d.mu.Lock()
	defer d.mu.Unlock()
	keys := []string{}
	for key := range d.objects {
		keys = append(keys, key)
	}
	for _, u := range d.uploads {
		keys = append(keys, "upload of "+u.Key)
	}
	slices.Sort(keys)
	return keys
}

// Files is how many files are in the folder, those that belong to no object included.
func (d *Dir) Files() (int, error) {
	entries, err := os.ReadDir(d.path)
	return len(entries), err
}

// Put implements protocol.Storage.
func (d *Dir) Put(ctx context.Context, put protocol.Put, body io.Reader) (protocol.Object, error) {
	if err := protocol.CheckKey(put.Key); err != nil {
		return protocol.Object{}, err
	}
	if err := d.at(ctx, "put", put.Key, 0); err != nil {
		return protocol.Object{}, err
	}
	d.mu.Lock()
	_, taken := d.objects[put.Key]
	d.mu.Unlock()
	if put.OnlyNew && taken {
		return protocol.Object{}, protocol.ErrPrecondition
	}
	s, err := d.write(ctx, put.Key, body, put.Size, put.SHA256)
	if err != nil {
		return protocol.Object{}, err
	}
	if err := d.publish(put, s); err != nil {
		return protocol.Object{}, err
	}
	if err := d.at(ctx, "put.done", put.Key, s.Size); err != nil {
		return protocol.Object{}, err
	}
	return d.Stat(ctx, put.Key)
}

// publish makes the object visible.
func (d *Dir) publish(put protocol.Put, s stored) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	old, taken := d.objects[put.Key]
	if put.OnlyNew && taken {
		return errors.Join(protocol.ErrPrecondition, os.Remove(s.file))
	}
	s.Key, s.Tier = put.Key, put.Tier
	if s.Tier == "" {
		s.Tier = protocol.TierHot
	}
	d.objects[put.Key] = s
	if taken {
		return os.Remove(old.file)
	}
	return nil
}

func (d *Dir) write(ctx context.Context, key string, body io.Reader, size int64, sum []byte) (stored, error) {
	f, err := os.CreateTemp(d.path, "object-*")
	if err != nil {
		return stored{}, err
	}
	s := stored{file: f.Name()}
	digest := sha256.New()
	s.Size, err = d.copyTo(ctx, f, digest, key, body)
	switch {
	case err != nil:
	case size >= 0 && size != s.Size:
		err = fmt.Errorf("the body of %s has %d bytes, %d were announced", key, s.Size, size)
	case sum != nil && !bytes.Equal(sum, digest.Sum(nil)):
		err = protocol.ErrChecksum
	default:
		err = d.at(ctx, "put.end", key, s.Size)
	}
	if err = errors.Join(err, f.Close()); err != nil {
		return stored{}, errors.Join(err, os.Remove(s.file))
	}
	var tag [8]byte
	_, _ = rand.Read(tag[:])
	s.ETag, s.Modified = hex.EncodeToString(tag[:]), time.Now().UTC()
	return s, nil
}

func (d *Dir) copyTo(ctx context.Context, f io.Writer, digest hash.Hash, key string, body io.Reader) (int64, error) {
	buffer := make([]byte, 64<<10)
	var written int64
	for {
		if err := d.at(ctx, "put.read", key, written); err != nil {
			return written, err
		}
		n, err := body.Read(buffer)
		digest.Write(buffer[:n])
		if _, failed := f.Write(buffer[:n]); failed != nil {
			return written, failed
		}
		written += int64(n)
		if errors.Is(err, io.EOF) {
			return written, nil
		}
		if err != nil {
			return written, err
		}
	}
}

// Get implements protocol.Storage.
func (d *Dir) Get(ctx context.Context, key string, part protocol.Range) (protocol.Object, io.ReadCloser, error) {
	if err := d.at(ctx, "get", key, part.From); err != nil {
		return protocol.Object{}, nil, err
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	s, ok := d.objects[key]
	if !ok {
		return protocol.Object{}, nil, protocol.ErrNotFound
	}
	if part.From > 0 && part.From >= s.Size {
		return protocol.Object{}, nil, protocol.ErrRange
	}
	length := s.Size - part.From
	if part.Length >= 0 {
		length = min(length, part.Length)
	}
	f, err := os.Open(s.file)
	if err != nil {
		return protocol.Object{}, nil, err
	}
	return s.Object, &reading{d: d, ctx: ctx, key: key, f: f, from: io.NewSectionReader(f, part.From, length)}, nil
}

type reading struct {
	d    *Dir
	ctx  context.Context
	key  string
	f    *os.File
	from io.Reader
	read int64
}

func (r *reading) Read(p []byte) (int, error) {
	if err := r.d.at(r.ctx, "get.read", r.key, r.read); err != nil {
		return 0, err
	}
	n, err := r.from.Read(p)
	r.read += int64(n)
	return n, err
}

func (r *reading) Close() error { return r.f.Close() }

// Stat implements protocol.Storage.
func (d *Dir) Stat(ctx context.Context, key string) (protocol.Object, error) {
	if err := d.at(ctx, "stat", key, 0); err != nil {
		return protocol.Object{}, err
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if s, ok := d.objects[key]; ok {
		return s.Object, nil
	}
	return protocol.Object{}, protocol.ErrNotFound
}

// List implements protocol.Storage.
func (d *Dir) List(ctx context.Context, prefix, after string, limit int) ([]protocol.Object, bool, error) {
	if err := d.at(ctx, "list", prefix, 0); err != nil {
		return nil, false, err
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	var found []protocol.Object
	for key, s := range d.objects {
		if strings.HasPrefix(key, prefix) && key > after {
			found = append(found, s.Object)
		}
	}
	slices.SortFunc(found, func(a, b protocol.Object) int { return strings.Compare(a.Key, b.Key) })
	if len(found) > limit {
		return found[:limit], true, nil
	}
	return found, false, nil
}

// Delete implements protocol.Storage.
func (d *Dir) Delete(ctx context.Context, key string) error {
	if err := d.at(ctx, "delete", key, 0); err != nil {
		return err
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	s, ok := d.objects[key]
	if !ok {
		return nil
	}
	delete(d.objects, key)
	return os.Remove(s.file)
}

// Copy implements protocol.Storage.
func (d *Dir) Copy(ctx context.Context, from string, to protocol.Put) (protocol.Object, error) {
	if err := d.at(ctx, "copy", from, 0); err != nil {
		return protocol.Object{}, err
	}
	_, body, err := d.Get(ctx, from, protocol.Whole())
	if err != nil {
		return protocol.Object{}, err
	}
	defer func() { _ = body.Close() }()
	to.Size = -1
	return d.Put(ctx, to, body)
}

// Presign implements protocol.Storage: it cannot.
func (d *Dir) Presign(context.Context, protocol.Presign) (protocol.Presigned, error) {
	return protocol.Presigned{}, protocol.ErrUnsupported
}

// BeginUpload implements protocol.Storage.
func (d *Dir) BeginUpload(ctx context.Context, put protocol.Put) (string, error) {
	if err := d.at(ctx, "beginupload", put.Key, 0); err != nil {
		return "", err
	}
	var id [8]byte
	_, _ = rand.Read(id[:])
	u := &upload{protocol.Upload{Key: put.Key, ID: hex.EncodeToString(id[:]), Begun: time.Now().UTC()}, put, map[int]stored{}}
	d.mu.Lock()
	defer d.mu.Unlock()
	d.uploads[u.ID] = u
	return u.ID, nil
}

// PutPart implements protocol.Storage.
func (d *Dir) PutPart(ctx context.Context, key, id string, number int, size int64, body io.Reader) (protocol.Part, error) {
	if err := d.at(ctx, "putpart", key, int64(number)); err != nil {
		return protocol.Part{}, err
	}
	s, err := d.write(ctx, key, body, size, nil)
	if err != nil {
		return protocol.Part{}, err
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	u := d.uploads[id]
	if u == nil || u.Key != key {
		return protocol.Part{}, errors.Join(protocol.ErrNotFound, os.Remove(s.file))
	}
	old, again := u.parts[number]
	u.parts[number] = s
	if again {
		err = os.Remove(old.file)
	}
	return protocol.Part{Number: number, ETag: s.ETag, Size: s.Size}, err
}

// CompleteUpload implements protocol.Storage.
func (d *Dir) CompleteUpload(ctx context.Context, put protocol.Put, id string, parts []protocol.Part) (protocol.Object, error) {
	if err := d.at(ctx, "completeupload", put.Key, 0); err != nil {
		return protocol.Object{}, err
	}
	d.mu.Lock()
	u := d.uploads[id]
	d.mu.Unlock()
	if u == nil || u.Key != put.Key {
		return protocol.Object{}, protocol.ErrNotFound
	}
	whole, closeAll, err := d.joined(u, parts)
	defer closeAll()
	if err != nil {
		return protocol.Object{}, err
	}
	put.Size = -1
	object, err := d.Put(ctx, put, whole)
	if err != nil {
		return protocol.Object{}, err
	}
	return object, d.AbortUpload(ctx, put.Key, id)
}

func (d *Dir) joined(u *upload, parts []protocol.Part) (io.Reader, func(), error) {
	var files []*os.File
	closeAll := func() {
		for _, f := range files {
			_ = f.Close()
		}
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	var readers []io.Reader
	for i, p := range parts {
		s, ok := u.parts[p.Number]
		if !ok || s.ETag != p.ETag || i > 0 && parts[i-1].Number >= p.Number {
			return nil, closeAll, fmt.Errorf("part %d is not one of the upload, or not in order", p.Number)
		}
		f, err := os.Open(s.file)
		if err != nil {
			return nil, closeAll, err
		}
		files = append(files, f)
		readers = append(readers, f)
	}
	return io.MultiReader(readers...), closeAll, nil
}

// AbortUpload implements protocol.Storage.
func (d *Dir) AbortUpload(ctx context.Context, key, id string) error {
	if err := d.at(ctx, "abortupload", key, 0); err != nil {
		return err
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	u := d.uploads[id]
	if u == nil {
		return nil
	}
	delete(d.uploads, id)
	var err error
	for _, s := range u.parts {
		err = errors.Join(err, os.Remove(filepath.Clean(s.file)))
	}
	return err
}

// ListUploads implements protocol.Storage.
func (d *Dir) ListUploads(ctx context.Context, prefix string, after protocol.Upload, limit int) ([]protocol.Upload, bool, error) {
	if err := d.at(ctx, "listuploads", prefix, 0); err != nil {
		return nil, false, err
	}
	order := func(a, b protocol.Upload) int { return strings.Compare(a.Key+"\x00"+a.ID, b.Key+"\x00"+b.ID) }
	d.mu.Lock()
	defer d.mu.Unlock()
	var found []protocol.Upload
	for _, u := range d.uploads {
		if strings.HasPrefix(u.Key, prefix) && (after.ID == "" || order(u.Upload, after) > 0) {
			found = append(found, u.Upload)
		}
	}
	slices.SortFunc(found, order)
	if len(found) > limit {
		return found[:limit], true, nil
	}
	return found, false, nil
}

// Abilities implements protocol.Storage.
func (d *Dir) Abilities(context.Context) (protocol.Abilities, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	a := d.abilities
	a.Tiers = slices.Clone(a.Tiers)
	return a, nil
}
