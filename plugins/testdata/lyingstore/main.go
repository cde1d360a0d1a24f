// Command lyingstore is a storage that keeps the contract but for the one rule that its variable LIE breaks.
package main

import (
	"bytes"
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/rivergate/rivergate/sdk"
)

// store keeps an object in a file whose name is the key in hex, which bounds the length of a key.
type store struct {
	Path string `config:"path" required:"true" doc:"Folder of the objects."`

	reads reads
}

func lies(how string) bool { return os.Getenv("LIE") == how }

const tempSuffix = ".part"

func (s *store) Open(context.Context, sdk.Env) error {
	if err := os.MkdirAll(s.Path, 0o700); err != nil {
		return err
	}
	temps, err := filepath.Glob(filepath.Join(s.Path, "*"+tempSuffix))
	for _, temp := range temps {
		parts := strings.Split(filepath.Base(temp), ".") // key, number, process
		pid, _ := strconv.Atoi(parts[2])
		dead := syscall.Kill(pid, 0) != nil
		switch {
		case dead && lies("salvages"):
			err = errors.Join(err, os.Rename(temp, filepath.Join(s.Path, parts[0])))
		case dead || lies("sweeps"):
			err = errors.Join(err, os.Remove(temp))
		}
	}
	return err
}

func (s *store) file(key string) (string, error) {
	if lies("folds") {
		key = strings.ToLower(key)
	}
	if len(key) > 100 {
		return "", fmt.Errorf("%w: it is too long", sdk.ErrKey)
	}
	return filepath.Join(s.Path, hex.EncodeToString([]byte(key))), nil
}

func (s *store) Put(_ context.Context, put sdk.Put, body io.Reader) (sdk.Object, error) {
	if put.Tier != "" && put.Tier != sdk.TierHot {
		return sdk.Object{}, sdk.ErrUnsupported
	}
	name, err := s.file(put.Key)
	if err != nil {
		return sdk.Object{}, err
	}
	temp, err := os.CreateTemp(s.Path, filepath.Base(name)+".*."+strconv.Itoa(os.Getpid())+tempSuffix)
	if err != nil {
		return sdk.Object{}, err
	}
	defer os.Remove(temp.Name())
	if err := errors.Join(s.fill(temp, body), temp.Close()); err != nil {
		return sdk.Object{}, err
	}
	switch {
	case put.OnlyNew && !lies("careless"):
		if err := os.Link(temp.Name(), name); errors.Is(err, fs.ErrExist) {
			return sdk.Object{}, sdk.ErrPrecondition
		} else if err != nil {
			return sdk.Object{}, err
		}
	case lies("in-place"):
		err = s.overwrite(name, temp.Name())
	default:
		err = os.Rename(temp.Name(), name)
	}
	if err != nil {
		return sdk.Object{}, err
	}
	return s.describe(put.Key, name)
}

func (s *store) fill(temp io.Writer, body io.Reader) error {
	if lies("hoards") {
		all, err := io.ReadAll(body)
		if err != nil {
			return err
		}
		body = bytes.NewReader(all)
	}
	_, err := io.Copy(temp, body)
	if lies("truncates") {
		return nil
	}
	return err
}

// overwrite changes an object while others read it: half of it, and the rest when somebody has seen that, or nobody reads.
func (s *store) overwrite(name, from string) error {
	source, err := os.Open(from)
	if err != nil {
		return err
	}
	defer source.Close()
	info, err := source.Stat()
	if err != nil {
		return err
	}
	_, missing := os.Stat(name)
	file, err := os.OpenFile(name, os.O_WRONLY|os.O_CREATE, 0o600)
	if err != nil {
		return err
	}
	defer file.Close()
	half := info.Size() / 2
	if _, err := io.CopyN(file, source, half); err != nil {
		return err
	}
	if missing == nil && half > 1<<19 {
		s.reads.wait(time.Second)
	}
	_, err = io.Copy(file, source)
	return errors.Join(err, file.Truncate(info.Size()))
}

// reads tells writers of readers who have come and gone.
type reads struct {
	mu      sync.Mutex
	waiting []chan struct{}
}

// wait returns when a reader who comes from now on has read, or after the time.
func (r *reads) wait(most time.Duration) {
	seen := make(chan struct{})
	r.mu.Lock()
	r.waiting = append(r.waiting, seen)
	r.mu.Unlock()
	select {
	case <-seen:
	case <-time.After(most):
	}
}

// watch returns a reader whose end those learn of who wait now.
func (r *reads) watch(content io.ReadCloser) io.ReadCloser {
	r.mu.Lock()
	defer r.mu.Unlock()
	waiting := r.waiting
	r.waiting = nil
	return &watched{content, waiting}
}

