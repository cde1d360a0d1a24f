package cache

import (
	"context"
	_ "embed" // the scripts
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"sync"
	"time"

	"github.com/hashicorp/go-hclog"
	"github.com/redis/go-redis/v9"
	"github.com/redis/go-redis/v9/maintnotifications"
)

// Each call is one script, so that an org's account and its entries never differ. All keys begin with redisPrefix.
var (
	//go:embed prelude.lua
	prelude string
	//go:embed set.lua
	setText string
	//go:embed get.lua
	getText string
	//go:embed remove.lua
	removeText string
	//go:embed removetag.lua
	removeTagText string
	//go:embed sweep.lua
	sweepText string
)

const (
	redisPrefix = "rivergate:cache:"
	// redisTime bounds each call; a value of 10 MiB passes within it.
	redisTime     = 3 * time.Second
	redisDialTime = 2 * time.Second
	// restTime is how long nothing is tried after a connection failed, so that requests do not all wait for the same silence.
	restTime = 250 * time.Millisecond
	// outlive is how long the account of an org outlives its last set: longer than any entry.
	outlive = MaxTTL + time.Hour
)

// redisStore is the store in a Redis server that several hosts may share. With maxmemory set, its policy should be noeviction:
// sets are then answered 503 while it is full. Other policies may drop parts of the account, and then an org may get more than
// its share; values are right all the same.
type redisStore struct {
	client *redis.Client
	log    hclog.Logger
	perOrg int64
	rest   rest

	setScript, getScript, removeScript, removeTagScript, sweepScript *redis.Script
}

var errURL = errors.New("must be redis://user:password@host:port/database, or rediss:// or unix://")

// parseURL never quotes the address.
func parseURL(address string) (*redis.Options, error) {
	options, err := redis.ParseURL(address)
	if err != nil {
		return nil, errURL
	}
	return options, nil
}

// quiet silences the library, which writes to standard error of the process past every log: what goes wrong, said tells.
var quiet = sync.OnceFunc(func() { redis.SetLogger(silence{}) })

type silence struct{}

func (silence) Printf(context.Context, string, ...any) {}

func newRedis(address string, perOrg int64, log hclog.Logger) (*redisStore, error) {
	options, err := parseURL(address)
	if err != nil {
		return nil, err
	}
	quiet()
	options.DialTimeout, options.ReadTimeout, options.WriteTimeout, options.PoolTimeout = redisDialTime, redisTime, redisTime, redisDialTime
	options.ContextTimeoutEnabled = true
	options.MaxRetries, options.DialerRetries = 1, 1 // once more, for a connection that had died unseen
	options.DisableIdentity = true
	options.MaintNotificationsConfig = &maintnotifications.Config{Mode: maintnotifications.ModeDisabled}
	script := func(text string) *redis.Script { return redis.NewScript(prelude + text) }
	return &redisStore{
		client: redis.NewClient(options), log: log, perOrg: perOrg,
		setScript: script(setText), getScript: script(getText), removeScript: script(removeText),
		removeTagScript: script(removeTagText), sweepScript: script(sweepText),
	}, nil
}

func keys(org uint64) []string {
	return []string{redisPrefix + strconv.FormatUint(org, 10), redisPrefix + "all", redisPrefix + "orgs"}
}

// run runs a script; redis.Nil is no error and gives nil.
func (r *redisStore) run(ctx context.Context, s *redis.Script, keys []string, args ...any) (any, error) {
	if err := r.rest.err(); err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, redisTime)
	defer cancel()
	answer, err := s.Run(ctx, r.client, keys, args...).Result()
	if errors.Is(err, redis.Nil) {
		answer, err = nil, nil
	}
	return answer, r.said(ctx, err)
}

// said makes ErrUnavailable of what went wrong, and tells the log when that begins and ends.
func (r *redisStore) said(ctx context.Context, err error) error {
	var answered redis.Error
	switch {
	case err == nil:
		if r.rest.end() {
			r.log.Info("the cache is there again")
		}
		return nil
	case errors.Is(ctx.Err(), context.Canceled):
		return ctx.Err() // the caller has gone
	}
	failed := fmt.Errorf("%w: %w", ErrUnavailable, err)
	pause := restTime
	if errors.As(err, &answered) {
		pause = 0 // it is there, and says no
	}
	if r.rest.begin(failed, pause) {
		r.log.Warn("the cache cannot be used; values are made again each time", "error", err)
	}
	return failed
}

