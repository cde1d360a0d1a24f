package pluginstore

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"time"
)

const (
	// MaxBinary bounds a plugin's size, bytes.
	MaxBinary = 1 << 30

	maxRedirects = 5
	stallTime    = 30 * time.Second // without a byte
	fetchTime    = time.Hour        // for all of a download
)

// source is where a file comes from: a path, or a URL.
type source struct {
	path string
	url  *url.URL
}

// parseSource reads a path or an address. http is allowed to this machine only: whoever sits on the way could exchange the
// file, and a hash that came the same way with it.
func parseSource(text string) (source, error) {
	if !strings.Contains(text, "://") {
		abs, err := filepath.Abs(text)
		return source{path: abs}, err
	}
	u, err := url.Parse(text)
	if err != nil {
		return source{}, errors.New("the address cannot be read") // the text may hold credentials
	}
	if err := checkAddress(u); err != nil {
		return source{}, err
	}
	return source{url: u}, nil
}

func checkAddress(u *url.URL) error {
	switch {
	case u.Host == "":
		return fmt.Errorf("%s names no host", label(u))
	case u.Scheme == "https":
		return nil
	case u.Scheme == "http" && loopback(u.Hostname()):
		return nil
	case u.Scheme == "http":
		return fmt.Errorf("%s is not encrypted, so that anybody on the way could exchange the file: https", label(u))
	}
	return fmt.Errorf("%s: only https addresses and files can be installed", label(u))
}

func loopback(host string) bool {
	ip := net.ParseIP(host)
	return host == "localhost" || ip != nil && ip.IsLoopback()
}

// label is an address as it may be shown and kept: without user, password and query, which can hold secrets.
func label(u *url.URL) string {
	return (&url.URL{Scheme: u.Scheme, Host: u.Host, Path: u.Path, RawPath: u.RawPath}).String()
}

// String is what the lock file says of the source.
func (s source) String() string {
	if s.url != nil {
		return label(s.url)
	}
	return s.path
}

// with is the source with something added to its path.
func (s source) with(suffix string) source {
	if s.url == nil {
		return source{path: s.path + suffix}
	}
	u := *s.url
	u.Path += suffix
	if u.RawPath != "" { // an escaped slash stays one
		u.RawPath += suffix
	}
	return source{url: &u}
}

// errNotThere: there is no such file, here or at the other end.
var errNotThere = errors.New("there is no such file")

// fetcher gets files from sources, with bounds.
type fetcher struct {
	client   *http.Client            // nil: the default one
	progress func(read, total int64) // total 0: unknown; nil: nobody looks
	stall    time.Duration           // 0: stallTime
}

// fetch copies a source of at most limit bytes to w.
func (f *fetcher) fetch(ctx context.Context, s source, limit int64, w io.Writer) error {
	ctx, cancel := context.WithTimeoutCause(ctx, fetchTime, fmt.Errorf("took longer than %s", fetchTime))
	defer cancel()
	if s.url == nil {
		return f.read(s, limit, w)
	}
	if err := f.download(ctx, s, limit, w); err != nil {
		return fmt.Errorf("download %s: %w", s, err)
	}
	return nil
}

func (f *fetcher) read(s source, limit int64, w io.Writer) error {
	file, err := os.OpenFile(s.path, os.O_RDONLY|syscall.O_NONBLOCK, 0) // a named pipe does not hold us up
	if errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("%w: %s", errNotThere, s.path)
	}
	if err != nil {
		return err
	}
	defer func() { _ = file.Close() }()
	info, err := file.Stat()
	switch {
	case err != nil:
		return err
	case info.IsDir():
		return fmt.Errorf("%s is a folder, not a program", s.path)
	case !info.Mode().IsRegular():
		return fmt.Errorf("%s is not a regular file", s.path)
	case info.Mode().Perm()&0o002 != 0:
		return fmt.Errorf("%s can be written by everybody, so nobody knows what is in it: chmod o-w it", s.path)
	case info.Size() > limit:
		return fmt.Errorf("%s has %d bytes; at most %d are taken", s.path, info.Size(), limit)
	}
	return f.copy(w, file, limit, info.Size(), func() {})
}

func (f *fetcher) download(ctx context.Context, s source, limit int64, w io.Writer) error {
	stall := f.stall
	if stall == 0 {
		stall = stallTime
	}
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	watch := time.AfterFunc(stall, func() { cancel(fmt.Errorf("nothing came for %s", stall)) })
	defer watch.Stop()

	request, err := http.NewRequestWithContext(ctx, http.MethodGet, s.url.String(), nil)
	if err != nil {
		return errors.New("the address cannot be used")
	}
	answer, err := f.http().Do(request)
	if err != nil {
		return told(ctx, err)
	}
	defer func() { _ = answer.Body.Close() }()
	switch {
	case answer.StatusCode == http.StatusNotFound:
		return fmt.Errorf("%w: the server answered 404", errNotThere)
	case answer.StatusCode != http.StatusOK:
		return fmt.Errorf("the server answered %s", answer.Status)
	case answer.ContentLength > limit:
		return fmt.Errorf("it has %d bytes; at most %d are taken", answer.ContentLength, limit)
	}
	err = f.copy(w, answer.Body, limit, max(answer.ContentLength, 0), func() { watch.Reset(stall) })
	if err != nil {
		return told(ctx, err)
	}
	return nil
}

// told prefers the reason for which we gave up to what came of it, and leaves out the address, which may hold secrets.
func told(ctx context.Context, err error) error {
	if cause := context.Cause(ctx); cause != nil {
		return cause
	}
	var wrapped *url.Error
	if errors.As(err, &wrapped) {
		return wrapped.Err
	}
	return err
}

// http is the client with our rule for redirects.
func (f *fetcher) http() *http.Client {
	c := http.Client{}
	if f.client != nil {
		c = *f.client
	} else {
		transport := http.DefaultTransport.(*http.Transport).Clone()
		transport.DisableCompression = true // what is hashed is what the server has
		transport.DisableKeepAlives = true
		c.Transport = transport
	}
	c.CheckRedirect = func(next *http.Request, via []*http.Request) error {
		if len(via) > maxRedirects {
			return fmt.Errorf("more than %d redirects", maxRedirects)
		}
		if via[len(via)-1].URL.Scheme == "https" && next.URL.Scheme != "https" {
			return fmt.Errorf("redirected from https to %s", label(next.URL))
		}
		if err := checkAddress(next.URL); err != nil {
			return fmt.Errorf("redirected: %w", err)
		}
		return nil
	}
	return &c
}

// copy copies at most limit bytes; more is an error. alive is called whenever something came.
func (f *fetcher) copy(w io.Writer, from io.Reader, limit, total int64, alive func()) error {
	from = io.LimitReader(from, limit+1)
	var read int64
	buffer := make([]byte, 256<<10)
	for {
		n, err := from.Read(buffer)
		if n > 0 {
			alive()
			if _, err := w.Write(buffer[:n]); err != nil {
				return fmt.Errorf("write it to disk: %w", err)
			}
			if read += int64(n); read > limit {
				return fmt.Errorf("it has more than %d bytes, which is the most that is taken", limit)
			}
			if f.progress != nil {
				f.progress(read, total)
			}
		}
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
	}
}
