package sdk

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"hash"
	"io"
	"os"
	"sync"

	"github.com/rivergate/rivergate/sdk/protocol"
)

// keeper is one configured storage and the calls that are at work in it.
type keeper struct {
	name    string
	storage Storage

	life  context.Context // ends at a forced stop
	abort context.CancelCauseFunc

	mu      sync.Mutex
	calls   int
	closing bool
	idle    chan struct{} // closed when it is closing and no call is left
}

func newKeeper(name string, storage Storage) *keeper {
	k := &keeper{name: name, storage: storage, idle: make(chan struct{})}
	k.life, k.abort = context.WithCancelCause(context.Background())
	return k
}

func (k *keeper) author() any { return k.storage }

func (k *keeper) stop(cause error) { k.abort(cause) }

// close waits for the calls at work and closes the storage. When ctx ends first, they are broken off and errBusy returned; close
// may then be called again.
func (k *keeper) close(ctx context.Context) error {
	k.mu.Lock()
	if !k.closing {
		k.closing = true
		if k.calls == 0 {
			close(k.idle)
		}
	}
	k.mu.Unlock()
	select {
	case <-k.idle:
	case <-ctx.Done():
		k.abort(errStopping)
		return fmt.Errorf("%w: %w", errBusy, ctx.Err())
	}
	k.abort(errStopping)
	if closer, ok := k.storage.(Closer); ok {
		if err := closer.Close(ctx); err != nil {
			return fmt.Errorf("close instance %s: %w", k.name, err)
		}
	}
	return nil
}

// enter begins a call, which leave ends.
func (k *keeper) enter(ctx context.Context) (_ context.Context, leave func(), err error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.closing {
		return nil, nil, fmt.Errorf("%w: %s is closing", protocol.ErrUnknownInstance, k.name)
	}
	k.calls++
	ctx, cancel := context.WithCancelCause(ctx)
	release := context.AfterFunc(k.life, func() { cancel(context.Cause(k.life)) })
	return ctx, sync.OnceFunc(func() {
		release()
		cancel(nil)
		k.mu.Lock()
		defer k.mu.Unlock()
		if k.calls--; k.closing && k.calls == 0 {
			close(k.idle)
		}
	}), nil
}

// storageServer serves the storages of a process.
type storageServer struct{ *server }

var _ protocol.StorageServer = storageServer{}

func (s storageServer) keeper(name string) (*keeper, error) {
	if k, ok := s.current(name).(*keeper); ok {
		return k, nil
	}
	return nil, fmt.Errorf("%w: %s", protocol.ErrUnknownInstance, name)
}

// at makes one call of an instance.
func at[A any](ctx context.Context, s storageServer, name string, call func(context.Context, Storage) (A, error)) (A, error) {
	var none A
	k, err := s.keeper(name)
	if err != nil {
		return none, err
	}
	ctx, leave, err := k.enter(ctx)
	if err != nil {
		return none, err
	}
	defer leave()
	a, err := call(ctx, k.storage)
	if err != nil {
		return none, unlessStopping(ctx, err)
	}
	return a, nil
}

// unlessStopping makes errors of a forced stop what they are: the host repeats what it can.
func unlessStopping(ctx context.Context, err error) error {
	if cause := context.Cause(ctx); errors.Is(cause, errStopping) {
		return fmt.Errorf("%w: %w", protocol.ErrUnavailable, cause)
	}
	return err
}

// atParts is at for storages that take parts.
func atParts[A any](ctx context.Context, s storageServer, name string, call func(context.Context, Multiparter) (A, error)) (A, error) {
	return at(ctx, s, name, func(ctx context.Context, storage Storage) (A, error) {
		parts, ok := storage.(Multiparter)
		if !ok {
			var none A
			return none, fmt.Errorf("%w: it takes no parts", protocol.ErrUnsupported)
		}
		return call(ctx, parts)
	})
}

func (s storageServer) Put(ctx context.Context, name string, put Put, body io.Reader) (Object, error) {
	if put.SHA256 != nil {
		body = &summed{body: body, sum: sha256.New(), want: put.SHA256}
	}
	return at(ctx, s, name, func(ctx context.Context, storage Storage) (Object, error) { return storage.Put(ctx, put, body) })
}

// summed ends in ErrChecksum when the body was another one than was announced.
type summed struct {
	body io.Reader
	sum  hash.Hash
	want []byte
}

func (s *summed) Read(p []byte) (int, error) {
	n, err := s.body.Read(p)
	_, _ = s.sum.Write(p[:n]) // never fails
	if errors.Is(err, io.EOF) && !bytes.Equal(s.sum.Sum(nil), s.want) {
		err = fmt.Errorf("%w (SHA-256)", protocol.ErrChecksum)
	}
	return n, err
}

