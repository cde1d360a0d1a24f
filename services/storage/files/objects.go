package files

import (
	"errors"
	"net/http"
	"strconv"
	"time"

	"github.com/gofiber/fiber/v2"

	"github.com/rivergate/rivergate/sdk/protocol"
	"github.com/rivergate/rivergate/services/platform/api"
	"github.com/rivergate/rivergate/services/storage/ledger"
)

const (
	listedURLs    = time.Hour // how long the URLs of a list are good
	usualExpiry   = 3600
	longestExpiry = 7 * 24 * 3600
)

// orders are what sort_by may be.
var orders = map[string]ledger.Sort{"uploaded_at": ledger.SortCreated, "file_name": ledger.SortName, "size_bytes": ledger.SortSize}

// listFiles answers GET /api/v1/storage/files.
func (s *Service) listFiles(c *fiber.Ctx) error {
	page, err := api.ReadPage(c)
	if err != nil {
		return err
	}
	sort, err := api.ReadSort(c, api.Sort{By: "uploaded_at", Descending: true}, "uploaded_at", "file_name", "size_bytes")
	if err != nil {
		return err
	}
	category := api.TextQuery(c, fieldCategory)
	if category != "" && !categories[category] {
		return api.BadRequest(fieldCategory, "%s must be data_source, profile_image or general", fieldCategory)
	}
	caller := api.CallerOf(c)
	files, total, err := s.ledger.List(s.life, ledger.Query{
		Org: caller.OrgID, User: caller.UserID, Category: category, Offset: page.Offset(), Limit: page.Size,
		Sort: orders[sort.By], Ascending: !sort.Descending,
	})
	if err != nil {
		return answerTo(err)
	}
	items := make([]Item, 0, len(files))
	for _, file := range files {
		url, _, err := s.presignGet(c, file, listedURLs)
		if err != nil {
			return answerTo(err)
		}
		items = append(items, Item{
			StorageFileID: file.ID, FileName: file.FileName, ObjectName: file.ObjectName, SizeBytes: file.Size, SizeMB: in(file.Size, mebi),
			ContentType: file.ContentType, FileCategory: file.Category, UploadedAt: file.Created.UTC(), PresignedURL: url,
			DataSourceID: orNull(file.DataSourceID), WorkspaceID: orNull(file.Workspace),
		})
	}
	return api.OK(c, api.Paged[Item]{Items: items, Pagination: page.OfCount(total)}, "Files listed")
}

// own finds the object that the path names, in the caller's own folder.
func (s *Service) own(c *fiber.Ctx) (ledger.File, error) {
	name, err := api.Rest(c)
	if err != nil {
		return ledger.File{}, err
	}
	caller := api.CallerOf(c)
	if err := ownName(caller, name); err != nil {
		return ledger.File{}, err
	}
	file, err := s.ledger.Find(s.life, caller.OrgID, name)
	return file, answerTo(err)
}

// showMetadata answers GET /api/v1/storage/objects/{object_name}/metadata.
func (s *Service) showMetadata(c *fiber.Ctx) error {
	file, err := s.own(c)
	if err != nil {
		return err
	}
	return api.OK(c, ObjectMetadata{
		Name: file.ObjectName, Size: file.Size, ContentType: file.ContentType, LastModified: file.Created.UTC(),
		ETag: etagOf(file.SHA256), SHA256: file.SHA256, Tier: string(file.Tier),
	}, "Object found")
}

// download answers GET and HEAD /api/v1/storage/objects/{object_name}.
func (s *Service) download(c *fiber.Ctx) error {
	file, err := s.own(c)
	if err != nil {
		return err
	}
	return answerTo(s.send(c, file, "", file.FileName))
}

// deleteObject answers DELETE /api/v1/storage/objects/{object_name}.
func (s *Service) deleteObject(c *fiber.Ctx) error {
	file, err := s.own(c)
	if err != nil {
		return err
	}
	if err := writeConditions(c, version{true, etagOf(file.SHA256), file.Created}); err != nil {
		return err
	}
	gone, err := s.ledger.DeleteVersion(s.life, file)
	if errors.Is(err, ledger.ErrChanged) && c.Get(fiber.HeaderIfMatch) == "" {
		gone, err = s.ledger.Delete(s.life, file.Org, file.ObjectName)
	}
	if err != nil {
		return answerTo(err)
	}
	s.purge(gone.Key)
	return api.OK(c, Deleted{file.ObjectName}, "Object deleted")
}

