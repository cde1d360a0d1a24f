package sdk

import (
	"context"
	"io"

	"github.com/rivergate/rivergate/sdk/protocol"
)

// What a Storage is asked for and answers; package protocol documents each field.
type (
	// Put says what is to be stored.
	Put = protocol.Put
	// Object describes a stored object.
	Object = protocol.Object
	// Range is part of an object.
	Range = protocol.Range
	// Tier is how fast, and how dear, an object is kept.
	Tier = protocol.Tier
	// Abilities are what an instance of a storage can do.
	Abilities = protocol.Abilities
	// Presign asks for a URL.
	Presign = protocol.Presign
	// Presigned is a URL and what must be sent with it.
	Presigned = protocol.Presigned
	// Part is a stored part of an upload.
	Part = protocol.Part
	// Upload is an upload in parts that goes on.
	Upload = protocol.Upload
)

// The tiers. Every storage has TierHot.
const (
	TierHot  = protocol.TierHot
	TierWarm = protocol.TierWarm
	TierCold = protocol.TierCold
)

// What a Storage returns for the host to decide by, wrapped in words that say what was tried: the class crosses the wire, and
// errors.Is finds it on the other side.
var (
	ErrNotFound     = protocol.ErrNotFound
	ErrPrecondition = protocol.ErrPrecondition
	ErrRange        = protocol.ErrRange
	ErrKey          = protocol.ErrKey
	ErrChecksum     = protocol.ErrChecksum
	ErrFull         = protocol.ErrFull
	ErrUnsupported  = protocol.ErrUnsupported
	ErrSize         = protocol.ErrSize
	ErrUnavailable  = protocol.ErrUnavailable
)

// Storage keeps objects. The SDK makes one value per instance and fills its config fields before any call. Many calls run at once,
// also of one key. ctx ends when the host gives up or at a forced stop; it has no deadline of its own in Put and Get, which may take
// as long as bytes move: one that moves none for a minute is broken off as stuck.
//
// The promises of protocol.Storage are the author's to keep: an object is seen whole or not at all, whatever dies when; after Put,
// Copy or CompleteUpload has returned nil it survives a power cut; keys are kept as they are, or refused with ErrKey. The SDK has
// checked the form of the key (protocol.CheckKey) and counts and checks the bytes of a body (size, SHA-256).
type Storage interface {
	// Put reads body to its end and stores it. An error of body is returned, and nothing is stored: the host broke off, or sent other
	// bytes than it announced. ErrPrecondition with put.OnlyNew, ErrFull, ErrKey.
	Put(ctx context.Context, put Put, body io.Reader) (Object, error)
	// Get opens part of an object; the SDK closes it. Object describes the whole. ErrNotFound; ErrRange when part.From is at or
	// beyond the end, but never for Range{Length: -1}. What is an *os.File of a regular file, at the byte where the part begins, is
	// read by a host on the same machine itself: its bytes must never change, but the file may be removed.
	Get(ctx context.Context, key string, part Range) (Object, io.ReadCloser, error)
	// Stat describes an object. ErrNotFound.
	Stat(ctx context.Context, key string) (Object, error)
	// List returns at most limit (1..1000) objects whose key begins with prefix and is greater than after, ordered by the bytes of
	// the key. more: others follow.
	List(ctx context.Context, prefix, after string, limit int) (objects []Object, more bool, err error)
	// Delete removes an object; one that is not there is no error.
	Delete(ctx context.Context, key string) error
	// Copy makes an object of another's bytes, perhaps in another tier; to.Key may equal from. ErrNotFound.
	Copy(ctx context.Context, from string, to Put) (Object, error)
	// Abilities says what the instance can do; it needs no network. Presign and Multipart are filled by the SDK: whether it is a
	// Presigner and a Multiparter. No Tiers are TierHot alone.
	Abilities() Abilities
}

// Presigner is for a storage that clients can use directly.
type Presigner interface {
	// Presign makes a URL. What cannot be part of its signature is refused with ErrUnsupported. It needs no network.
	Presign(ctx context.Context, request Presign) (Presigned, error)
}

// Multiparter is for a storage that takes an object in parts.
type Multiparter interface {
	// BeginUpload starts an upload; nothing is seen of it before CompleteUpload.
	BeginUpload(ctx context.Context, put Put) (upload string, err error)
	// PutPart stores part number 1..10000, reading body to its end; the same number again replaces it. size -1: unknown.
	// ErrNotFound: no such upload.
	PutPart(ctx context.Context, key, upload string, number int, size int64, body io.Reader) (Part, error)
	// CompleteUpload makes the object of the parts, which are in the order of their numbers. ErrNotFound, ErrPrecondition.
	CompleteUpload(ctx context.Context, put Put, upload string, parts []Part) (Object, error)
	// AbortUpload forgets an upload and its parts; one that is not there is no error.
	AbortUpload(ctx context.Context, key, upload string) error
	// ListUploads returns uploads that were begun and neither completed nor aborted, those after the given one, ordered by key.
	ListUploads(ctx context.Context, prefix string, after Upload, limit int) (uploads []Upload, more bool, err error)
}
