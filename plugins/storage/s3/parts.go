package main

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"maps"
	"net/http"
	"sync"

	"github.com/minio/minio-go/v7"
	"golang.org/x/sync/errgroup"

	"github.com/rivergate/rivergate/sdk"
)

// parts is the memory for parts on their way, of all objects together. A part that is held can be sent again when the server is
// busy, and the next one is filled meanwhile.
type parts struct {
	size  int64
	slots chan []byte
}

func newParts(n int, size int64) *parts {
	p := &parts{size: size, slots: make(chan []byte, n)}
	for range n {
		p.slots <- nil // made when it is first used
	}
	return p
}

// take is memory for a part when there is some to be had.
func (p *parts) take() ([]byte, bool) {
	select {
	case slot := <-p.slots:
		if slot == nil {
			slot = make([]byte, p.size)
		}
		return slot, true
	default:
		return nil, false
	}
}

// wait is take for who cannot do without.
func (p *parts) wait(ctx context.Context) ([]byte, error) {
	select {
	case slot := <-p.slots:
		if slot == nil {
			slot = make([]byte, p.size)
		}
		return slot, nil
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
}

func (p *parts) give(slot []byte) { p.slots <- slot }

// partSize is the size of the parts of an object of size bytes; -1: unknown.
func (p *parts) partSize(size int64) int64 {
	const step = 1 << 20
	least := (size + maxParts - 1) / maxParts
	if least <= p.size {
		return p.size
	}
	return (least + step - 1) / step * step
}

// transfer is one object on its way in parts.
type transfer struct {
	b         *bucket
	key       string
	upload    string
	checksums bool // each part has to have one

	mu   sync.Mutex
	done []minio.CompletePart
}

// checksum is the kind that is sent: processors compute it.
const checksum = minio.ChecksumCRC32C

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// begin begins an upload. An upload with checksums needs one of each part, so all of them have to be held: those of an object whose size
// is not known are. Some servers refuse such an upload.
func (b *bucket) begin(ctx context.Context, put sdk.Put, o minio.PutObjectOptions) (*transfer, error) {
	t := &transfer{b: b, key: put.Key, checksums: put.Size < 0 && b.checksums.Load()}
	plain := o.UserMetadata
	if t.checksums {
		o.UserMetadata = maps.Clone(plain)
		o.UserMetadata["x-amz-checksum-algorithm"] = checksum.String()
	}
	var err error
	if t.upload, err = b.newUpload(ctx, put.Key, o, t.checksums); err == nil || !t.checksums {
		return t, err
	}
	if status := minio.ToErrorResponse(err).StatusCode; status != http.StatusBadRequest && status != http.StatusNotImplemented {
		return nil, err
	}
	o.UserMetadata, t.checksums = plain, false
	var failed error
	if t.upload, failed = b.newUpload(ctx, put.Key, o, false); failed != nil {
		return nil, failed
	}
	if b.checksums.Swap(false) {
		b.log.Warn("the server refuses uploads with checksums; parts go without them from now on (CHECKSUMS=false spares it the question)",
			"error", b.failure("begin an upload with checksums", err))
	}
	return t, nil
}

// put sends the parts of body, and returns their number of bytes. What is known to be one part too many for the memory is passed
// through as it comes.
func (t *transfer) put(ctx context.Context, size int64, body io.Reader) (total int64, err error) {
	partSize := t.b.parts.partSize(size)
	sending, ctx := errgroup.WithContext(ctx)
	number := 0
	for err == nil && ctx.Err() == nil && (size < 0 || total < size) {
		number++
		if number > maxParts {
			err = fmt.Errorf("%w: the object has more than %d parts of %d bytes; say its size, or raise PART_SIZE", sdk.ErrUnsupported, maxParts, partSize)
			break
		}
		var n int64
		want := partSize
		if size >= 0 {
			want = min(partSize, size-total)
		}
		slot, held := t.slot(ctx, size, want)
		if !held {
			n, err = want, t.send(number, func() (minio.ObjectPart, error) {
				return t.b.putPart(ctx, t.key, t.upload, number, io.LimitReader(body, want), want)
			})
		} else {
			n, err = t.hold(ctx, sending, number, slot[:want], body)
		}
		total += n
		if size < 0 && n < want {
			break
		}
	}
	if err == nil && size >= 0 {
		err = atEnd(body)
	}
	if err != nil {
		_ = sending.Wait() // what is on its way ends with it
		return total, err
	}
	return total, sending.Wait()
}

// slot is memory for the next part. Of an object whose size is not known, each part has to be held: S3 wants to know how long it is.
func (t *transfer) slot(ctx context.Context, size, want int64) ([]byte, bool) {
	if want > t.b.parts.size {
		return nil, false
	}
	if size >= 0 {
		return t.b.parts.take()
	}
	slot, err := t.b.parts.wait(ctx)
	return slot, err == nil
}

// hold reads a part and sends it while the next one is read.
func (t *transfer) hold(ctx context.Context, sending *errgroup.Group, number int, slot []byte, body io.Reader) (int64, error) {
	n, err := io.ReadFull(body, slot)
	ended := errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF)
	if err != nil && (!ended || atEnd(body) != nil) || n == 0 && number > 1 {
		t.b.parts.give(slot[:cap(slot)])
		if n == 0 && ended {
			return 0, atEnd(body)
		}
		return int64(n), err
	}
	sending.Go(func() error {
		defer t.b.parts.give(slot[:cap(slot)])
		return t.send(number, func() (minio.ObjectPart, error) {
			return t.b.putHeld(ctx, t.key, t.upload, number, slot[:n], t.checksums)
		})
	})
	return int64(n), nil
}

