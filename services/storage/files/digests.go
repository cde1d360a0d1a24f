package files

import (
	"crypto/md5" //nolint:gosec // Content-MD5 tells errors of transfer, nothing else
	"crypto/sha256"
	"encoding/hex"
	"hash"
	"time"
)

// digests computes what is needed of the bytes that pass. Hashing takes as long as all that is done with them otherwise. Where that is what
// a large file waits for, it is done beside, on a copy; where the client or the backend is waited for, it is done between, which takes
// less of the processors. Whoever made it calls settle in the end.
type digests struct {
	sha256 hash.Hash
	md5    hash.Hash // nil: nobody asked
	now    func() time.Time

	window    int           // bytes since it was decided
	left      time.Time     // when the last write returned
	elsewhere time.Duration // since it was decided, outside of write
	hashing   time.Duration // and of hashing between
	takes     time.Duration // the least that hashing a window took; 0: not known

	block   []byte        // copied, not yet given to the goroutine
	blocks  chan []byte   // to the goroutine
	spare   chan []byte   // back from it
	settled chan struct{} // it has ended; nil: there is none
}

const (
	hashWindow = 8 << 20 // bytes; those of the first one are hashed between
	hashBlock  = 128 << 10
	hashBlocks = 6
	// leisure is how many times as long as hashing all else must take for it to be done between: twice to three times are sealing and
	// sending alone, when nobody is waited for.
	leisure = 3.5
)

func newDigests(sums []announced) *digests {
	d := &digests{sha256: sha256.New(), now: time.Now}
	for _, a := range sums {
		if a.md5 {
			d.md5 = md5.New() //nolint:gosec // see above
		}
	}
	return d
}

// write takes the next bytes. They may be changed afterwards.
func (d *digests) write(p []byte) {
	begun := d.now()
	if !d.left.IsZero() {
		d.elsewhere += begun.Sub(d.left)
	}
	for len(p) > 0 {
		k := min(len(p), hashWindow-d.window)
		if d.settled == nil {
			d.hash(p[:k])
			d.hashing += d.now().Sub(begun)
		} else {
			d.giveAway(p[:k])
		}
		p = p[k:]
		if d.window += k; d.window == hashWindow {
			d.decide()
		}
		begun = d.now()
	}
	d.left = begun
}

// decide is where the next window is hashed.
func (d *digests) decide() {
	between := d.settled == nil
	if between && (d.takes == 0 || d.hashing < d.takes) {
		d.takes = max(d.hashing, 1)
	}
	switch wanted := float64(d.elsewhere) > leisure*float64(d.takes); {
	case wanted && !between:
		d.settle()
	case !wanted && between:
		d.begin()
	}
	d.window, d.elsewhere, d.hashing = 0, 0, 0
}

func (d *digests) giveAway(p []byte) {
	for len(p) > 0 {
		k := copy(d.block[len(d.block):cap(d.block)], p)
		d.block, p = d.block[:len(d.block)+k], p[k:]
		if len(d.block) == cap(d.block) {
			d.blocks <- d.block
			d.block = (<-d.spare)[:0]
		}
	}
}

// begin starts the goroutine, which settle ends.
func (d *digests) begin() {
	if d.spare == nil {
		d.spare = make(chan []byte, hashBlocks)
		for range hashBlocks - 1 {
			d.spare <- make([]byte, 0, hashBlock)
		}
		d.block = make([]byte, 0, hashBlock)
	}
	d.blocks, d.settled = make(chan []byte, hashBlocks), make(chan struct{})
	go func() {
		defer close(d.settled)
		for block := range d.blocks {
			d.hash(block)
			d.spare <- block
		}
	}()
}

// settle hashes what is left and ends the goroutine, if there is one.
func (d *digests) settle() {
	if d.settled == nil {
		return
	}
	close(d.blocks)
	<-d.settled
	d.hash(d.block)
	d.block, d.settled = d.block[:0], nil
}

func (d *digests) hash(p []byte) {
	d.sha256.Write(p)
	if d.md5 != nil {
		d.md5.Write(p)
	}
}

func (d *digests) hex() string {
	d.settle()
	return hex.EncodeToString(d.sha256.Sum(nil))
}
