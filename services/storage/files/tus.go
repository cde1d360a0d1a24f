package files

import (
	"context"
	"crypto/md5"  //nolint:gosec // the client chooses: it tells errors of transfer
	"crypto/sha1" //nolint:gosec // the same; tus demands it
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"hash"
	"io"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/gofiber/fiber/v2"

	"github.com/rivergate/rivergate/services/platform/api"
	"github.com/rivergate/rivergate/services/storage/ledger"
)

// The protocol of resumable uploads, https://tus.io/protocols/resumable-upload, version 1.0.0, with the extensions that
// tusExtensions names.
const (
	tusPath       = prefix + "/tus"
	tusVersion    = "1.0.0"
	tusExtensions = "creation,expiration,checksum,termination"
	tusAlgorithms = "sha1,sha256,md5"
	tusBody       = "application/offset+octet-stream"

	statusChecksumMismatch = 460

	headerTus      = "Tus-Resumable"
	headerOffset   = "Upload-Offset"
	headerLength   = "Upload-Length"
	headerMetadata = "Upload-Metadata"
	headerExpires  = "Upload-Expires"
	headerChecksum = "Upload-Checksum"
	headerObject   = "X-Object-Name"     // of the file that became of the upload, percent-encoded
	headerFileID   = "X-Storage-File-ID" // its storage_file_id
	headerOverride = "X-HTTP-Method-Override"
)

const (
	lockWait    = 10 * time.Second
	maxMetadata = 4 << 10
)

// withTus goes around every request of the protocol but OPTIONS.
func withTus(next fiber.Handler) fiber.Handler {
	return func(c *fiber.Ctx) error {
		c.Set(headerTus, tusVersion)
		c.Set(fiber.HeaderCacheControl, "no-store")
		if c.Get(headerTus) != tusVersion {
			c.Set("Tus-Version", tusVersion)
			return api.PreconditionFailed(headerTus, "%s must be %s", headerTus, tusVersion)
		}
		return next(c)
	}
}

// tusOptions answers OPTIONS /api/v1/storage/tus.
func (s *Service) tusOptions(c *fiber.Ctx) error {
	c.Set(headerTus, tusVersion)
	c.Set("Tus-Version", tusVersion)
	c.Set("Tus-Extension", tusExtensions)
	c.Set("Tus-Checksum-Algorithm", tusAlgorithms)
	c.Set("Tus-Max-Size", strconv.FormatInt(s.maxFile, 10))
	return c.Status(http.StatusNoContent).Send(nil)
}

// tusCreate answers POST /api/v1/storage/tus.
func (s *Service) tusCreate(c *fiber.Ctx) error {
	size, err := strconv.ParseInt(c.Get(headerLength), 10, 64)
	if err != nil || size < 0 {
		return api.BadRequest(headerLength, "%s must be the size of the file in bytes", headerLength)
	}
	sent := string([]byte(c.Get(headerMetadata)))
	fields, err := tusMetadata(sent)
	if err != nil {
		return err
	}
	fileName := orDefault(fields["filename"], fields["name"])
	if fileName == "" {
		fileName = "upload"
	}
	if err := checkFileName(headerMetadata, fileName); err != nil {
		return err
	}
	u := &partial{kind: kindTus, size: size, metadata: sent}
	if err := s.beginOwn(c, u, fields, fileName, orDefault(fields["filetype"], fields["type"])); err != nil {
		return answerTo(err)
	}
	if size == 0 { // nothing more will come
		if err := s.receive(s.life, u, strings.NewReader(""), nil); err != nil {
			return answerTo(err)
		}
		if _, err := s.finish(s.life, u); err != nil {
			return answerTo(err)
		}
	}
	c.Set(fiber.HeaderLocation, s.base(c)+tusPath+"/"+u.id)
	s.tusState(c, u)
	return c.Status(http.StatusCreated).Send(nil)
}

// beginOwn begins an upload into the caller's own folder.
func (s *Service) beginOwn(c *fiber.Ctx, u *partial, fields map[string]string, fileName, contentType string) (err error) {
	caller := api.CallerOf(c)
	u.file = ledger.File{
		Org: caller.OrgID, User: caller.UserID, Workspace: caller.WorkspaceID, Kind: ledger.KindFile, FileName: fileName, ContentType: contentType,
	}
	if err := checkText("content_type", contentType); err != nil {
		return err
	}
	if u.file.ObjectName, u.file.Category, err = s.ownObject(caller, fields, uniqueName(fileName, s.now())); err != nil {
		return err
	}
	return s.begin(s.life, u)
}