// send puts a part and notes it.
func (t *transfer) send(number int, put func() (minio.ObjectPart, error)) error {
	part, err := put()
	if err != nil {
		return err
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	t.done = append(t.done, minio.CompletePart{PartNumber: number, ETag: part.ETag, ChecksumCRC32C: part.ChecksumCRC32C})
	return nil
}

// putHeld puts a part that is in memory. Without TLS it is signed as a whole, which costs both sides less than signing chunks.
func (b *bucket) putHeld(ctx context.Context, key, upload string, number int, held []byte, sum bool) (minio.ObjectPart, error) {
	o := minio.PutObjectPartOptions{SSE: b.options.ServerSideEncryption, CustomHeader: http.Header{}}
	sha, crc := sha256.New(), uint32(0)
	for rest := held; len(rest) > 0 && (sum || !b.secure); { // in pieces that stay in the cache for both
		piece := rest[:min(len(rest), 64<<10)]
		rest = rest[len(piece):]
		if sum {
			crc = crc32.Update(crc, castagnoli, piece)
		}
		if !b.secure {
			sha.Write(piece)
		}
	}
	if !b.secure {
		o.Sha256Hex, o.DisableContentSha256 = hex.EncodeToString(sha.Sum(nil)), true
	}
	text := ""
	if sum {
		text = base64.StdEncoding.EncodeToString(binary.BigEndian.AppendUint32(nil, crc))
		o.CustomHeader.Set(checksum.Key(), text)
	}
	part, err := b.client.PutObjectPart(ctx, b.name, b.prefix+key, upload, number, bytes.NewReader(held), int64(len(held)), o)
	part.ChecksumCRC32C = text
	return part, err
}

func (b *bucket) putPart(ctx context.Context, key, upload string, number int, body io.Reader, size int64) (minio.ObjectPart, error) {
	return b.client.PutObjectPart(ctx, b.name, b.prefix+key, upload, number, body, size, minio.PutObjectPartOptions{SSE: b.options.ServerSideEncryption})
}

// atEnd demands that there is nothing more to read; an error of body is told as it is.
func atEnd(body io.Reader) error {
	var one [1]byte
	for {
		n, err := body.Read(one[:])
		if n > 0 {
			return sdk.ErrSize
		}
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
	}
}
