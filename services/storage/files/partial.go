package files

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"io"
	"net/http"
	"time"

	"github.com/rivergate/rivergate/sdk/protocol"
	"github.com/rivergate/rivergate/services/platform/api"
	"github.com/rivergate/rivergate/services/platform/database"
	"github.com/rivergate/rivergate/services/storage/ledger"
	"github.com/rivergate/rivergate/services/storage/seal"
)

// An upload that outlives a request becomes parts of one upload in parts at the backend, sealed as they come. All of its bytes are
// reserved when it begins. What is too little for a part waits as an object of its own, the tail.

const (
	maxPartsOfUpload = 9000 // backends take 10,000
	usualPart        = 8 << 20
	leastPart        = 1 << 20          // of a stream that is cut into parts as it comes
	mostPart         = 64 << 20         // what a kill of the host costs a stream, at most
	finishLimit      = 30 * time.Minute // for making one object of the parts, and reading it again
)

// aligned is n, or the next number above it at which a sealed part may end.
func aligned(n int64) int64 { return (n + seal.ChunkSize - 1) / seal.ChunkSize * seal.ChunkSize }

// alignedBelow is the last such number below n.
func alignedBelow(n int64) int64 { return (n - 1) / seal.ChunkSize * seal.ChunkSize }

// partFloor is the least that becomes a part.
func (s *Service) partFloor(size int64) int64 {
	return aligned(max(leastPart, s.abilities.MinPart, size/maxPartsOfUpload))
}

// begin reserves all of an upload and notes it.
func (s *Service) begin(ctx context.Context, u *partial) error {
	if u.size > s.maxFile {
		return errFileTooLarge(s.maxFile)
	}
	hold, err := s.ledger.Reserve(ctx, ledger.Reservation{
		Org: u.file.Org, ObjectName: u.file.ObjectName, Kind: u.file.Kind, Bytes: u.size, Fresh: true, Lease: s.leaseOf(),
	})
	if err != nil {
		return err
	}
	var id [16]byte
	_, _ = rand.Read(id[:])
	u.id, u.hold, u.file.Key = hex.EncodeToString(id[:]), hold.ID(), hold.Key()
	u.expires = s.now().Add(s.uploadTTL).UTC().Truncate(time.Second)
	u.hash, err = stateOf(sha256.New())
	if err == nil && s.keys != nil {
		u.file.KeyID, err = s.keys.NewID(ctx, u.file.Org)
	}
	if err == nil && u.kind == kindParts {
		err = s.beginBackend(ctx, u)
	}
	if err == nil {
		err = s.store.add(ctx, u)
	}
	if err != nil {
		s.abortBackend(ctx, u)
		s.undo(hold, false)
	}
	return err
}

// leaseOf is longer than the upload lives: its own expiry ends it, with all that belongs to it.
func (s *Service) leaseOf() time.Duration { return s.uploadTTL + 2*sweepLimit }

func (s *Service) beginBackend(ctx context.Context, u *partial) (err error) {
	u.backend, err = s.objects.BeginUpload(ctx, s.putOf(u))
	return backend("begin an upload", err)
}

func (s *Service) putOf(u *partial) protocol.Put {
	put := protocol.Put{Key: u.file.Key, Size: u.size, ContentType: u.file.ContentType}
	if u.file.KeyID != "" {
		put.Size = seal.StoredSize(u.size)
	}
	return put
}

func (s *Service) abortBackend(ctx context.Context, u *partial) {
	if u.backend == "" {
		return
	}
	if err := s.objects.AbortUpload(ctx, u.file.Key, u.backend); err != nil {
		s.log.Warn("an upload in parts is left to the sweeper", "key", u.file.Key, "error", err)
	}
}

// sealPart puts a part; size is that of its plaintext, -1: not known.
func (s *Service) sealPart(ctx context.Context, u *partial, number int, from int64, last bool, size int64, body io.Reader) (protocol.Part, error) {
	if u.file.KeyID != "" {
		if size >= 0 {
			size = seal.StoredPart(from, size, last)
		}
		var err error
		if body, err = s.keys.SealPart(ctx, u.file.Org, u.file.KeyID, from, last, body); err != nil {
			return protocol.Part{}, err
		}
	}
	part, err := s.objects.PutPart(ctx, u.file.Key, u.backend, number, size, body)
	return part, backend("put a part", err)
}

// finish makes the file of an upload whose bytes are all there. It may be called again after it was cut off anywhere. Bytes that are
// refused for what they are stay refused: the upload is forgotten.
func (s *Service) finish(ctx context.Context, u *partial) (ledger.File, error) {
	file, err := s.makeFile(ctx, u)
	var refused *api.Error
	if errors.As(answerTo(err), &refused) && refused.Status < http.StatusInternalServerError {
		if _, failed := s.forget(ctx, u, forEver); failed != nil {
			s.log.Warn("a refused upload is left to the sweeper", "upload", u.id, "error", failed)
		}
	}
	return file, err
}

