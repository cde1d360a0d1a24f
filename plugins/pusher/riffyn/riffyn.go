package main

import (
	"context"
	"errors"
	"net"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"time"

	"github.com/rivergate/rivergate/sdk"
)

// Unknown says what becomes of a row with a member that no property answers to.
type Unknown string

// Header is where the key goes.
type Header string

// Riffyn writes each row as one event into the run that the row's trigger names: first the value of the primary key, which
// makes the event, then all others. A checkpoint on disk remembers how far each row is, so that one that comes again
// continues there.
type Riffyn struct {
	APIKey          sdk.Secret    `config:"api_key" required:"true" doc:"Key of the user in whose name rows are written, or an access token."`
	Header          Header        `config:"header" default:"api-key" enum:"api-key,access-token" doc:"Header in which API_KEY is sent: as a key, or as an access token."`
	URL             string        `config:"url" default:"https://api.app.riffyn.com/v1" format:"uri" pattern:"^https?://" doc:"Base URL of the API."`
	CheckpointDir   string        `config:"checkpoint_dir" default:"riffyn-checkpoint" doc:"Folder in which {instance}.db remembers what was written; it has to outlive the process. A relative path starts in the folder in which the host was started."`
	CheckpointKeep  time.Duration `config:"checkpoint_keep" default:"720h" min:"1h" doc:"How long a row is remembered after it was last seen."`
	RequestTimeout  time.Duration `config:"request_timeout" default:"10s" min:"10ms" max:"10m" doc:"Longest wait for one answer; keep twice of it below TIMEOUT."`
	Settle          time.Duration `config:"settle" default:"5s" min:"0s" max:"10m" doc:"How long after an append without an answer the run is read to see whether it took place."`
	Concurrency     int           `config:"concurrency" default:"4" min:"1" max:"64" doc:"Runs that are written to at once."`
	ActivityTTL     time.Duration `config:"activity_ttl" default:"10m" min:"1s" max:"24h" doc:"How long an activity's properties are kept before they are asked for again."`
	UnknownMembers  Unknown       `config:"unknown_members" default:"reject" enum:"reject,ignore" doc:"What becomes of a member, not null, that no property answers to: the row is rejected, or the member left out."`
	ControlTowerURL string        `config:"control_tower_url" gone:"true" doc:"A variable of the former gateway. Here the host looks triggers up: move the address to RIVERGATE_CONTROL_TOWER_URL and unset this one."`

	log        sdk.Logger
	now        func() time.Time
	api        *api
	activities *activities
	path       string // of the checkpoint

	mu         sync.Mutex // guards what follows
	checkpoint *checkpoint
	trouble    error // why nothing could be delivered last time; nil: nothing is wrong
}

// headerValue is what RFC 9110, 5.5, lets a header hold.
var headerValue = regexp.MustCompile(`^[\t\x20-\x7e\x80-\xff]*$`)

// Open checks the settings. It asks Riffyn nothing: a server that is down is no configuration problem.
func (r *Riffyn) Open(_ context.Context, env sdk.Env) error {
	r.log, r.now = env.Log, time.Now
	var problems []error
	base, err := url.Parse(r.URL)
	switch {
	case err != nil:
		problems = append(problems, sdk.FieldError("url", errors.New("is not a URL"))) // the parser's text quotes it
	case base.Scheme != "http" && base.Scheme != "https", base.Host == "":
		problems = append(problems, sdk.FieldError("url", errors.New("must start with http:// or https:// and a host")))
	case base.User != nil, base.RawQuery != "", base.Fragment != "":
		problems = append(problems, sdk.FieldError("url", errors.New("must end with the path, and hold no user; the key goes into API_KEY, which is kept secret")))
	}
	if !headerValue.MatchString(r.APIKey.Reveal()) {
		problems = append(problems, sdk.FieldError("api_key", errors.New("holds a character that no header may hold")))
	}
	r.path = filepath.Join(r.CheckpointDir, env.Instance+".db")
	if err := os.MkdirAll(r.CheckpointDir, 0o750); err != nil {
		problems = append(problems, sdk.FieldError("checkpoint_dir", err))
	}
	if len(problems) > 0 {
		return errors.Join(problems...)
	}
	dial := min(r.RequestTimeout, 5*time.Second)
	r.api = &api{
		base: strings.TrimRight(base.String(), "/"), timeout: r.RequestTimeout, hidden: r.APIKey.Reveal(), now: r.now,
		header: http.Header{http.CanonicalHeaderKey(string(r.Header)): {r.APIKey.Reveal()}, "Accept": {"application/json"}, "User-Agent": {"rivergate-pusher-riffyn/" + version}},
		client: &http.Client{
			Transport: &http.Transport{
				Proxy:               http.ProxyFromEnvironment,
				DialContext:         (&net.Dialer{Timeout: dial, KeepAlive: 15 * time.Second}).DialContext,
				TLSHandshakeTimeout: dial,
				ForceAttemptHTTP2:   true,
				MaxIdleConnsPerHost: r.Concurrency,
				IdleConnTimeout:     90 * time.Second,
			},
			// A redirect would carry the key to where nobody sent it, or turn the POST into a GET.
			CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
		},
	}
	r.activities = &activities{api: r.api, ttl: r.ActivityTTL, now: r.now, known: map[place]*activity{}}
	return nil
}

// Health tells what kept the last batch from being delivered: there is nothing that Riffyn could be asked without
// knowing an experiment.
func (r *Riffyn) Health(context.Context) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.trouble
}

func (r *Riffyn) setTrouble(err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.trouble = err
}

// Close lets connections and checkpoint go.
func (r *Riffyn) Close(context.Context) error {
	if r.api != nil {
		r.api.client.CloseIdleConnections()
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.checkpoint == nil {
		return nil
	}
	err := r.checkpoint.close()
	r.checkpoint = nil
	return err
}

// opened returns the checkpoint. It is opened at the first batch and not before, since during an upgrade the older process
// still writes to it.
func (r *Riffyn) opened(ctx context.Context) (*checkpoint, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.checkpoint != nil {
		return r.checkpoint, nil
	}
	c, err := openCheckpoint(ctx, r.path)
	if err != nil {
		return nil, err
	}
	r.checkpoint = c
	return c, nil
}
