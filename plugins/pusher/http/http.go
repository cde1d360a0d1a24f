package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/textproto"
	"net/url"
	"regexp"
	"strings"
	"sync"
	"time"

	"github.com/rivergate/rivergate/plugins/internal/tlsfiles"
	"github.com/rivergate/rivergate/sdk"
)

// HTTP posts each frame as one request. Frames of one uuid go one after another, others side by side.
type HTTP struct {
	URL            string        `config:"url" required:"true" format:"uri" doc:"Where rows are posted to." example:"http://other:8080/data/batch"`
	Token          sdk.Secret    `config:"token" doc:"Sent as Authorization: Bearer."`
	Secret         sdk.Secret    `config:"secret" doc:"Key of the HMAC-SHA256 in Rivergate-Signature; without it no signature is sent."`
	Headers        sdk.Secret    `config:"headers" doc:"Further headers, as Name=value, comma separated."`
	ForwardContext bool          `config:"forward_context" default:"false" doc:"Send X-Org-ID and X-User-ID of the rows."`
	Concurrency    int           `config:"concurrency" default:"4" min:"1" max:"256" doc:"Requests in flight at once."`
	RequestTimeout time.Duration `config:"request_timeout" default:"10s" min:"10ms" max:"30m" doc:"Longest wait for one answer; keep twice of it below TIMEOUT."`
	tlsfiles.Files

	log     sdk.Logger
	headers http.Header // that every request carries
	host    string      // of a Host header, when one is configured
	client  *http.Client
	now     func() time.Time
	hidden  []string // what no message may hold
}

// What RFC 9110, 5.1 and 5.5, lets a header hold.
var (
	headerName  = regexp.MustCompile("^[-!#$%&'*+.^_`|~0-9A-Za-z]+$")
	headerValue = regexp.MustCompile(`^[\t\x20-\x7e\x80-\xff]*$`)
)

// ours are the headers that HEADERS may not set.
var ours = []string{"Authorization", "Content-Type", "Content-Length", "Content-Encoding", "Transfer-Encoding", "Connection", "Idempotency-Key",
	"X-Request-Id", "X-Org-Id", "X-User-Id", headerDelivery, headerSignature}

