package files

import (
	"bufio"
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"io"
	"maps"
	"mime"
	"mime/multipart"
	"net/textproto"
	"slices"
	"strings"

	"github.com/gofiber/fiber/v2"

	"github.com/rivergate/rivergate/services/platform/api"
)

const (
	maxFields = 64 << 10 // bytes of all fields but the file
	maxParts  = 64
	fieldFile = "file"
)

// form is a multipart/form-data body with one file, read as it arrives: fields may stand before the file and behind it.
type form struct {
	stream   *api.Stream
	feed     *feed
	reader   *multipart.Reader
	size     int64
	boundary string
	fields   map[string]string
	parts    int
	held     int64

	part     *multipart.Part
	fileName string
	most     int64 // bytes that the file has, at most; -1: not known
	ended    error // of what stands behind the file
}

// readForm reads up to the file. Errors: 415, 400 (no file, or nothing that can be read).
func readForm(c *fiber.Ctx) (*form, error) {
	sent := string(c.Request().Header.ContentType())
	mediaType, params, err := mime.ParseMediaType(sent)
	if err != nil || mediaType != "multipart/form-data" {
		return nil, api.UnsupportedMedia(sent, "multipart/form-data; boundary=…")
	}
	if n := len(params["boundary"]); n == 0 || n > 70 { // RFC 2046
		return nil, api.BadRequest(fiber.HeaderContentType, "multipart/form-data needs a boundary of 1 to 70 characters")
	}
	stream := api.ReadStream(c)
	f := formFrom(stream, stream.Size(), params["boundary"])
	f.stream = stream
	found, err := f.next()
	switch {
	case err != nil:
		return f, err
	case !found:
		return f, api.BadRequest(fieldFile, "the form has no file: a part named %q with a file name", fieldFile)
	}
	return f, checkFileName(fieldFile, f.fileName)
}

// formFrom reads a form of size bytes; -1: not known.
func formFrom(body io.Reader, size int64, boundary string) *form {
	f := &form{feed: newFeed(body, size), size: size, boundary: boundary, fields: map[string]string{}}
	f.reader = multipart.NewReader(f.feed, boundary)
	return f
}

// next reads fields until a file or the end of the form.
func (f *form) next() (file bool, err error) {
	for {
		part, err := f.reader.NextRawPart()
		if err == io.EOF { //nolint:errorlint // the last boundary; a form that breaks off before it gives a wrapped one
			return false, nil
		}
		if err != nil {
			return false, formError(err)
		}
		if f.parts++; f.parts > maxParts {
			return false, api.BadRequest("", "the form has more than %d parts", maxParts)
		}
		name, fileName, isFile := disposition(part.Header)
		if isFile {
			if name != fieldFile {
				return false, api.BadRequest(fieldFile, "the part with the file must be named %q, not %q", fieldFile, name)
			}
			f.part, f.fileName = part, fileName
			f.most = f.feed.begin(f.size, f.boundary)
			return true, nil
		}
		value, err := io.ReadAll(io.LimitReader(part, maxFields-f.held+1))
		if err != nil {
			return false, formError(err)
		}
		if f.held += int64(len(value) + len(name)); f.held > maxFields {
			return false, api.BadRequest(name, "the fields of the form have more than %d bytes", maxFields)
		}
		f.fields[name] = string(value)
	}
}

// disposition tells a field from a file. The name of a file is that of the client, with its folders, which
// multipart.Part.FileName would hide.
func disposition(header textproto.MIMEHeader) (name, fileName string, isFile bool) {
	text := header.Get(fiber.HeaderContentDisposition)
	_, params, err := mime.ParseMediaType(text)
	if err != nil {
		return "", "", false
	}
	fileName, isFile = params["filename"]
	return params["name"], fileName, isFile
}

// feed gives the parser of the form one line at a time until the file begins: what it has taken then is what it has used, and the
// rest of the body tells how large the file is. From there on it gives as much as there is.
type feed struct {
	from  *bufio.Reader
	taken int64
	file  bool

	boundary *needle // with the end of the line before it
	begun    bool
	clean    int  // bytes that are there, and no part of a boundary
	parse    bool // the parser has the word
}

// bodyBuffer is how much of a body is read at once.
const bodyBuffer = 256 << 10

