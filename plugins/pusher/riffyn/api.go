package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptrace"
	"net/url"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"github.com/rivergate/rivergate/plugins/internal/refusal"
	"github.com/rivergate/rivergate/sdk"
)

// api speaks to Riffyn.
type api struct {
	base    string
	header  http.Header
	client  *http.Client
	timeout time.Duration
	hidden  string // what no message may hold
	now     func() time.Time
}

// maxAnswer bounds an answer, bytes.
const maxAnswer = 64 << 20

// verdict is what a failed call means for the way on.
type verdict int

const (
	refused     verdict = iota // 400, 422: a value of it; cut, or reject
	tooLarge                   // 413: cut, or reject
	gone                       // 404: what it is about is not there; reject
	failed                     // to be sent again; other runs may go on
	unreachable                // to be sent again, and so is everything else
)

// failure is a call that did not do what it should.
type failure struct {
	verdict verdict
	err     error // with the class of its rows
	// doubtful: the call may have taken effect all the same.
	doubtful bool
}

// id is an id of Riffyn, which sends some of them as numbers.
type id string

func (i *id) UnmarshalJSON(raw []byte) error { return scalar(raw, (*string)(i)) }

// anyText is a value of Riffyn as text, whatever its JSON type is.
type anyText string

func (t *anyText) UnmarshalJSON(raw []byte) error { return scalar(raw, (*string)(t)) }

// scalar keeps the text of a number as it is: an id may be larger than a float64 can tell.
func scalar(raw []byte, into *string) error {
	switch raw[0] {
	case '"':
		return json.Unmarshal(raw, into)
	case '{', '[':
		return errors.New("is neither text nor a number")
	case 'n':
		*into = ""
		return nil
	}
	*into = string(raw)
	return nil
}

// call makes one request and reads its answer into into; nil: the answer does not matter.
func (a *api) call(ctx context.Context, method, path string, body []byte, into any) *failure {
	ctx, cancel := context.WithTimeout(ctx, a.timeout)
	defer cancel()
	// Without a connection nothing was sent, and there is no doubt about it.
	var sent atomic.Bool
	ctx = httptrace.WithClientTrace(ctx, &httptrace.ClientTrace{GotConn: func(httptrace.GotConnInfo) { sent.Store(true) }})
	request, err := http.NewRequestWithContext(ctx, method, a.base+path, bytes.NewReader(body))
	if err != nil {
		return &failure{verdict: failed, err: sdk.RetryIn(0, "request", a.clean(err))}
	}
	request.Header = a.header.Clone()
	if body != nil {
		request.Header.Set("Content-Type", "application/json")
	}
	response, err := a.client.Do(request)
	if err != nil {
		return a.noAnswer(err, sent.Load())
	}
	defer response.Body.Close()
	if response.StatusCode < 200 || response.StatusCode >= 300 {
		return a.judge(response)
	}
	if into == nil {
		_, _ = io.Copy(io.Discard, io.LimitReader(response.Body, maxAnswer)) // so that the connection serves again
		return nil
	}
	answer, err := io.ReadAll(io.LimitReader(response.Body, maxAnswer+1))
	if err != nil {
		return a.noAnswer(err, true)
	}
	if len(answer) > maxAnswer {
		err = fmt.Errorf("it is larger than %d MiB", maxAnswer>>20)
	} else {
		err = json.Unmarshal(answer, into)
	}
	if err != nil {
		return &failure{verdict: failed, doubtful: true, err: sdk.RetryIn(0, "bad_answer", fmt.Errorf("%s answered %d with what cannot be read: %w", a.base, response.StatusCode, err))}
	}
	return nil
}

// noAnswer judges a call that got none.
func (a *api) noAnswer(err error, sent bool) *failure {
	code := "network"
	var timeout net.Error
	if errors.Is(err, context.DeadlineExceeded) || errors.As(err, &timeout) && timeout.Timeout() {
		code = "timeout"
	}
	return &failure{verdict: unreachable, doubtful: sent, err: sdk.RetryIn(0, code, fmt.Errorf("no answer from %s: %w", a.base, a.clean(err)))}
}

// judge reads an answer that is no success. Classes:
//
//	400, 422           the values: the call is cut until the guilty row stands alone, which is rejected
//	413                the call is cut; a single row is rejected
//	404                experiment, activity, run or property is not there: the rows are rejected
//	401, 403           credentials: everything waits
//	429                throttled, Retry-After honoured
//	408, 5xx, others   retried, Retry-After honoured; the call may have taken effect
func (a *api) judge(response *http.Response) *failure {
	body, err := io.ReadAll(io.LimitReader(response.Body, 64<<10))
	if err != nil {
		body = nil // the status says enough
	}
	status := response.StatusCode
	code := "http_" + strconv.Itoa(status)
	after := refusal.RetryAfter(response.Header.Get("Retry-After"), a.now())
	said := fmt.Errorf("Riffyn at %s answered %d %s%s", a.base, status, http.StatusText(status), refusal.Quote(a.hide(string(body))))
	switch {
	case status == http.StatusBadRequest, status == http.StatusUnprocessableEntity:
		return &failure{verdict: refused, err: sdk.Permanent(code, said)}
	case status == http.StatusRequestEntityTooLarge:
		return &failure{verdict: tooLarge, err: sdk.Permanent(code, said)}
	case status == http.StatusNotFound:
		return &failure{verdict: gone, err: sdk.Permanent(code, fmt.Errorf("%w (are the ids of the trigger right, and URL?)", said))}
	case status == http.StatusUnauthorized, status == http.StatusForbidden:
		return &failure{verdict: unreachable, err: &sdk.Error{Class: sdk.Unauthenticated, Code: code, RetryAfter: after, Err: fmt.Errorf("%w; set API_KEY, and HEADER as it is a key or a token", said)}}
	case status == http.StatusTooManyRequests:
		return &failure{verdict: unreachable, err: &sdk.Error{Class: sdk.Throttled, Code: code, RetryAfter: after, Err: said}}
	case status < 500 && status != http.StatusRequestTimeout:
		return &failure{verdict: failed, err: sdk.RetryIn(max(after, 5*time.Second), code, fmt.Errorf("%w; is URL right? Redirects are not followed", said))}
	case status == http.StatusServiceUnavailable && after > 0:
		return &failure{verdict: unreachable, doubtful: true, err: sdk.RetryIn(after, code, said)}
	}
	return &failure{verdict: failed, doubtful: true, err: sdk.RetryIn(after, code, said)}
}

// clean takes the URL, which is long, and the secret out of an error.
func (a *api) clean(err error) error {
	var inURL *url.Error
	if errors.As(err, &inURL) {
		err = inURL.Err
	}
	if text := a.hide(err.Error()); text != err.Error() {
		return errors.New(text)
	}
	return err
}

func (a *api) hide(text string) string { return strings.ReplaceAll(text, a.hidden, "***") }
