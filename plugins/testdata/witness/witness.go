package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/rivergate/rivergate/sdk"
)

// Witness appends rows to a file, in the form of the file pusher's lines. It does not sync and does not drop rows that
// come again: the tests want to see what the host sends.
type Witness struct {
	Path    string `config:"path" required:"true" doc:"File that rows are appended to."`
	WedgeIf string `config:"wedge_if" doc:"While this file is there, no call returns."`

	file   *os.File
	mended bool
	lines  []byte
}

// What a row may ask for.
var (
	poison = []byte(`"poison":true`) // the process dies
	wedge  = []byte(`"wedge":true`)  // the call never returns
	reject = []byte(`"reject":true`) // the row is refused for good
)

// Open makes the file. What is in it is left alone until the first batch: during an upgrade the process before this one may
// still be writing.
func (w *Witness) Open(context.Context, sdk.Env) error {
	f, err := os.OpenFile(w.Path, os.O_RDWR|os.O_CREATE|os.O_APPEND, 0o600)
	if err != nil {
		return sdk.FieldError("path", err)
	}
	w.file = f
	return nil
}

// mend cuts a torn last line, left by a process that was killed while it wrote.
func (w *Witness) mend() error {
	if w.mended {
		return nil
	}
	raw, err := io.ReadAll(w.file)
	if err != nil {
		return fmt.Errorf("read what was written before: %w", err)
	}
	if err := w.file.Truncate(int64(bytes.LastIndexByte(raw, '\n') + 1)); err != nil {
		return fmt.Errorf("cut a torn line: %w", err)
	}
	w.mended = true
	return nil
}

// Deliver writes the batch in one go, after it has looked at every row.
func (w *Witness) Deliver(_ context.Context, b *sdk.Batch) error {
	if w.WedgeIf != "" {
		if _, err := os.Stat(w.WedgeIf); err == nil {
			select {} // on purpose deaf to ctx: this is what a wedged plugin does
		}
	}
	if err := w.mend(); err != nil {
		return err
	}
	w.lines = w.lines[:0]
	for row := range b.Rows() {
		data := row.JSON()
		switch {
		case bytes.Contains(data, poison):
			os.Exit(3)
		case bytes.Contains(data, wedge):
			select {}
		case bytes.Contains(data, reject):
			b.Fail(row, sdk.Permanent("asked", errors.New("the row asked to be rejected")))
			continue
		}
		w.lines = fmt.Appendf(w.lines, `{"position":%d,"org_id":%d,"uuid":%q,"data":%s}`+"\n", row.Position(), row.OrgID(), row.UUID(), data)
	}
	if _, err := w.file.Write(w.lines); err != nil {
		return fmt.Errorf("write rows down: %w", err)
	}
	return nil
}

// Close closes the file.
func (w *Witness) Close(context.Context) error {
	if w.file == nil {
		return nil
	}
	return w.file.Close()
}