// newFeed reads a form of size bytes; -1: not known.
func newFeed(body io.Reader, size int64) *feed {
	buffer := int64(bodyBuffer)
	if size >= 0 {
		buffer = min(buffer, size) // a small form needs no more, and the collector has less to do
	}
	return &feed{from: bufio.NewReaderSize(body, int(buffer))}
}

func (f *feed) Read(p []byte) (int, error) {
	if f.file {
		return f.from.Read(p)
	}
	n := 0
	for n < len(p) {
		b, err := f.from.ReadByte()
		if err != nil {
			if n > 0 {
				break // it comes again
			}
			return 0, err
		}
		p[n] = b
		if n++; b == '\n' {
			break
		}
	}
	f.taken += int64(n)
	return n, nil
}

// begin: the file begins. The answer is the most bytes that it can have, exactly so many when nothing stands behind it; -1: not known.
// A form whose lines end unusually, or that breaks off, may give a few more.
func (f *feed) begin(size int64, boundary string) int64 {
	f.file, f.boundary = true, newNeedle("\n--"+boundary)
	if size < 0 {
		return -1
	}
	return max(0, size-f.taken-int64(len("\r\n----\r\n")+len(boundary)))
}

// plain reads what of the file is no part of a boundary, past the parser: that takes files in pieces of 5 KiB, and copies each twice. 0:
// here is something for the parser, for good.
func (f *feed) plain(p []byte) int {
	if f.parse {
		return 0
	}
	if f.clean == 0 {
		f.clean = f.look()
		f.parse = f.clean == 0
	}
	n, _ := f.from.Read(p[:min(len(p), f.clean)]) // it is there: no error
	f.clean -= n
	return n
}

// look counts the bytes before the next thing that may be a boundary, or the begin of one.
func (f *feed) look() int {
	boundary := f.boundary.text
	if _, err := f.from.Peek(len(boundary) + 1); err != nil {
		return 0
	}
	there, _ := f.from.Peek(f.from.Buffered())
	if !f.begun && bytes.HasPrefix(there, boundary[1:]) {
		return 0 // the file is empty
	}
	f.begun = true
	if i := f.boundary.in(there); i >= 0 {
		return max(0, i-1) // the line may end with two bytes
	}
	return len(there) - len(boundary)
}

// Read reads the file. Its end is told only when the rest of the form is read and in order.
func (f *form) Read(p []byte) (int, error) {
	if f.ended != nil {
		return 0, f.ended
	}
	if len(p) == 0 {
		return 0, nil
	}
	if n := f.feed.plain(p); n > 0 {
		return n, nil
	}
	n, err := f.part.Read(p)
	if err == nil {
		return n, nil
	}
	if !errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		f.ended = formError(err)
	} else if again, err := f.next(); err != nil {
		f.ended = err
	} else if again {
		f.ended = api.BadRequest(fieldFile, "the form has more than one file; send one at a time")
	} else {
		f.ended = io.EOF
	}
	if n > 0 {
		return n, nil
	}
	return 0, f.ended
}

// digest tells forms apart: by their fields, and by the name, type and hash of their file. A client's boundary is another one each time.
func (f *form) digest(sha256 string) [16]byte {
	parts := [][]byte{[]byte(f.fileName), []byte(f.part.Header.Get(fiber.HeaderContentType)), []byte(sha256)}
	for _, name := range slices.Sorted(maps.Keys(f.fields)) {
		parts = append(parts, []byte(name), []byte(f.fields[name]))
	}
	return api.Digest(parts...)
}

// repeat reads the form of a request that was answered before, and answers it again.
func (f *form) repeat(c *fiber.Ctx, promise *api.Promise) error {
	sum := sha256.New()
	if _, err := io.CopyBuffer(sum, f, make([]byte, bodyBuffer)); err != nil {
		return err
	}
	return promise.Repeat(c, f.digest(hex.EncodeToString(sum.Sum(nil))))
}

// formError: what the connection said is an answer already; the rest is not a form.
func formError(err error) error {
	var known *api.Error
	if errors.As(err, &known) {
		return known
	}
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		return &api.Error{Status: 400, Message: "The body ended before the end of the form", Cause: io.ErrUnexpectedEOF} // io.EOF is a good end
	}
	return &api.Error{Status: 400, Message: "The body is not the form that its Content-Type says: " + strings.TrimPrefix(err.Error(), "multipart: "), Cause: err}
}
