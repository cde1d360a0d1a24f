package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"mime/multipart"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/minio/minio-go/v7"

	"github.com/rivergate/rivergate/host/e2e/rig"
)

const (
	largeFile = 128 << 20
	smallFile = 64 << 10
	// smallFiles is how many small files one round uploads, one after another.
	smallFiles = 200
	mebibyte   = 1 << 20
)

// storageEnv lets files be as large as those that are measured.
var storageEnv = map[string]string{"RIVERGATE_STORAGE_MAX_FILE": "1GiB", "RIVERGATE_STORAGE_QUOTA": "1TiB", "RIVERGATE_GATEWAY_HOLD": "true"}

// filesOf makes bytes that no compression makes smaller.
func filesOf(size int) []byte {
	b := make([]byte, size)
	source := rand.NewChaCha8([32]byte{1})
	_, _ = source.Read(b) // never fails
	return b
}

// transfer is what a store of files can do for the measurement; each call returns how long it took.
type transfer struct {
	put func(ctx context.Context, name string, content []byte) (time.Duration, error)
	get func(ctx context.Context, name string, size int) (time.Duration, error)
	// remove is not timed.
	remove func(ctx context.Context, name string) error
}

// side is a store that is compared with others.
type side struct {
	name string
	with func(context.Context, func(transfer) error) (dir string, err error)
}

// storage compares uploads and downloads through the host and the plugin local, encrypted as by default, with a plain handler that writes to
// the same disk and reads from it.
func (b *bench) storage(ctx context.Context) error {
	sides := []side{
		{"plain", b.withPlain},
		{"host", func(ctx context.Context, f func(transfer) error) (string, error) { return b.withStorage(ctx, nil, f) }},
		{"without encryption", func(ctx context.Context, f func(transfer) error) (string, error) {
			return b.withStorage(ctx, map[string]string{"RIVERGATE_STORAGE_ENCRYPTION": "off"}, f)
		}},
	}
	b.say("files of 64 KiB, p50")
	small, err := b.small(ctx, sides)
	if err != nil {
		return err
	}
	b.say("files of 128 MiB")
	large, err := b.large(ctx, sides)
	if err != nil {
		return err
	}

	for i, what := range []string{"upload of 128 MiB", "download of 128 MiB"} {
		plain, host, open := large[0][i], large[1][i], large[2][i]
		b.report.add(figure{Name: "plain handler: " + what, Unit: "MiB/s", Runs: plain})
		b.report.add(figure{Name: "host and storage-local: " + what, Unit: "MiB/s", Runs: host})
		b.report.add(figure{Name: "… without encryption", Unit: "MiB/s", Runs: open})
		ratio := 100 * host.median() / plain.median()
		b.report.add(figure{Name: what + " against the plain handler", Unit: "%", Value: ratio, Noise: plain.noise() + host.noise(), Target: "≥ 60", Met: met(ratio >= 60)})
	}
	for i, what := range []string{"upload of 64 KiB", "download of 64 KiB"} {
		plain, host := small[0][i], small[1][i]
		added := host.median() - plain.median()
		b.report.add(figure{Name: what + ": p50 that the host adds", Unit: "ms", Value: added, Noise: plain.noise() + host.noise(), Target: "≤ 2", Met: met(added <= 2)})
	}
	return nil
}

// upDown are the figures of uploads and of downloads, one of each round.
type upDown [2]series

