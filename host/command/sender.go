package command

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"strconv"
	"strings"
	"time"
)

const (
	batchPath    = "/data/batch"
	maxBody      = 8 << 20  // bytes of rows in one request; half of what a host takes by default
	maxOpen      = 32 << 20 // bytes of rows that wait for their batch to fill up, over all uuids
	firstBackoff = 200 * time.Millisecond
	longBackoff  = 10 * time.Second
)

// sender collects rows into batches, one uuid each, and posts them one after another.
//
//	input → batch per uuid → POST (backoff, Retry-After, same Idempotency-Key) → summary
type sender struct {
	host    *client
	options sendOptions
	wait    func(context.Context, time.Duration) error
	summary sendSummary
	report  func(read int64, s *sendSummary)
	note    func(format string, args ...any)

	open      map[string]*batch
	order     []*batch // open ones, oldest first
	openBytes int
	made      int // batches numbered so far
}

// batch is the rows of one request.
type batch struct {
	uuid  string
	rows  []inputRow
	bytes int
}

// run sends everything. An error means that it ended early; what was sent is in the summary. Rows that were read before a
// bad line are sent before it ends the run.
func (s *sender) run(ctx context.Context, rows rowReader) error {
	s.open = map[string]*batch{}
	for {
		row, err := rows.next()
		var bad *rowError
		switch {
		case errors.Is(err, io.EOF):
			return s.flush(ctx, rows)
		case errors.As(err, &bad):
			s.summary.bad(bad.line, bad.reason)
			if !s.options.skipBad {
				if err := s.flush(ctx, rows); err != nil {
					return err
				}
				return &exitError{code: exitFailed, err: fmt.Errorf("line %d: %s", bad.line, bad.reason), hint: errBadInput.Error()}
			}
			continue
		case err != nil:
			return err
		}
		if err := s.add(ctx, row); err != nil {
			return err
		}
		s.report(rows.read(), &s.summary)
	}
}

// add puts a row into the batch of its uuid and posts what is full.
func (s *sender) add(ctx context.Context, row inputRow) error {
	b := s.open[row.uuid]
	if b != nil && b.bytes+len(row.data) > maxBody {
		if err := s.close(ctx, b); err != nil {
			return err
		}
		b = nil
	}
	if b == nil {
		b = &batch{uuid: row.uuid}
		s.open[row.uuid] = b
		s.order = append(s.order, b)
	}
	b.rows = append(b.rows, row)
	b.bytes += len(row.data)
	s.openBytes += len(row.data)
	if len(b.rows) >= s.options.batch {
		return s.close(ctx, b)
	}
	for s.openBytes > maxOpen {
		if err := s.close(ctx, s.order[0]); err != nil {
			return err
		}
	}
	return nil
}

// flush posts all that is open, oldest first.
func (s *sender) flush(ctx context.Context, rows rowReader) error {
	for len(s.order) > 0 {
		if err := s.close(ctx, s.order[0]); err != nil {
			return err
		}
		s.report(rows.read(), &s.summary)
	}
	return nil
}

// close takes a batch out of the open ones and posts it.
func (s *sender) close(ctx context.Context, b *batch) error {
	delete(s.open, b.uuid)
	for i := range s.order {
		if s.order[i] == b {
			s.order = append(s.order[:i], s.order[i+1:]...)
			break
		}
	}
	s.openBytes -= b.bytes
	s.made++
	return s.post(ctx, b, s.options.key+"-"+strconv.Itoa(s.made))
}

