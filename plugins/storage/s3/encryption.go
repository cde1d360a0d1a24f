package main

import (
	"context"
	"errors"
	"net/http"

	"github.com/minio/minio-go/v7"
)

const encryptionHeader = "X-Amz-Server-Side-Encryption"

var errNotEncrypted = errors.New("the server was asked to encrypt and does not say that it did; set ENCRYPTION=none if it need not")

// encrypted refuses answers of a server that was asked to encrypt and does not say that it did: some ignore the question. What it says to
// requests whose context came from listening is heard instead.
type encrypted struct{ next *http.Transport }

func (e *encrypted) RoundTrip(r *http.Request) (*http.Response, error) {
	answer, err := e.next.RoundTrip(r)
	if err != nil || answer.StatusCode != http.StatusOK {
		return answer, err
	}
	said := answer.Header.Get(encryptionHeader)
	if heard, ok := r.Context().Value(heardKey{}).(*string); ok {
		*heard = said
	} else if asked := r.Header.Get(encryptionHeader); asked != "" && said != asked {
		return nil, errors.Join(errNotEncrypted, answer.Body.Close())
	}
	return answer, nil
}

type heardKey struct{}

// listening is for one request at a time; heard is how the server says that it encrypted.
func listening(ctx context.Context) (_ context.Context, heard *string) {
	heard = new(string)
	return context.WithValue(ctx, heardKey{}, heard), heard
}

// asksFor tells whether what a server said is what it was asked for.
func (b *bucket) asksFor(said string) bool {
	asked := http.Header{}
	if sse := b.options.ServerSideEncryption; sse != nil {
		sse.Marshal(asked)
	}
	return asked.Get(encryptionHeader) == "" || asked.Get(encryptionHeader) == said
}

// newUpload begins an upload in parts. Some servers (MinIO) do not say then that they will encrypt, but with each part: the first time, a
// byte is put as part 1, whose place the real one takes. checksums: each part of the upload has to have one.
func (b *bucket) newUpload(ctx context.Context, key string, o minio.PutObjectOptions, checksums bool) (string, error) {
	ctx, heard := listening(ctx)
	upload, err := b.client.NewMultipartUpload(ctx, b.name, b.prefix+key, o)
	if err != nil || b.asksFor(*heard) || b.encrypts.Load() {
		return upload, err
	}
	if _, err = b.putHeld(ctx, key, upload, 1, []byte{0}, checksums); err == nil && !b.asksFor(*heard) {
		err = errNotEncrypted
	}
	if err != nil {
		b.forget(ctx, key, upload)
		return "", err
	}
	b.encrypts.Store(true)
	return upload, nil
}