// large measures MiB/s. All sides are there at once and take turns file by file, and each file is removed before the next one: they find the
// same disk and, where a virtual machine gives back the memory that it does not use, the same memory for it.
func (b *bench) large(ctx context.Context, sides []side) (runs []upDown, err error) {
	content, times := filesOf(largeFile), 4
	if b.quick {
		times = 1
	}
	var open []transfer
	measure := func() error {
		runs = make([]upDown, len(sides))
		for _, t := range open {
			if _, err := t.once(ctx, "first.bin", content); err != nil { // not counted
				return err
			}
		}
		for range b.rounds {
			took := make([][2]time.Duration, len(sides))
			for file := range times {
				for turn := range open {
					i := (file + turn) % len(open)
					d, err := open[i].once(ctx, fmt.Sprintf("large-%d.bin", file), content)
					if err != nil {
						return err
					}
					took[i][0], took[i][1] = took[i][0]+d[0], took[i][1]+d[1]
				}
			}
			said := ""
			for i := range sides {
				var speed [2]float64
				for what, d := range took[i] {
					speed[what] = float64(times) * float64(len(content)) / mebibyte / d.Seconds()
					runs[i][what] = append(runs[i][what], speed[what])
				}
				said += fmt.Sprintf("; %s %.4g MiB/s up, %.4g down", sides[i].name, speed[0], speed[1])
			}
			b.say("%s", said[2:])
		}
		return nil
	}
	var within func(rest []side) error
	within = func(rest []side) error {
		if len(rest) == 0 {
			return measure()
		}
		dir, err := rest[0].with(ctx, func(t transfer) error {
			open = append(open, t)
			return within(rest[1:])
		})
		if dir != "" {
			err = errors.Join(err, os.RemoveAll(dir))
		}
		return err
	}
	return runs, within(sides)
}

// once moves a file up and down and removes it.
func (t transfer) once(ctx context.Context, name string, content []byte) (took [2]time.Duration, err error) {
	if took[0], err = t.put(ctx, name, content); err != nil {
		return took, err
	}
	if took[1], err = t.get(ctx, name, len(content)); err != nil {
		return took, err
	}
	return took, t.remove(ctx, name)
}

// small measures p50 in milliseconds, with a new store in each round. The files stay until the last round has ended: ext4 finds a place for a
// new file slowly where many were deleted in the last minutes.
func (b *bench) small(ctx context.Context, sides []side) (runs []upDown, err error) {
	content := filesOf(smallFile)
	runs = make([]upDown, len(sides))
	var left []string
	defer func() {
		for _, dir := range left {
			err = errors.Join(err, os.RemoveAll(dir))
		}
	}()
	for range b.rounds {
		said := ""
		for i, side := range sides {
			dir, err := side.with(ctx, func(t transfer) error {
				up, down, err := t.small(ctx, content)
				runs[i][0], runs[i][1] = append(runs[i][0], up), append(runs[i][1], down)
				said += fmt.Sprintf("; %s %.4g ms up, %.4g down", side.name, up, down)
				return err
			})
			left = append(left, dir)
			if err != nil {
				return nil, err
			}
		}
		b.say("%s", said[2:])
	}
	return runs, nil
}

// small returns medians in milliseconds.
func (t transfer) small(ctx context.Context, content []byte) (up, down float64, err error) {
	var ups, downs []time.Duration
	for i := range smallFiles {
		name := fmt.Sprintf("small-%d.bin", i)
		took, err := t.put(ctx, name, content)
		if err != nil {
			return 0, 0, err
		}
		ups = append(ups, took)
		if took, err = t.get(ctx, name, len(content)); err != nil {
			return 0, 0, err
		}
		downs = append(downs, took)
	}
	return middle(ups), middle(downs), nil
}

func middle(d []time.Duration) float64 {
	slices.Sort(d)
	return float64(d[len(d)/2]) / float64(time.Millisecond)
}

// withPlain runs f against the plain handler, a process of its own, and leaves in dir what that has stored.
func (b *bench) withPlain(ctx context.Context, f func(transfer) error) (dir string, err error) {
	dir, err = os.MkdirTemp(b.dir, "p")
	if err != nil {
		return "", err
	}
	addr, err := rig.FreeAddr(ctx)
	if err != nil {
		return dir, err
	}
	p, err := rig.Spawn(b.self, []string{"plain", addr, dir}, os.Environ(), b.dir, nil, nil, os.Stderr)
	if err != nil {
		return dir, err
	}
	defer p.KillGroup()
	if err := rig.Listening(ctx, addr, p.Done()); err != nil {
		return dir, fmt.Errorf("plain server: %w", err)
	}
	client := &http.Client{}
	defer client.CloseIdleConnections()
	base := "http://" + addr + "/"
	return dir, f(transfer{
		put: func(ctx context.Context, name string, content []byte) (time.Duration, error) {
			return timed(ctx, client, http.MethodPost, base+name, "application/octet-stream", bytes.NewReader(content), http.StatusCreated, nil)
		},
		get: func(ctx context.Context, name string, size int) (time.Duration, error) {
			return timedGet(ctx, client, base+name, size)
		},
		remove: func(_ context.Context, name string) error { return os.Remove(filepath.Join(dir, name)) },
	})
}