// Get counts as a call until the object is closed.
func (s storageServer) Get(ctx context.Context, name, key string, part Range) (Object, io.ReadCloser, error) {
	k, err := s.keeper(name)
	if err != nil {
		return Object{}, nil, err
	}
	ctx, leave, err := k.enter(ctx)
	if err != nil {
		return Object{}, nil, err
	}
	object, content, err := k.storage.Get(ctx, key, part)
	if err != nil {
		leave()
		return Object{}, nil, unlessStopping(ctx, err)
	}
	return object, &opened{ReadCloser: content, ctx: ctx, leave: leave}, nil
}

type opened struct {
	io.ReadCloser
	ctx   context.Context
	leave func()
}

func (o *opened) Read(p []byte) (int, error) {
	if o.ctx.Err() != nil {
		return 0, unlessStopping(o.ctx, context.Cause(o.ctx))
	}
	n, err := o.ReadCloser.Read(p)
	if err != nil && !errors.Is(err, io.EOF) {
		err = unlessStopping(o.ctx, err)
	}
	return n, err
}

// File lets the host read a file itself; nil when content is none.
func (o *opened) File() *os.File {
	file, _ := o.ReadCloser.(*os.File)
	return file
}

func (o *opened) Close() error {
	defer o.leave()
	return o.ReadCloser.Close()
}

func (s storageServer) Stat(ctx context.Context, name, key string) (Object, error) {
	return at(ctx, s, name, func(ctx context.Context, storage Storage) (Object, error) { return storage.Stat(ctx, key) })
}

func (s storageServer) List(ctx context.Context, name, prefix, after string, limit int) (objects []Object, more bool, err error) {
	objects, err = at(ctx, s, name, func(ctx context.Context, storage Storage) (objects []Object, err error) {
		objects, more, err = storage.List(ctx, prefix, after, limit)
		return objects, err
	})
	return objects, more, err
}

func (s storageServer) Delete(ctx context.Context, name, key string) error {
	_, err := at(ctx, s, name, func(ctx context.Context, storage Storage) (struct{}, error) {
		return struct{}{}, storage.Delete(ctx, key)
	})
	return err
}

func (s storageServer) Copy(ctx context.Context, name, from string, to Put) (Object, error) {
	return at(ctx, s, name, func(ctx context.Context, storage Storage) (Object, error) { return storage.Copy(ctx, from, to) })
}

func (s storageServer) Presign(ctx context.Context, name string, request Presign) (Presigned, error) {
	return at(ctx, s, name, func(ctx context.Context, storage Storage) (Presigned, error) {
		signer, ok := storage.(Presigner)
		if !ok {
			return Presigned{}, fmt.Errorf("%w: it signs no URLs", protocol.ErrUnsupported)
		}
		return signer.Presign(ctx, request)
	})
}

func (s storageServer) BeginUpload(ctx context.Context, name string, put Put) (string, error) {
	return atParts(ctx, s, name, func(ctx context.Context, m Multiparter) (string, error) { return m.BeginUpload(ctx, put) })
}

func (s storageServer) PutPart(ctx context.Context, name, key, upload string, number int, size int64, body io.Reader) (Part, error) {
	return atParts(ctx, s, name, func(ctx context.Context, m Multiparter) (Part, error) {
		return m.PutPart(ctx, key, upload, number, size, body)
	})
}

func (s storageServer) CompleteUpload(ctx context.Context, name string, put Put, upload string, parts []Part) (Object, error) {
	return atParts(ctx, s, name, func(ctx context.Context, m Multiparter) (Object, error) {
		return m.CompleteUpload(ctx, put, upload, parts)
	})
}

func (s storageServer) AbortUpload(ctx context.Context, name, key, upload string) error {
	_, err := atParts(ctx, s, name, func(ctx context.Context, m Multiparter) (struct{}, error) {
		return struct{}{}, m.AbortUpload(ctx, key, upload)
	})
	return err
}

func (s storageServer) ListUploads(ctx context.Context, name, prefix string, after Upload, limit int) (uploads []Upload, more bool, err error) {
	uploads, err = atParts(ctx, s, name, func(ctx context.Context, m Multiparter) (uploads []Upload, err error) {
		uploads, more, err = m.ListUploads(ctx, prefix, after, limit)
		return uploads, err
	})
	return uploads, more, err
}

func (s storageServer) Abilities(ctx context.Context, name string) (Abilities, error) {
	return at(ctx, s, name, func(_ context.Context, storage Storage) (Abilities, error) {
		a := storage.Abilities()
		_, a.Presign = storage.(Presigner)
		_, a.Multipart = storage.(Multiparter)
		if len(a.Tiers) == 0 {
			a.Tiers = []Tier{TierHot}
		}
		return a, nil
	})
}
