package files

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"hash"
	"io"
	"time"

	"github.com/rivergate/rivergate/sdk/protocol"
	"github.com/rivergate/rivergate/services/storage/ledger"
	"github.com/rivergate/rivergate/services/storage/seal"
)

// intake is one request's share of a tus upload.
type intake struct {
	s       *Service
	u       *partial
	safe    int64     // received bytes, in the database
	digest  hash.Hash // of what is in parts
	pending []byte    // from byte u.parted on
	count   int       // parts in the database
	parts   []protocol.Part
	oldTail int64 // the hold of the tail in the database
	begun   bool  // the backend's upload, and the database does not know of it
}

// receive takes in what body has, as far as the upload goes. verify is called behind the last byte and before anything of body counts;
// nil: what has come counts even when the rest does not. Returned is an error of body only when what came before it is safe.
func (s *Service) receive(ctx context.Context, u *partial, body io.Reader, verify func() error) error {
	ctx, watch := watched(ctx, idleLimit)
	defer watch.stop()
	in := &intake{s: s, u: u, safe: u.received, oldTail: u.tailHold}
	defer func() {
		if in.begun {
			s.abortBackend(context.WithoutCancel(ctx), u)
		}
	}()
	if err := in.load(ctx); err != nil {
		return err
	}
	ended, err := in.stream(ctx, &touching{body, watch}, verify == nil)
	if err != nil {
		return err
	}
	if errors.Is(ended, io.EOF) && !errors.Is(ended, io.ErrUnexpectedEOF) {
		ended = nil
	}
	if verify != nil {
		if ended == nil {
			ended = verify()
		}
		if ended != nil {
			return ended
		}
	}
	if err := in.settle(ctx); err != nil {
		return err
	}
	return ended
}

// load brings back what earlier requests have left.
func (in *intake) load(ctx context.Context) (err error) {
	u := in.u
	if in.digest, err = restored(u.hash); err != nil {
		return err
	}
	if in.count, err = in.s.store.countParts(ctx, u.id); err != nil {
		return err
	}
	if u.tail == "" {
		return nil
	}
	tail := ledger.File{Org: u.file.Org, ObjectName: u.tail, Key: u.tail, KeyID: u.tailKey, Size: u.received - u.parted}
	body, err := in.s.Open(ctx, tail, 0, tail.Size)
	if err != nil {
		return err
	}
	defer mute(body)
	in.pending = make([]byte, tail.Size, max(tail.Size, in.most()))
	_, err = io.ReadFull(body, in.pending)
	return err
}

// most is how much is pending at a time.
func (in *intake) most() int64 { return min(in.s.partFloor(in.u.size), in.u.size-in.u.parted) }

// stream makes parts of what comes, as long as there is enough for one. ended tells how body ended; nil: the upload has all its bytes.
func (in *intake) stream(ctx context.Context, body io.Reader, keep bool) (ended, err error) {
	u := in.u
	for {
		if ended == nil {
			ended = in.fill(body)
		}
		if all := u.parted+int64(len(in.pending)) >= u.size; all || int64(len(in.pending)) < in.s.partFloor(u.size) {
			return ended, nil
		}
		if ended != nil {
			body = bytes.NewReader(nil)
		}
		how, err := in.streamPart(ctx, body)
		if err != nil {
			return ended, err
		}
		if ended == nil {
			ended = how
		}
		if keep {
			if err := in.keep(ctx); err != nil {
				return ended, err
			}
		}
	}
}

// fill reads until there is enough for a part, or all of the upload.
func (in *intake) fill(body io.Reader) error {
	most := in.most()
	if int64(cap(in.pending)) < most {
		in.pending = append(make([]byte, 0, most), in.pending...)
	}
	for int64(len(in.pending)) < most {
		n, err := body.Read(in.pending[len(in.pending):most])
		in.pending = in.pending[:len(in.pending)+n]
		if err != nil {
			return err
		}
	}
	return nil
}

// streamPart makes a part of what is pending and of what follows, up to where a part may end. What is left over is pending.
func (in *intake) streamPart(ctx context.Context, body io.Reader) (ended, err error) {
	u := in.u
	if u.backend == "" {
		if err := in.s.beginBackend(ctx, u); err != nil {
			return nil, err
		}
		in.begun = true
	}
	most := max(mostPart, in.s.partFloor(u.size))
	if in.s.abilities.MaxPart > 0 { // half: sealed parts are larger
		most = min(most, alignedBelow(in.s.abilities.MaxPart/2))
	}
	source := &chunks{in: in, body: body, left: min(most, alignedBelow(u.size)-u.parted)}
	part, err := in.s.sealPart(ctx, u, in.count+len(in.parts)+1, u.parted, false, -1, source)
	if err != nil {
		return nil, err
	}
	in.parts = append(in.parts, part)
	u.parted += source.given
	return source.ended, nil
}

// chunks gives what a sealed part must have: whole chunks, of what is pending and then of the body. At the end of the body, what does
// not fill a chunk stays pending.
type chunks struct {
	in     *intake
	body   io.Reader
	buffer []byte
	left   int64 // may be given
	given  int64
	chunk  []byte // to be given now
	ended  error  // how the body ended
}

func (w *chunks) Read(p []byte) (int, error) {
	for len(w.chunk) == 0 {
		if w.left == 0 || w.ended != nil && len(w.in.pending) < seal.ChunkSize {
			return 0, io.EOF
		}
		w.next()
	}
	n := copy(p, w.chunk)
	w.chunk = w.chunk[n:]
	return n, nil
}