// withStorage runs f against a fresh host, and leaves its data in dir.
func (b *bench) withStorage(ctx context.Context, env map[string]string, f func(transfer) error) (dir string, err error) {
	all := map[string]string{}
	for _, from := range []map[string]string{storageEnv, env} {
		for name, value := range from {
			all[name] = value
		}
	}
	return b.onHost(ctx, all, func(h *rig.Host) error { return f(throughHost(h)) })
}

func throughHost(h *rig.Host) transfer {
	client := &http.Client{}
	base := "http://" + h.Addr + "/api/v1/storage/"
	names := map[string]string{} // of objects
	var body []byte              // of the last upload: the memory is used again
	address := func(name string) string {
		at := url.URL{Path: names[name]}
		return base + "objects/" + at.EscapedPath()
	}
	return transfer{
		put: func(ctx context.Context, name string, content []byte) (time.Duration, error) {
			var frame bytes.Buffer
			form := multipart.NewWriter(&frame)
			if err := form.WriteField("file_category", "general"); err != nil {
				return 0, err
			}
			if _, err := form.CreateFormFile("file", name); err != nil {
				return 0, err
			}
			head := frame.Len()
			if err := form.Close(); err != nil {
				return 0, err
			}
			// One piece, as the body of what it is compared with: of three, net/http would send each by itself.
			body = append(append(append(body[:0], frame.Bytes()[:head]...), content...), frame.Bytes()[head:]...)
			var answer struct {
				Data struct {
					Path string `json:"file_path"`
				} `json:"data"`
			}
			took, err := timed(ctx, client, http.MethodPost, base+"upload", form.FormDataContentType(), bytes.NewReader(body), http.StatusCreated, &answer)
			names[name] = answer.Data.Path
			return took, err
		},
		get: func(ctx context.Context, name string, size int) (time.Duration, error) {
			return timedGet(ctx, client, address(name), size)
		},
		remove: func(ctx context.Context, name string) error {
			request, err := http.NewRequestWithContext(ctx, http.MethodDelete, address(name), nil)
			if err == nil {
				_, err = timedRequest(client, request, http.StatusOK, nil)
			}
			return err
		},
	}
}

// timed makes one request and reads its answer.
func timed(ctx context.Context, client *http.Client, method, address, contentType string, body io.Reader, want int, into any) (time.Duration, error) {
	request, err := http.NewRequestWithContext(ctx, method, address, body)
	if err != nil {
		return 0, err
	}
	request.Header.Set("Content-Type", contentType)
	return timedRequest(client, request, want, into)
}

func timedRequest(client *http.Client, request *http.Request, want int, into any) (time.Duration, error) {
	begun := time.Now()
	answer, err := client.Do(request)
	if err != nil {
		return 0, err
	}
	defer answer.Body.Close()
	said, err := io.ReadAll(answer.Body)
	took := time.Since(begun)
	if err != nil {
		return 0, err
	}
	if answer.StatusCode != want {
		return 0, fmt.Errorf("%s %s answered %d: %.300s", request.Method, request.URL, answer.StatusCode, said)
	}
	if into != nil {
		return took, json.Unmarshal(said, into)
	}
	return took, nil
}

