package main

import (
	"context"
	"fmt"
	"mime"
	"net/http"
	"net/url"
	"strconv"
	"time"

	"github.com/rivergate/rivergate/sdk"
)

// maxExpiry is the most that S3 signs for.
const maxExpiry = 7 * 24 * time.Hour

// Presign signs a URL of the server's own. Nothing of a body is signed: the client has it, and we do not.
func (s *S3) Presign(ctx context.Context, request sdk.Presign) (sdk.Presigned, error) {
	doing := fmt.Sprintf("sign a %s of %q", request.Method, request.Key)
	query, header, err := s.signed(request)
	if err != nil {
		return sdk.Presigned{}, fmt.Errorf("%s: %w", doing, err)
	}
	expires, err := s.expiry(request.Expires)
	if err != nil {
		return sdk.Presigned{}, s.bucket.failure(doing, err)
	}
	began := time.Now()
	signed, err := s.bucket.client.PresignHeader(ctx, request.Method, s.bucket.name, s.bucket.prefix+request.Key, expires, query, header)
	if err != nil {
		return sdk.Presigned{}, s.bucket.failure(doing, err)
	}
	out := sdk.Presigned{URL: signed.String(), Expires: began.Add(expires).Truncate(time.Second).UTC()}
	for name := range header {
		if out.Header == nil {
			out.Header = map[string]string{}
		}
		out.Header[name] = header.Get(name)
	}
	return out, nil
}

// signed is what the signature covers beside method, key and expiry.
func (s *S3) signed(request sdk.Presign) (url.Values, http.Header, error) {
	query, header := url.Values{}, http.Header{}
	switch request.Method {
	case http.MethodGet, http.MethodHead:
		if request.ContentType != "" {
			query.Set("response-content-type", request.ContentType)
		}
		if request.FileName != "" {
			disposition := mime.FormatMediaType("attachment", map[string]string{"filename": request.FileName})
			if disposition == "" {
				return nil, nil, fmt.Errorf("%w: a file cannot be called %q", sdk.ErrUnsupported, request.FileName)
			}
			query.Set("response-content-disposition", disposition)
		}
	case http.MethodPut:
		if request.Size >= 0 {
			header.Set("Content-Length", strconv.FormatInt(request.Size, 10))
		}
		if request.Upload != "" {
			if request.Part < 1 || request.Part > maxParts {
				return nil, nil, fmt.Errorf("%w: parts are numbered from 1 to %d", sdk.ErrUnsupported, maxParts)
			}
			query.Set("uploadId", request.Upload)
			query.Set("partNumber", strconv.Itoa(request.Part))
			return query, header, nil
		}
		if request.ContentType != "" {
			header.Set("Content-Type", request.ContentType)
		}
		if class := s.HotClass; class != "" {
			header.Set("X-Amz-Storage-Class", class)
		}
		if sse := s.bucket.options.ServerSideEncryption; sse != nil {
			sse.Marshal(header)
		}
	default:
		return nil, nil, fmt.Errorf("%w: URLs are for GET, HEAD and PUT", sdk.ErrUnsupported)
	}
	return query, header, nil
}

// expiry is what was asked for, as far as S3 and the credentials allow it: a URL dies with what signed it.
func (s *S3) expiry(asked time.Duration) (time.Duration, error) {
	expires := min(max(asked.Truncate(time.Second), time.Second), maxExpiry)
	login, err := s.bucket.login.GetWithContext(s.bucket.client.CredContext())
	if err != nil {
		return 0, err
	}
	if login.Expiration.IsZero() {
		return expires, nil
	}
	left := time.Until(login.Expiration).Truncate(time.Second)
	if left < time.Second {
		return 0, fmt.Errorf("%w: the credentials have just expired", sdk.ErrUnavailable)
	}
	return min(expires, left), nil
}
