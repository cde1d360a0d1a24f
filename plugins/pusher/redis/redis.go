package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/redis/go-redis/v9/maintnotifications"

	"github.com/rivergate/rivergate/sdk"
)

// Redis appends batches to streams by a script that runs as a whole or not at all. The script keeps the positions of the
// rows that it appended, so a row that comes again changes nothing.
type Redis struct {
	URL            sdk.Secret    `config:"url" required:"true" pattern:"^(rediss?|unix)://" doc:"Where Redis is, as redis://user:password@host:6379/0, or rediss:// for TLS."`
	Key            string        `config:"key" default:"rivergate:{org}" doc:"Key of the stream; {org}, {uuid} and {instance} stand for the row's own." example:"lab:{org}:{uuid}"`
	MaxLen         int64         `config:"maxlen" default:"0" min:"0" doc:"Entries that a stream keeps, about: older ones are trimmed; 0: all."`
	Positions      string        `config:"positions" default:"rivergate-positions:{instance}" doc:"First part of the keys that hold the positions of the rows in the streams; {instance} stands for the pusher's name. Two gateways that write to one Redis need different ones."`
	Remember       time.Duration `config:"remember" default:"168h" min:"0s" doc:"How long positions are kept after the last row near them; a row that comes again later is appended again; 0s: for ever, at one bit a row."`
	Replicas       int           `config:"replicas" default:"0" min:"0" max:"100" doc:"Replicas that must have a batch before it counts as delivered (WAIT)."`
	ConnectTimeout time.Duration `config:"connect_timeout" default:"5s" min:"100ms" max:"1m" doc:"Longest wait for a connection."`
	CommandTimeout time.Duration `config:"command_timeout" default:"10s" min:"100ms" max:"1m" doc:"Longest wait for the answer to one batch; keep it, with CONNECT_TIMEOUT, below TIMEOUT."`

	key       template
	positions string
	client    *redis.Client
	address   string // for messages
}

// Open checks what can be checked without the server: one that is down is no configuration problem.
func (r *Redis) Open(_ context.Context, env sdk.Env) error {
	options, err := redis.ParseURL(r.URL.Reveal())
	if err != nil {
		return sdk.FieldError("url", errors.New("must be redis://user:password@host:port/database, or rediss:// or unix://")) // the parser's text may quote it
	}
	if r.key, err = parseKey(r.Key, env.Instance); err != nil {
		return sdk.FieldError("key", err)
	}
	if r.positions, err = positionsKey(r.Positions, env.Instance, r.key); err != nil {
		return sdk.FieldError("positions", err)
	}
	options.DialTimeout, options.ReadTimeout, options.WriteTimeout = r.ConnectTimeout, r.CommandTimeout, r.CommandTimeout
	options.PoolTimeout = r.ConnectTimeout
	options.ContextTimeoutEnabled = true
	options.MaxRetries, options.DialerRetries = -1, 1 // the host sends again, and says so
	options.PoolSize = 2                              // one for batches, one for health
	options.DisableIdentity = true
	options.MaintNotificationsConfig = &maintnotifications.Config{Mode: maintnotifications.ModeDisabled}
	r.client, r.address = redis.NewClient(options), options.Addr
	return nil
}

// Health asks the server for an answer.
func (r *Redis) Health(ctx context.Context) error {
	if err := r.client.Ping(ctx).Err(); err != nil {
		return r.said(err)
	}
	return nil
}

// said puts the server's address before what went wrong.
func (r *Redis) said(err error) error {
	if isAnswer(err) {
		return fmt.Errorf("Redis at %s: %s", r.address, words(err))
	}
	var op *net.OpError
	if errors.As(err, &op) && op.Op == "dial" {
		return fmt.Errorf("connect to Redis (URL): %w", err)
	}
	return fmt.Errorf("talk to Redis at %s: %w", r.address, err)
}

// Close ends the connections.
func (r *Redis) Close(context.Context) error { return r.client.Close() }