func timedGet(ctx context.Context, client *http.Client, address string, size int) (time.Duration, error) {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, address, nil)
	if err != nil {
		return 0, err
	}
	begun := time.Now()
	answer, err := client.Do(request)
	if err != nil {
		return 0, err
	}
	defer answer.Body.Close()
	n, err := io.CopyBuffer(io.Discard, onlyReader{answer.Body}, make([]byte, mebibyte))
	took := time.Since(begun)
	if err == nil && (answer.StatusCode != http.StatusOK || n != int64(size)) {
		err = fmt.Errorf("GET %s answered %d with %d of %d bytes", address, answer.StatusCode, n, size)
	}
	return took, err
}

// onlyReader keeps io.Copy to the buffer that it was given.
type onlyReader struct{ io.Reader }

// storageS3 compares uploads and downloads through the host and the plugin s3 with minio-go straight to the same server.
func (b *bench) storageS3(ctx context.Context) (err error) {
	text := os.Getenv(s3Variable)
	if text == "" {
		return fmt.Errorf("no server: run it as `make bench`, or set %s", s3Variable)
	}
	store, err := openS3(text)
	if err != nil {
		return err
	}
	const throughBucket, directBucket = "rivergate-bench-files", "rivergate-bench-direct"
	defer func() {
		done, cancel := context.WithTimeout(context.WithoutCancel(ctx), 30*time.Second)
		defer cancel()
		err = errors.Join(err, store.remove(done, throughBucket), store.remove(done, directBucket))
	}()
	for _, bucket := range []string{directBucket, throughBucket} {
		if err := store.renew(ctx, bucket); err != nil {
			return err
		}
	}
	runs, err := b.large(ctx, []side{
		{"minio-go", func(_ context.Context, f func(transfer) error) (string, error) {
			return "", f(store.direct(directBucket))
		}},
		{"host", func(ctx context.Context, f func(transfer) error) (string, error) {
			return b.withStorage(ctx, map[string]string{
				"RIVERGATE_STORAGE": "s3", "PLUGIN_STORAGE_S3_URL": "http://" + store.address, "PLUGIN_STORAGE_S3_BUCKET": throughBucket,
				"PLUGIN_STORAGE_S3_REGION": "us-east-1", "PLUGIN_STORAGE_S3_ACCESS_KEY": store.key, "PLUGIN_STORAGE_S3_SECRET_KEY": store.secret,
			}, f)
		}},
	})
	if err != nil {
		return err
	}
	for i, what := range []string{"upload of 128 MiB", "download of 128 MiB"} {
		direct, host := runs[0][i], runs[1][i]
		b.report.add(figure{Name: "minio-go straight to the server: " + what, Unit: "MiB/s", Runs: direct})
		b.report.add(figure{Name: "host and storage-s3: " + what, Unit: "MiB/s", Runs: host})
		ratio := 100 * host.median() / direct.median()
		b.report.add(figure{Name: what + " against minio-go", Unit: "%", Value: ratio, Noise: direct.noise() + host.noise(), Target: "≥ 80", Met: met(ratio >= 80)})
	}
	return nil
}

// direct moves files without the host.
func (s *s3Store) direct(bucket string) transfer {
	return transfer{
		put: func(ctx context.Context, name string, content []byte) (time.Duration, error) {
			begun := time.Now()
			_, err := s.PutObject(ctx, bucket, name, bytes.NewReader(content), int64(len(content)), minio.PutObjectOptions{ContentType: "application/octet-stream"})
			return time.Since(begun), err
		},
		get: func(ctx context.Context, name string, size int) (time.Duration, error) {
			begun := time.Now()
			object, err := s.GetObject(ctx, bucket, name, minio.GetObjectOptions{})
			if err != nil {
				return 0, err
			}
			defer object.Close()
			n, err := io.CopyBuffer(io.Discard, onlyReader{object}, make([]byte, mebibyte))
			if err == nil && n != int64(size) {
				err = fmt.Errorf("%d of %d bytes came back", n, size)
			}
			return time.Since(begun), err
		},
		remove: func(ctx context.Context, name string) error {
			return s.RemoveObject(ctx, bucket, name, minio.RemoveObjectOptions{})
		},
	}
}
