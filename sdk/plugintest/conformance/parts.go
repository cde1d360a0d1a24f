package conformance

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/rivergate/rivergate/sdk/protocol"
)

// upload is an upload in parts under test.
type upload struct {
	st  *store
	put protocol.Put // with the whole key
	id  string
}

func (st *store) begin(ctx context.Context, key string, onlyNew bool) (*upload, error) {
	ctx, cancel := st.s.within(ctx)
	defer cancel()
	u := &upload{st: st, put: protocol.Put{Key: st.prefix + key, Size: -1, OnlyNew: onlyNew}}
	var err error
	if u.id, err = st.p.client.BeginUpload(ctx, instance, u.put); err != nil {
		return nil, st.p.failed("BeginUpload", err, "begin an upload; nothing is seen of it before CompleteUpload")
	}
	return u, nil
}

func (u *upload) part(ctx context.Context, number int, content []byte) (protocol.Part, error) {
	ctx, cancel := u.st.s.within(ctx)
	defer cancel()
	return u.st.p.client.PutPart(ctx, instance, u.put.Key, u.id, number, int64(len(content)), bytes.NewReader(content))
}

func (u *upload) complete(ctx context.Context, parts ...protocol.Part) error {
	ctx, cancel := u.st.s.within(ctx)
	defer cancel()
	_, err := u.st.p.client.CompleteUpload(ctx, instance, u.put, u.id, parts)
	return err
}

func (u *upload) abort(ctx context.Context) error {
	ctx, cancel := u.st.s.within(ctx)
	defer cancel()
	return u.st.p.client.AbortUpload(ctx, instance, u.put.Key, u.id)
}

// listed tells whether ListUploads knows the upload.
func (u *upload) listed(ctx context.Context) (bool, error) {
	ctx, cancel := u.st.s.within(ctx)
	defer cancel()
	var after protocol.Upload
	for {
		page, more, err := u.st.p.client.ListUploads(ctx, instance, u.st.prefix, after, 2)
		if err != nil {
			return false, u.st.p.failed("ListUploads", err, "list uploads that were begun and neither completed nor aborted, by key")
		}
		for _, found := range page {
			if after = found; found.Key == u.put.Key && found.ID == u.id {
				return true, nil
			}
		}
		if !more {
			return false, nil
		}
	}
}

func checkMultipart(ctx context.Context, s *suite) error {
	return s.onStore(ctx, "multipart", func(st *store) error {
		if !st.abilities.Multipart {
			return skipf("it takes no parts")
		}
		const change = "keep the parts apart from objects, and make the object of them in one step, in the order of their numbers"
		size := int(max(st.abilities.MinPart, 1<<20))
		u, err := st.begin(ctx, "object", false)
		if err != nil {
			return err
		}
		other, err := st.begin(ctx, "object", false)
		if err != nil {
			return err
		}
		third, err := st.begin(ctx, "zone", false)
		if err != nil {
			return err
		}
		if u.id == other.id {
			return fail("a name of its own for each upload", "the same one twice", change)
		}
		contents := map[int][]byte{1: data(1, size), 2: data(2, size+77), 7: data(3, 12345)}
		kept := map[int]protocol.Part{}
		for _, number := range []int{7, 1, 2, 1} { // in any order, and one again
			content := contents[number]
			if number == 1 && len(kept) < 2 {
				content = data(9, size)
			}
			if kept[number], err = u.part(ctx, number, content); err != nil {
				return st.p.failed(fmt.Sprintf("PutPart %d of %d bytes", number, len(content)), err, change)
			}
		}
		if err := st.absent(ctx, "object", "its upload is not completed"); err != nil {
			return err
		}
		for _, each := range []*upload{u, other, third} {
			if there, err := each.listed(ctx); err != nil || !there {
				return st.unlike("an upload that goes on among ListUploads", "ListUploads without it", err, change)
			}
		}
		if err := u.complete(ctx, kept[1], kept[2], kept[7]); err != nil {
			return st.p.failed("CompleteUpload", err, change)
		}
		want := slices.Concat(contents[1], contents[2], contents[7])
		if err := st.holds(ctx, "object", want); err != nil {
			return addChange(err, change)
		}
		if there, err := u.listed(ctx); err != nil || there {
			return st.unlike("no completed upload among ListUploads", "ListUploads with it", err, change)
		}
		// Some backends remember what they have completed, and say so again.
		if err := u.complete(ctx, kept[1], kept[2], kept[7]); err != nil && !errors.Is(err, protocol.ErrNotFound) {
			return st.unlike("ErrNotFound for an upload that was completed, or the same object", "CompleteUpload", err, change)
		}
		if err := st.holds(ctx, "object", want); err != nil {
			return during(err, "its upload was completed twice")
		}
		if _, err := u.part(ctx, 1, contents[7]); !errors.Is(err, protocol.ErrNotFound) {
			return st.unlike("ErrNotFound for an upload that was completed", "PutPart", err, change)
		}
		for _, each := range []*upload{other, third, other} {
			if err := each.abort(ctx); err != nil {
				return st.p.failed("AbortUpload", err, "forget the upload; one that is not there needs no forgetting")
			}
		}
		if there, err := other.listed(ctx); err != nil || there {
			return st.unlike("no aborted upload among ListUploads", "ListUploads with it", err, change)
		}
		if err := st.holds(ctx, "object", want); err != nil {
			return during(err, "another upload of the key was aborted")
		}
		return st.conditionalParts(ctx, want, change)
	})
}

