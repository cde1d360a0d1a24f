package protocol

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"
	"unicode/utf8"
)

// Storage keeps objects: bytes under a key. It is the same on both sides of the boundary.
//
// A key is data, not a path: valid UTF-8 of 1..1024 bytes without NUL, with segments separated by single slashes, none of them empty,
// "." or "..". A backend takes every such key as it is, with case and Unicode form, or refuses it with ErrKey; it never changes one.
//
// An object is seen whole or not at all: a Put that fails, or whose process dies, leaves the former object in its place and
// nothing of the new one that a reader or List could see. Once Put, Copy or CompleteUpload has returned, the object survives a
// power cut. Reads see the newest object that was acknowledged.
type Storage interface {
	// Put reads body to its end. An error of body is returned as it is, and nothing is stored. ErrPrecondition, ErrKey, ErrFull,
	// ErrChecksum, and ErrSize when the body has not put.Size bytes.
	Put(ctx context.Context, instance string, put Put, body io.Reader) (Object, error)
	// Get opens part of an object; the caller closes it. Object describes the whole. ErrNotFound; ErrRange when from is at or beyond the
	// end. Whole() is never refused.
	Get(ctx context.Context, instance, key string, part Range) (Object, io.ReadCloser, error)
	// Stat describes an object. ErrNotFound.
	Stat(ctx context.Context, instance, key string) (Object, error)
	// List returns objects whose key begins with prefix and comes after the key `after`, ordered by the bytes of the key, at most limit
	// (1..1000). more tells whether others follow.
	List(ctx context.Context, instance, prefix, after string, limit int) (objects []Object, more bool, err error)
	// Delete removes an object; one that is not there is no error.
	Delete(ctx context.Context, instance, key string) error
	// Copy makes an object of another one's bytes, within the backend and perhaps in another tier; to may equal from. ErrNotFound.
	Copy(ctx context.Context, instance, from string, to Put) (Object, error)

	// Presign makes a URL that a client uses without us (Abilities.Presign, else ErrUnsupported).
	Presign(ctx context.Context, instance string, request Presign) (Presigned, error)

	// BeginUpload starts an upload in parts (Abilities.Multipart, else ErrUnsupported). The object appears with CompleteUpload.
	BeginUpload(ctx context.Context, instance string, put Put) (upload string, err error)
	// PutPart stores part number 1..10000 of an upload; the same number again replaces it. All but the last have at least
	// Abilities.MinPart bytes. size is that of body; -1: unknown.
	PutPart(ctx context.Context, instance, key, upload string, number int, size int64, body io.Reader) (Part, error)
	// CompleteUpload makes the object of the parts, in the order of their numbers. ErrNotFound: no such upload; one that
	// was completed may be remembered instead. ErrPrecondition.
	CompleteUpload(ctx context.Context, instance string, put Put, upload string, parts []Part) (Object, error)
	// AbortUpload forgets an upload and its parts; one that is not there is no error.
	AbortUpload(ctx context.Context, instance, key, upload string) error
	// ListUploads returns uploads that were begun and neither completed nor aborted, at most limit after the given one.
	ListUploads(ctx context.Context, instance, prefix string, after Upload, limit int) (uploads []Upload, more bool, err error)

	// Abilities says what this instance can do. It does not change while it is configured.
	Abilities(ctx context.Context, instance string) (Abilities, error)
}

// StorageServer is what a storage plugin serves, StorageClient the host's end of one.
type (
	StorageServer interface {
		Base
		Storage
	}
	StorageClient interface {
		Base
		Storage
	}
)

// Client is the host's end of a plugin of any kind.
type Client interface {
	PusherClient
	Storage
}

// Abilities decide which abilities HTTP clients are offered.
type Abilities struct {
	Presign   bool   // URLs for GET, PUT and parts
	Multipart bool   // BeginUpload and what follows
	MinPart   int64  // bytes of each part but the last; 0: any
	MaxPart   int64  // bytes of a part; 0: any
	MaxObject int64  // bytes of an object that Put takes at once; 0: any
	Tiers     []Tier // that Put and Copy can choose from, TierHot among them; never empty
	Encrypts  bool   // the backend encrypts at rest by itself
	Local     bool   // it lives on this machine: reading through the host costs no more than reading from it
	Bucket    string // name for s3:// addresses; empty: none
}

