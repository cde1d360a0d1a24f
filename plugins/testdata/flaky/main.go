// Command flaky is a pusher that fails a share of its batches, obeying ORDER=key: after a row that failed, every later row
// of the same uuid in the batch fails as well. What it takes it appends to a file, so that a test can count. It proves
// that retries lose nothing and keep the order.
package main

import (
	"context"
	"errors"
	"fmt"
	"hash/fnv"
	"os"
	"strconv"
	"sync"

	"github.com/rivergate/rivergate/sdk"
)

type flaky struct {
	Share float64 `config:"share" default:"0.3" min:"0" max:"1" doc:"Share of the batches in which rows fail."`
	Path  string  `config:"path" doc:"File that gets one line per delivered row: position, uuid, row. Empty: none."`

	mu      sync.Mutex
	file    *os.File
	batches uint64
}

func (f *flaky) Open(context.Context, sdk.Env) error {
	if f.Path == "" {
		return nil
	}
	file, err := os.OpenFile(f.Path, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	if err != nil {
		return sdk.FieldError("path", err)
	}
	f.file = file
	return nil
}

func (f *flaky) Close(context.Context) error {
	if f.file == nil {
		return nil
	}
	return f.file.Close()
}

// fails decides by the number of the batch, so that a run can be repeated, and a row that failed passes some time.
func (f *flaky) fails() bool {
	f.batches++
	h := fnv.New64a()
	_, _ = h.Write(strconv.AppendUint(nil, f.batches, 10))
	return float64(h.Sum64()%1000) < f.Share*1000
}

func (f *flaky) Deliver(_ context.Context, b *sdk.Batch) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	failing := f.fails()
	failed := map[string]bool{}
	n := 0
	for row := range b.Rows() {
		n++
		if failing && n%3 == 0 || failed[row.UUID()] {
			failed[row.UUID()] = true
			b.Fail(row, errors.New("flaky by configuration"))
			continue
		}
		if f.file == nil {
			continue
		}
		if _, err := fmt.Fprintf(f.file, "%d\t%s\t%s\n", row.Position(), row.UUID(), row.JSON()); err != nil {
			return err
		}
	}
	return nil
}

func main() {
	sdk.Serve(sdk.Plugin{Name: "flaky", Version: "1.0.0", Summary: "Fails now and then.", Pusher: func() sdk.Pusher { return new(flaky) }})
}