// conditionalParts completes an upload that may only make a new object.
func (st *store) conditionalParts(ctx context.Context, former []byte, change string) error {
	for key, exists := range map[string]bool{"object": true, "other": false} {
		u, err := st.begin(ctx, key, true)
		if err != nil {
			return err
		}
		content := data(5, 1000)
		part, err := u.part(ctx, 1, content)
		if err != nil {
			return st.p.failed("PutPart", err, change)
		}
		err = u.complete(ctx, part)
		switch {
		case exists && !errors.Is(err, protocol.ErrPrecondition):
			return st.unlike("ErrPrecondition for CompleteUpload with OnlyNew, where there is an object", "CompleteUpload", err, change)
		case exists:
			err = errors.Join(u.abort(ctx), st.holds(ctx, key, former))
		case err == nil:
			err = st.holds(ctx, key, content)
		}
		if err != nil {
			return during(st.p.failed("an upload with OnlyNew", err, change), "OnlyNew")
		}
	}
	return nil
}

// fetch uses a URL as a client would.
func (st *store) fetch(ctx context.Context, method, address string, header map[string]string, body []byte) (int, []byte, http.Header, error) {
	ctx, cancel := st.s.within(ctx)
	defer cancel()
	request, err := http.NewRequestWithContext(ctx, method, address, bytes.NewReader(body))
	if err != nil {
		return 0, nil, nil, fail("a URL", oneLine(err.Error()), "give a whole URL")
	}
	for name, value := range header {
		request.Header.Set(name, value)
	}
	transport := &http.Transport{}
	defer transport.CloseIdleConnections()
	answer, err := (&http.Client{Transport: transport}).Do(request)
	if err != nil {
		return 0, nil, nil, fail("an answer from the URL", oneLine(err.Error()), "give a URL that clients can reach")
	}
	got, err := io.ReadAll(answer.Body)
	_ = answer.Body.Close()
	if err != nil {
		return 0, nil, nil, fail("an answer from the URL", oneLine(err.Error()), "give a URL that clients can reach")
	}
	return answer.StatusCode, got, answer.Header, nil
}

const presignChange = "sign method, key, expiry and content type, and nothing of a body; say when it really ends"

func (st *store) sign(ctx context.Context, r protocol.Presign) (protocol.Presigned, error) {
	ctx, cancel := st.s.within(ctx)
	defer cancel()
	r.Key = st.prefix + r.Key
	if r.Expires == 0 {
		r.Expires = time.Minute
	}
	asked := time.Now()
	signed, err := st.p.client.Presign(ctx, instance, r)
	if err != nil {
		return signed, st.p.failed("Presign of "+r.Method, err, presignChange)
	}
	if signed.Expires.After(asked.Add(r.Expires + 5*time.Second)) {
		return signed, fail("an end no later than was asked for", signed.Expires.String(), presignChange)
	}
	return signed, nil
}

// refused demands that a request by a URL is refused.
func (st *store) refused(ctx context.Context, why, method, address string, header map[string]string, body []byte) error {
	status, _, _, err := st.fetch(ctx, method, address, header, body)
	if err != nil {
		return err
	}
	if status < 400 || status >= 500 {
		return fail("a refusal (4xx) of "+why, fmt.Sprintf("status %d", status), presignChange)
	}
	return nil
}

