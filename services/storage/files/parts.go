package files

import (
	"context"
	"encoding/hex"
	"errors"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/gofiber/fiber/v2"

	"github.com/rivergate/rivergate/sdk/protocol"
	"github.com/rivergate/rivergate/services/platform/api"
	"github.com/rivergate/rivergate/services/storage/ledger"
)

// Uploads in parts: the client asks for the URL of each part when it is about to send it, and sends parts in any order, several at once.
const (
	partsPath    = prefix + "/multipart"
	maxPartsBody = 2 << 20
)

// PartsBegin is the body of POST /api/v1/storage/multipart.
type PartsBegin struct {
	FileName    string `json:"file_name" required:"true" minLength:"1" maxLength:"255"`
	Size        int64  `json:"size" required:"true" minimum:"0" description:"Of the file, in bytes. All of it is reserved."`
	Path        string `json:"path,omitempty" maxLength:"512" description:"Folder below your own."`
	Category    string `json:"file_category,omitempty" enum:"data_source,profile_image,general" default:"data_source"`
	ContentType string `json:"content_type,omitempty"`
	SHA256      string `json:"sha256,omitempty" minLength:"64" maxLength:"64" description:"Of the file, hex: another file is refused."`
}

// PartsBegun is the answer.
type PartsBegun struct {
	UploadID       string    `json:"upload_id" required:"true"`
	ObjectName     string    `json:"object_name" required:"true"`
	UniqueFileName string    `json:"unique_file_name" required:"true"`
	PartSize       int64     `json:"part_size" required:"true" description:"Of all parts but the last."`
	PartsCount     int       `json:"parts_count" required:"true"`
	ExpiresAt      time.Time `json:"expires_at" required:"true"`
}

// PartURL is where one part goes.
type PartURL struct {
	URL              string            `json:"url" required:"true"`
	Method           string            `json:"method" required:"true" const:"PUT"`
	Headers          map[string]string `json:"headers" required:"true" nullable:"false" description:"To be sent along."`
	PartNumber       int               `json:"part_number" required:"true"`
	Size             int64             `json:"size" required:"true" description:"That the part must have."`
	ExpiresInSeconds int64             `json:"expires_in_seconds" required:"true"`
}

// PartStored is the answer to a part that came to the host. Its ETag header is what the completion may name.
type PartStored struct {
	PartNumber int    `json:"part_number" required:"true"`
	Size       int64  `json:"size" required:"true"`
	ETag       string `json:"etag" required:"true"`
}

// PartsComplete is the body of the completion.
type PartsComplete struct {
	Parts []PartDone `json:"parts,omitempty" nullable:"false" description:"Needed when the parts' URLs led past this host; otherwise it knows them."`
}

// PartDone names a part.
type PartDone struct {
	PartNumber int    `json:"part_number" required:"true" minimum:"1"`
	ETag       string `json:"etag" required:"true" description:"From the answer to the part."`
}

// PartsState is how far an upload in parts is.
type PartsState struct {
	PartsBegun
	Size     int64        `json:"size" required:"true"`
	Received []PartStored `json:"received" required:"true" nullable:"false" description:"Parts that came to the host."`
	File     *Uploaded    `json:"file,omitempty" description:"What became of it, once it is complete."`
}

// UploadID names an upload.
type UploadID struct {
	UploadID string `json:"upload_id" required:"true"`
}

// partSizeOf makes at most maxPartsOfUpload parts, all but the last of one size, as some backends want it.
func (s *Service) partSizeOf(size int64) int64 {
	return aligned(max(usualPart, s.abilities.MinPart, size/maxPartsOfUpload+1))
}

func partsCount(u *partial) int { return int(max(1, (u.size+u.partSize-1)/u.partSize)) }

// partOf is where part number n begins, and its size.
func partOf(u *partial, n int) (from, size int64) {
	from = int64(n-1) * u.partSize
	return from, min(u.partSize, u.size-from)
}

