package command

import (
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"sync"

	"github.com/spf13/cobra"
	"golang.org/x/sync/errgroup"
)

const (
	uploadPath = "/api/v1/storage/upload"
	partsPath  = "/api/v1/storage/multipart"
	// smallFile is what goes in one request; what is larger goes in parts.
	smallFile = 8 << 20
	// tries is how often a part is sent, or the upload completed, before the command gives up; the next run goes on from there.
	tries = 6
)

// putOptions are the flags of put.
type putOptions struct {
	folder, category, contentType string
	parallel                      int
}

// uploaded is the answer to an upload.
type uploaded struct {
	FilePath    string `json:"file_path"`
	FileName    string `json:"file_name"`
	UniqueName  string `json:"unique_file_name"`
	Size        int64  `json:"size"`
	ContentType string `json:"content_type"`
	URI         string `json:"s3_uri"`
	ID          int64  `json:"storage_file_id"`
	SHA256      string `json:"sha256"`
}

func (c *cli) filesPutCommand() *cobra.Command {
	var o putOptions
	cmd := &cobra.Command{
		Use: "put FILE…", Short: "Upload files; a large one in parts, and the same command goes on after an interruption",
		Long: `Upload files. One that is larger than 8 MiB goes in parts, several at once, straight to the object store where the host signs
URLs of it. What was sent is remembered in the user's cache folder: after an interruption the same command sends only the rest, as
long as the file has not changed and the host still keeps the upload.

` + exitCodesHelp,
		Example: "  rivergate files put results.csv --path runs/2026\n  rivergate files put --category general --parallel 8 scan-*.tiff",
		Args:    cobra.MinimumNArgs(1),
		RunE: func(cmd *cobra.Command, names []string) error {
			if o.parallel < 1 || o.parallel > 64 {
				return mistake("--parallel is 1 to 64")
			}
			host, err := c.client()
			if err != nil {
				return err
			}
			var failed []error
			for _, name := range names {
				answer, err := c.putFile(cmd.Context(), host, name, &o)
				switch {
				case err != nil && len(names) == 1:
					return err
				case err != nil:
					failed = append(failed, fmt.Errorf("%s: %w", name, err))
					if cmd.Context().Err() != nil {
						return errors.Join(failed...)
					}
				case c.json:
					err = c.printJSON(answer)
				default:
					fmt.Fprintf(c.Stdout, "%s\n", visible(answer.FilePath))
				}
				if err != nil {
					failed = append(failed, err)
				}
			}
			return errors.Join(failed...)
		},
	}
	f := cmd.Flags()
	f.StringVar(&o.folder, "path", "", "folder below your own")
	f.StringVar(&o.category, "category", "", "data_source, profile_image or general (default: data_source)")
	f.StringVar(&o.contentType, "type", "", "content type (default: what the host finds)")
	f.IntVar(&o.parallel, "parallel", 4, "parts on their way at once")
	return cmd
}

func (c *cli) putFile(ctx context.Context, host *client, name string, o *putOptions) (*uploaded, error) {
	info, err := os.Stat(name)
	if err != nil {
		return nil, &exitError{code: exitMistake, err: err}
	}
	answer := &uploaded{}
	if info.Size() > smallFile {
		u := &partsUpload{cli: c, host: host, name: name, info: info, options: o, answer: answer}
		return answer, u.run(ctx)
	}
	fields := map[string]string{}
	for field, value := range map[string]string{"path": o.folder, "file_category": o.category} {
		if value != "" {
			fields[field] = value
		}
	}
	return answer, c.postFile(ctx, host, uploadPath, name, o.contentType, fields, answer)
}

// partsUpload is one file on its way in parts.
//
//	begin, or go on with what a former run began → URL of a part → PUT (backoff) → … → complete
type partsUpload struct {
	*cli
	host    *client
	name    string
	info    os.FileInfo
	options *putOptions
	answer  *uploaded

	file  *os.File
	begun begunUpload

	mu   sync.Mutex
	memo uploadMemo // guarded by mu
	path string     // of the memo's file; empty: there is no cache folder
}

// begunUpload is what the host says of an upload.
type begunUpload struct {
	UploadID   string `json:"upload_id"`
	PartSize   int64  `json:"part_size"`
	PartsCount int    `json:"parts_count"`
	Received   []struct {
		Number int    `json:"part_number"`
		ETag   string `json:"etag"`
	} `json:"received"`
	File *uploaded `json:"file"`
}

// uploadMemo is what a later run needs to go on.
type uploadMemo struct {
	UploadID string         `json:"upload_id"`
	ETags    map[int]string `json:"etags"` // of the parts that were stored
}