// presign answers GET /api/v1/storage/objects/{object_name}/presigned-url.
func (s *Service) presign(c *fiber.Ctx) error {
	seconds, err := api.IntQuery(c, "expires_seconds", usualExpiry, 1, longestExpiry)
	if err != nil {
		return err
	}
	expiry := time.Duration(seconds) * time.Second
	var url string
	var effective time.Duration
	switch method := c.Query("method"); method {
	case "", http.MethodGet:
		file, err := s.own(c)
		if err != nil {
			return err
		}
		url, effective, err = s.URL(c, file, expiry)
		if err != nil {
			return err
		}
	case http.MethodPut:
		url, effective, err = s.presignPut(c, expiry)
		if err != nil {
			return err
		}
	default:
		return api.BadRequest("method", "method must be GET or PUT")
	}
	return api.OK(c, PresignedURL{url, int64(effective / time.Second)}, "URL signed")
}

// presignGet lets a client and the backend talk directly where the backend has what the client wants: unencrypted bytes, or bytes
// that it encrypts itself. Otherwise the host answers the URL.
func (s *Service) presignGet(c *fiber.Ctx, file ledger.File, expiry time.Duration) (string, time.Duration, error) {
	if s.abilities.Presign && file.KeyID == "" {
		signed, err := s.objects.Presign(s.life, protocol.Presign{
			Method: http.MethodGet, Key: file.Key, Expires: expiry, ContentType: file.ContentType, FileName: file.FileName, Size: -1,
		})
		if err != nil {
			return "", 0, backend("sign a URL", err)
		}
		if len(signed.Header) == 0 { // what needs more than its URL is no presigned URL
			return signed.URL, min(expiry, time.Until(signed.Expires).Round(time.Second)), nil
		}
	}
	return s.base(c) + s.signing.Sign(Signed{
		Method: http.MethodGet, Org: file.Org, Object: file.ObjectName, Expires: s.now().Add(expiry), FileName: file.FileName, Size: -1,
	}), expiry, nil
}

// presignPut lets a client put one object into the caller's folder. The host answers it: the quota is taken when the bytes come.
func (s *Service) presignPut(c *fiber.Ctx, expiry time.Duration) (string, time.Duration, error) {
	name, err := api.Rest(c)
	if err != nil {
		return "", 0, err
	}
	caller := api.CallerOf(c)
	if err := ownName(caller, name); err != nil {
		return "", 0, err
	}
	signed := Signed{
		Method: http.MethodPut, Org: caller.OrgID, User: caller.UserID, Workspace: caller.WorkspaceID, Object: name, Expires: s.now().Add(expiry),
		ContentType: api.TextQuery(c, "content_type"), Size: -1, Category: api.TextQuery(c, fieldCategory),
	}
	if signed.Category != "" && !categories[signed.Category] {
		return "", 0, api.BadRequest(fieldCategory, "%s must be data_source, profile_image or general", fieldCategory)
	}
	if text := c.Query("size"); text != "" {
		if signed.Size, err = strconv.ParseInt(text, 10, 64); err != nil || signed.Size < 0 || signed.Size > s.maxFile {
			return "", 0, api.BadRequest("size", "size must be from 0 to %d bytes", s.maxFile)
		}
	}
	return s.base(c) + s.signing.Sign(signed), expiry, nil
}

// base is where clients reach this host.
func (s *Service) base(c *fiber.Ctx) string {
	if s.publicURL != "" {
		return s.publicURL
	}
	return c.BaseURL()
}

// showQuota answers GET /api/v1/storage/quota.
func (s *Service) showQuota(c *fiber.Ctx) error {
	usage, err := s.ledger.Usage(s.life, api.CallerOf(c).OrgID)
	if err != nil {
		return answerTo(err)
	}
	return api.OK(c, Quota{usage.Limit, in(usage.Limit, mebi), in(usage.Limit, gibi)}, "Quota found")
}

// showUsage answers GET /api/v1/storage/usage.
func (s *Service) showUsage(c *fiber.Ctx) error {
	usage, err := s.ledger.Usage(s.life, api.CallerOf(c).OrgID)
	if err != nil {
		return answerTo(err)
	}
	percentage, available := 0., max(0, usage.Limit-usage.Used-usage.Reserved)
	switch {
	case usage.Limit == ledger.Unlimited:
		available = ledger.Unlimited
	case usage.Limit > 0:
		percentage = in((usage.Used+usage.Reserved)*100, float64(usage.Limit))
	default:
		percentage = 100
	}
	categories := map[string]int64{}
	for name, part := range usage.Categories {
		categories[name] = part.Bytes
	}
	return api.OK(c, Usage{
		UsedBytes: usage.Used, UsedMB: in(usage.Used, mebi), UsedGB: in(usage.Used, gibi), ReservedBytes: usage.Reserved,
		LimitBytes: usage.Limit, LimitMB: in(usage.Limit, mebi), LimitGB: in(usage.Limit, gibi),
		AvailableBytes: available, UsagePercentage: percentage, FileCount: usage.Files, ByCategory: categories,
	}, "Usage found")
}
