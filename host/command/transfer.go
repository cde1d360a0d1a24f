package command

import (
	"bytes"
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"mime"
	"mime/multipart"
	"net/http"
	"net/textproto"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// postFile uploads a file as multipart/form-data, streamed, with its length said before.
func (c *cli) postFile(ctx context.Context, host *client, path, name, contentType string, fields map[string]string, into any) error {
	file, err := os.Open(name)
	if err != nil {
		return &exitError{code: exitMistake, err: err}
	}
	defer func() { _ = file.Close() }()
	length, err := fileSize(file)
	if err != nil {
		return &exitError{code: exitMistake, err: err}
	}
	// The fields go first: a host that streams knows them before the bytes come.
	var frame bytes.Buffer
	form := multipart.NewWriter(&frame)
	for _, field := range slices.Sorted(maps.Keys(fields)) {
		_ = form.WriteField(field, fields[field]) // a buffer takes everything
	}
	_, _ = form.CreatePart(fileHeader(filepath.Base(name), contentType))
	head := frame.Len()
	_ = form.Close()
	before, after := frame.Bytes()[:head], frame.Bytes()[head:]

	progress := newProgress(c.Stderr, length)
	body := io.MultiReader(bytes.NewReader(before),
		io.TeeReader(io.LimitReader(file, length), &meter{progress: progress, what: filepath.Base(name)}), bytes.NewReader(after))
	request, err := host.request(ctx, http.MethodPost, path, nil, body, http.Header{"Content-Type": {form.FormDataContentType()}})
	if err != nil {
		return err
	}
	request.ContentLength = int64(frame.Len()) + length
	answer, err := host.send(ctx, host.slow, request)
	progress.end()
	if err != nil {
		return err
	}
	defer answer.Body.Close()
	var envelope struct{ Data json.RawMessage }
	if err := json.NewDecoder(io.LimitReader(answer.Body, maxAnswer)).Decode(&envelope); err != nil {
		return fmt.Errorf("decode answer of %s: %w", path, err)
	}
	if err := json.Unmarshal(envelope.Data, into); err != nil {
		return fmt.Errorf("decode answer of %s: %w", path, err)
	}
	return nil
}

// fileHeader heads the file's part of a form.
func fileHeader(name, contentType string) textproto.MIMEHeader {
	header := textproto.MIMEHeader{"Content-Disposition": {multipart.FileContentDisposition("file", name)}}
	header.Set("Content-Type", cmp.Or(contentType, mime.TypeByExtension(filepath.Ext(name)), "application/octet-stream"))
	return header
}

// download fetches a URL that the host signed, which may be one of another server, into output. The file appears when its bytes have
// the SHA-256.
func (c *cli) download(ctx context.Context, host *client, address, output, want string, length int64) (err error) {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, address, nil)
	if err != nil {
		return errors.New("the host gave a download URL that is none")
	}
	answer, err := host.send(ctx, host.http, request)
	if err != nil {
		return err
	}
	defer answer.Body.Close()
	part := output + ".part"
	file, err := os.Create(part)
	if err != nil {
		return &exitError{code: exitMistake, err: err}
	}
	defer func() { err = errors.Join(err, closeOnce(file)) }()
	digest, progress := sha256.New(), newProgress(c.Stderr, length)
	_, err = io.Copy(io.MultiWriter(file, digest, &meter{progress: progress, what: filepath.Base(output)}), answer.Body)
	progress.end()
	if err == nil {
		if got := hex.EncodeToString(digest.Sum(nil)); want != "" && !strings.EqualFold(got, want) {
			err = fmt.Errorf("it arrived damaged: its SHA-256 is %s, not %s", got, want)
		}
	}
	if err != nil {
		return errors.Join(fmt.Errorf("download %s: %w", filepath.Base(output), err), os.Remove(part))
	}
	if err := errors.Join(file.Sync(), closeOnce(file), os.Rename(part, output)); err != nil {
		return fmt.Errorf("finish %s: %w", output, err)
	}
	return nil
}
