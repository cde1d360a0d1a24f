package files

import (
	"context"
	"errors"
	"fmt"
	"io"
	"mime"
	"net/http"
	"strconv"
	"strings"

	"github.com/gofiber/fiber/v2"

	"github.com/rivergate/rivergate/services/platform/api"
	"github.com/rivergate/rivergate/services/storage/ledger"
)

// send answers GET and HEAD with a file: conditions, then one range, then the bytes as they come from the backend.
func (s *Service) send(c *fiber.Ctx, file ledger.File, contentType, fileName string) error {
	for range 3 {
		err := s.sendVersion(c, file, contentType, fileName)
		if !errors.Is(err, errChanged) {
			return err
		}
		if file, err = s.ledger.Find(s.life, file.Org, file.ObjectName); err != nil {
			return err
		}
	}
	return api.Unavailable(retryBackend, "The object changes faster than it can be opened")
}

func (s *Service) sendVersion(c *fiber.Ctx, file ledger.File, contentType, fileName string) error {
	v := version{true, etagOf(file.SHA256), file.Created}
	notModified, err := readConditions(c, v)
	if err != nil {
		return err
	}
	part, partial, satisfiable := span{0, file.Size}, false, true
	if text := c.Get(fiber.HeaderRange); text != "" && c.Method() == http.MethodGet && ifRange(c.Get(fiber.HeaderIfRange), v) {
		part, partial, satisfiable = rangeOf(text, file.Size)
	}
	var body io.ReadCloser = nothing{}
	ctx, cancel := context.WithCancel(s.life)
	if !notModified && satisfiable && part.length > 0 && c.Method() == http.MethodGet {
		if body, err = s.open(ctx, file, part.from, part.length); err != nil {
			cancel()
			return err
		}
	}
	body = &canceling{body, cancel, min(part.length, bodyBuffer)}

	header := &c.Response().Header
	header.Set(fiber.HeaderETag, v.etag)
	header.Set(fiber.HeaderLastModified, file.Created.UTC().Format(http.TimeFormat))
	header.Set(fiber.HeaderAcceptRanges, "bytes")
	header.Set(fiber.HeaderCacheControl, "private, no-cache")
	if notModified {
		c.Status(http.StatusNotModified)
		return body.Close()
	}
	if !satisfiable {
		header.Set(fiber.HeaderContentRange, "bytes */"+strconv.FormatInt(file.Size, 10))
		mute(body)
		return &api.Error{
			Status: http.StatusRequestedRangeNotSatisfiable, Message: fmt.Sprintf("The range lies outside the object's %d bytes", file.Size),
		}
	}
	if contentType == "" {
		contentType = file.ContentType
	}
	header.SetContentType(contentType)
	// What users upload must not run as a page of this host.
	header.Set(fiber.HeaderXContentTypeOptions, "nosniff")
	header.Set(fiber.HeaderContentSecurityPolicy, "sandbox; default-src 'none'")
	header.Set(fiber.HeaderContentDisposition, attachment(fileName))
	if partial {
		c.Status(http.StatusPartialContent)
		header.Set(fiber.HeaderContentRange, contentRange(part, file.Size))
	}
	s.ledger.Touch(file)
	return api.SendStream(c, body, part.length)
}

// attachment names the file as the client that uploaded it did.
func attachment(fileName string) string {
	if value := mime.FormatMediaType("attachment", map[string]string{"filename": fileName}); value != "" {
		return value
	}
	return "attachment"
}

// canceling ends what feeds it.
type canceling struct {
	io.ReadCloser
	cancel context.CancelFunc
	piece  int64 // to be written at once
}

func (r *canceling) Close() error {
	r.cancel()
	return r.ReadCloser.Close()
}

// WriteTo spares a copy where the reader can. Otherwise it writes large pieces: for each, the client is woken.
func (r *canceling) WriteTo(w io.Writer) (int64, error) {
	if from, ok := r.ReadCloser.(io.WriterTo); ok {
		return from.WriteTo(w)
	}
	return io.CopyBuffer(w, struct{ io.Reader }{r.ReadCloser}, make([]byte, max(r.piece, 1)))
}

// nothing is the body of an answer without one.
type nothing struct{}

func (nothing) Read([]byte) (int, error) { return 0, io.EOF }
func (nothing) Close() error             { return nil }

// lastSegment is the name of the object without its folders.
func lastSegment(name string) string { return name[strings.LastIndexByte(name, '/')+1:] }