// post sends one batch until it is accepted or refused for good. With --skip-bad, rows that the host names are left out
// and the others sent under a key of their own.
func (s *sender) post(ctx context.Context, b *batch, key string) error {
	for part := 1; ; part++ {
		body := b.body()
		err := s.repeat(ctx, body, key)
		var refused *apiError
		switch {
		case err == nil:
			s.summary.Accepted += int64(len(b.rows))
			s.summary.Bytes += int64(len(body))
			return nil
		case !errors.As(err, &refused) || passing(refused.Status):
			for _, r := range b.rows {
				s.summary.bad(r.line, "not sent: "+err.Error())
			}
			return err
		}
		good, named := b.without(refused.Details.Errors)
		for _, n := range named {
			s.summary.bad(n.Line, n.Reason)
		}
		if !s.options.skipBad || len(named) == 0 {
			for _, r := range good.rows {
				s.summary.bad(r.line, fmt.Sprintf("its request was refused: %v", refused))
			}
			return refused
		}
		if len(good.rows) == 0 {
			return nil
		}
		b, key = good, fmt.Sprintf("%s-%d", key, part)
	}
}

// repeat posts one body until there is an answer that repeating cannot change.
func (s *sender) repeat(ctx context.Context, body []byte, key string) error {
	deadline := time.Now().Add(s.options.giveUp)
	header := http.Header{"Idempotency-Key": {key}, "Content-Type": {"application/json"}}
	for backoff := firstBackoff; ; backoff = min(2*backoff, longBackoff) {
		s.summary.Requests++
		answer, err := s.host.do(ctx, http.MethodPost, batchPath, nil, bytes.NewReader(body), header)
		if err == nil {
			_, _ = io.Copy(io.Discard, io.LimitReader(answer.Body, 1<<20)) // so that the connection is used again
			_ = answer.Body.Close()
			return nil
		}
		// Half of the backoff is left to chance, so that many senders do not come back at once.
		pause := backoff/2 + rand.N(backoff/2)
		var refused *apiError
		if errors.As(err, &refused) {
			if !passing(refused.Status) {
				return err
			}
			pause = max(pause, refused.RetryAfter)
		}
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if time.Now().Add(pause).After(deadline) {
			return fmt.Errorf("gave up after %v: %w", s.options.giveUp, err)
		}
		s.note("%v; again in %v", err, pause.Round(100*time.Millisecond))
		s.summary.Retries++
		if err := s.wait(ctx, pause); err != nil {
			return err
		}
	}
}

// passing tells whether an answer may be another one later. 409: the same key is still being worked on.
func passing(status int) bool {
	switch status {
	case http.StatusRequestTimeout, http.StatusConflict, http.StatusTooManyRequests, http.StatusInternalServerError,
		http.StatusBadGateway, http.StatusServiceUnavailable, http.StatusGatewayTimeout:
		return true
	}
	return false
}

// body is {"uuid": …, "rows": [{"index": …, "data": …}, …]}, with the rows' own bytes.
func (b *batch) body() []byte {
	body := make([]byte, 0, b.bytes+len(b.rows)*32+len(b.uuid)+32)
	body = append(body, `{"uuid":`...)
	body = appendString(body, b.uuid)
	body = append(body, `,"rows":[`...)
	for i, r := range b.rows {
		if i > 0 {
			body = append(body, ',')
		}
		body = append(body, '{')
		if r.index != nil {
			body = append(body, `"index":`...)
			body = strconv.AppendInt(body, *r.index, 10)
			body = append(body, ',')
		}
		body = append(body, `"data":`...)
		body = append(body, r.data...)
		body = append(body, '}')
	}
	return append(body, "]}"...)
}

// without splits a batch by the places that the host named, such as rows[3].index.
func (b *batch) without(errs []fieldError) (good *batch, named []badLine) {
	reasons := map[int]string{}
	for _, e := range errs {
		rest, ok := strings.CutPrefix(e.Field, "rows[")
		digits, place, closed := strings.Cut(rest, "]")
		n, err := strconv.Atoi(digits)
		if ok && closed && err == nil && n >= 0 && n < len(b.rows) && reasons[n] == "" {
			reasons[n] = strings.TrimPrefix(place, ".") + ": " + e.Reason
		}
	}
	good = &batch{uuid: b.uuid}
	for i, r := range b.rows {
		if reason, bad := reasons[i]; bad {
			named = append(named, badLine{Line: r.line, Reason: reason})
			continue
		}
		good.rows = append(good.rows, r)
		good.bytes += len(r.data)
	}
	return good, named
}