// Tier is how fast, and how dear, an object is kept.
type Tier string

// The tiers. Every backend has TierHot.
const (
	TierHot  Tier = "hot"
	TierWarm Tier = "warm"
	TierCold Tier = "cold"
)

// Put says what is to be stored.
type Put struct {
	Key         string
	Size        int64  // of the body; -1: unknown
	ContentType string // for presigned URLs, which the backend answers itself
	Tier        Tier   // empty: TierHot
	// OnlyNew refuses with ErrPrecondition when there is an object of that key: of many at once, exactly one succeeds.
	OnlyNew bool
	// SHA256 of the body, 32 bytes, when it is known before: a backend may check it, ErrChecksum. nil: not known.
	SHA256 []byte
}

// Object describes a stored object.
type Object struct {
	Key      string
	Size     int64
	Modified time.Time // UTC
	ETag     string    // the backend's own; changes when the content does. Without quotes
	Tier     Tier
}

// Range is part of an object: Length bytes from byte From; a negative Length: to the end.
type Range struct {
	From   int64
	Length int64
}

// Whole is all of an object.
func Whole() Range { return Range{Length: -1} }

// Presign asks for a URL.
type Presign struct {
	Method      string // GET, HEAD or PUT
	Key         string
	Expires     time.Duration // 1 s to 7 days
	ContentType string        // PUT: the only one that the URL takes; GET: the one that the answer has; empty: any
	FileName    string        // GET: the answer is an attachment of that name; empty: not said
	Size        int64         // PUT: the only size that the URL takes, where the backend can enforce it; -1: any
	Upload      string        // PUT of a part of this upload; empty: of the object
	Part        int
}

// Presigned is a URL and what must be sent with it.
type Presigned struct {
	URL     string
	Header  map[string]string
	Expires time.Time // when it really ends: a URL dies with the credential that signed it
}

// Part is a stored part of an upload.
type Part struct {
	Number int
	ETag   string
	Size   int64
}

// Upload is an upload in parts that goes on.
type Upload struct {
	Key   string
	ID    string
	Begun time.Time
}

// What callers of Storage decide by.
var (
	ErrNotFound     = errors.New("there is no such object")
	ErrPrecondition = errors.New("there is an object of that key already")
	ErrRange        = errors.New("the range lies beyond the end of the object")
	ErrKey          = errors.New("the backend cannot keep an object of that key")
	ErrChecksum     = errors.New("the bytes do not have the checksum that was announced")
	ErrFull         = errors.New("the backend has no room left")
	ErrUnsupported  = errors.New("the backend cannot do that")
	ErrSize         = errors.New("the body does not have the size that was announced")
	// ErrUnavailable: not at the moment; the plugin or what is behind it may be back later. What came of the call is not known.
	ErrUnavailable = errors.New("the backend cannot be reached at the moment")
)

// MaxKey is the greatest length of a key in bytes.
const MaxKey = 1024

// CheckKey tells why key cannot be one, wrapping ErrKey; nil when it can.
func CheckKey(key string) error {
	switch {
	case key == "":
		return fmt.Errorf("%w: it is empty", ErrKey)
	case len(key) > MaxKey:
		return fmt.Errorf("%w: it has %d bytes, %d are allowed", ErrKey, len(key), MaxKey)
	case !utf8.ValidString(key):
		return fmt.Errorf("%w: it is not UTF-8", ErrKey)
	case strings.IndexByte(key, 0) >= 0:
		return fmt.Errorf("%w: it has a NUL in it", ErrKey)
	}
	for segment := range strings.SplitSeq(key, "/") {
		if segment == "" || segment == "." || segment == ".." {
			return fmt.Errorf("%w: a segment between slashes is %q", ErrKey, segment)
		}
	}
	return nil
}
