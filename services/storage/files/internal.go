package files

import (
	"encoding/json"
	"errors"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/gofiber/fiber/v2"

	"github.com/rivergate/rivergate/services/platform/api"
	"github.com/rivergate/rivergate/services/storage/ledger"
)

const longestTTL = 365 * 24 * 3600

// putInternal answers POST /internal/files.
func (s *Service) putInternal(c *fiber.Ctx) error {
	f, err := readForm(c)
	if f != nil {
		defer f.stream.Discard(leftover)
	}
	if err != nil {
		return err
	}
	promise := api.PromiseOf(c)
	if promise.Repeats() {
		return f.repeat(c, promise)
	}
	sums, err := formChecksums(c, f)
	if err != nil {
		return err
	}
	caller := api.CallerOf(c)
	in := Incoming{Mode: ledger.Create, Size: -1, AtMost: f.most, Sums: sums}
	in.File = ledger.File{
		Org: caller.OrgID, User: caller.UserID, Workspace: caller.WorkspaceID, Kind: ledger.KindInternal,
		FileName: f.fileName, ContentType: f.part.Header.Get(fiber.HeaderContentType),
	}
	overwrite, err := s.readInternal(f.fields, &in.File)
	if err != nil {
		return err
	}
	seen := len(f.fields)
	in.Late = func(*ledger.File) error {
		if len(f.fields) != seen { // they decide where the file goes, which the first bytes need
			return api.BadRequest("", "the fields of this form must stand before the file")
		}
		return nil
	}
	if overwrite && strings.HasPrefix(in.File.ObjectName, orgFolder(caller.OrgID)+"models/") {
		return api.Conflict("The artifacts of models never change: register another version")
	}
	if err := s.place(c, &in, overwrite); err != nil {
		return err
	}
	file, err := s.Store(s.life, in, f)
	if err != nil {
		return s.lostRace(c, err)
	}
	promise.Is(f.digest(file.SHA256))
	return api.Success(c, http.StatusCreated, InternalFile{
		ObjectName: file.ObjectName, Size: file.Size, ContentType: file.ContentType, ETag: etagOf(file.SHA256), SHA256: file.SHA256,
		S3URI: s.s3URI(file), ExpiresAt: orNull(file.Expires), StorageFileID: file.ID,
	}, "Internal file stored")
}

// readInternal reads the fields of an internal upload.
func (s *Service) readInternal(fields map[string]string, file *ledger.File) (overwrite bool, err error) {
	file.Purpose = fields["purpose"]
	if file.Purpose == "" {
		file.Purpose = purposeTemp
	}
	if !purposes[file.Purpose] {
		return false, api.BadRequest("purpose", "purpose must be query_result, staging_chunk, model_artifact or temp")
	}
	switch file.Purpose {
	case "staging_chunk":
		file.Kind = ledger.KindChunk
	case "model_artifact":
		file.Kind = ledger.KindModel
	}
	file.Category = file.Purpose
	if file.ObjectName, err = internalName(file.Org, file.Purpose, fields[fieldObject], file.FileName, s.now()); err != nil {
		return false, err
	}
	if text := fields["ttl_seconds"]; text != "" {
		ttl, err := strconv.Atoi(text)
		if err != nil || ttl < 1 || ttl > longestTTL {
			return false, api.BadRequest("ttl_seconds", "ttl_seconds must be an integer from 1 to %d", longestTTL)
		}
		file.Expires = s.now().Add(time.Duration(ttl) * time.Second).UTC().Truncate(time.Microsecond)
	}
	charged, err := boolField(fields, "count_quota", true)
	if err != nil {
		return false, err
	}
	file.Free = !charged
	if text := fields["metadata"]; text != "" {
		var object map[string]json.RawMessage
		if err := json.Unmarshal([]byte(text), &object); err != nil || object == nil {
			return false, api.BadRequest("metadata", "metadata must be a JSON object")
		}
		file.Metadata = json.RawMessage(text)
	}
	return boolField(fields, "overwrite", false)
}

func boolField(fields map[string]string, name string, absent bool) (bool, error) {
	switch fields[name] {
	case "":
		return absent, nil
	case "true", "1":
		return true, nil
	case "false", "0":
		return false, nil
	}
	return false, api.BadRequest(name, "%s must be true or false", name)
}

// place decides where a file with a name of the client's goes, and what becomes of one that has the name already. Error: 409 without
// overwrite, 412 when a condition of the request does not hold.
func (s *Service) place(c *fiber.Ctx, in *Incoming, overwrite bool) error {
	old, err := s.ledger.Find(s.life, in.File.Org, in.File.ObjectName)
	exists := err == nil
	if err != nil && !errors.Is(err, ledger.ErrNotFound) {
		return answerTo(err)
	}
	if err := writeConditions(c, version{exists, etagOf(old.SHA256), old.Created}); err != nil {
		return err
	}
	if exists && !overwrite {
		return errTaken(nil)
	}
	in.Mode = ledger.Create
	if overwrite && c.Get(fiber.HeaderIfNoneMatch) == "" {
		in.Mode = ledger.Replace
	}
	if exists && (c.Get(fiber.HeaderIfMatch) != "" || c.Get(fiber.HeaderIfUnmodifiedSince) != "") {
		in.Replaces = old.SHA256
	}
	return nil
}

// lostRace: somebody else wrote the object after its conditions were looked at. Whoever set a condition hears of that.
func (s *Service) lostRace(c *fiber.Ctx, err error) error {
	e := answerTo(err)
	var known *api.Error
	if errors.As(e, &known) && known.Status == http.StatusConflict {
		for _, header := range []string{fiber.HeaderIfNoneMatch, fiber.HeaderIfMatch, fiber.HeaderIfUnmodifiedSince} {
			if c.Get(header) != "" {
				failed := api.PreconditionFailed(header, "Another request wrote the object first")
				failed.Cause = err
				return failed
			}
		}
	}
	return e
}

// getInternal answers GET and HEAD /internal/files/{object_name}.
func (s *Service) getInternal(c *fiber.Ctx) error {
	name, err := api.Rest(c)
	if err != nil {
		return err
	}
	if err := checkName(fieldObject, name); err != nil {
		return err
	}
	file, err := s.ledger.Find(s.life, api.CallerOf(c).OrgID, name)
	if err == nil && s.expired(file) {
		err = ledger.ErrNotFound
	}
	if err != nil {
		return answerTo(err)
	}
	return answerTo(s.send(c, file, "", lastSegment(file.ObjectName)))
}
