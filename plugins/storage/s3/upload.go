package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/minio/minio-go/v7"

	"github.com/rivergate/rivergate/sdk"
)

// BeginUpload begins an upload of the server's own.
func (s *S3) BeginUpload(ctx context.Context, put sdk.Put) (string, error) {
	doing := fmt.Sprintf("begin an upload of %q", put.Key)
	if err := s.key(doing, put.Key); err != nil {
		return "", err
	}
	options, err := s.bucket.optionsFor(put)
	if err != nil {
		return "", err
	}
	upload, err := s.bucket.newUpload(ctx, put.Key, options, false)
	return upload, s.bucket.failure(doing, err)
}

// PutPart passes a part through; one that fits into memory can be sent again.
func (s *S3) PutPart(ctx context.Context, key, upload string, number int, size int64, body io.Reader) (sdk.Part, error) {
	doing := fmt.Sprintf("put part %d of %q", number, key)
	if number < 1 || number > maxParts {
		return sdk.Part{}, fmt.Errorf("%s: %w: parts are numbered from 1 to %d", doing, sdk.ErrUnsupported, maxParts)
	}
	var part minio.ObjectPart
	var err error
	if size < 0 || size <= s.bucket.parts.size {
		part, size, err = s.putHeld(ctx, key, upload, number, size, body)
	} else if part, err = s.bucket.putPart(ctx, key, upload, number, body, size); err == nil {
		err = atEnd(body)
	}
	if err != nil {
		return sdk.Part{}, s.bucket.failure(doing, err)
	}
	return sdk.Part{Number: number, ETag: part.ETag, Size: size}, nil
}

// putHeld reads a part into memory. One whose size is not known has to fit.
func (s *S3) putHeld(ctx context.Context, key, upload string, number int, size int64, body io.Reader) (minio.ObjectPart, int64, error) {
	slot, err := s.bucket.parts.wait(ctx)
	if err != nil {
		return minio.ObjectPart{}, 0, err
	}
	defer s.bucket.parts.give(slot)
	want := slot
	if size >= 0 {
		want = slot[:size]
	}
	n, err := io.ReadFull(body, want)
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		err = nil
	}
	if err == nil {
		if err = atEnd(body); errors.Is(err, sdk.ErrSize) && size < 0 {
			err = fmt.Errorf("%w: a part of more than PART_SIZE has to say its size", sdk.ErrUnsupported)
		}
	}
	if err != nil {
		return minio.ObjectPart{}, 0, err
	}
	part, err := s.bucket.putHeld(ctx, key, upload, number, want[:n], false)
	return part, int64(n), err
}

// CompleteUpload has the server put the parts together.
func (s *S3) CompleteUpload(ctx context.Context, put sdk.Put, upload string, parts []sdk.Part) (sdk.Object, error) {
	doing := fmt.Sprintf("complete the upload of %q", put.Key)
	var done []minio.CompletePart
	total := int64(0)
	for _, p := range parts {
		done = append(done, minio.CompletePart{PartNumber: p.Number, ETag: p.ETag})
		total += p.Size
	}
	if len(done) == 0 {
		return sdk.Object{}, fmt.Errorf("%s: %w: it has no part", doing, sdk.ErrNotFound)
	}
	if put.Size >= 0 && total != put.Size {
		return sdk.Object{}, fmt.Errorf("%s: %w: %d bytes were announced, the parts have %d", doing, sdk.ErrSize, put.Size, total)
	}
	if _, err := s.bucket.client.CompleteMultipartUpload(ctx, s.bucket.name, s.bucket.prefix+put.Key, upload, done, completing(put)); err != nil {
		return sdk.Object{}, s.bucket.failure(doing, err)
	}
	return s.Stat(ctx, put.Key)
}

// AbortUpload forgets an upload.
func (s *S3) AbortUpload(ctx context.Context, key, upload string) error {
	err := s.bucket.client.AbortMultipartUpload(ctx, s.bucket.name, s.bucket.prefix+key, upload)
	if err = s.bucket.failure(fmt.Sprintf("abort the upload of %q", key), err); errors.Is(err, sdk.ErrNotFound) {
		return nil
	}
	return err
}

// ListUploads lists what the server has, of others that use the same prefix too. There are few at any time, and not every server goes
// on from an upload, so all are asked for.
func (s *S3) ListUploads(ctx context.Context, prefix string, after sdk.Upload, limit int) (uploads []sdk.Upload, more bool, err error) {
	var key, id string // to go on from, in the server's words
	for {
		page, err := s.bucket.client.ListMultipartUploads(ctx, s.bucket.name, s.Prefix+prefix, key, id, "", pageSize)
		if err != nil {
			return nil, false, s.bucket.failure(fmt.Sprintf("list the uploads of %q", prefix), err)
		}
		for _, found := range page.Uploads {
			u := sdk.Upload{Key: strings.TrimPrefix(found.Key, s.Prefix), ID: found.UploadID, Begun: found.Initiated.UTC()}
			if byKey(u, after) > 0 {
				uploads = append(uploads, u)
			}
		}
		if key, id = page.NextKeyMarker, page.NextUploadIDMarker; !page.IsTruncated || key == "" {
			break
		}
	}
	slices.SortFunc(uploads, byKey)
	if len(uploads) > limit {
		uploads, more = uploads[:limit], true
	}
	return uploads, more, nil
}

func byKey(a, b sdk.Upload) int {
	return cmp.Or(strings.Compare(a.Key, b.Key), strings.Compare(a.ID, b.ID))
}