// partsBegin answers POST /api/v1/storage/multipart.
func (s *Service) partsBegin(c *fiber.Ctx) error {
	var body PartsBegin
	body.Size = -1
	if err := api.ReadJSON(c, maxPartsBody, &body); err != nil {
		return err
	}
	if err := checkFileName("file_name", body.FileName); err != nil {
		return err
	}
	if body.Size < 0 {
		return api.BadRequest("size", "size must be the size of the file in bytes")
	}
	if sum, err := hex.DecodeString(body.SHA256); err != nil || body.SHA256 != "" && len(sum) != 32 {
		return api.BadRequest("sha256", "sha256 must be 64 hexadecimal digits")
	}
	u := &partial{kind: kindParts, size: body.Size, partSize: s.partSizeOf(body.Size), sha256: strings.ToLower(body.SHA256)}
	if err := s.beginOwn(c, u, map[string]string{fieldPath: body.Path, fieldCategory: body.Category}, body.FileName, body.ContentType); err != nil {
		return answerTo(err)
	}
	return api.Success(c, http.StatusCreated, partsBegun(u), "Upload begun")
}

func partsBegun(u *partial) PartsBegun {
	return PartsBegun{u.id, u.file.ObjectName, lastSegment(u.file.ObjectName), u.partSize, partsCount(u), u.expires}
}

func (s *Service) partsUpload(c *fiber.Ctx) (*partial, error) {
	return s.partial(c, kindParts, c.Params("upload_id"))
}

// partURL answers GET /api/v1/storage/multipart/{upload_id}/parts/{part_number}/presigned-url.
func (s *Service) partURL(c *fiber.Ctx) error {
	u, err := s.partsUpload(c)
	if err != nil {
		return err
	}
	if u.fileID != 0 {
		return api.Conflict("The upload is complete")
	}
	number, err := strconv.Atoi(c.Params("part_number"))
	if err != nil || number < 1 || number > partsCount(u) {
		return api.BadRequest("part_number", "part_number must be from 1 to %d", partsCount(u))
	}
	seconds, err := api.IntQuery(c, "expires_seconds", usualExpiry, 1, longestExpiry)
	if err != nil {
		return err
	}
	// A URL ends with its upload.
	expiry := min(time.Duration(seconds)*time.Second, u.expires.Sub(s.now()))
	_, size := partOf(u, number)
	answer := PartURL{Method: http.MethodPut, Headers: map[string]string{}, PartNumber: number, Size: size}
	if s.abilities.Presign && u.file.KeyID == "" && expiry >= time.Second {
		signed, err := s.objects.Presign(s.life, protocol.Presign{
			Method: http.MethodPut, Key: u.file.Key, Expires: expiry, Size: size, Upload: u.backend, Part: number,
		})
		if err != nil {
			return answerTo(backend("sign the URL of a part", err))
		}
		answer.URL, expiry = signed.URL, min(expiry, time.Until(signed.Expires).Round(time.Second))
		if signed.Header != nil {
			answer.Headers = signed.Header
		}
	} else {
		answer.URL = s.base(c) + s.signing.Sign(Signed{
			Method: http.MethodPut, Org: u.file.Org, Expires: s.now().Add(expiry), Size: size, Upload: u.id, Part: number,
		})
	}
	answer.ExpiresInSeconds = int64(expiry / time.Second)
	return api.OK(c, answer, "URL signed")
}

// putPart answers PUT /api/v1/storage/multipart/{upload_id}/parts/{part_number}, the URL of a part.
func (s *Service) putPart(c *fiber.Ctx) error {
	body := api.ReadStream(c)
	defer body.Discard(leftover)
	signed, sums, err := s.signedBody(c, body)
	if err != nil {
		return err
	}
	u, err := s.store.find(s.life, signed.Org, kindParts, signed.Upload)
	if errors.Is(err, errNoUpload) || err == nil && (u.fileID != 0 || !s.now().Before(u.expires)) {
		return api.NotFound("There is no such upload that goes on")
	}
	if err != nil {
		return answerTo(err)
	}
	from, size := partOf(u, signed.Part)
	if size < 0 || body.Size() != size {
		return api.Forbidden("Part %d of the upload must have %d bytes", signed.Part, max(0, size))
	}
	ctx, watch := watched(s.life, idleLimit)
	defer watch.stop()
	m := &meter{ctx: ctx, in: &Incoming{Size: size, Sums: sums}, from: body, watch: watch, digests: newDigests(sums)}
	defer m.digests.settle()
	part, err := s.sealPart(ctx, u, signed.Part, from, signed.Part == partsCount(u), size, m)
	if m.failed != nil {
		err = m.failed
	}
	if err == nil {
		u.expires = s.now().Add(s.uploadTTL).UTC().Truncate(time.Second)
		err = s.keepPart(ctx, u, part)
	}
	if errors.Is(err, errNoUpload) {
		return api.NotFound("There is no such upload that goes on")
	}
	if err != nil {
		return answerTo(err)
	}
	c.Set(fiber.HeaderETag, `"`+part.ETag+`"`)
	return api.OK(c, PartStored{part.Number, size, part.ETag}, "Part stored")
}

