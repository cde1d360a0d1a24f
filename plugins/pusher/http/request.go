package main

import (
	"bytes"
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"net/http"
	"strconv"

	"github.com/rivergate/rivergate/sdk"
)

const (
	// headerDelivery names a piece of work: the same for each attempt.
	headerDelivery = "Rivergate-Delivery-Id"
	// headerSignature: t=<Unix seconds>,v1=<hex HMAC-SHA256 of "<t>.<body>">.
	headerSignature = "Rivergate-Signature"
)

// request is rows of one frame that go in one POST.
type request struct {
	frame *sdk.Frame
	rows  []sdk.Row
}

func (r request) cut(from, to int) request { return request{frame: r.frame, rows: r.rows[from:to]} }

// without takes the rows of the given numbers out.
func (r request) without(numbers map[int]bool) (out, rest request) {
	out.frame, rest.frame = r.frame, r.frame
	for i, row := range r.rows {
		if numbers[i] {
			out.rows = append(out.rows, row)
		} else {
			rest.rows = append(rest.rows, row)
		}
	}
	return out, rest
}

// body is the request body of POST /data/batch; each row's data is the client's own bytes.
func (r request) body() ([]byte, error) {
	uuid, err := json.Marshal(r.frame.UUID)
	if err != nil {
		return nil, fmt.Errorf("encode uuid: %w", err)
	}
	size := len(uuid) + 32
	for _, row := range r.rows {
		size += len(row.JSON()) + 32
	}
	body := make([]byte, 0, size)
	body = append(body, `{"uuid":`...)
	body = append(body, uuid...)
	body = append(body, `,"rows":[`...)
	for i, row := range r.rows {
		if i > 0 {
			body = append(body, ',')
		}
		body = append(body, '{')
		if index, ok := row.Index(); ok {
			body = append(body, `"index":`...)
			body = strconv.AppendInt(body, int64(index), 10)
			body = append(body, ',')
		}
		body = append(body, `"data":`...)
		body = append(body, row.JSON()...)
		body = append(body, '}')
	}
	return append(body, "]}"...), nil
}

// deliveryID is made of the first row's position and the number of rows. For a POST that was not split it starts with
// the delivery_id that the client got.
func (r request) deliveryID() string {
	return "dlv-" + strconv.FormatUint(r.rows[0].Position(), 36) + "-" + strconv.Itoa(len(r.rows))
}

// idempotencyKey is stable over retries, and another one as soon as the body is: the destination answers a known key with
// another body by 422.
func (r request) idempotencyKey(body []byte) string {
	sum := sha256.Sum256(body)
	return r.deliveryID() + "-" + hex.EncodeToString(sum[:8])
}

// post sends one request and judges the answer.
func (h *HTTP) post(ctx context.Context, r request) answer {
	body, err := r.body()
	if err != nil {
		return answer{verdict: failed, err: sdk.RetryIn(0, "encode", err)}
	}
	ctx, cancel := context.WithTimeout(ctx, h.RequestTimeout)
	defer cancel()
	post, err := http.NewRequestWithContext(ctx, http.MethodPost, h.URL, bytes.NewReader(body))
	if err != nil {
		return answer{verdict: failed, err: sdk.RetryIn(0, "request", h.clean(err))}
	}
	post.Header = h.headers.Clone()
	if h.host != "" {
		post.Host = h.host
	}
	post.Header.Set(headerDelivery, r.deliveryID())
	post.Header.Set("Idempotency-Key", r.idempotencyKey(body))
	if r.frame.RequestID != "" {
		post.Header.Set("X-Request-ID", r.frame.RequestID)
	}
	if r.frame.TraceParent != "" {
		post.Header.Set("Traceparent", r.frame.TraceParent)
	}
	if h.ForwardContext {
		post.Header.Set("X-Org-ID", strconv.FormatUint(r.frame.OrgID, 10))
		if r.frame.UserID != 0 {
			post.Header.Set("X-User-ID", strconv.FormatUint(r.frame.UserID, 10))
		}
	}
	if h.Secret != "" {
		post.Header.Set(headerSignature, sign(h.Secret.Reveal(), h.now().Unix(), body))
	}
	response, err := h.client.Do(post)
	if err != nil {
		return h.noAnswer(err)
	}
	return h.judge(response)
}

func sign(secret string, at int64, body []byte) string {
	t := strconv.FormatInt(at, 10)
	mac := hmac.New(sha256.New, []byte(secret))
	mac.Write([]byte(t + "."))
	mac.Write(body)
	return "t=" + t + ",v1=" + hex.EncodeToString(mac.Sum(nil))
}
