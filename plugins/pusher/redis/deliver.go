package main

import (
	"context"
	_ "embed"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/rivergate/rivergate/sdk"
)

//go:embed append.lua
var appendSource string

var appendScript = redis.NewScript(appendSource)

// bitmapBits is how many positions share one bitmap: 8 KiB when all of them are set.
const bitmapBits = 1 << 16

// What the script answers about a row.
const (
	appended  = 'A'
	duplicate = 'D'
	foreign   = 'T'
)

// Deliver gives the batch to the script in one call. A row that is longer than Redis takes ends the connection; such rows
// are rejected, and the others are sent once more.
func (r *Redis) Deliver(ctx context.Context, b *sdk.Batch) error {
	ctx, cancel := context.WithTimeout(ctx, r.ConnectTimeout+r.CommandTimeout)
	defer cancel()
	rows := make([]sdk.Row, 0, b.Len())
	for row := range b.Rows() {
		rows = append(rows, row)
	}
	answer, err := r.append(ctx, rows)
	if err != nil {
		if rest := r.rejectTooLong(ctx, b, rows, err); len(rest) < len(rows) {
			rows = rest
			answer, err = r.append(ctx, rows)
		}
	}
	if err != nil {
		failure := r.destinationError(err)
		for _, row := range rows {
			b.Fail(row, failure)
		}
		return nil
	}
	r.settle(b, rows, answer)
	return nil
}

// leastBulkLimit is the lowest proto-max-bulk-len that Redis can be set to; 512 MiB is usual.
const leastBulkLimit = 1 << 20

// rejectTooLong rejects the rows that are longer than the server's limit, which it asks for, and returns the others. Redis
// hangs up in the middle of such a value; its complaint is often lost with the connection.
func (r *Redis) rejectTooLong(ctx context.Context, b *sdk.Batch, rows []sdk.Row, failure error) (rest []sdk.Row) {
	if isAnswer(failure) && !strings.Contains(failure.Error(), "invalid bulk length") || !slices.ContainsFunc(rows, func(row sdk.Row) bool { return len(row.JSON()) >= leastBulkLimit }) {
		return rows
	}
	const parameter = "proto-max-bulk-len"
	found, err := r.client.ConfigGet(ctx, parameter).Result()
	limit, parseErr := strconv.Atoi(found[parameter])
	if err != nil || parseErr != nil { // a server that is down, or does not tell
		return rows
	}
	for _, row := range rows {
		if len(row.JSON()) <= limit {
			rest = append(rest, row)
			continue
		}
		b.Reject(row, "too_long", fmt.Errorf("Redis takes no value longer than %d bytes (%s), the row has %d", limit, parameter, len(row.JSON())))
	}
	return rest
}

func (r *Redis) settle(b *sdk.Batch, rows []sdk.Row, answer string) {
	for i, row := range rows {
		switch answer[i] {
		case duplicate:
			b.Duplicate(row)
		case foreign:
			b.Fail(row, sdk.RetryIn(5*time.Second, "WRONGTYPE",
				fmt.Errorf("the key %q is there and holds no stream: rename or delete it, or set another KEY", r.key.of(row))))
		}
	}
}

// append runs the script for the rows, and returns one letter for each.
func (r *Redis) append(ctx context.Context, rows []sdk.Row) (string, error) {
	if len(rows) == 0 {
		return "", nil
	}
	keys, args := r.arguments(rows)
	run := func() (*redis.Cmd, *redis.Cmd, error) {
		var script, wait *redis.Cmd
		_, err := r.client.Pipelined(ctx, func(p redis.Pipeliner) error { // WAIT is about its own connection
			script = appendScript.EvalSha(ctx, p, keys, args...)
			if r.Replicas > 0 {
				wait = p.Do(ctx, "WAIT", r.Replicas, (r.CommandTimeout / 2).Milliseconds())
			}
			return nil
		})
		return script, wait, err
	}
	script, wait, err := run()
	if redis.HasErrorPrefix(script.Err(), "NOSCRIPT") { // a server that is new to it, or was restarted
		if err := appendScript.Load(ctx, r.client).Err(); err != nil {
			return "", err
		}
		script, wait, err = run()
	}
	if err != nil {
		return "", err
	}
	answer, err := script.Text()
	if err != nil {
		return "", err
	}
	for _, letter := range answer {
		if letter != appended && letter != duplicate && letter != foreign {
			return "", errors.New("the script gave an answer that it does not know")
		}
	}
	if len(answer) != len(rows) {
		return "", fmt.Errorf("the script answered for %d rows of %d", len(answer), len(rows))
	}
	if wait != nil {
		if n, err := wait.Int(); err != nil {
			return "", err
		} else if n < r.Replicas {
			return "", sdk.RetryIn(0, "replicas", fmt.Errorf("%d of %d replicas have the rows (REPLICAS)", n, r.Replicas))
		}
	}
	return answer, nil
}

// arguments are the keys and arguments of the script; append.lua says which.
func (r *Redis) arguments(rows []sdk.Row) (keys []string, args []any) {
	streams, bitmaps := map[string]int{}, map[uint64]int{} // numbers in Lua's way, from 1
	of := make([]int, len(rows))
	for i, row := range rows {
		key := r.key.of(row)
		if streams[key] == 0 {
			keys = append(keys, key)
			streams[key] = len(keys)
		}
		of[i] = streams[key]
	}
	args = make([]any, 0, 3+9*len(rows))
	args = append(args, len(keys), r.MaxLen, int64(r.Remember.Seconds()))
	for i, row := range rows {
		number := row.Position() / bitmapBits
		if bitmaps[number] == 0 {
			keys = append(keys, r.positions+":"+strconv.FormatUint(number, 10))
			bitmaps[number] = len(keys)
		}
		index := ""
		if n, ok := row.Index(); ok {
			index = strconv.Itoa(n)
		}
		args = append(args, of[i], bitmaps[number], row.Position()%bitmapBits,
			row.Position(), row.OrgID(), row.UUID(), index, row.ReceivedAt().UTC().Format(time.RFC3339Nano), row.JSON())
	}
	return keys, args
}
