package command

import (
	"bytes"
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

	"github.com/spf13/cobra"

	"github.com/rivergate/rivergate/host/config"
)

// maxAnswer bounds what is read of one answer, bytes; exports are streamed and know no bound.
const maxAnswer = 64 << 20

// client speaks to a running host.
type client struct {
	base string // without a slash at the end
	org  uint64 // 0: the host's default
	user uint64 // 0: none
	// token opens /internal routes on a host that does not listen on loopback alone; empty: none.
	token string
	http  *http.Client
	slow  *http.Client // for what changes something
}

// clientFlags adds what every command that speaks to a host takes.
func (c *cli) clientFlags(cmd *cobra.Command) {
	cmd.PersistentFlags().StringVar(&c.url, "url", "", "address of the host (default $RIVERGATE_URL, else http://$RIVERGATE_LISTEN)")
	cmd.PersistentFlags().Uint64Var(&c.org, "org", 0, "organisation to act for (default: the host's, 1)")
}

func (c *cli) client() (*client, error) {
	base := c.url
	if base == "" {
		if wrong := config.EnvFile(c.Environ); len(wrong) > 0 {
			return nil, mistake("%s: %s", wrong[0].Variable, wrong[0].Reason)
		}
		base = config.URL(c.Environ)
	}
	if !strings.Contains(base, "://") {
		base = "http://" + base
	}
	parsed, err := url.Parse(base)
	if err != nil || parsed.Host == "" || (parsed.Scheme != "http" && parsed.Scheme != "https") {
		return nil, mistake("%q is not an http address such as http://127.0.0.1:8080", withoutPassword(base))
	}
	quick, slow := c.HTTP, c.HTTP
	if quick == nil {
		quick, slow = waiting(60*time.Second), waiting(changeTime)
	}
	return &client{base: strings.TrimRight(base, "/"), org: c.org, user: c.user, token: config.InternalToken(c.Environ), http: quick, slow: slow}, nil
}

// changeTime bounds the wait for the answer to a change: a reload lets a plugin finish for as long as
// RIVERGATE_SHUTDOWN_TIMEOUT, ten minutes at most, says.
const changeTime = 15 * time.Minute

// waiting makes a client that waits so long for the first byte of an answer. There is no timeout over all: exports take long.
func waiting(d time.Duration) *http.Client {
	transport := http.DefaultTransport.(*http.Transport).Clone()
	transport.ResponseHeaderTimeout = d
	return &http.Client{Transport: transport}
}

// shown is the address of the host as it may be printed.
func (c *client) shown() string { return withoutPassword(c.base) }

func withoutPassword(address string) string {
	if at, err := url.Parse(address); err == nil && at.User != nil {
		return at.Redacted()
	} else if err != nil && strings.Contains(address, "@") {
		return "…" + address[strings.LastIndex(address, "@"):]
	}
	return address
}

// unreachableError: no answer came.
type unreachableError struct {
	url string
	err error
}

func (e *unreachableError) Error() string { return fmt.Sprintf("cannot reach %s: %v", e.url, e.err) }
func (e *unreachableError) Unwrap() error { return e.err }

// apiError is an answer of the host that is not a success.
type apiError struct {
	Status     int           `json:"status"`
	Code       string        `json:"code"`
	Message    string        `json:"message"`
	Details    apiDetails    `json:"details,omitzero"`
	RequestID  string        `json:"request_id,omitempty"`
	RetryAfter time.Duration `json:"-"`
}

type apiDetails struct {
	Field  string       `json:"field,omitempty"`
	Reason string       `json:"reason,omitempty"`
	Errors []fieldError `json:"errors,omitempty"`
}

type fieldError struct {
	Field  string `json:"field"`
	Reason string `json:"reason"`
}

func (e *apiError) Error() string {
	message := e.Message
	if message == "" {
		message = http.StatusText(e.Status)
	}
	for i, f := range e.Details.Errors {
		if i == 3 {
			message += fmt.Sprintf("; and %d more", len(e.Details.Errors)-i)
			break
		}
		message += fmt.Sprintf("; %s: %s", f.Field, f.Reason)
	}
	return fmt.Sprintf("the host answered %d: %s", e.Status, message)
}

func (e *apiError) hint() string {
	switch e.Status {
	case http.StatusUnauthorized, http.StatusForbidden:
		return "The host wants other credentials; see RIVERGATE_AUTH and RIVERGATE_INTERNAL_TOKEN there."
	case http.StatusTooManyRequests, http.StatusServiceUnavailable:
		if e.RetryAfter > 0 {
			return fmt.Sprintf("Try again in %v.", e.RetryAfter)
		}
		return "Try again later."
	}
	if e.RequestID != "" {
		return "The host's log knows it as request " + e.RequestID + "."
	}
	return ""
}

