package trigger

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"
)

const (
	// maxTrigger bounds an answer. A plate of 1536 wells, each with its entry, has some 300 KiB.
	maxTrigger = 4 << 20
	// maxDetail bounds what is read and shown of an answer that is no trigger.
	maxDetail    = 200
	maxRedirects = 3
	// maxRetryAfter bounds how long a tower may put the next request off.
	maxRetryAfter = 5 * time.Minute
	// connections to the tower at a time, and kept open.
	connections = 16
)

var errRedirect = errors.New("it redirects to another host")

func newClient(o Options) *http.Client {
	return &http.Client{
		Transport: &http.Transport{
			Proxy:                  http.ProxyFromEnvironment,
			ForceAttemptHTTP2:      true,
			MaxConnsPerHost:        connections,
			MaxIdleConnsPerHost:    connections,
			IdleConnTimeout:        time.Minute,
			MaxResponseHeaderBytes: 64 << 10,
		},
		// Another host gets neither the token nor a say in what a row means.
		CheckRedirect: func(r *http.Request, via []*http.Request) error {
			if r.URL.Host != via[0].URL.Host || r.URL.Scheme != via[0].URL.Scheme {
				return fmt.Errorf("%w, %s://%s", errRedirect, r.URL.Scheme, r.URL.Host)
			}
			if len(via) > maxRedirects {
				return errors.New("it redirects again and again")
			}
			return nil
		},
	}
}

// fetch asks for one trigger. Errors: *unfitError, *Trouble.
func (t *Tower) fetch(uuid string) ([]byte, error) {
	if uuid == "." || uuid == ".." { // the path would mean another resource
		return nil, &unfitError{resultMissing, fmt.Sprintf("a uuid %q cannot be asked for", uuid)}
	}
	ctx, cancel := context.WithTimeout(t.ctx, t.opts.Timeout)
	defer cancel()
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, t.address(uuid), nil)
	if err != nil {
		return nil, t.trouble(0, "cannot be asked: %w", bare(err))
	}
	r.Header.Set("Accept", "application/json")
	r.Header.Set("User-Agent", t.opts.Software)
	if token := t.opts.Token.Reveal(); token != "" {
		r.Header.Set("Authorization", "Bearer "+token)
	}
	answer, err := t.client.Do(r)
	switch {
	case err != nil && errors.Is(ctx.Err(), context.DeadlineExceeded):
		return nil, t.trouble(0, "does not answer within %s", t.opts.Timeout)
	case err != nil:
		return nil, t.trouble(0, "does not answer: %w", bare(err))
	}
	defer func() { _ = answer.Body.Close() }() // it was only read
	body, err := io.ReadAll(io.LimitReader(answer.Body, maxTrigger+1))
	switch {
	case err != nil && errors.Is(ctx.Err(), context.DeadlineExceeded):
		return nil, t.trouble(0, "does not finish its answer within %s", t.opts.Timeout)
	case err != nil:
		return nil, t.trouble(0, "breaks off its answer: %w", bare(err))
	}
	return t.judge(uuid, answer, body)
}

// judge decides what an answer means.
func (t *Tower) judge(uuid string, answer *http.Response, body []byte) ([]byte, error) {
	switch answer.StatusCode {
	case http.StatusOK:
		return t.check(uuid, body)
	case http.StatusNotFound, http.StatusGone, http.StatusBadRequest, http.StatusRequestURITooLong, http.StatusUnprocessableEntity:
		// It is about this uuid; another one may fare better.
		return nil, &unfitError{resultMissing, fmt.Sprintf("HTTP %d%s", answer.StatusCode, detail(body))}
	case http.StatusUnauthorized, http.StatusForbidden:
		return nil, t.trouble(0, "refuses the request (HTTP %d%s): RIVERGATE_CONTROL_TOWER_TOKEN is what it is shown", answer.StatusCode, detail(body))
	default:
		return nil, t.trouble(retryAfter(answer.Header), "answers HTTP %d%s", answer.StatusCode, detail(body))
	}
}

// check tells whether a body is the trigger of this uuid. What is no JSON object does not come from a control tower, and
// says nothing about the uuid.
func (t *Tower) check(uuid string, body []byte) ([]byte, error) {
	if len(body) > maxTrigger {
		return nil, &unfitError{resultInvalid, fmt.Sprintf("an answer of more than %d bytes", maxTrigger)}
	}
	var members map[string]json.RawMessage
	if err := json.Unmarshal(body, &members); err != nil || members == nil {
		return nil, t.trouble(0, "answers with what is no JSON object; is it a control tower?")
	}
	if raw, ok := members["uuid"]; ok {
		var other *string
		if err := json.Unmarshal(raw, &other); err != nil || other == nil || *other != uuid {
			return nil, &unfitError{resultInvalid, "the trigger of another uuid, " + excerpt(string(raw))}
		}
	}
	return body, nil
}

func (t *Tower) trouble(after time.Duration, format string, args ...any) error {
	return &Trouble{After: after, err: fmt.Errorf("the control tower at %s %w", t.Address(), fmt.Errorf(format, args...))}
}

// bare is the cause without the address, which may hold a password and is told anyway.
func bare(err error) error {
	var wrapped *url.Error
	if errors.As(err, &wrapped) {
		return wrapped.Err
	}
	return err
}

// detail is what a refusal says: {"detail": "…"}, or the beginning of another text.
func detail(body []byte) string {
	var said struct {
		Detail json.RawMessage `json:"detail"`
	}
	text := string(body[:min(len(body), maxDetail)])
	if json.Unmarshal(body, &said) == nil && len(said.Detail) > 0 {
		text = string(said.Detail)
		_ = json.Unmarshal(said.Detail, &text) // where it is not a string, its JSON
	}
	if text = excerpt(text); text == "" {
		return ""
	}
	return ": " + text
}

// excerpt is the beginning of a text, on one line and printable.
func excerpt(text string) string {
	text = strings.Join(strings.Fields(strings.ToValidUTF8(text, "")), " ")
	quoted := strconv.Quote(text)
	text = strings.ReplaceAll(quoted[1:len(quoted)-1], `\"`, `"`)
	if len(text) > maxDetail {
		text = strings.ToValidUTF8(text[:maxDetail], "") + "…"
	}
	return text
}

// retryAfter reads the header, in either form; 0: it says nothing.
func retryAfter(h http.Header) time.Duration {
	value := h.Get("Retry-After")
	after := time.Duration(0)
	if seconds, err := strconv.ParseUint(value, 10, 31); err == nil {
		after = time.Duration(seconds) * time.Second
	} else if at, err := http.ParseTime(value); err == nil {
		after = time.Until(at)
	}
	return min(max(after, 0), maxRetryAfter)
}