// tusMetadata reads Upload-Metadata: "key base64,key base64".
func tusMetadata(header string) (map[string]string, error) {
	if len(header) > maxMetadata {
		return nil, api.BadRequest(headerMetadata, "%s has %d bytes; %d are allowed", headerMetadata, len(header), maxMetadata)
	}
	fields := map[string]string{}
	for pair := range strings.SplitSeq(header, ",") {
		key, text, _ := strings.Cut(strings.TrimSpace(pair), " ")
		value, err := base64.StdEncoding.DecodeString(strings.TrimSpace(text))
		if err != nil {
			return nil, api.BadRequest(headerMetadata, "%s: the value of %q is not base64", headerMetadata, key)
		}
		fields[key] = string(value)
	}
	return fields, nil
}

// tusState puts on an answer how far the upload is.
func (s *Service) tusState(c *fiber.Ctx, u *partial) {
	c.Set(headerOffset, strconv.FormatInt(u.received, 10))
	c.Set(headerExpires, u.expires.UTC().Format(http.TimeFormat))
	if u.fileID != 0 {
		c.Set(headerObject, escapedName(u.file.ObjectName))
		c.Set(headerFileID, strconv.FormatInt(u.fileID, 10))
	}
}

// tusUpload finds the upload that the path names. Error: 404, and 410 when its time is over.
func (s *Service) tusUpload(c *fiber.Ctx) (*partial, error) {
	return s.partial(c, kindTus, c.Params("upload_id"))
}

func (s *Service) partial(c *fiber.Ctx, kind, id string) (*partial, error) {
	u, err := s.store.find(s.life, api.CallerOf(c).OrgID, kind, strings.Clone(id))
	if err == nil && u.file.User != api.CallerOf(c).UserID {
		err = errNoUpload // as with files: another user's is none of this caller's
	}
	switch {
	case errors.Is(err, errNoUpload):
		return nil, api.NotFound("There is no such upload")
	case err != nil:
		return nil, answerTo(err)
	case !s.now().Before(u.expires):
		return nil, api.Gone("The upload has expired")
	}
	return u, nil
}

// tusHead answers HEAD /api/v1/storage/tus/{upload_id}.
func (s *Service) tusHead(c *fiber.Ctx) error {
	u, err := s.tusUpload(c)
	if err != nil {
		return err
	}
	if u.received == u.size && u.fileID == 0 {
		// The request that brought the last bytes was cut off behind them.
		if u, err = s.tusFinish(u); err != nil {
			return err
		}
	}
	s.tusState(c, u)
	c.Set(headerLength, strconv.FormatInt(u.size, 10))
	if u.metadata != "" {
		c.Set(headerMetadata, u.metadata)
	}
	return c.Status(http.StatusOK).Send(nil)
}

func (s *Service) tusFinish(u *partial) (*partial, error) {
	release, err := s.locks.take(s.life, u.id, lockWait, func() {})
	if err != nil {
		return nil, lockError(err)
	}
	defer release()
	if u, err = s.store.find(s.life, u.file.Org, kindTus, u.id); err == nil {
		_, err = s.finish(s.life, u)
	}
	return u, answerTo(err)
}

func lockError(err error) error {
	if errors.Is(err, errLocked) {
		return &api.Error{Status: http.StatusLocked, Message: "Another request still works on the upload; try again", Cause: err}
	}
	return answerTo(err)
}

// tusPatch answers PATCH /api/v1/storage/tus/{upload_id}.
func (s *Service) tusPatch(c *fiber.Ctx) error {
	body := api.ReadStream(c)
	defer body.Discard(leftover)
	if sent := string(c.Request().Header.ContentType()); sent != tusBody {
		return api.UnsupportedMedia(sent, tusBody)
	}
	offset, err := strconv.ParseInt(c.Get(headerOffset), 10, 64)
	if err != nil || offset < 0 {
		return api.BadRequest(headerOffset, "%s must be the number of bytes before this body", headerOffset)
	}
	checked, verify, err := tusChecksum(c.Get(headerChecksum), body)
	if err != nil {
		return err
	}
	u, err := s.tusUpload(c)
	if err != nil {
		return err
	}
	release, err := s.locks.take(s.life, u.id, lockWait, body.Leave)
	if err != nil {
		return lockError(err)
	}
	defer release()
	if u, err = s.tusUpload(c); err != nil { // as it is now
		return err
	}
	if offset != u.received {
		return api.Conflict("%s is %d, and the upload has %d bytes", headerOffset, offset, u.received)
	}
	if body.Size() > u.size-u.received {
		return &api.Error{Status: http.StatusRequestEntityTooLarge, Message: fmt.Sprintf("The upload has %d bytes left, the body has %d", u.size-u.received, body.Size())}
	}
	if u.fileID == 0 {
		if err := s.tusReceive(c, u, checked, verify); err != nil {
			return err
		}
	}
	s.tusState(c, u)
	return c.Status(http.StatusNoContent).Send(nil)
}