func (u *partsUpload) run(ctx context.Context) (err error) {
	if u.file, err = os.Open(u.name); err != nil {
		return &exitError{code: exitMistake, err: err}
	}
	defer func() { _ = u.file.Close() }()
	u.path = u.memoPath()
	if err := u.begin(ctx); err != nil {
		return err
	}
	if u.begun.File != nil { // a former run had sent everything, and did not hear of it
		*u.answer = *u.begun.File
		return u.forget()
	}
	if err := u.sendParts(ctx); err != nil {
		return &exitError{code: exitFailed, err: err, hint: "The same command goes on from there."}
	}
	if err := u.complete(ctx); err != nil {
		return err
	}
	return u.forget()
}

// begin goes on with the upload that the memo names, or begins one.
func (u *partsUpload) begin(ctx context.Context) error {
	u.memo = u.recall()
	if u.memo.UploadID != "" {
		_, err := u.host.call(ctx, http.MethodGet, partsPath+"/"+url.PathEscape(u.memo.UploadID), nil, nil, &u.begun)
		var refused *apiError
		switch {
		case err == nil:
			for _, part := range u.begun.Received {
				u.memo.ETags[part.Number] = part.ETag
			}
			fmt.Fprintf(u.Stderr, "rivergate: going on with an upload that was interrupted: %d of %d parts are there\n", len(u.memo.ETags), u.begun.PartsCount)
			return nil
		case !errors.As(err, &refused) || refused.Status != http.StatusNotFound && refused.Status != http.StatusGone:
			return err
		}
	}
	u.memo = uploadMemo{ETags: map[int]string{}}
	body := map[string]any{"file_name": filepath.Base(u.name), "size": u.info.Size()}
	for field, value := range map[string]string{"path": u.options.folder, "file_category": u.options.category, "content_type": u.options.contentType} {
		if value != "" {
			body[field] = value
		}
	}
	if _, err := u.host.call(ctx, http.MethodPost, partsPath, nil, body, &u.begun); err != nil {
		return err
	}
	u.memo.UploadID = u.begun.UploadID
	return u.remember()
}

func (u *partsUpload) sendParts(ctx context.Context) error {
	progress := newProgress(u.Stderr, u.info.Size())
	var done int64
	for number := range u.memo.ETags {
		done += u.partLength(number)
	}
	var bar sync.Mutex
	moved := func(n int64) {
		bar.Lock()
		defer bar.Unlock()
		done += n
		progress.bytes(done, filepath.Base(u.name))
	}
	moved(0)
	defer progress.end()

	sending, ctx := errgroup.WithContext(ctx)
	sending.SetLimit(u.options.parallel)
	for number := 1; number <= u.begun.PartsCount; number++ {
		u.mu.Lock()
		_, there := u.memo.ETags[number]
		u.mu.Unlock()
		if there {
			continue
		}
		if ctx.Err() != nil {
			break
		}
		sending.Go(func() error { return u.sendPart(ctx, number, moved) })
	}
	return sending.Wait()
}

func (u *partsUpload) partLength(number int) int64 {
	from := int64(number-1) * u.begun.PartSize
	return max(0, min(u.begun.PartSize, u.info.Size()-from))
}

// sendPart sends one part, and again when that fails in passing.
func (u *partsUpload) sendPart(ctx context.Context, number int, moved func(int64)) error {
	var tag string
	err := u.again(ctx, func() (err error) {
		var sent int64
		if tag, err = u.tryPart(ctx, number, func(n int64) { sent += n; moved(n) }); err != nil {
			moved(-sent)
		}
		return err
	}, http.StatusForbidden) // a URL that ran out
	if err != nil {
		return fmt.Errorf("part %d of %d: %w", number, u.begun.PartsCount, err)
	}
	u.mu.Lock()
	defer u.mu.Unlock()
	u.memo.ETags[number] = tag
	return u.remember()
}

// again does something, up to tries times, with growing pauses, while it fails in passing: without an answer, with 408, 429 or 5xx, or
// with one of the statuses in passing.
func (u *partsUpload) again(ctx context.Context, do func() error, passing ...int) error {
	passing = append(passing, http.StatusRequestTimeout, http.StatusTooManyRequests)
	for try, pause := 1, firstBackoff; ; try, pause = try+1, min(2*pause, longBackoff) {
		err := do()
		var refused *apiError
		final := errors.As(err, &refused) && refused.Status < 500 && !slices.Contains(passing, refused.Status)
		if err == nil || final || try == tries || ctx.Err() != nil {
			return err
		}
		if refused != nil {
			pause = max(pause, refused.RetryAfter)
		}
		if err := u.Wait(ctx, pause/2+rand.N(pause/2+1)); err != nil {
			return err
		}
	}
}

