package files

import (
	"net/http"
	"strings"
	"time"

	"github.com/gofiber/fiber/v2"

	"github.com/rivergate/rivergate/services/platform/api"
)

// version is what conditions compare: the newest version of an object, or none.
type version struct {
	exists   bool
	etag     string // with its quotes; strong
	modified time.Time
}

// etagOf is the strong ETag: the hash of the content, whatever the backend.
func etagOf(sha256 string) string { return `"` + sha256 + `"` }

// readConditions answers GET and HEAD (RFC 9110, section 13.2.2). notModified: 304. Error: 412.
func readConditions(c *fiber.Ctx, v version) (notModified bool, err error) {
	if err := matches(c, v); err != nil {
		return false, err
	}
	if none := c.Get(fiber.HeaderIfNoneMatch); none != "" {
		return anyTag(none, v, weakly), nil
	}
	since, ok := date(c.Get(fiber.HeaderIfModifiedSince))
	return ok && !v.modified.Truncate(time.Second).After(since), nil
}

// writeConditions: whether a write may go on. Error: 412. Who writes must still see to it that nobody comes in between: see
// conditionsOf.
func writeConditions(c *fiber.Ctx, v version) error {
	if err := matches(c, v); err != nil {
		return err
	}
	if none := c.Get(fiber.HeaderIfNoneMatch); none != "" && anyTag(none, v, weakly) {
		return api.PreconditionFailed(fiber.HeaderIfNoneMatch, "There is an object of that name, as %s says there must not be", fiber.HeaderIfNoneMatch)
	}
	return nil
}

func matches(c *fiber.Ctx, v version) error {
	if match := c.Get(fiber.HeaderIfMatch); match != "" {
		if !anyTag(match, v, strongly) {
			return api.PreconditionFailed(fiber.HeaderIfMatch, "The object is not the one that %s names", fiber.HeaderIfMatch)
		}
		return nil
	}
	if since, ok := date(c.Get(fiber.HeaderIfUnmodifiedSince)); ok && (!v.exists || v.modified.Truncate(time.Second).After(since)) {
		return api.PreconditionFailed(fiber.HeaderIfUnmodifiedSince, "The object has changed since")
	}
	return nil
}

// ifRange: whether a Range header counts.
func ifRange(header string, v version) bool {
	if header == "" {
		return true
	}
	if strings.HasPrefix(header, `"`) || strings.HasPrefix(header, "W/") {
		return header == v.etag
	}
	// A date is a strong validator only when it is exact, and ours have seconds: RFC 9110, section 13.1.5.
	since, ok := date(header)
	return ok && since.Equal(v.modified.Truncate(time.Second)) && time.Since(v.modified) > time.Minute
}

const (
	strongly = true
	weakly   = false
)

// anyTag tells whether a list of ETags, or "*", names the version.
func anyTag(list string, v version, strong bool) bool {
	if strings.TrimSpace(list) == "*" {
		return v.exists
	}
	if !v.exists {
		return false
	}
	for rest := list; ; {
		rest = strings.TrimLeft(rest, " \t,")
		weak := strings.HasPrefix(rest, "W/")
		rest = strings.TrimPrefix(rest, "W/")
		if !strings.HasPrefix(rest, `"`) {
			return false
		}
		end := strings.IndexByte(rest[1:], '"')
		if end < 0 {
			return false
		}
		if rest[:end+2] == v.etag && !(weak && strong) {
			return true
		}
		rest = rest[end+2:]
	}
}

func date(text string) (time.Time, bool) {
	if text == "" {
		return time.Time{}, false
	}
	t, err := http.ParseTime(text)
	return t, err == nil
}