func (s *Service) makeFile(ctx context.Context, u *partial) (ledger.File, error) {
	ctx, cancel := context.WithTimeout(ctx, finishLimit)
	defer cancel()
	if u.fileID != 0 {
		return s.ledger.ByID(ctx, u.file.Org, u.fileID)
	}
	object, err := s.assemble(ctx, u)
	if err != nil {
		return ledger.File{}, err
	}
	file := u.file
	file.Size, file.StoredSize, file.Tier = u.size, object.Size, protocol.TierHot
	if err := s.describe(ctx, u, &file); err != nil {
		return ledger.File{}, err
	}
	hold, err := s.ledger.Hold(ctx, u.file.Org, u.hold)
	if err == nil {
		file, _, err = hold.Commit(ctx, file, ledger.Create)
	}
	if errors.Is(err, ledger.ErrHoldLost) || errors.Is(err, ledger.ErrExists) || errors.Is(err, database.ErrUnknown) {
		// Committed by a request that was cut off behind it, or nobody told.
		there, failed := s.ledger.Find(ctx, u.file.Org, u.file.ObjectName)
		if failed == nil && there.Key == u.file.Key {
			file, err = there, nil
		}
	}
	if err != nil {
		return ledger.File{}, err
	}
	u.fileID = file.ID
	u.expires = s.now().Add(s.uploadTTL).UTC().Truncate(time.Second)
	return file, s.store.completed(ctx, u.id, file.ID, u.expires)
}

// assemble makes one object of the parts.
func (s *Service) assemble(ctx context.Context, u *partial) (protocol.Object, error) {
	if u.backend != "" {
		parts, err := s.store.parts(ctx, u.id)
		if err != nil {
			return protocol.Object{}, err
		}
		object, err := s.objects.CompleteUpload(ctx, s.putOf(u), u.backend, parts)
		if !errors.Is(err, protocol.ErrNotFound) {
			return object, backend("complete an upload", err)
		}
	}
	// Without parts the object is there; with them, it was made by a request that was cut off behind it.
	object, err := s.objects.Stat(ctx, u.file.Key)
	return object, backend("find an object that was uploaded in parts", err)
}

// describe finds the hash, and what the inspection says. Parts that came in any order, or past this host, are read again; of a tus
// upload, whose hash is known, only what the inspection needs.
func (s *Service) describe(ctx context.Context, u *partial, file *ledger.File) error {
	if u.kind == kindTus {
		digest, err := restored(u.hash)
		if err != nil {
			return err
		}
		file.SHA256 = hex.EncodeToString(digest.Sum(nil))
	}
	ctx, watch := watched(ctx, idleLimit)
	defer watch.stop()
	in := &Incoming{File: *file, Size: -1}
	if u.kind == kindParts {
		in.Size = u.size
	}
	if u.sha256 != "" {
		sum, err := hex.DecodeString(u.sha256)
		if err != nil {
			return err
		}
		in.Sums = []announced{{field: "sha256", sum: sum}}
	}
	var body io.ReadCloser = nothing{}
	if u.size > 0 && (u.kind == kindParts || s.rules != nil) {
		var err error
		if body, err = s.Open(ctx, *file, 0, -1); err != nil {
			return err
		}
	}
	defer mute(body)
	m := s.newMeter(ctx, in, body, watch)
	defer m.digests.settle()
	buffer := make([]byte, bodyBuffer)
	for !m.ended {
		if _, err := m.Read(buffer); err != nil && !m.ended {
			return err
		}
		if u.kind == kindTus && !m.ended && (m.inspection == nil || m.inspection.Settled()) {
			m.from = nothing{}
		}
	}
	if file.SHA256 == "" {
		file.SHA256 = m.digests.hex()
	}
	m.describe(file)
	return nil
}

// forget removes an upload that is over, with all that belongs to it, unless another request has renewed it.
func (s *Service) forget(ctx context.Context, u *partial, notAfter time.Time) (bool, error) {
	removed, err := s.store.remove(ctx, u.id, notAfter)
	if err != nil || !removed || u.fileID != 0 {
		return removed, err
	}
	s.abortBackend(ctx, u)
	s.dropTail(ctx, u.file.Org, u.tailHold)
	hold, err := s.ledger.Hold(ctx, u.file.Org, u.hold)
	if errors.Is(err, ledger.ErrHoldLost) {
		return true, nil
	}
	if err == nil {
		s.undo(hold, true)
	}
	return true, err
}

// sweepUploads forgets uploads whose time is over, and aborts those of the backend that are nobody's.
func (s *Service) sweepUploads(ctx context.Context) (cleared int, err error) {
	now := s.now()
	list, err := s.store.expired(ctx, now, sweepBatch)
	for _, u := range list {
		removed, failed := s.forget(ctx, u, now)
		if removed {
			cleared++
		}
		err = errors.Join(err, failed)
	}
	if err != nil || len(list) == sweepBatch || !s.abilities.Multipart {
		return cleared, err
	}
	return cleared, s.sweepBackend(ctx)
}

func (s *Service) sweepBackend(ctx context.Context) error {
	var after protocol.Upload
	for more := true; more; {
		var list []protocol.Upload
		var err error
		if list, more, err = s.objects.ListUploads(ctx, "organizations/", after, sweepBatch); err != nil {
			return backend("list uploads", err)
		}
		for _, u := range list {
			after = u
			if s.now().Sub(u.Begun) < 2*s.uploadTTL {
				continue
			}
			ours, err := s.store.has(ctx, u.Key, u.ID)
			if err == nil && !ours {
				err = backend("abort an upload", s.objects.AbortUpload(ctx, u.Key, u.ID))
			}
			if err != nil {
				return err
			}
		}
		more = more && len(list) > 0
	}
	return nil
}

func stateOf(digest hash.Hash) ([]byte, error) {
	return digest.(encoding.BinaryMarshaler).MarshalBinary()
}

func restored(state []byte) (hash.Hash, error) {
	digest := sha256.New()
	if err := digest.(encoding.BinaryUnmarshaler).UnmarshalBinary(state); err != nil {
		return nil, fmt.Errorf("the hash of an upload: %w", err)
	}
	return digest, nil
}
