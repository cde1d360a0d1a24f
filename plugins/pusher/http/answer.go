package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"regexp"
	"strconv"
	"strings"
	"time"

	"github.com/rivergate/rivergate/plugins/internal/refusal"
	"github.com/rivergate/rivergate/sdk"
)

// maxAnswer bounds what is read of a response body, bytes.
const maxAnswer = 64 << 10

// verdict is what an answer means for the way on.
type verdict int

const (
	taken       verdict = iota // all rows delivered
	refused                    // the rows themselves: cut, or reject
	failed                     // to be sent again; other frames may go on
	unreachable                // to be sent again, and so is everything else
)

// answer is a response, judged. err is the outcome of the rows unless they were taken.
type answer struct {
	verdict verdict
	err     error
	whole   bool   // refused for a reason that is no row's
	body    []byte // of a refusal
}

// judge reads the response. Classes:
//
//	2xx                       delivered
//	400, 422                  the rows: named ones are rejected, otherwise the frame is halved until the guilty stand alone
//	413                       the frame is halved; a single row is rejected
//	401, 403, 407             credentials: the destination is held
//	429                       throttled, Retry-After honoured
//	404, 405, 410, 415, 3xx   the address is wrong, not the rows: retried, so that a typing error kills no backlog
//	everything else           retried, Retry-After honoured
func (h *HTTP) judge(response *http.Response) answer {
	body, readErr := io.ReadAll(io.LimitReader(response.Body, maxAnswer))
	_ = response.Body.Close() // read as far as we want
	status := response.StatusCode
	if status >= 200 && status < 300 {
		return answer{} // the status line is the promise; a body that breaks off does not take it back
	}
	if readErr != nil {
		body = nil
	}
	code := "http_" + strconv.Itoa(status)
	after := refusal.RetryAfter(response.Header.Get("Retry-After"), h.now())
	err := fmt.Errorf("the destination answered %d %s%s", status, http.StatusText(status), refusal.Quote(h.hide(string(body))))
	switch {
	case status == http.StatusBadRequest, status == http.StatusUnprocessableEntity, status == http.StatusRequestEntityTooLarge:
		a := answer{verdict: refused, err: sdk.Permanent(code, err), body: body}
		a.whole = status != http.StatusRequestEntityTooLarge && a.namesOthersOnly()
		return a
	case status == http.StatusUnauthorized, status == http.StatusForbidden, status == http.StatusProxyAuthRequired:
		return answer{verdict: unreachable, err: &sdk.Error{Class: sdk.Unauthenticated, Code: code, RetryAfter: after, Err: err}}
	case status == http.StatusTooManyRequests:
		return answer{verdict: unreachable, err: &sdk.Error{Class: sdk.Throttled, Code: code, RetryAfter: after, Err: err}}
	case status >= 300 && status < 400, status == http.StatusNotFound, status == http.StatusMethodNotAllowed, status == http.StatusGone, status == http.StatusUnsupportedMediaType:
		err = fmt.Errorf("%w; is URL right? Redirects are not followed", err)
		return answer{verdict: failed, err: sdk.RetryIn(max(after, 5*time.Second), code, err)}
	case status == http.StatusServiceUnavailable && after > 0:
		return answer{verdict: unreachable, err: sdk.RetryIn(after, code, err)}
	}
	return answer{verdict: failed, err: sdk.RetryIn(after, code, err)}
}

// noAnswer judges a request that got none.
func (h *HTTP) noAnswer(err error) answer {
	code := "network"
	var timeout net.Error
	if errors.Is(err, context.DeadlineExceeded) || errors.As(err, &timeout) && timeout.Timeout() {
		code = "timeout"
	}
	return answer{verdict: unreachable, err: sdk.RetryIn(0, code, h.clean(err))}
}

// clean takes the URL, whose query may hold a secret, and all that is hidden out of an error.
func (h *HTTP) clean(err error) error {
	var inURL *url.Error
	if errors.As(err, &inURL) {
		err = inURL.Err
	}
	text := h.hide(err.Error())
	if text == err.Error() {
		return err
	}
	return errors.New(text)
}

func (h *HTTP) hide(text string) string {
	for _, secret := range h.hidden {
		text = strings.ReplaceAll(text, secret, "***")
	}
	return text
}

// fields are the places that a Rivergate names in a refusal: details.errors[].field, or details.field.
func (a answer) fields() []string {
	var envelope struct {
		Error struct {
			Details struct {
				Field  string `json:"field"`
				Errors []struct {
					Field string `json:"field"`
				} `json:"errors"`
			} `json:"details"`
		} `json:"error"`
	}
	if json.Unmarshal(a.body, &envelope) != nil {
		return nil
	}
	var fields []string
	if envelope.Error.Details.Field != "" {
		fields = append(fields, envelope.Error.Details.Field)
	}
	for _, e := range envelope.Error.Details.Errors {
		if e.Field != "" {
			fields = append(fields, e.Field)
		}
	}
	return fields
}

var rowField = regexp.MustCompile(`^rows\[([0-9]{1,9})\]`)

// rows are the numbers of the rows that the refusal names; numbers of rows that were not sent are ignored.
func (a answer) rows(sent int) map[int]bool {
	guilty := map[int]bool{}
	for _, field := range a.fields() {
		if found := rowField.FindStringSubmatch(field); found != nil {
			if n, err := strconv.Atoi(found[1]); err == nil && n < sent {
				guilty[n] = true
			}
		}
	}
	return guilty
}

// namesOthersOnly tells whether the refusal names places, and none of them is a row: it would be the same for each half.
func (a answer) namesOthersOnly() bool {
	fields := a.fields()
	for _, field := range fields {
		if strings.HasPrefix(field, "rows") {
			return false
		}
	}
	return len(fields) > 0
}
