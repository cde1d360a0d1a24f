package files

import (
	"net/http"
	"strings"

	"github.com/gofiber/fiber/v2"

	"github.com/rivergate/rivergate/services/platform/api"
	"github.com/rivergate/rivergate/services/storage/ledger"
)

// signedURL checks the URL of the request. Error: 403. What it allows is decided when the request starts: a running transfer goes on.
func (s *Service) signedURL(c *fiber.Ctx) (Signed, error) {
	signed, err := s.signing.Check(c.Method(), string(c.Request().RequestURI()))
	if err != nil {
		return signed, &api.Error{Status: http.StatusForbidden, Message: sentence(err.Error()), Cause: err}
	}
	api.CallerOf(c).OrgID = signed.Org // for the log
	return signed, nil
}

// getSigned answers GET and HEAD /api/v1/storage/signed/{object_name}.
func (s *Service) getSigned(c *fiber.Ctx) error {
	signed, err := s.signedURL(c)
	if err != nil {
		return err
	}
	file, err := s.ledger.Find(s.life, signed.Org, signed.Object)
	if err == nil && s.expired(file) {
		err = ledger.ErrNotFound
	}
	if err != nil {
		return answerTo(err)
	}
	return answerTo(s.send(c, file, signed.ContentType, orDefault(signed.FileName, lastSegment(file.ObjectName))))
}

// awsChunked is how S3 SDKs that have credentials frame a body, with a signature for each chunk.
const awsChunked = "aws-chunked"

// signedBody checks the URL and what it says of the body. Error: 403, 411, 415.
func (s *Service) signedBody(c *fiber.Ctx, body *api.Stream) (signed Signed, sums []announced, err error) {
	if signed, err = s.signedURL(c); err != nil {
		return signed, nil, err
	}
	if body.Size() < 0 { // the end of a body in chunks cannot be told from a connection that was cut
		return signed, nil, &api.Error{Status: http.StatusLengthRequired, Message: "Send the body with its Content-Length"}
	}
	if signed.Size >= 0 && body.Size() != signed.Size {
		return signed, nil, api.Forbidden("The URL is signed for a body of %d bytes, this one has %d", signed.Size, body.Size())
	}
	if sent := string(c.Request().Header.ContentType()); signed.ContentType != "" && sent != signed.ContentType {
		return signed, nil, api.Forbidden("The URL is signed for Content-Type: %s", signed.ContentType)
	}
	if strings.Contains(strings.ToLower(c.Get(fiber.HeaderContentEncoding)), awsChunked) || strings.HasPrefix(c.Get("X-Amz-Content-Sha256"), "STREAMING-") {
		// Taken as it is, the frames would become part of the file.
		return signed, nil, &api.Error{
			Status:  http.StatusUnsupportedMediaType,
			Message: "The body is " + awsChunked + ", which is not taken here: send the bytes as they are, as an S3 client without credentials does",
		}
	}
	sums, err = readChecksums(headerOf(c))
	return signed, sums, err
}

// putSigned answers PUT /api/v1/storage/signed/{object_name}.
func (s *Service) putSigned(c *fiber.Ctx) error {
	body := api.ReadStream(c)
	defer body.Discard(leftover)
	signed, sums, err := s.signedBody(c, body)
	if err != nil {
		return err
	}
	in := Incoming{Size: body.Size(), AtMost: -1, Limit: s.maxFile, Sums: sums, File: ledger.File{
		Org: signed.Org, User: signed.User, Workspace: signed.Workspace, Kind: ledger.KindFile, Category: orDefault(signed.Category, categoryDefault),
		ObjectName: signed.Object, FileName: lastSegment(signed.Object), ContentType: string(c.Request().Header.ContentType()),
	}}
	if err := s.place(c, &in, true); err != nil {
		return err
	}
	file, err := s.Store(s.life, in, body)
	if err != nil {
		return s.lostRace(c, err)
	}
	c.Set(fiber.HeaderETag, etagOf(file.SHA256))
	return api.OK(c, s.uploaded(file), "File uploaded")
}

// expired: its time is over, and the sweeper has not come by yet.
func (s *Service) expired(file ledger.File) bool {
	return !file.Expires.IsZero() && !s.now().Before(file.Expires)
}