func checkPresign(ctx context.Context, s *suite) error {
	return s.onStore(ctx, "presign", func(st *store) error {
		if !st.abilities.Presign {
			return skipf("it signs no URLs")
		}
		content := data(1, 100_000)
		if _, err := st.keep(ctx, "käse & brot+1.bin", content); err != nil {
			return err
		}
		get := protocol.Presign{Method: http.MethodGet, Key: "käse & brot+1.bin", Size: -1, ContentType: "text/x-cheese", FileName: "Käse.txt"}
		signed, err := st.sign(ctx, get)
		if err != nil {
			return err
		}
		status, got, header, err := st.fetch(ctx, http.MethodGet, signed.URL, signed.Header, nil)
		if err != nil {
			return err
		}
		unlike, err := differ(bytes.NewReader(got), content)
		if err != nil || status != http.StatusOK || unlike != "" {
			return fail("the object by its URL", fmt.Sprintf("status %d, %s", status, cmp.Or(unlike, "the same")), presignChange)
		}
		if header.Get("Content-Type") != get.ContentType || !strings.Contains(header.Get("Content-Disposition"), "attachment") {
			return fail("the content type and the file name that were asked for", fmt.Sprintf("%q, %q", header.Get("Content-Type"), header.Get("Content-Disposition")), presignChange)
		}
		if err := st.misused(ctx, signed); err != nil {
			return err
		}
		if err := st.putByURL(ctx); err != nil {
			return err
		}
		if err := st.partByURL(ctx); err != nil {
			return err
		}
		get.Expires = time.Second
		if signed, err = st.sign(ctx, get); err != nil {
			return err
		}
		timer := time.NewTimer(time.Until(signed.Expires) + 2*time.Second)
		defer timer.Stop()
		select {
		case <-timer.C:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
		return st.refused(ctx, "a URL that has expired", http.MethodGet, signed.URL, signed.Header, nil)
	})
}

// misused uses a URL for what it was not signed for.
func (st *store) misused(ctx context.Context, signed protocol.Presigned) error {
	for _, method := range []string{http.MethodPut, http.MethodDelete} {
		if err := st.refused(ctx, method+" by a URL for GET", method, signed.URL, signed.Header, []byte("x")); err != nil {
			return err
		}
	}
	at, err := url.Parse(signed.URL)
	if err != nil {
		return fail("a URL", oneLine(err.Error()), presignChange)
	}
	changed := *at
	changed.Path, changed.RawPath = at.Path+"x", ""
	if err := st.refused(ctx, "a URL with another key", http.MethodGet, changed.String(), signed.Header, nil); err != nil {
		return err
	}
	// The last character of each parameter in turn: the signature is one of them.
	query := at.Query()
	for name := range query {
		value := query.Get(name)
		if value == "" {
			continue
		}
		other := byte('0')
		if value[len(value)-1] == '0' {
			other = '1'
		}
		altered := at.Query()
		altered.Set(name, value[:len(value)-1]+string(other))
		changed := *at
		changed.RawQuery = altered.Encode()
		if err := st.refused(ctx, "a URL with another "+name, http.MethodGet, changed.String(), signed.Header, nil); err != nil {
			return err
		}
	}
	return nil
}

func (st *store) putByURL(ctx context.Context) error {
	content := data(2, 50_000)
	signed, err := st.sign(ctx, protocol.Presign{Method: http.MethodPut, Key: "put", ContentType: "text/plain", Size: int64(len(content))})
	if err != nil {
		return err
	}
	if err := st.refused(ctx, "another content type than was signed", http.MethodPut, signed.URL, with(signed.Header, "Content-Type", "text/html"), content); err != nil {
		return err
	}
	if err := st.absent(ctx, "put", "its PUT was refused"); err != nil {
		return err
	}
	status, _, _, err := st.fetch(ctx, http.MethodPut, signed.URL, with(signed.Header, "Content-Type", "text/plain"), content)
	if err != nil {
		return err
	}
	if status != http.StatusOK {
		return fail("a PUT by its URL", fmt.Sprintf("status %d", status), presignChange)
	}
	return st.holds(ctx, "put", content)
}

func with(header map[string]string, name, value string) map[string]string {
	out := map[string]string{}
	for n, v := range header {
		out[n] = v
	}
	out[name] = value
	return out
}

func (st *store) partByURL(ctx context.Context) error {
	if !st.abilities.Multipart {
		return nil
	}
	u, err := st.begin(ctx, "parts", false)
	if err != nil {
		return err
	}
	content := data(3, 70_000)
	signed, err := st.sign(ctx, protocol.Presign{Method: http.MethodPut, Key: "parts", Size: -1, Upload: u.id, Part: 1})
	if err != nil {
		return err
	}
	status, _, header, err := st.fetch(ctx, http.MethodPut, signed.URL, signed.Header, content)
	if err != nil {
		return err
	}
	etag := strings.Trim(header.Get("ETag"), `"`)
	if status != http.StatusOK || etag == "" {
		return fail("a PUT of a part by its URL, answered with an ETag", fmt.Sprintf("status %d, ETag %q", status, etag), presignChange)
	}
	if err := u.complete(ctx, protocol.Part{Number: 1, ETag: etag, Size: int64(len(content))}); err != nil {
		return st.p.failed("CompleteUpload of a part that was put by its URL", err, presignChange)
	}
	return st.holds(ctx, "parts", content)
}
