package inspect

import (
	"fmt"
	"path"
	"slices"
	"strings"

	"github.com/gabriel-vasile/mimetype"
)

const (
	unknownType = "application/octet-stream"
	plainText   = "text/plain"
)

// typeOf are those extensions for which clients often declare nothing, and whose bytes look like any text.
var typeOf = map[string]string{
	".csv": "text/csv", ".tsv": "text/tab-separated-values", ".json": "application/json", ".ndjson": "application/x-ndjson",
	".jsonl": "application/x-ndjson", ".parquet": "application/vnd.apache.parquet", ".md": "text/markdown", ".sql": "application/sql",
}

// judge decides on the content type of a file from its first bytes. ErrType.
func (r Rules) judge(claim Claim, head []byte) (contentType string, warnings []string, err error) {
	declared := base(claim.ContentType)
	if claim.ContentType != "" && declared == "" {
		return "", nil, fmt.Errorf("%w: %.80q is no content type", ErrType, claim.ContentType)
	}
	found := mimetype.Detect(head)
	if blocked := r.blocked(declared, found); blocked != "" {
		return "", nil, fmt.Errorf("%w: files of type %s are blocked here", ErrType, blocked)
	}
	said := declared
	if said == "" || said == unknownType {
		said = typeOf[strings.ToLower(path.Ext(claim.Name))]
	}
	switch {
	case said == "" || len(head) == 0 && said != "":
		if said == "" {
			said = base(found.String())
		}
		return said, nil, nil
	case may(said, found):
		if isAncestor(said, found) && said != plainText && !strings.HasPrefix(said, "text/") {
			return base(found.String()), nil, nil // declared a zip, found a document in it
		}
		return said, nil, nil
	}
	mismatch := fmt.Sprintf("it is said to be %s, and its bytes are %s", said, base(found.String()))
	if r.Reject {
		return "", nil, fmt.Errorf("%w: %s", ErrType, mismatch)
	}
	return base(found.String()), []string{"the content type does not fit: " + mismatch}, nil
}

// blocked returns the type that is blocked, if one is. A type that is a sort of a blocked one is blocked with it.
func (r Rules) blocked(declared string, found *mimetype.MIME) string {
	for _, b := range r.Blocked {
		b = base(b)
		if b != "" && (b == declared || isAncestor(b, found)) {
			return b
		}
		if known := mimetype.Lookup(declared); b != "" && declared != "" && known != nil && b != unknownType && isAncestor(b, known) {
			return b
		}
	}
	return ""
}

// isAncestor tells whether m is of that type, or a sort of it.
func isAncestor(contentType string, m *mimetype.MIME) bool {
	for ; m != nil; m = m.Parent() {
		if m.Is(contentType) && (contentType != unknownType || m.Parent() == nil) {
			return true
		}
	}
	return false
}

// may tells whether bytes that were found to be of one type can be of the type that was declared.
func may(declared string, found *mimetype.MIME) bool {
	if isAncestor(declared, found) {
		return true // found a sort of it
	}
	if found.Is(unknownType) {
		return mimetype.Lookup(declared) == nil && !isText(declared) // no signature is known: nothing speaks against it
	}
	if isAncestor(plainText, found) && isText(declared) {
		return !slices.ContainsFunc(active, found.Is) || slices.ContainsFunc(active, func(t string) bool { return t == declared })
	}
	known := mimetype.Lookup(declared)
	if known == nil {
		return false
	}
	for m := known; m != nil; m = m.Parent() { // declared a sort of what was found, whose mark is not in the first bytes
		if m.Is(found.String()) {
			return !m.Is(unknownType)
		}
	}
	return false
}

// active are texts that a browser acts upon: they are not passed off as harmless ones.
var active = []string{"text/html", "image/svg+xml"}

// isText tells whether content of a type is text; such types are often not told apart by their bytes.
func isText(contentType string) bool {
	if strings.HasPrefix(contentType, "text/") || strings.HasSuffix(contentType, "+json") || strings.HasSuffix(contentType, "+xml") {
		return true
	}
	if known := mimetype.Lookup(contentType); known != nil && isAncestor(plainText, known) {
		return true
	}
	switch formats[contentType] {
	case "csv", "tsv", "json":
		return true
	}
	return slices.Contains([]string{"application/xml", "application/sql", "application/yaml", "application/x-yaml", "application/toml", "application/javascript"}, contentType)
}
