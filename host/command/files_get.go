package command

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"
)

func (c *cli) filesGetCommand() *cobra.Command {
	var output string
	cmd := &cobra.Command{
		Use: "get OBJECT", Short: "Download a file, going on where an interrupted download ended",
		Long: `Download a file. The bytes go to OUTPUT.part until all are there and their SHA-256 is that of the file; the same command
goes on with an OUTPUT.part that an interrupted one left, unless the file was changed meanwhile. --output - writes to standard output.

` + exitCodesHelp,
		Example: "  rivergate files get organizations/1/files/0/results_20260131_120000_9f86d081.csv --output results.csv",
		Args:    cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			host, err := c.client()
			if err != nil {
				return err
			}
			if output == "-" {
				return c.getToStdout(cmd.Context(), host, args[0])
			}
			if output == "" {
				output = path.Base(args[0])
			}
			return c.getToFile(cmd.Context(), host, args[0], output)
		},
	}
	cmd.Flags().StringVarP(&output, "output", "o", "", "file to write (default: the last part of the object's name)")
	return cmd
}

func (c *cli) getToStdout(ctx context.Context, host *client, object string) error {
	answer, err := host.do(ctx, http.MethodGet, objectPath(object), nil, nil, nil)
	if err != nil {
		return err
	}
	defer answer.Body.Close()
	digest := sha256.New()
	if _, err := io.Copy(c.Stdout, io.TeeReader(answer.Body, digest)); err != nil {
		return fmt.Errorf("download %s: %w", object, err)
	}
	return checkDigest(object, answer.Header.Get("ETag"), hex.EncodeToString(digest.Sum(nil)))
}

// getToFile downloads to output.part, and renames it when it is whole. The ETag of a part is kept in its first name's sibling
// output.part.etag, so that a later run asks for the rest of the same version only.
func (c *cli) getToFile(ctx context.Context, host *client, object, output string) (err error) {
	part, tagFile := output+".part", output+".part.etag"
	file, err := os.OpenFile(part, os.O_RDWR|os.O_CREATE, 0o644)
	if err != nil {
		return &exitError{code: exitMistake, err: err}
	}
	defer func() { err = errors.Join(err, closeOnce(file)) }()

	digest := sha256.New()
	header := http.Header{}
	var have int64
	if tag, readErr := os.ReadFile(tagFile); readErr == nil && len(tag) > 0 {
		if have, err = io.Copy(digest, file); err != nil {
			return fmt.Errorf("read %s: %w", part, err)
		}
		if have > 0 {
			header.Set("Range", fmt.Sprintf("bytes=%d-", have))
			header.Set("If-Range", string(tag))
		}
	}
	answer, err := host.do(ctx, http.MethodGet, objectPath(object), nil, nil, header)
	var refused *apiError
	if errors.As(err, &refused) && refused.Status == http.StatusRequestedRangeNotSatisfiable { // the part is as long as the file, or longer
		have = 0
		answer, err = host.do(ctx, http.MethodGet, objectPath(object), nil, nil, nil)
	}
	if err != nil {
		return err
	}
	defer answer.Body.Close()
	if answer.StatusCode != http.StatusPartialContent || have == 0 {
		have = 0
		digest.Reset()
		if err := file.Truncate(0); err != nil {
			return fmt.Errorf("write %s: %w", part, err)
		}
	}
	if _, err := file.Seek(have, io.SeekStart); err != nil {
		return fmt.Errorf("write %s: %w", part, err)
	}
	tag := answer.Header.Get("ETag")
	if err := os.WriteFile(tagFile, []byte(tag), 0o644); err != nil {
		return fmt.Errorf("write %s: %w", tagFile, err)
	}

	progress := newProgress(c.Stderr, have+max(answer.ContentLength, 0))
	moved := &meter{progress: progress, done: have, what: filepath.Base(output)}
	_, err = io.Copy(io.MultiWriter(file, digest, moved), answer.Body)
	progress.end()
	if err != nil {
		return &exitError{code: exitFailed, err: fmt.Errorf("download %s: %w", object, err), hint: "The same command goes on from " + size(moved.done) + "."}
	}
	if err := checkDigest(object, tag, hex.EncodeToString(digest.Sum(nil))); err != nil {
		return errors.Join(err, os.Remove(part), os.Remove(tagFile))
	}
	if err := errors.Join(file.Sync(), closeOnce(file), os.Rename(part, output), os.Remove(tagFile)); err != nil {
		return fmt.Errorf("finish %s: %w", output, err)
	}
	fmt.Fprintf(c.Stdout, "%s  %s\n", output, size(moved.done))
	return nil
}

// closeOnce closes a file that may be closed already.
func closeOnce(f *os.File) error {
	if err := f.Close(); err != nil && !errors.Is(err, os.ErrClosed) {
		return err
	}
	return nil
}

// checkDigest compares what was received with the ETag, which is the content's SHA-256.
func checkDigest(object, tag, got string) error {
	want := strings.Trim(tag, `"`)
	if len(want) == sha256.Size*2 && !strings.EqualFold(want, got) {
		return fmt.Errorf("%s arrived damaged: its SHA-256 is %s, not %s", object, got, want)
	}
	return nil
}

// meter shows the bytes that are written to it.
type meter struct {
	progress *progress
	done     int64
	what     string
}

func (m *meter) Write(p []byte) (int, error) {
	m.done += int64(len(p))
	m.progress.bytes(m.done, m.what)
	return len(p), nil
}
