package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/rivergate/rivergate/sdk"
)

// An upload is a folder in uploadFolder of its tier, with a file that says what it is for and one for each part. Only whole parts
// have their names there.
const headName = "head"

type head struct {
	Key   string    `json:"key"`
	Begun time.Time `json:"begun"`
}

// uploadForm is what random makes: an upload's name comes back from outside.
var uploadForm = regexp.MustCompile(`^[0-9a-f]{32}$`)

// BeginUpload makes the folder ready before it gets its name.
func (l *Local) BeginUpload(_ context.Context, put sdk.Put) (string, error) {
	t, err := l.tierOf(put.Tier)
	if err != nil {
		return "", err
	}
	id := random()
	doing := fmt.Sprintf("begin an upload of %q", put.Key)
	return id, t.failure(doing, t.begin(id, head{Key: put.Key, Begun: time.Now().UTC()}))
}

func (t *tier) begin(id string, h head) error {
	text, err := json.Marshal(h)
	if err != nil {
		return err
	}
	temp := path.Join(t.temp, id)
	if err := t.root.Mkdir(temp, 0o750); err != nil {
		return err
	}
	file, err := t.root.OpenFile(path.Join(temp, headName), os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o640)
	if err == nil {
		_, err = file.Write(text)
		if err == nil {
			err = file.Sync()
		}
		err = errors.Join(err, file.Close())
	}
	if err == nil {
		err = t.syncFolder(temp)
	}
	if err == nil {
		err = t.root.Rename(temp, path.Join(uploadFolder, id))
	}
	if err != nil {
		return errors.Join(err, t.root.RemoveAll(temp))
	}
	return t.syncFolder(uploadFolder)
}

// upload finds an upload that goes on.
func (l *Local) upload(key, id string) (*tier, string, error) {
	none := fmt.Errorf("%w: no upload %q of %q", sdk.ErrNotFound, id, key)
	if !uploadForm.MatchString(id) {
		return nil, "", none
	}
	folder := path.Join(uploadFolder, id)
	for _, t := range l.tiers {
		h, err := t.head(folder)
		switch {
		case missing(err):
		case err != nil:
			return nil, "", t.failure(fmt.Sprintf("look for the upload of %q", key), err)
		case h.Key != key:
			return nil, "", none
		default:
			return t, folder, nil
		}
	}
	return nil, "", none
}

func (t *tier) head(folder string) (h head, err error) {
	text, err := t.root.ReadFile(path.Join(folder, headName))
	if err == nil {
		err = json.Unmarshal(text, &h)
	}
	return h, err
}

const maxPart = 10_000

func partName(number int) string { return fmt.Sprintf("part-%05d", number) }

// PutPart replaces a part as a whole.
func (l *Local) PutPart(_ context.Context, key, upload string, number int, size int64, body io.Reader) (sdk.Part, error) {
	doing := fmt.Sprintf("put part %d of %q", number, key)
	if number < 1 || number > maxPart {
		return sdk.Part{}, fmt.Errorf("%s: %w: parts are numbered from 1 to %d", doing, sdk.ErrUnsupported, maxPart)
	}
	t, folder, err := l.upload(key, upload)
	if err != nil {
		return sdk.Part{}, fmt.Errorf("%s: %w", doing, err)
	}
	defer t.spares.refill()
	temp, info, err := t.write(size, body)
	if err != nil {
		return sdk.Part{}, t.failure(doing, err)
	}
	part, err := t.keepPart(temp, info, folder, number)
	if err != nil {
		err = errors.Join(err, ignoreMissing(t.root.Remove(temp)))
		if errors.Is(err, fs.ErrNotExist) {
			return sdk.Part{}, fmt.Errorf("%s: %w: the upload has ended meanwhile", doing, sdk.ErrNotFound)
		}
		return sdk.Part{}, t.failure(doing, err)
	}
	return part, nil
}

func (t *tier) keepPart(temp string, info fs.FileInfo, folder string, number int) (sdk.Part, error) {
	if err := t.renameInto(folder, temp, partName(number), false); err != nil {
		return sdk.Part{}, err
	}
	return sdk.Part{Number: number, ETag: etagOf(info), Size: info.Size()}, nil
}

