package files

import (
	"net/http"

	"github.com/gofiber/fiber/v2"

	"github.com/rivergate/rivergate/services/platform/api"
	"github.com/rivergate/rivergate/services/storage/ledger"
)

// The categories of users' files.
const categoryDefault = "data_source"

var categories = map[string]bool{categoryDefault: true, "profile_image": true, "general": true}

// leftover is how much of a refused body is taken off the connection, so that the client gets to read why.
const leftover = 64 << 20

// upload answers POST /api/v1/storage/upload.
func (s *Service) upload(c *fiber.Ctx) error {
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
	unique := uniqueName(f.fileName, s.now())
	file := ledger.File{
		Org: caller.OrgID, User: caller.UserID, Workspace: caller.WorkspaceID, Kind: ledger.KindFile,
		FileName: f.fileName, ContentType: f.part.Header.Get(fiber.HeaderContentType),
	}
	name := func(file *ledger.File) (err error) {
		file.ObjectName, file.Category, err = s.ownObject(caller, f.fields, unique)
		return err
	}
	if err := name(&file); err != nil {
		return err
	}
	file, err = s.Store(s.life, Incoming{
		File: file, Mode: ledger.Create, Fresh: true, Size: -1, AtMost: f.most, Limit: s.maxFile, Sums: sums,
		Late: name, // fields may stand behind the file
	}, f)
	if err != nil {
		return answerTo(err)
	}
	promise.Is(f.digest(file.SHA256))
	return api.Success(c, http.StatusCreated, s.uploaded(file), "File uploaded")
}

func (s *Service) uploaded(file ledger.File) Uploaded {
	return Uploaded{
		FilePath: file.ObjectName, FileName: file.FileName, UniqueFileName: lastSegment(file.ObjectName), Size: file.Size,
		ContentType: file.ContentType, S3URI: s.s3URI(file), StorageFileID: file.ID, SHA256: file.SHA256,
	}
}

// ownObject is the object name and category that the fields of a form say.
func (s *Service) ownObject(caller *api.Caller, fields map[string]string, unique string) (name, category string, err error) {
	if category = fields[fieldCategory]; category == "" {
		category = categoryDefault
	}
	if !categories[category] {
		return "", "", api.BadRequest(fieldCategory, "%s must be data_source, profile_image or general", fieldCategory)
	}
	folder, err := checkPath(fieldPath, fields[fieldPath])
	if err != nil {
		return "", "", err
	}
	name = userFolder(caller.OrgID, caller.UserID)
	if folder != "" {
		name += folder + "/"
	}
	return name + unique, category, nil
}

// formChecksums are those of the part's own headers and of the request's: a client with one file in its form means the file.
func formChecksums(c *fiber.Ctx, f *form) ([]announced, error) {
	ofRequest, err := readChecksums(headerOf(c))
	if err != nil {
		return nil, err
	}
	ofPart, err := readChecksums(f.part.Header.Get)
	return append(ofRequest, ofPart...), err
}