func number(answer any) int {
	n, _ := answer.(int64)
	return int(n)
}

func (r *redisStore) get(ctx context.Context, org uint64, key string, now time.Time) (*Entry, error) {
	answer, err := r.run(ctx, r.getScript, keys(org), key, now.UnixMilli())
	if err != nil {
		return nil, err
	}
	fields, _ := answer.([]any)
	if len(fields) != 3 {
		return nil, nil
	}
	value, _ := fields[0].(string)
	ends, _ := fields[1].(string)
	tags, _ := fields[2].(string)
	e := &Entry{Key: key, Value: json.RawMessage(value)}
	ms, err := strconv.ParseInt(ends, 10, 64)
	if err == nil {
		err = json.Unmarshal([]byte(tags), &e.Tags)
	}
	if err != nil {
		return nil, fmt.Errorf("%w: an entry in Redis is not one of ours: %w", ErrUnavailable, err)
	}
	e.Expires = time.UnixMilli(ms).UTC()
	return e, nil
}

func (r *redisStore) set(ctx context.Context, org uint64, e *Entry, absent bool, now time.Time) (int, error) {
	if w := e.weight(); w > r.perOrg {
		return 0, &BoundError{Field: "value", Reason: fmt.Sprintf("takes %d bytes with its key and tags, and an org has %d", w, r.perOrg), TooLarge: true}
	}
	tags := []byte("[]")
	if len(e.Tags) > 0 {
		var err error
		if tags, err = json.Marshal(e.Tags); err != nil {
			return 0, fmt.Errorf("write the tags of an entry: %w", err)
		}
	}
	answer, err := r.run(ctx, r.setScript, keys(org), e.Key, []byte(e.Value), tags, e.Expires.UnixMilli(), now.UnixMilli(),
		e.weight(), r.perOrg, outlive.Milliseconds(), absent)
	return number(answer), err
}

func (r *redisStore) remove(ctx context.Context, org uint64, key string, now time.Time) (bool, error) {
	answer, err := r.run(ctx, r.removeScript, keys(org), key, now.UnixMilli())
	return number(answer) == 1, err
}

func (r *redisStore) removeTag(ctx context.Context, org uint64, tag string, now time.Time) (int, error) {
	answer, err := r.run(ctx, r.removeTagScript, keys(org), tag, now.UnixMilli())
	return number(answer), err
}

func (r *redisStore) total(ctx context.Context) (size, error) {
	if err := r.rest.err(); err != nil {
		return size{}, err
	}
	found, err := r.client.HMGet(ctx, redisPrefix+"all", "entries", "bytes").Result()
	if err := r.said(ctx, err); err != nil {
		return size{}, err
	}
	field := func(i int) int64 {
		text, _ := found[i].(string)
		n, _ := strconv.ParseInt(text, 10, 64) // not there: 0
		return max(n, 0)
	}
	return size{field(0), field(1)}, nil
}

func (r *redisStore) sweep(ctx context.Context, now time.Time) error {
	for cursor := uint64(0); ; {
		if err := r.rest.err(); err != nil {
			return err
		}
		bases, next, err := r.client.SScan(ctx, redisPrefix+"orgs", cursor, "", 100).Result()
		if err := r.said(ctx, err); err != nil {
			return err
		}
		for _, base := range bases {
			for more := 1; more == 1; {
				answer, err := r.run(ctx, r.sweepScript, []string{base, redisPrefix + "all", redisPrefix + "orgs"}, now.UnixMilli())
				if err != nil {
					return err
				}
				more = number(answer)
			}
		}
		if cursor = next; cursor == 0 {
			return nil
		}
	}
}

func (r *redisStore) close() error {
	if err := r.client.Close(); err != nil {
		return fmt.Errorf("close the connections to the cache: %w", err)
	}
	return nil
}

// rest is the time after a failure.
type rest struct {
	mu    sync.Mutex
	last  error // nil: all is well
	until time.Time
}

// err is not nil while nothing is to be tried.
func (r *rest) err() error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.last != nil && time.Now().Before(r.until) {
		return r.last
	}
	return nil
}

// begin tells whether all was well before.
func (r *rest) begin(err error, pause time.Duration) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	first := r.last == nil
	r.last, r.until = err, time.Now().Add(pause)
	return first
}

// end tells whether something was wrong before.
func (r *rest) end() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	again := r.last != nil
	r.last = nil
	return again
}
