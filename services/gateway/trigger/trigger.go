// Package trigger looks up the context of rows at the control tower: GET {URL}/triggers/{uuid}.
//
// A trigger is stored before it is published and never changes, so one that was found is kept, in a cache of bounded size.
// One request per uuid is under way at a time, whoever asks. Look makes a single attempt: when the next one is due its
// caller decides, who knows what else waits.
//
//	200, a JSON object    the trigger
//	404                   *NotFound: the tower says so of a uuid that it does not know, and of its own failures. Final once it
//	                      has gone on for Options.MissingFor
//	all else              *Trouble: nothing is known about the uuid
package trigger

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"time"

	"github.com/maypok86/otter/v2"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/rivergate/rivergate/sdk/settings"
)

// Options is what a Tower needs.
type Options struct {
	URL        string                // of the control tower; see CheckURL
	Token      settings.Secret       // sent as a bearer token; empty: none
	Timeout    time.Duration         // of one request
	MissingFor time.Duration         // how long a uuid is looked for that the tower does not know
	CacheBytes int64                 // of the triggers that are kept
	Software   string                // for the User-Agent header
	Registry   prometheus.Registerer // nil: no metrics
}

// Tower is the control tower as the gateway sees it. Make one with New; Close it.
type Tower struct {
	base    *url.URL
	opts    Options
	client  *http.Client
	cache   *otter.Cache[string, []byte]
	missing missing
	metrics *metrics

	ctx    context.Context // of the requests; ends with Close
	cancel context.CancelFunc
	busy   sync.WaitGroup

	mu      sync.Mutex
	flights map[string]*flight // requests under way, by uuid
	closed  bool
}

// flight is one request, for all who wait for it.
type flight struct {
	done    chan struct{} // closed when the other two are set
	trigger []byte
	err     error
}

// entryOverhead is what a trigger takes in the cache beside its bytes.
const entryOverhead = 128

// CheckURL tells what is wrong with the address of a control tower; empty: nothing.
func CheckURL(address string) string {
	u, err := url.Parse(address)
	switch {
	case err != nil:
		return "is not an address such as http://127.0.0.1:8000" // the error would quote it, with its password
	case u.Scheme != "http" && u.Scheme != "https":
		return "must begin with http:// or https://"
	case u.Host == "":
		return "names no host"
	case u.RawQuery != "" || u.Fragment != "" || u.ForceQuery:
		return "must end with its path: /triggers/ and the uuid are added to it"
	}
	return ""
}

// New makes a Tower. Nothing is asked yet.
func New(o Options) (*Tower, error) {
	if reason := CheckURL(o.URL); reason != "" {
		return nil, fmt.Errorf("address of the control tower %s", reason)
	}
	base, err := url.Parse(o.URL)
	if err != nil {
		return nil, fmt.Errorf("address of the control tower: %w", err)
	}
	cache, err := otter.New(&otter.Options[string, []byte]{
		MaximumWeight: uint64(max(o.CacheBytes, 1)),
		Weigher: func(uuid string, trigger []byte) uint32 {
			return uint32(len(uuid) + len(trigger) + entryOverhead) // far below 4 GiB: see maxTrigger
		},
		Executor: func(task func()) { task() }, // no goroutine that nobody owns
	})
	if err != nil {
		return nil, fmt.Errorf("make the cache of triggers: %w", err)
	}
	t := &Tower{base: base, opts: o, client: newClient(o), cache: cache, missing: missing{patience: o.MissingFor}, flights: map[string]*flight{}}
	t.metrics = newMetrics(t)
	if o.Registry != nil {
		if err := t.metrics.register(o.Registry); err != nil {
			return nil, fmt.Errorf("register the metrics of triggers: %w", err)
		}
	}
	t.ctx, t.cancel = context.WithCancel(context.Background())
	return t, nil
}

// Close ends the requests under way and waits for them. Look answers with an error from then on.
func (t *Tower) Close() {
	t.mu.Lock()
	t.closed = true
	t.mu.Unlock()
	t.cancel()
	t.busy.Wait()
	t.client.CloseIdleConnections()
}

// Cached returns the trigger of a uuid when it is known already. It waits for nothing.
func (t *Tower) Cached(uuid string) (trigger []byte, ok bool) {
	trigger, ok = t.cache.GetIfPresent(uuid)
	if ok {
		t.metrics.hits.Inc()
	} else {
		t.metrics.misses.Inc()
	}
	return trigger, ok
}

var errClosed = errors.New("the look-up of triggers has ended")

// Look asks the tower once, or waits for the request about this uuid that is under way. Errors: *NotFound, *Trouble, that of
// ctx.
func (t *Tower) Look(ctx context.Context, uuid string) ([]byte, error) {
	trigger, f, err := t.board(uuid)
	if err != nil || f == nil {
		return trigger, err
	}
	select {
	case <-f.done:
		return f.trigger, f.err
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// board finds the trigger that another look-up found, or the request about its uuid, or starts one. A trigger is put into the
// cache before it leaves flights: whoever holds the lock sees one or the other, and asks a second time for neither.
func (t *Tower) board(uuid string) ([]byte, *flight, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.closed {
		return nil, nil, errClosed
	}
	if trigger, ok := t.cache.GetIfPresent(uuid); ok {
		return trigger, nil, nil
	}
	if f := t.flights[uuid]; f != nil {
		return nil, f, nil
	}
	f := &flight{done: make(chan struct{})}
	t.flights[uuid] = f
	t.busy.Go(func() {
		f.trigger, f.err = t.ask(uuid)
		t.mu.Lock()
		delete(t.flights, uuid)
		t.mu.Unlock()
		close(f.done)
	})
	return nil, f, nil
}

// ask makes one request and remembers what came of it.
func (t *Tower) ask(uuid string) ([]byte, error) {
	began := time.Now()
	trigger, err := t.fetch(uuid)
	took := time.Since(began)
	var unfit *unfitError
	switch {
	case err == nil:
		t.cache.Set(uuid, trigger)
		t.missing.forget(uuid)
		t.metrics.looked(resultFound, took)
	case errors.As(err, &unfit):
		err = t.missing.note(uuid, unfit, time.Now())
		t.metrics.looked(unfit.result, took)
	default:
		t.metrics.looked(resultFailed, took)
	}
	return trigger, err
}

// address is where the trigger of a uuid is. A uuid is any text: all of it goes into one segment of the path.
func (t *Tower) address(uuid string) string {
	u := *t.base
	path, raw := strings.TrimRight(u.Path, "/"), strings.TrimRight(u.EscapedPath(), "/")
	u.Path, u.RawPath = path+"/triggers/"+uuid, raw+"/triggers/"+url.PathEscape(uuid)
	return u.String()
}

// Address is that of the tower, without a password.
func (t *Tower) Address() string { return t.base.Redacted() }