// keepPart notes a part, and lets the upload and its reservation live on.
func (s *Service) keepPart(ctx context.Context, u *partial, part protocol.Part) error {
	hold, err := s.ledger.Hold(ctx, u.file.Org, u.hold)
	if errors.Is(err, ledger.ErrHoldLost) {
		return errNoUpload
	}
	if err == nil {
		err = hold.Keep(ctx, s.leaseOf())
	}
	if err == nil {
		err = s.store.addPart(ctx, u, part)
	}
	return err
}

// partsShow answers GET /api/v1/storage/multipart/{upload_id}.
func (s *Service) partsShow(c *fiber.Ctx) error {
	u, err := s.partsUpload(c)
	if err != nil {
		return err
	}
	state := PartsState{PartsBegun: partsBegun(u), Size: u.size, Received: []PartStored{}}
	parts, err := s.store.parts(s.life, u.id)
	if err != nil {
		return answerTo(err)
	}
	for _, p := range parts {
		_, size := partOf(u, p.Number)
		state.Received = append(state.Received, PartStored{p.Number, size, p.ETag})
	}
	if u.fileID != 0 {
		file, err := s.ledger.ByID(s.life, u.file.Org, u.fileID)
		if err != nil {
			return answerTo(err)
		}
		done := s.uploaded(file)
		state.File = &done
	}
	return api.OK(c, state, "Upload found")
}

// partsComplete answers POST /api/v1/storage/multipart/{upload_id}/complete. It may be repeated.
func (s *Service) partsComplete(c *fiber.Ctx) error {
	var body PartsComplete
	if err := api.ReadJSON(c, maxPartsBody, &body); err != nil {
		return err
	}
	u, err := s.partsUpload(c)
	if err != nil {
		return err
	}
	release, err := s.locks.take(s.life, u.id, lockWait, func() {})
	if err != nil {
		return lockError(err)
	}
	defer release()
	if u, err = s.partsUpload(c); err != nil {
		return err
	}
	if u.fileID == 0 {
		if err := s.checkParts(u, body.Parts); err != nil {
			return answerTo(err)
		}
	}
	file, err := s.finish(s.life, u)
	if err != nil {
		return answerTo(err)
	}
	return api.Success(c, http.StatusCreated, s.uploaded(file), "File uploaded")
}

// checkParts sees that all parts are there, and are those that the client means. Error: 422.
func (s *Service) checkParts(u *partial, named []PartDone) error {
	have, err := s.store.parts(s.life, u.id)
	if err != nil {
		return err
	}
	stored := map[int]protocol.Part{}
	for _, p := range have {
		stored[p.Number] = p
	}
	direct := s.abilities.Presign && u.file.KeyID == ""
	for _, p := range named {
		etag := strings.Trim(p.ETag, `"`)
		known, ok := stored[p.PartNumber]
		switch {
		case ok && known.ETag != etag:
			return api.Unprocessable("parts", "part %d has another ETag", p.PartNumber)
		case !ok && direct && p.PartNumber >= 1 && p.PartNumber <= partsCount(u):
			_, size := partOf(u, p.PartNumber)
			known = protocol.Part{Number: p.PartNumber, ETag: etag, Size: size}
			if err := s.keepPart(s.life, u, known); err != nil {
				return err
			}
			stored[p.PartNumber] = known
		}
	}
	for number := 1; number <= partsCount(u); number++ {
		if _, ok := stored[number]; !ok {
			return api.Unprocessable("parts", "part %d of %d has not come", number, partsCount(u))
		}
	}
	return nil
}

// partsAbort answers DELETE /api/v1/storage/multipart/{upload_id}.
func (s *Service) partsAbort(c *fiber.Ctx) error {
	u, err := s.partsUpload(c)
	if err != nil {
		return err
	}
	if u.fileID != 0 {
		return api.Conflict("The upload is complete; delete the object")
	}
	release, err := s.locks.take(s.life, u.id, lockWait, func() {})
	if err != nil {
		return lockError(err)
	}
	defer release()
	if removed, err := s.forget(s.life, u, forEver); err != nil || !removed {
		return answerTo(errors.Join(err, errGone(removed)))
	}
	return api.OK(c, UploadID{u.id}, "Upload aborted")
}
