// Package objects is what the parts of the storage service need of a backend: protocol.Storage, bound to one instance.
package objects

import (
	"context"
	"io"

	"github.com/rivergate/rivergate/sdk/protocol"
)

// Backend keeps objects; each method is that of protocol.Storage.
type Backend interface {
	Put(ctx context.Context, put protocol.Put, body io.Reader) (protocol.Object, error)
	Get(ctx context.Context, key string, part protocol.Range) (protocol.Object, io.ReadCloser, error)
	Stat(ctx context.Context, key string) (protocol.Object, error)
	List(ctx context.Context, prefix, after string, limit int) (objects []protocol.Object, more bool, err error)
	Delete(ctx context.Context, key string) error
	Copy(ctx context.Context, from string, to protocol.Put) (protocol.Object, error)
	Presign(ctx context.Context, request protocol.Presign) (protocol.Presigned, error)
	BeginUpload(ctx context.Context, put protocol.Put) (upload string, err error)
	PutPart(ctx context.Context, key, upload string, number int, size int64, body io.Reader) (protocol.Part, error)
	CompleteUpload(ctx context.Context, put protocol.Put, upload string, parts []protocol.Part) (protocol.Object, error)
	AbortUpload(ctx context.Context, key, upload string) error
	ListUploads(ctx context.Context, prefix string, after protocol.Upload, limit int) (uploads []protocol.Upload, more bool, err error)
	Abilities(ctx context.Context) (protocol.Abilities, error)
}

// Of binds storage to one instance.
func Of(storage protocol.Storage, instance string) Backend { return &bound{storage, instance} }

type bound struct {
	storage  protocol.Storage
	instance string
}

func (b *bound) Put(ctx context.Context, put protocol.Put, body io.Reader) (protocol.Object, error) {
	return b.storage.Put(ctx, b.instance, put, body)
}

func (b *bound) Get(ctx context.Context, key string, part protocol.Range) (protocol.Object, io.ReadCloser, error) {
	return b.storage.Get(ctx, b.instance, key, part)
}

func (b *bound) Stat(ctx context.Context, key string) (protocol.Object, error) {
	return b.storage.Stat(ctx, b.instance, key)
}

func (b *bound) List(ctx context.Context, prefix, after string, limit int) ([]protocol.Object, bool, error) {
	return b.storage.List(ctx, b.instance, prefix, after, limit)
}

func (b *bound) Delete(ctx context.Context, key string) error {
	return b.storage.Delete(ctx, b.instance, key)
}

func (b *bound) Copy(ctx context.Context, from string, to protocol.Put) (protocol.Object, error) {
	return b.storage.Copy(ctx, b.instance, from, to)
}

func (b *bound) Presign(ctx context.Context, request protocol.Presign) (protocol.Presigned, error) {
	return b.storage.Presign(ctx, b.instance, request)
}

func (b *bound) BeginUpload(ctx context.Context, put protocol.Put) (string, error) {
	return b.storage.BeginUpload(ctx, b.instance, put)
}

func (b *bound) PutPart(ctx context.Context, key, upload string, number int, size int64, body io.Reader) (protocol.Part, error) {
	return b.storage.PutPart(ctx, b.instance, key, upload, number, size, body)
}

func (b *bound) CompleteUpload(ctx context.Context, put protocol.Put, upload string, parts []protocol.Part) (protocol.Object, error) {
	return b.storage.CompleteUpload(ctx, b.instance, put, upload, parts)
}

func (b *bound) AbortUpload(ctx context.Context, key, upload string) error {
	return b.storage.AbortUpload(ctx, b.instance, key, upload)
}

func (b *bound) ListUploads(ctx context.Context, prefix string, after protocol.Upload, limit int) ([]protocol.Upload, bool, error) {
	return b.storage.ListUploads(ctx, b.instance, prefix, after, limit)
}

func (b *bound) Abilities(ctx context.Context) (protocol.Abilities, error) {
	return b.storage.Abilities(ctx, b.instance)
}
