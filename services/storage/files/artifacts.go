package files

import (
	"context"
	"errors"
	"io"
	"strings"
	"time"

	"github.com/gofiber/fiber/v2"

	"github.com/rivergate/rivergate/services/platform/api"
	"github.com/rivergate/rivergate/services/storage/ledger"
)

// Other parts of the storage have files, too: they take them in and give them out through what stands here.

// Form is a request's form up to the bytes of its file.
type Form struct {
	form *form
	sums []announced
}

// ReadForm reads up to the file. Discard it in any case, also after an error.
func ReadForm(c *fiber.Ctx) (*Form, error) {
	f, err := readForm(c)
	if err != nil {
		return &Form{form: f}, err
	}
	sums, err := formChecksums(c, f)
	return &Form{f, sums}, err
}

// Fields are those that were read: all of them once the file has been stored.
func (f *Form) Fields() map[string]string { return f.form.fields }

// FileName is the client's name of the file.
func (f *Form) FileName() string { return f.form.fileName }

// ContentType is what the client says that the file is.
func (f *Form) ContentType() string { return f.form.part.Header.Get(fiber.HeaderContentType) }

// Digest is what the form was, given the hash of its file, once that has been stored.
func (f *Form) Digest(sha256 string) [16]byte { return f.form.digest(sha256) }

// Repeat reads the form of a request that was there before, and answers it as then.
func (f *Form) Repeat(c *fiber.Ctx, promise *api.Promise) error { return f.form.repeat(c, promise) }

// Discard takes what is left of the body off the connection.
func (f *Form) Discard() {
	if f.form != nil {
		f.form.stream.Discard(leftover)
	}
}

// StoreForm stores the file of a form as a new one. late is called when the form has ended, and nothing is stored unless it returns nil.
func (s *Service) StoreForm(file ledger.File, f *Form, late func() error) (ledger.File, error) {
	stored, err := s.Store(s.life, Incoming{
		File: file, Mode: ledger.Create, Size: -1, AtMost: f.form.most, Limit: s.maxFile, Sums: f.sums, Late: func(*ledger.File) error { return late() },
	}, f.form)
	return stored, answerTo(err)
}

// Copy stores the bytes of one file as another, new one. late is that of StoreForm.
func (s *Service) Copy(from, to ledger.File, late func() error) (ledger.File, error) {
	ctx, cancel := context.WithCancel(s.life)
	defer cancel()
	body, err := s.open(ctx, from, 0, -1)
	if err != nil {
		return ledger.File{}, answerTo(err)
	}
	defer mute(body)
	to.ContentType = from.ContentType
	stored, err := s.Store(ctx, Incoming{
		File: to, Mode: ledger.Create, Size: from.Size, AtMost: -1,
		Late: func(*ledger.File) error { return late() },
	}, struct{ io.Reader }{body})
	if err == nil && stored.SHA256 != from.SHA256 {
		err = errors.New("a copy has another hash than what it is a copy of")
	}
	return stored, answerTo(err)
}

// URL lets a client read a file without credentials for that long, and tells how long it really is. That counts as a read: what the
// backend answers itself is not seen here.
func (s *Service) URL(c *fiber.Ctx, file ledger.File, expiry time.Duration) (string, time.Duration, error) {
	url, effective, err := s.presignGet(c, file, expiry)
	if err == nil {
		s.ledger.Touch(file)
	}
	return url, effective, answerTo(err)
}

// URI is where the bytes of a file are: s3://…
func (s *Service) URI(file ledger.File) string { return s.s3URI(file) }

// Visible finds a file of the caller by its object name or its URI. Errors: 404, and 403 outside the user's folder.
func (s *Service) Visible(caller *api.Caller, uri string) (ledger.File, error) {
	name := strings.TrimPrefix(uri, "s3://"+s.bucket+"/")
	if at := strings.LastIndexByte(name, '~'); name != uri && at > 0 && len(name)-at == suffixSize {
		name = name[:at] // the key of a version
	}
	if err := ownName(caller, name); err != nil {
		return ledger.File{}, err
	}
	file, err := s.ledger.Find(s.life, caller.OrgID, name)
	return file, answerTo(err)
}