type watched struct {
	io.ReadCloser
	waiting []chan struct{}
}

func (w *watched) Close() error {
	for _, seen := range w.waiting {
		close(seen)
	}
	w.waiting = nil
	return w.ReadCloser.Close()
}

func (s *store) describe(key, name string) (sdk.Object, error) {
	info, err := os.Stat(name)
	if errors.Is(err, fs.ErrNotExist) {
		return sdk.Object{}, fmt.Errorf("%w: %q", sdk.ErrNotFound, key)
	}
	if err != nil {
		return sdk.Object{}, err
	}
	number := info.Sys().(*syscall.Stat_t).Ino
	return sdk.Object{Key: key, Size: info.Size(), Modified: info.ModTime(), ETag: fmt.Sprintf("%d-%d", number, info.ModTime().UnixNano())}, nil
}

func (s *store) Get(_ context.Context, key string, part sdk.Range) (sdk.Object, io.ReadCloser, error) {
	o, file, err := s.open(key)
	if err != nil {
		return o, nil, err
	}
	if part.From >= o.Size && (part.From > 0 || part.Length >= 0) {
		return o, nil, errors.Join(sdk.ErrRange, file.Close())
	}
	from := part.From
	if lies("off-by-one") && from > 0 {
		from--
	}
	_, err = file.Seek(from, io.SeekStart)
	if lies("swaps") {
		return o, swapped{file}, err
	}
	if lies("in-place") && err == nil {
		return o, s.reads.watch(file), nil
	}
	return o, file, err
}

// open describes the very file that it opens.
func (s *store) open(key string) (sdk.Object, *os.File, error) {
	name, err := s.file(key)
	if err != nil {
		return sdk.Object{}, nil, fmt.Errorf("%w: %w", sdk.ErrNotFound, err)
	}
	file, err := os.Open(name)
	if errors.Is(err, fs.ErrNotExist) {
		return sdk.Object{}, nil, sdk.ErrNotFound
	}
	if err != nil {
		return sdk.Object{}, nil, err
	}
	o, err := s.describe(key, fmt.Sprintf("/proc/self/fd/%d", file.Fd()))
	if err != nil {
		return o, nil, errors.Join(err, file.Close())
	}
	return o, file, nil
}

type swapped struct{ *os.File }

func (s swapped) Read(p []byte) (int, error) {
	n, err := s.File.Read(p)
	for i := range n {
		p[i] ^= 1
	}
	return n, err
}

func (s *store) Stat(_ context.Context, key string) (sdk.Object, error) {
	name, err := s.file(key)
	if err != nil {
		return sdk.Object{}, fmt.Errorf("%w: %w", sdk.ErrNotFound, err)
	}
	return s.describe(key, name)
}

func (s *store) List(_ context.Context, prefix, after string, limit int) (objects []sdk.Object, more bool, err error) {
	entries, err := os.ReadDir(s.Path) // by name, and hex keeps the order
	if err != nil {
		return nil, false, err
	}
	left := lies("skips") && limit < 1000 && after != ""
	for _, e := range entries {
		raw, err := hex.DecodeString(e.Name())
		key := string(raw)
		if err != nil || key <= after || !strings.HasPrefix(key, prefix) {
			continue
		}
		if left {
			left = false
			continue
		}
		if len(objects) == limit {
			return objects, true, nil
		}
		o, err := s.describe(key, filepath.Join(s.Path, e.Name()))
		if errors.Is(err, sdk.ErrNotFound) {
			continue
		}
		if err != nil {
			return nil, false, err
		}
		objects = append(objects, o)
	}
	return objects, false, nil
}

func (s *store) Delete(_ context.Context, key string) error {
	name, err := s.file(key)
	if err != nil {
		return nil //nolint:nilerr // there is no such object
	}
	if err := os.Remove(name); !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}

func (s *store) Copy(ctx context.Context, from string, to sdk.Put) (sdk.Object, error) {
	_, content, err := s.open(from)
	if err != nil {
		return sdk.Object{}, err
	}
	defer content.Close()
	var body io.Reader = content
	if lies("copies-nothing") {
		body = strings.NewReader("")
	}
	return s.Put(ctx, to, body)
}

func (s *store) Abilities() sdk.Abilities { return sdk.Abilities{MaxObject: 1 << 40} }

func main() {
	sdk.Serve(sdk.Plugin{
		Name: "lyingstore", Version: "1.0.0", Summary: "Keeps objects, but for one rule.", Storage: func() sdk.Storage { return new(store) },
	})
}