func (u *partsUpload) tryPart(ctx context.Context, number int, moved func(int64)) (tag string, err error) {
	var at struct {
		URL     string            `json:"url"`
		Headers map[string]string `json:"headers"`
	}
	path := partsPath + "/" + url.PathEscape(u.begun.UploadID) + "/parts/" + strconv.Itoa(number) + "/presigned-url"
	if _, err := u.host.call(ctx, http.MethodGet, path, nil, nil, &at); err != nil {
		return "", err
	}
	length := u.partLength(number)
	part := io.NewSectionReader(u.file, int64(number-1)*u.begun.PartSize, length)
	request, err := http.NewRequestWithContext(ctx, http.MethodPut, at.URL, &sentReader{part, moved})
	if err != nil {
		return "", errors.New("the host gave an upload URL that is none")
	}
	request.ContentLength = length
	for name, value := range at.Headers {
		request.Header.Set(name, value)
	}
	answer, err := u.host.send(ctx, u.host.slow, request)
	if err != nil {
		return "", err
	}
	_, _ = io.Copy(io.Discard, io.LimitReader(answer.Body, 1<<20)) // so that the connection can be used again
	_ = answer.Body.Close()
	return answer.Header.Get("ETag"), nil
}

// sentReader tells of the bytes that are read from it.
type sentReader struct {
	io.Reader
	moved func(int64)
}

func (r *sentReader) Read(p []byte) (int, error) {
	n, err := r.Reader.Read(p)
	r.moved(int64(n))
	return n, err
}

// complete makes the file. It may be repeated until it has answered.
func (u *partsUpload) complete(ctx context.Context) error {
	if now, err := os.Stat(u.name); err != nil || now.Size() != u.info.Size() || !now.ModTime().Equal(u.info.ModTime()) {
		_, abort := u.host.call(ctx, http.MethodDelete, partsPath+"/"+url.PathEscape(u.begun.UploadID), nil, nil, nil)
		return errors.Join(fmt.Errorf("%s was changed while it was sent; nothing is kept of it", u.name), abort, u.forget())
	}
	type part struct {
		Number int    `json:"part_number"`
		ETag   string `json:"etag"`
	}
	parts := make([]part, 0, len(u.memo.ETags))
	for number, tag := range u.memo.ETags {
		parts = append(parts, part{number, tag})
	}
	slices.SortFunc(parts, func(a, b part) int { return cmp.Compare(a.Number, b.Number) })
	path := partsPath + "/" + url.PathEscape(u.begun.UploadID) + "/complete"
	err := u.again(ctx, func() error {
		_, err := u.host.call(ctx, http.MethodPost, path, nil, map[string]any{"parts": parts}, u.answer)
		return err
	})
	var refused *apiError
	if err != nil && !errors.As(err, &refused) {
		return &exitError{code: exitFailed, err: fmt.Errorf("complete the upload, of which all parts are there: %w", err), hint: "The same command goes on from there."}
	}
	return err
}

// memoPath is where the memo of this file to this host lies.
func (u *partsUpload) memoPath() string {
	cache, err := os.UserCacheDir()
	if err != nil {
		return ""
	}
	whole, err := filepath.Abs(u.name)
	if err != nil {
		return ""
	}
	key, err := json.Marshal([]any{
		u.host.base, u.host.org, u.host.user, whole, u.info.Size(), u.info.ModTime().UnixNano(), u.options.folder, u.options.category, u.options.contentType,
	})
	if err != nil {
		return ""
	}
	sum := sha256.Sum256(key)
	return filepath.Join(cache, "rivergate", "uploads", hex.EncodeToString(sum[:16])+".json")
}

func (u *partsUpload) recall() (memo uploadMemo) {
	if raw, err := os.ReadFile(u.path); err == nil {
		_ = json.Unmarshal(raw, &memo) // of a memo that is torn nothing is left to go on with
	}
	if memo.ETags == nil {
		memo.ETags = map[int]string{}
	}
	return memo
}

// remember writes the memo; the caller holds mu, or is alone.
func (u *partsUpload) remember() error {
	if u.path == "" {
		return nil
	}
	raw, err := json.Marshal(u.memo)
	if err != nil {
		return fmt.Errorf("remember the upload: %w", err)
	}
	fresh := u.path + ".new"
	if err := errors.Join(os.MkdirAll(filepath.Dir(u.path), 0o700), os.WriteFile(fresh, raw, 0o600), os.Rename(fresh, u.path)); err != nil {
		return fmt.Errorf("remember the upload: %w", err)
	}
	return nil
}

func (u *partsUpload) forget() error {
	if err := os.Remove(u.path); u.path != "" && err != nil && !errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("forget the upload: %w", err)
	}
	return nil
}
