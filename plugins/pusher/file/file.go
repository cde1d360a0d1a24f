package main

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/rivergate/rivergate/plugins/internal/durable"
	"github.com/rivergate/rivergate/plugins/internal/jsonline"
	"github.com/rivergate/rivergate/sdk"
)

// File appends rows to files. A row that comes again is recognised by its position and not written twice.
type File struct {
	Path           string        `config:"path" default:"out/{org}/{date}.{format}" doc:"Where rows go; {org} {date} {hour} {uuid} {instance} {format} stand for the row's own. A relative path starts in the folder in which the host was started." example:"out/{org}/{date}.jsonl"`
	Format         Format        `config:"format" default:"jsonl" enum:"jsonl,csv" doc:"jsonl: one JSON object a line; csv: with a header line."`
	RotateSize     sdk.Bytes     `config:"rotate_size" default:"0" min:"0" doc:"A file that would grow beyond it is renamed to name-000001.jsonl first; 0: never."`
	RotateInterval time.Duration `config:"rotate_interval" default:"0s" min:"0s" max:"8784h" doc:"The first row of a new interval (1h: of a new hour) starts a new file; 0s: never."`
	MaxOpenFiles   int           `config:"max_open_files" default:"128" min:"1" max:"10000" doc:"Files kept open at once."`

	instance string
	log      sdk.Logger
	template template
	files    *files
	ledger   *ledger // nil until the first batch
	grown    int64   // bytes written since the checkpoint
	lines    jsonline.Lines
}

const (
	// checkpointBytes and checkpointFiles bound what a start has to read back.
	checkpointBytes = 64 << 20
	checkpointFiles = 4096
)

// Open checks the template and that its folder can be written. Files and ledger are opened with the first batch: until then
// an older process of the same instance may be finishing its work.
func (f *File) Open(_ context.Context, env sdk.Env) error {
	f.instance, f.log = env.Instance, env.Log
	var err error
	if f.template, err = parseTemplate(f.Path); err != nil {
		return sdk.FieldError("path", err)
	}
	f.files = newFiles(f.MaxOpenFiles, int64(f.RotateSize), f.RotateInterval)
	if err := durable.MakeFolder(f.template.base); err != nil {
		return sdk.FieldError("path", fmt.Errorf("make folder: %w", err))
	}
	if err := f.Health(context.Background()); err != nil {
		return sdk.FieldError("path", err)
	}
	return nil
}

const writeAndSearch = 2 | 1 // W_OK and X_OK of access(2)

// Health tells whether files can be made where the template says.
func (f *File) Health(context.Context) error {
	if err := syscall.Access(f.template.base, writeAndSearch); err != nil {
		return fmt.Errorf("folder %s cannot be written: %w", f.template.base, err)
	}
	return nil
}

func (f *File) ledgerPath() string {
	return filepath.Join(f.template.base, ".rivergate-"+safeName(f.instance)+".positions")
}

// claimPath is the same for two instances that would write the same files.
func (f *File) claimPath() string {
	files := strings.NewReplacer("{instance}", safeName(f.instance), "{format}", string(f.Format)).Replace(filepath.Clean(f.Path))
	sum := sha256.Sum256([]byte(files))
	return filepath.Join(f.template.base, ".rivergate-path-"+hex.EncodeToString(sum[:8])+lockSuffix)
}

// start opens the ledger and brings it up to what the files hold.
func (f *File) start() error {
	if f.ledger != nil {
		return nil
	}
	ledger, err := openLedger(f.ledgerPath())
	if errors.Is(err, errLocked) {
		return sdk.Throttle(100*time.Millisecond, err)
	}
	if err != nil {
		return sdk.RetryIn(0, "ledger", err)
	}
	if ledger.claim, err = takeClaim(f.claimPath(), f.instance); err != nil {
		failure := destinationError(err)
		if errors.Is(err, errTaken) {
			failure = sdk.RetryIn(time.Second, "path_taken", err)
		}
		return errors.Join(failure, ledger.release())
	}
	if err := ledger.recover(f.log.Warn); err != nil {
		return errors.Join(destinationError(err), ledger.release())
	}
	f.ledger = ledger
	return nil
}

// Deliver writes the batch and syncs it. Rows that fail do so with the later rows of the same uuid, so that order holds.
func (f *File) Deliver(_ context.Context, b *sdk.Batch) error {
	if err := f.start(); err != nil {
		return err
	}
	held := map[key]error{}
	part := newPortion()
	var frame *sdk.Frame
	var path string
	for row := range b.Rows() {
		if f.ledger.written.Has(row.Position()) {
			b.Duplicate(row)
			continue
		}
		if of, _ := row.Frame(); of != frame { // all rows of a frame go to one file
			frame, path = of, f.template.path(row, f.instance, string(f.Format))
		}
		if part.targets[path] == nil && len(part.targets) == f.MaxOpenFiles {
			f.write(b, part, held)
			part = newPortion()
		}
		part.add(row, path)
	}
	f.write(b, part, held)
	if f.grown > checkpointBytes || len(f.ledger.touched) > checkpointFiles {
		if err := f.ledger.checkpoint(); err != nil {
			f.log.Warn("no checkpoint; a restart reads more back", "error", err)
		} else {
			f.grown = 0
		}
	}
	return nil
}

// Close leaves a checkpoint and closes all files.
func (f *File) Close(context.Context) error {
	if f.files != nil {
		f.files.close()
	}
	if f.ledger == nil {
		return nil
	}
	ledger := f.ledger
	f.ledger = nil
	return ledger.close()
}

// destinationError: everything that a file system can refuse may be mended.
func destinationError(err error) error {
	code := "io"
	switch {
	case isFull(err):
		code = "disk_full"
	case errors.Is(err, os.ErrPermission):
		code = "permission"
	}
	return sdk.RetryIn(0, code, err)
}

func isFull(err error) bool {
	return errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EDQUOT) || errors.Is(err, syscall.EFBIG)
}

// relative is how the ledger names a file.
func (f *File) relative(path string) string {
	if rel, err := filepath.Rel(f.template.base, path); err == nil && !strings.Contains(rel, "\n") {
		return rel
	}
	return path
}