// CompleteUpload puts the parts one behind the other into a temporary file, and that in its place.
func (l *Local) CompleteUpload(ctx context.Context, put sdk.Put, upload string, parts []sdk.Part) (sdk.Object, error) {
	doing := fmt.Sprintf("complete the upload of %q", put.Key)
	release, err := l.uploads.take(upload)
	if err != nil {
		return sdk.Object{}, err
	}
	defer release()
	t, folder, err := l.upload(put.Key, upload)
	if err != nil {
		return sdk.Object{}, fmt.Errorf("%s: %w", doing, err)
	}
	if len(parts) == 0 {
		return sdk.Object{}, fmt.Errorf("%s: %w: it has no part", doing, sdk.ErrNotFound)
	}
	temp, info, err := t.concatenate(ctx, folder, parts, put.Size)
	if err != nil {
		return sdk.Object{}, t.failure(doing, err)
	}
	o, err := l.publish(ctx, doing, t, temp, info, put)
	if err != nil {
		return sdk.Object{}, err
	}
	if err := t.forget(folder); err != nil { // the object is there; the upload is aborted some day by who looks for old ones
		l.log.Warn("the parts of a completed upload cannot be removed", "key", put.Key, "upload", upload, "error", err)
	}
	return o, nil
}

func (t *tier) concatenate(ctx context.Context, folder string, parts []sdk.Part, size int64) (temp string, info fs.FileInfo, err error) {
	total := int64(0)
	for _, p := range parts {
		info, err := t.root.Lstat(path.Join(folder, partName(p.Number)))
		if missing(err) || err == nil && etagOf(info) != p.ETag {
			return "", nil, fmt.Errorf("%w: part %d is another one than was put, or not there", sdk.ErrNotFound, p.Number)
		}
		if err != nil {
			return "", nil, err
		}
		total += info.Size()
	}
	if size >= 0 && size != total {
		return "", nil, fmt.Errorf("%w: %d bytes were announced, the parts have %d", sdk.ErrSize, size, total)
	}
	file, err := t.create()
	if err != nil {
		return "", nil, err
	}
	err = reserve(file, total)
	for _, p := range parts {
		if err == nil {
			err = t.appendPart(ctx, file, path.Join(folder, partName(p.Number)))
		}
	}
	info, err = t.finish(file, err)
	return file.Name(), info, err
}

// appendPart leaves the copying to the kernel, in steps that can be broken off.
func (t *tier) appendPart(ctx context.Context, to *os.File, name string) error {
	part, err := t.root.Open(name)
	if err != nil {
		return err
	}
	defer part.Close() // only read
	for {
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		n, err := io.CopyN(to, part, flushBytes)
		if at, failed := to.Seek(0, io.SeekCurrent); failed == nil {
			beginFlush(to, at-n, n)
		}
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
	}
}

// forget takes the name away first: half an upload is none.
func (t *tier) forget(folder string) error {
	gone := path.Join(t.temp, random())
	if err := t.root.Rename(folder, gone); err != nil {
		return ignoreMissing(err)
	}
	return errors.Join(t.syncFolder(uploadFolder), t.root.RemoveAll(gone))
}

// AbortUpload forgets an upload.
func (l *Local) AbortUpload(_ context.Context, key, upload string) error {
	release, err := l.uploads.take(upload)
	if err != nil {
		return err
	}
	defer release()
	t, folder, err := l.upload(key, upload)
	if errors.Is(err, sdk.ErrNotFound) {
		return nil
	}
	if err != nil {
		return err
	}
	return t.failure(fmt.Sprintf("abort the upload of %q", key), t.forget(folder))
}

// ListUploads reads the heads of all uploads: there are few at any time.
func (l *Local) ListUploads(ctx context.Context, prefix string, after sdk.Upload, limit int) (found []sdk.Upload, more bool, err error) {
	for _, t := range l.tiers {
		names, err := t.readNames(uploadFolder)
		if err != nil {
			return nil, false, t.failure("list uploads", err)
		}
		for _, name := range names {
			if ctx.Err() != nil {
				return nil, false, context.Cause(ctx)
			}
			h, err := t.head(path.Join(uploadFolder, name))
			if missing(err) {
				continue // ended meanwhile
			}
			if err != nil {
				return nil, false, t.failure("list uploads", err)
			}
			u := sdk.Upload{Key: h.Key, ID: name, Begun: h.Begun}
			if strings.HasPrefix(u.Key, prefix) && byKey(u, after) > 0 {
				found = append(found, u)
			}
		}
	}
	slices.SortFunc(found, byKey)
	if len(found) > limit {
		found, more = found[:limit], true
	}
	return found, more, nil
}

func byKey(a, b sdk.Upload) int {
	if a.Key != b.Key {
		return strings.Compare(a.Key, b.Key)
	}
	return strings.Compare(a.ID, b.ID)
}