// call makes one request and decodes the data of the answer into into (nil: dropped). message is the host's sentence.
func (c *client) call(ctx context.Context, method, path string, query url.Values, body, into any) (message string, err error) {
	var reader io.Reader
	if body != nil {
		encoded, err := json.Marshal(body)
		if err != nil {
			return "", fmt.Errorf("encode request: %w", err)
		}
		reader = bytes.NewReader(encoded)
	}
	asking := *c
	if method != http.MethodGet {
		asking.http = c.slow
	}
	answer, err := asking.do(ctx, method, path, query, reader, nil)
	if err != nil {
		return "", err
	}
	defer answer.Body.Close()
	raw, err := io.ReadAll(io.LimitReader(answer.Body, maxAnswer))
	if err != nil {
		return "", &unreachableError{url: c.shown() + path, err: err}
	}
	var envelope struct {
		Success *bool           `json:"success"`
		Data    json.RawMessage `json:"data"`
		Message string          `json:"message"`
	}
	if err := json.Unmarshal(raw, &envelope); err != nil || envelope.Success == nil {
		return "", fmt.Errorf("%s answered %d with something that is not Rivergate's: %.80q", c.shown()+path, answer.StatusCode, raw)
	}
	if into != nil {
		if err := json.Unmarshal(envelope.Data, into); err != nil {
			return "", fmt.Errorf("decode answer of %s: %w", path, err)
		}
	}
	return envelope.Message, nil
}

// do makes one request. An answer outside 2xx becomes an *apiError; otherwise the caller closes the body.
func (c *client) do(ctx context.Context, method, path string, query url.Values, body io.Reader, header http.Header) (*http.Response, error) {
	request, err := c.request(ctx, method, path, query, body, header)
	if err != nil {
		return nil, err
	}
	return c.send(ctx, c.http, request)
}

// request makes a request to the host, with what says who is asking.
func (c *client) request(ctx context.Context, method, path string, query url.Values, body io.Reader, header http.Header) (*http.Request, error) {
	target := c.base + path
	if len(query) > 0 {
		target += "?" + query.Encode()
	}
	request, err := http.NewRequestWithContext(ctx, method, target, body)
	if err != nil {
		return nil, fmt.Errorf("make request to %s: %w", c.shown(), err)
	}
	if body != nil {
		request.Header.Set("Content-Type", "application/json")
	}
	if c.org > 0 {
		request.Header.Set("X-Org-ID", strconv.FormatUint(c.org, 10))
	}
	if c.user > 0 {
		request.Header.Set("X-User-ID", strconv.FormatUint(c.user, 10))
	}
	if c.token != "" && strings.HasPrefix(path, "/internal/") {
		request.Header.Set("X-Internal-Token", c.token)
	}
	for name, values := range header {
		request.Header[name] = values
	}
	return request, nil
}

// send makes a request with one of the clients, as do does.
func (c *client) send(ctx context.Context, with *http.Client, request *http.Request) (*http.Response, error) {
	answer, err := with.Do(request)
	if err != nil {
		if ctx.Err() != nil {
			return nil, ctx.Err()
		}
		var wrapped *url.Error
		if errors.As(err, &wrapped) {
			err = wrapped.Err
		}
		return nil, &unreachableError{url: withoutPassword(request.URL.Scheme + "://" + request.URL.Host), err: err}
	}
	if answer.StatusCode/100 == 2 {
		return answer, nil
	}
	defer answer.Body.Close()
	return nil, readError(answer)
}

// readError makes an *apiError of an answer, whoever gave it: a proxy in between does not speak our envelope.
func readError(answer *http.Response) error {
	var envelope struct {
		Error apiError `json:"error"`
	}
	raw, _ := io.ReadAll(io.LimitReader(answer.Body, 1<<20))
	_ = json.Unmarshal(raw, &envelope) // not ours: the status alone is told
	e := &envelope.Error
	e.Status = answer.StatusCode
	if e.RequestID == "" {
		e.RequestID = answer.Header.Get("X-Request-ID")
	}
	e.RetryAfter = retryAfter(answer.Header.Get("Retry-After"), time.Now())
	return e
}

// retryAfter reads the header in both of its forms (RFC 9110, 10.2.3): seconds, or a date.
func retryAfter(value string, now time.Time) time.Duration {
	if seconds, err := strconv.Atoi(value); err == nil && seconds >= 0 {
		return time.Duration(seconds) * time.Second
	}
	if at, err := http.ParseTime(value); err == nil && at.After(now) {
		return at.Sub(now)
	}
	return 0
}
