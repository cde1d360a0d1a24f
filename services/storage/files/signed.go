package files

import (
	"crypto/hmac"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/hex"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"
)

// Signing makes and checks the URLs that the host itself answers. The signature is over the method and the URL's very bytes from
// its path on, so that no character of it can be another one.
//
//	/api/v1/storage/signed/{object name}?method=GET&org=7&expires=1764343200000&…&signature=64 hex
//	/api/v1/storage/multipart/{upload}/parts/{number}?method=PUT&…
type Signing struct {
	Key  []byte        // at least 32 bytes
	Skew time.Duration // by which the clocks of hosts that share the key may differ
	Now  func() time.Time
}

// Signed is what a URL allows.
type Signed struct {
	Method      string // GET (and HEAD) or PUT
	Org         uint64
	User        uint64 // who gave it away: the owner of what is put
	Workspace   uint64
	Object      string
	Expires     time.Time
	ContentType string // PUT: the only one; GET: that of the answer; empty: any, the object's
	Size        int64  // PUT: the only size; -1: any
	FileName    string // GET: the answer is an attachment of that name
	Category    string // PUT: of the new file
	Upload      string // PUT: a part of this upload
	Part        int
}

const (
	signedPath = prefix + "/signed/"
	signature  = "&signature="
)

// What is wrong with a signed URL: 403 for each.
var (
	errSignature = errors.New("the URL is not one that this host has signed for this method")
	errExpired   = errors.New("the URL has expired")
)

// Sign returns the URL's path and query. What it allows ends at Expires, cut to milliseconds.
func (s *Signing) Sign(what Signed) string {
	var b strings.Builder
	if what.Upload != "" {
		b.WriteString(partsPath + "/" + what.Upload + "/parts/" + strconv.Itoa(what.Part))
	} else {
		b.WriteString(signedPath + escapedName(what.Object))
	}
	b.WriteString("?method=" + what.Method)
	number := func(name string, n int64) { b.WriteString("&" + name + "=" + strconv.FormatInt(n, 10)) }
	text := func(name, value string) {
		if value != "" {
			b.WriteString("&" + name + "=" + escaped(value))
		}
	}
	number("org", int64(what.Org))
	number("expires", what.Expires.UnixMilli())
	if what.User != 0 {
		number("user", int64(what.User))
	}
	if what.Workspace != 0 {
		number("workspace", int64(what.Workspace))
	}
	text("type", what.ContentType)
	if what.Size >= 0 && what.Method != http.MethodGet {
		number("size", what.Size)
	}
	text("name", what.FileName)
	text("category", what.Category)
	return b.String() + signature + s.sum(what.Method, b.String())
}

func (s *Signing) sum(method, uri string) string {
	mac := hmac.New(sha256.New, s.Key)
	mac.Write([]byte(method))
	mac.Write([]byte{'\n'})
	mac.Write([]byte(uri))
	return hex.EncodeToString(mac.Sum(nil))
}

// Check returns what a URL allows; uri is the path and query as they came. Errors: errSignature, errExpired.
func (s *Signing) Check(method, uri string) (Signed, error) {
	if method == http.MethodHead { // a URL to read is one to ask about
		method = http.MethodGet
	}
	at := strings.LastIndex(uri, signature)
	if at < 0 || subtle.ConstantTimeCompare([]byte(uri[at+len(signature):]), []byte(s.sum(method, uri[:at]))) != 1 {
		return Signed{}, errSignature
	}
	// From here on, the bytes are ours.
	what, err := parseSigned(uri[:at])
	if err != nil {
		return Signed{}, fmt.Errorf("%w: %w", errSignature, err)
	}
	if s.Now().After(what.Expires.Add(s.Skew)) {
		return what, errExpired
	}
	return what, nil
}

func parseSigned(uri string) (Signed, error) {
	path, query, _ := strings.Cut(uri, "?")
	values, err := url.ParseQuery(query)
	if err != nil {
		return Signed{}, err
	}
	what := Signed{
		Size: -1, Method: values.Get("method"), ContentType: values.Get("type"), FileName: values.Get("name"), Category: values.Get("category"),
	}
	if object, ok := strings.CutPrefix(path, signedPath); ok {
		what.Object, err = url.PathUnescape(object)
	} else {
		var part string
		what.Upload, part, _ = strings.Cut(strings.TrimPrefix(path, partsPath+"/"), "/parts/")
		what.Part, err = strconv.Atoi(part)
	}
	if err != nil {
		return Signed{}, err
	}
	number := func(name string) (n int64) {
		if text := values.Get(name); text != "" {
			var failed error
			n, failed = strconv.ParseInt(text, 10, 64)
			err = errors.Join(err, failed)
		}
		return n
	}
	what.Org, what.User = uint64(number("org")), uint64(number("user"))
	what.Workspace = uint64(number("workspace"))
	what.Expires = time.UnixMilli(number("expires"))
	if values.Has("size") {
		what.Size = number("size")
	}
	return what, err
}

// escaped percent-encodes everything but RFC 3986's unreserved characters: no client and no proxy finds anything to change.
func escaped(text string) string {
	const hexDigits = "0123456789ABCDEF"
	var b strings.Builder
	for i := range len(text) {
		switch c := text[i]; {
		case c >= 'a' && c <= 'z', c >= 'A' && c <= 'Z', c >= '0' && c <= '9', c == '-', c == '.', c == '_', c == '~':
			b.WriteByte(c)
		default:
			b.WriteByte('%')
			b.WriteByte(hexDigits[c>>4])
			b.WriteByte(hexDigits[c&15])
		}
	}
	return b.String()
}

// escapedName leaves the slashes.
func escapedName(name string) string { return strings.ReplaceAll(escaped(name), "%2F", "/") }