// next takes whole chunks off what is pending, and reads more when there is less than one.
func (w *chunks) next() {
	in := w.in
	if len(in.pending) >= seal.ChunkSize {
		n := min(w.left, int64(len(in.pending)/seal.ChunkSize*seal.ChunkSize))
		w.chunk, in.pending = in.pending[:n], in.pending[n:]
		in.digest.Write(w.chunk)
		w.left, w.given = w.left-n, w.given+n
		return
	}
	if w.buffer == nil {
		w.buffer = make([]byte, bodyBuffer)
	}
	n := copy(w.buffer, in.pending) // the chunk that was given last is used up: its memory is free again
	for most := int(min(int64(len(w.buffer)), w.left)); n < most && w.ended == nil; {
		var k int
		k, w.ended = w.body.Read(w.buffer[n:most])
		n += k
	}
	in.pending = w.buffer[:n]
}

// settle makes safe what is pending: as the last part and the end of the upload, or as its tail.
func (in *intake) settle(ctx context.Context) error {
	u := in.u
	switch {
	case u.parted+int64(len(in.pending)) == u.size:
		if err := in.last(ctx); err != nil {
			return err
		}
	case u.parted+int64(len(in.pending)) == u.received && in.parts == nil:
		return nil // nothing came
	case len(in.pending) > 0:
		return in.putTail(ctx)
	}
	return in.keep(ctx)
}

// last stores the end of the upload, or all of a small one.
func (in *intake) last(ctx context.Context) error {
	u := in.u
	size := int64(len(in.pending))
	body := bytes.NewReader(in.pending)
	if u.backend == "" {
		var sealed io.Reader = body
		var err error
		if u.file.KeyID != "" {
			if sealed, err = in.s.keys.SealPart(ctx, u.file.Org, u.file.KeyID, 0, true, body); err != nil {
				return err
			}
		}
		if _, err = in.s.objects.Put(ctx, in.s.putOf(u), sealed); err != nil {
			return backend("put an object", err)
		}
	} else {
		part, err := in.s.sealPart(ctx, u, in.count+len(in.parts)+1, u.parted, true, size, body)
		if err != nil {
			return err
		}
		in.parts = append(in.parts, part)
	}
	in.digest.Write(in.pending)
	u.parted, in.pending = u.size, nil
	return nil
}

// putTail keeps what is pending as an object of its own. Its hold clears it away when the upload is forgotten.
func (in *intake) putTail(ctx context.Context) error {
	u, s := in.u, in.s
	var random [8]byte
	_, _ = rand.Read(random[:])
	hold, err := s.ledger.Reserve(ctx, ledger.Reservation{
		Org: u.file.Org, ObjectName: orgFolder(u.file.Org) + "uploads/" + u.id + "/" + hex.EncodeToString(random[:]), Kind: ledger.KindInternal,
		Free: true, Fresh: true, Lease: s.leaseOf(),
	})
	if err != nil {
		return err
	}
	size := int64(len(in.pending))
	var sealed io.Reader = bytes.NewReader(in.pending)
	keyID := ""
	if s.keys != nil {
		if sealed, keyID, err = s.keys.Seal(ctx, u.file.Org, sealed); err != nil {
			s.undo(hold, false)
			return err
		}
		size = seal.StoredSize(size)
	}
	if _, err = s.objects.Put(ctx, protocol.Put{Key: hold.Key(), Size: size, OnlyNew: true}, sealed); err != nil {
		s.undo(hold, true)
		return backend("put the tail of an upload", err)
	}
	u.tail, u.tailKey, u.tailHold = hold.Key(), keyID, hold.ID()
	if err := in.keep(ctx); err != nil {
		s.undo(hold, true)
		return err
	}
	return nil
}

// keep notes what is safe: what is in parts, and in the tail.
func (in *intake) keep(ctx context.Context) (err error) {
	u, s := in.u, in.s
	u.received = u.parted
	if u.tailHold != in.oldTail {
		u.received += int64(len(in.pending))
	} else {
		u.tail, u.tailKey, u.tailHold = "", "", 0
	}
	if u.hash, err = stateOf(in.digest); err != nil {
		return err
	}
	u.expires = s.now().Add(s.uploadTTL).UTC().Truncate(time.Second)
	hold, err := s.ledger.Hold(ctx, u.file.Org, u.hold)
	if err != nil {
		return err
	}
	if err := hold.Keep(ctx, s.leaseOf()); err != nil {
		return err
	}
	if err := s.store.advance(ctx, u, in.safe, in.parts); err != nil {
		return err
	}
	in.safe, in.count, in.parts, in.begun = u.received, in.count+len(in.parts), nil, false
	s.dropTail(ctx, u.file.Org, in.oldTail)
	in.oldTail = u.tailHold
	return nil
}

// dropTail clears a tail away; what does not work now is done when its lease has ended.
func (s *Service) dropTail(ctx context.Context, org uint64, tail int64) {
	if tail == 0 {
		return
	}
	hold, err := s.ledger.Hold(ctx, org, tail)
	if err == nil {
		s.undo(hold, true)
	} else if !errors.Is(err, ledger.ErrHoldLost) {
		s.log.Warn("the tail of an upload is left to the sweeper", "error", err)
	}
}

// touching says that something moves.
type touching struct {
	io.Reader
	watch *watch
}

func (t *touching) Read(p []byte) (int, error) {
	n, err := t.Reader.Read(p)
	t.watch.touch()
	return n, err
}
