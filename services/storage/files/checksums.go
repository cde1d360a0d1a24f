package files

import (
	"bytes"
	"crypto/md5" //nolint:gosec // Content-MD5 tells errors of transfer, nothing else
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"strings"

	"github.com/gofiber/fiber/v2"

	"github.com/rivergate/rivergate/services/platform/api"
)

// announced are the checksums of the file that the client sent along, by the header they came in.
type announced struct {
	field string
	sum   []byte
	md5   bool
}

// The headers that may carry a checksum: Content-MD5 (RFC 1864), Digest (RFC 3230), Content-Digest and Repr-Digest (RFC 9530), and S3's.
const (
	headerMD5    = "Content-MD5"
	headerDigest = "Digest"
	headerAmz    = "x-amz-checksum-sha256"
)

// readChecksums reads the headers of a part, or of a request. Algorithms that are not known here are passed over. Error: 400.
func readChecksums(header func(name string) string) (sums []announced, err error) {
	add := func(field, text string, size int) error {
		sum, err := base64.StdEncoding.Strict().DecodeString(text)
		if err != nil || len(sum) != size {
			return api.BadRequest(field, "%s must be %d bytes as base64", field, size)
		}
		sums = append(sums, announced{field, sum, size == md5.Size})
		return nil
	}
	if text := header(headerMD5); text != "" {
		if err := add(headerMD5, text, md5.Size); err != nil {
			return nil, err
		}
	}
	if text := header(headerAmz); text != "" {
		if err := add(headerAmz, text, sha256.Size); err != nil {
			return nil, err
		}
	}
	for _, field := range []string{headerDigest, "Content-Digest", "Repr-Digest"} {
		for item := range strings.SplitSeq(header(field), ",") {
			algorithm, text, _ := strings.Cut(strings.TrimSpace(item), "=")
			if field != headerDigest { // a structured field: bytes between colons
				text = strings.TrimSuffix(strings.TrimPrefix(text, ":"), ":")
			}
			size := map[string]int{"sha-256": sha256.Size, "md5": md5.Size}[strings.ToLower(algorithm)]
			if size == 0 {
				continue
			}
			if err := add(field, text, size); err != nil {
				return nil, err
			}
		}
	}
	return sums, nil
}

// headerOf looks into a request.
func headerOf(c *fiber.Ctx) func(string) string {
	return func(name string) string { return c.Get(name) }
}

// check compares with what was announced. Error: 400 naming the header.
func (d *digests) check(sums []announced) error {
	d.settle()
	for _, a := range sums {
		got := d.sha256.Sum(nil)
		if a.md5 {
			got = d.md5.Sum(nil)
		}
		if !bytes.Equal(got, a.sum) {
			return api.BadRequest(a.field, "the file does not have the checksum of %s; it has %s", a.field, hex.EncodeToString(got))
		}
	}
	return nil
}