func (s *Service) tusReceive(c *fiber.Ctx, u *partial, body io.Reader, verify func() error) error {
	ctx, cancel := context.WithCancel(s.life)
	defer cancel()
	err := s.receive(ctx, u, io.LimitReader(body, u.size-u.received), verify)
	if errors.Is(err, errMoved) {
		return api.Conflict("Another request has changed the upload; ask for its offset")
	}
	if err == nil && u.received == u.size {
		_, err = s.finish(ctx, u)
	}
	return answerTo(err)
}

// tusChecksum reads Upload-Checksum: "sha1 base64", of this body alone. verify is nil without one. Error: 400; that of verify: 460.
func tusChecksum(header string, body io.Reader) (checked io.Reader, verify func() error, err error) {
	if header == "" {
		return body, nil, nil
	}
	algorithm, text, _ := strings.Cut(header, " ")
	var digest hash.Hash
	switch algorithm {
	case "sha1":
		digest = sha1.New() //nolint:gosec // see import
	case "sha256":
		digest = sha256.New()
	case "md5":
		digest = md5.New() //nolint:gosec // see import
	default:
		return nil, nil, api.BadRequest(headerChecksum, "%s must begin with one of %s", headerChecksum, tusAlgorithms)
	}
	want, err := base64.StdEncoding.DecodeString(strings.TrimSpace(text))
	if err != nil || len(want) != digest.Size() {
		return nil, nil, api.BadRequest(headerChecksum, "%s must be the algorithm and the checksum as base64", headerChecksum)
	}
	return io.TeeReader(body, digest), func() error {
		if string(digest.Sum(nil)) != string(want) {
			return &api.Error{Status: statusChecksumMismatch, Message: "The body does not have the checksum that was sent with it; nothing of it was kept"}
		}
		return nil
	}, nil
}

// tusDelete answers DELETE /api/v1/storage/tus/{upload_id}.
func (s *Service) tusDelete(c *fiber.Ctx) error {
	u, err := s.tusUpload(c)
	if err != nil {
		return err
	}
	release, err := s.locks.take(s.life, u.id, lockWait, func() {})
	if err != nil {
		return lockError(err)
	}
	defer release()
	if removed, err := s.forget(s.life, u, forEver); err != nil || !removed {
		return answerTo(errors.Join(err, errGone(removed)))
	}
	return c.Status(http.StatusNoContent).Send(nil)
}

func errGone(removed bool) error {
	if removed {
		return nil
	}
	return api.NotFound("There is no such upload")
}

// forEver is later than any upload expires.
var forEver = time.Date(9999, 1, 1, 0, 0, 0, 0, time.UTC)

// tusShow answers GET /api/v1/storage/tus/{upload_id}/file: what became of a complete upload.
func (s *Service) tusShow(c *fiber.Ctx) error {
	u, err := s.tusUpload(c)
	if err != nil {
		return err
	}
	if u.fileID == 0 {
		return api.Conflict("The upload has %d of %d bytes", u.received, u.size)
	}
	file, err := s.ledger.ByID(s.life, u.file.Org, u.fileID)
	if err != nil {
		return answerTo(err)
	}
	return api.OK(c, s.uploaded(file), "File uploaded")
}

// tusOverride answers POST /api/v1/storage/tus/{upload_id} of clients that cannot send PATCH or DELETE.
func (s *Service) tusOverride(c *fiber.Ctx) error {
	switch strings.ToUpper(c.Get(headerOverride)) {
	case http.MethodPatch:
		return s.tusPatch(c)
	case http.MethodDelete:
		return s.tusDelete(c)
	case http.MethodHead:
		return s.tusHead(c)
	}
	return &api.Error{Status: http.StatusMethodNotAllowed, Message: "POST works here with " + headerOverride + ": PATCH, DELETE or HEAD"}
}
