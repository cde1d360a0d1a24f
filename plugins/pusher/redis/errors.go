package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/rivergate/rivergate/sdk"
)

// maxMessage bounds what the server's words may take of an outcome, bytes.
const maxMessage = 500

// isAnswer: the server answered, if only to say no.
func isAnswer(err error) bool {
	var answer redis.Error
	return errors.As(err, &answer)
}

// destinationError gives a failure its class. The first word of an answer is its code.
func (r *Redis) destinationError(err error) error {
	var typed *sdk.Error
	if errors.As(err, &typed) {
		return err
	}
	if !isAnswer(err) {
		code := "connection"
		if errors.Is(err, context.DeadlineExceeded) || errors.Is(err, os.ErrDeadlineExceeded) {
			code = "timeout"
		}
		return sdk.RetryIn(0, code, r.said(err))
	}
	code, _, _ := strings.Cut(err.Error(), " ")
	switch {
	case code == "NOAUTH", code == "WRONGPASS":
		return sdk.BadCredentials(code, r.said(err))
	case strings.Contains(err.Error(), "unauthenticated"): // who has not logged in may not even send a batch
		return sdk.BadCredentials("NOAUTH", r.said(err))
	case code == "NOPERM":
		return sdk.BadCredentials(code, fmt.Errorf("%w; the user of URL needs +evalsha +script|load +type +xadd +getbit +setbit +expire +wait +ping on the keys of KEY and POSITIONS", r.said(err)))
	case strings.HasPrefix(err.Error(), "ERR AUTH"), strings.HasPrefix(err.Error(), "ERR invalid password"):
		return sdk.BadCredentials("AUTH", r.said(err))
	case code == "OOM":
		return &sdk.Error{Class: sdk.Throttled, Code: code, Err: fmt.Errorf("%w; raise maxmemory, or let consumers trim the streams (MAXLEN)", r.said(err))}
	case code == "WRONGTYPE":
		return sdk.RetryIn(5*time.Second, code, fmt.Errorf("%w: set another POSITIONS", r.said(err)))
	case code == "MOVED", code == "ASK", code == "CROSSSLOT":
		return sdk.RetryIn(5*time.Second, code, errors.New("Redis: is a cluster, and a batch goes to one server alone; set URL to a server that is none"))
	}
	return sdk.RetryIn(0, code, r.said(err)) // LOADING, READONLY, MASTERDOWN, MISCONF, BUSY, NOREPLICAS, …
}

// words is what the server said, in one line of bounded length.
func words(err error) string {
	text := strings.ToValidUTF8(strings.Join(strings.Fields(err.Error()), " "), "�")
	if len(text) > maxMessage {
		text = strings.ToValidUTF8(text[:maxMessage], "") + "…"
	}
	return text
}