// Open checks the settings. It asks the destination nothing: one that is down is no configuration problem.
func (h *HTTP) Open(_ context.Context, env sdk.Env) error {
	h.log, h.now = env.Log, time.Now
	target, err := url.Parse(h.URL)
	switch {
	case err != nil:
		return sdk.FieldError("url", errors.New("is not a URL")) // the parser's text quotes it
	case target.Scheme != "http" && target.Scheme != "https", target.Host == "":
		return sdk.FieldError("url", errors.New("must start with http:// or https:// and a host"))
	case target.User != nil:
		return sdk.FieldError("url", errors.New("holds a user; use TOKEN or HEADERS, which are kept secret"))
	}
	if !headerValue.MatchString(h.Token.Reveal()) {
		return sdk.FieldError("token", errors.New("holds a character that no header may hold"))
	}
	if err := h.parseHeaders(); err != nil {
		return sdk.FieldError("headers", err)
	}
	config, err := h.TLS()
	if err != nil {
		return err
	}
	for _, secret := range []string{h.Token.Reveal(), h.Secret.Reveal()} {
		if secret != "" {
			h.hidden = append(h.hidden, secret)
		}
	}
	h.client = &http.Client{
		Transport: &http.Transport{
			Proxy:                 http.ProxyFromEnvironment,
			DialContext:           (&net.Dialer{Timeout: min(h.RequestTimeout, 5*time.Second), KeepAlive: 15 * time.Second}).DialContext,
			TLSClientConfig:       config,
			TLSHandshakeTimeout:   min(h.RequestTimeout, 5*time.Second),
			ForceAttemptHTTP2:     true,
			MaxIdleConns:          h.Concurrency,
			MaxIdleConnsPerHost:   h.Concurrency,
			IdleConnTimeout:       90 * time.Second,
			ExpectContinueTimeout: time.Second,
		},
		// A redirect would carry rows and secrets to where nobody sent them, or turn the POST into a GET.
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
	return nil
}

func (h *HTTP) parseHeaders() error {
	h.headers = http.Header{"Content-Type": {"application/json"}, "User-Agent": {"rivergate-pusher-http/" + version}}
	if h.Token != "" {
		h.headers.Set("Authorization", "Bearer "+h.Token.Reveal())
	}
	for _, pair := range strings.Split(h.Headers.Reveal(), ",") {
		if strings.TrimSpace(pair) == "" {
			continue
		}
		name, value, found := strings.Cut(pair, "=")
		name, value = textproto.CanonicalMIMEHeaderKey(strings.TrimSpace(name)), strings.TrimSpace(value)
		if !found || !headerName.MatchString(name) || !headerValue.MatchString(value) {
			return errors.New("must be Name=value, comma separated")
		}
		for _, taken := range ours {
			if name == taken {
				return fmt.Errorf("%s is set by this pusher", name)
			}
		}
		if value != "" {
			h.hidden = append(h.hidden, value)
		}
		if name == "Host" {
			h.host = value
			continue
		}
		h.headers.Add(name, value)
	}
	return nil
}

// Close lets the connections go.
func (h *HTTP) Close(context.Context) error {
	if h.client != nil {
		h.client.CloseIdleConnections()
	}
	return nil
}

// key is what order is kept for.
type key struct {
	org  uint64
	uuid string
}

// errNotSent is the cause of rows that waited for others.
var errNotSent = errors.New("not sent: REQUEST_TIMEOUT had passed since the batch began")

// Deliver sends the frames of each uuid in order, CONCURRENCY uuids at once. A frame that must come again holds those of
// its uuid behind it. A destination that cannot be reached, or knows no credentials of ours, ends the batch.
func (h *HTTP) Deliver(ctx context.Context, b *sdk.Batch) error {
	var order []key
	chains := map[key][]request{}
	for row := range b.Rows() {
		k := key{row.OrgID(), row.UUID()}
		frame, n := row.Frame()
		if n == 0 {
			if chains[k] == nil {
				order = append(order, k)
			}
			chains[k] = append(chains[k], request{frame: frame})
		}
		last := &chains[k][len(chains[k])-1]
		last.rows = append(last.rows, row)
	}
	d := &delivery{http: h, batch: b, until: h.now().Add(h.RequestTimeout)}
	work := make(chan []request)
	var workers sync.WaitGroup
	for range min(h.Concurrency, len(order)) {
		workers.Go(func() {
			for chain := range work {
				d.chain(ctx, chain)
			}
		})
	}
	for _, k := range order {
		work <- chains[k]
	}
	close(work)
	workers.Wait()
	return nil
}

// delivery is one batch on its way.
type delivery struct {
	http  *HTTP
	batch *sdk.Batch
	until time.Time // no request starts after it, so that a slow destination is not taken for a wedged plugin

	mu     sync.Mutex
	broken error // set once: why nothing further is sent in this batch
}

// chain sends the frames of one uuid.
func (d *delivery) chain(ctx context.Context, frames []request) {
	for i, frame := range frames {
		failure := d.send(ctx, frame)
		if failure == nil {
			continue
		}
		for _, behind := range frames[i+1:] {
			d.fail(behind.rows, d.notSent(failure))
		}
		return
	}
}

// send delivers one frame, in pieces when the destination refuses it as a whole, and notes what became of each row. It
// returns the failure that also holds the frames behind: nil when every row is settled.
func (d *delivery) send(ctx context.Context, whole request) error {
	pieces := []request{whole}
	rejected, accepted := 0, false
	for len(pieces) > 0 {
		piece := pieces[len(pieces)-1]
		pieces = pieces[:len(pieces)-1]
		if len(piece.rows) == 0 {
			continue
		}
		failure := d.stopped()
		if failure != nil {
			failure = d.notSent(failure)
			d.fail(piece.rows, failure)
		} else {
			answer := d.http.post(ctx, piece)
			switch answer.verdict {
			case taken:
				accepted = true
				continue
			case refused:
				guilty := answer.rows(len(piece.rows))
				switch {
				case len(guilty) > 0:
					var rest request
					piece, rest = piece.without(guilty)
					rejected += len(piece.rows)
					d.fail(piece.rows, answer.err)
					pieces = append(pieces, rest)
				case len(piece.rows) == 1, answer.whole, rejected >= hopeless && !accepted:
					rejected += len(piece.rows)
					d.fail(piece.rows, answer.err)
				default:
					half := len(piece.rows) / 2
					pieces = append(pieces, piece.cut(half, len(piece.rows)), piece.cut(0, half))
				}
				continue
			}
			failure = answer.err
			d.fail(piece.rows, failure)
			if answer.verdict == unreachable {
				d.stop(failure)
			}
		}
		for _, rest := range pieces {
			d.fail(rest.rows, d.notSent(failure))
		}
		return failure
	}
	return nil
}

// hopeless is how many rows of a frame are refused one by one, and none taken, before the rest of it is refused unasked.
const hopeless = 32

func (d *delivery) fail(rows []sdk.Row, err error) {
	for _, row := range rows {
		d.batch.Fail(row, err)
	}
}

func (d *delivery) stop(err error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.broken == nil {
		d.broken = err
	}
}

// stopped returns why no request may start any more.
func (d *delivery) stopped() error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.broken == nil && d.http.now().After(d.until) {
		return &sdk.Error{Class: sdk.Throttled, Code: codeNotSent, Err: errNotSent}
	}
	return d.broken
}

// notSent is the outcome of rows that were not sent because others failed. Behind a frame of the same uuid they wait as it
// does. When the whole batch has ended they are throttled: that counts no attempt, and the host asks again with one batch.
func (d *delivery) notSent(failure error) error {
	var typed *sdk.Error
	if !errors.As(failure, &typed) || typed.Class != sdk.Retry || typed.Code == codeNotSent {
		return failure
	}
	class := sdk.Retry
	if d.stopped() != nil {
		class = sdk.Throttled
	}
	return &sdk.Error{Class: class, Code: codeNotSent, RetryAfter: typed.RetryAfter, Err: fmt.Errorf("not sent, an earlier request failed: %w", typed.Err)}
}

const codeNotSent = "not_sent"
