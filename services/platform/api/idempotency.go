package api

import (
	"bytes"
	"cmp"
	"crypto/sha256"
	"encoding/binary"
	"slices"
	"sync"
	"time"

	"github.com/gofiber/fiber/v2"
)

// HeaderIdempotencyKey lets a client repeat a POST.
const HeaderIdempotencyKey = "Idempotency-Key"

const (
	maxIdempotencyKey = 255
	maxKeptAnswers    = 4096
	maxKeptBody       = 1 << 20
)

// IdempotencyKey returns the client's key as a digest of org, route and key; ok is false when the client sent none. Error: 400
// unless it is 1 to 255 printable ASCII characters.
func IdempotencyKey(c *fiber.Ctx, org uint64, route string) (digest [16]byte, ok bool, err error) {
	key := c.Request().Header.Peek(HeaderIdempotencyKey)
	if key == nil {
		return digest, false, nil
	}
	if len(key) == 0 || len(key) > maxIdempotencyKey {
		return digest, false, BadRequest(HeaderIdempotencyKey, "%s must have 1 to %d characters", HeaderIdempotencyKey, maxIdempotencyKey)
	}
	if bytes.ContainsFunc(key, func(r rune) bool { return r < ' ' || r > '~' }) {
		return digest, false, BadRequest(HeaderIdempotencyKey, "%s must be printable ASCII", HeaderIdempotencyKey)
	}
	h := sha256.New()
	var n [8]byte
	binary.BigEndian.PutUint64(n[:], org)
	h.Write(n[:])
	h.Write([]byte(route))
	h.Write([]byte{0})
	h.Write(key)
	copy(digest[:], h.Sum(nil))
	return digest, true, nil
}

// Digest tells bodies apart.
func Digest(parts ...[]byte) (d [16]byte) {
	h := sha256.New()
	for _, p := range parts {
		var n [8]byte
		binary.BigEndian.PutUint64(n[:], uint64(len(p)))
		h.Write(n[:])
		h.Write(p)
	}
	copy(d[:], h.Sum(nil))
	return d
}

// ErrStillRunning answers a request whose key belongs to one that is not done.
func ErrStillRunning() *Error {
	return Conflict("A request with this %s is still running", HeaderIdempotencyKey)
}

// ErrOtherBody answers a request whose key was used for another body.
func ErrOtherBody() *Error {
	return Unprocessable(HeaderIdempotencyKey, "This %s was used for another request", HeaderIdempotencyKey)
}

// Answers keeps the successful answers of POST requests that carried an idempotency key. It is in memory and bounded: enough
// for a client's retries, gone after a restart. (Accepted rows have a durable form of this in the journal.) A request that
// failed did nothing, so its repetition is a new request.
type Answers struct {
	ttl time.Duration

	mu    sync.Mutex
	kept  map[[16]byte]*keptAnswer
	order [][16]byte // oldest first
}

type keptAnswer struct {
	body        [16]byte // digest of the request
	done        bool
	at          time.Time
	status      int
	contentType string
	answer      []byte
}

func (k *keptAnswer) send(c *fiber.Ctx) {
	c.Response().SetStatusCode(k.status)
	c.Response().Header.SetContentType(k.contentType)
	c.Response().SetBody(k.answer)
}

// NewAnswers keeps answers for ttl.
func NewAnswers(ttl time.Duration) *Answers {
	return &Answers{ttl: ttl, kept: map[[16]byte]*keptAnswer{}}
}

// Keep puts the promise of Idempotency-Key around a handler. A request with a key may have a body of limit bytes; 0: 1 MiB.
func (a *Answers) Keep(route string, limit int64, next fiber.Handler) fiber.Handler {
	return func(c *fiber.Ctx) error {
		key, ok, err := IdempotencyKey(c, CallerOf(c).OrgID, route)
		if err != nil {
			return err
		}
		if !ok {
			return next(c)
		}
		sent, err := ReadBody(c, cmp.Or(limit, maxKeptBody))
		if err != nil {
			return err
		}
		body := Digest([]byte(c.Path()), c.Context().QueryArgs().QueryString(), sent)
		first, err := a.begin(key, body)
		if err != nil {
			return err
		}
		if first != nil {
			first.send(c)
			return nil
		}
		kept := false
		defer func() {
			if !kept {
				a.forget(key)
			}
		}()
		if err := next(c); err != nil {
			return err
		}
		if status := c.Response().StatusCode(); status < 300 && !c.Response().IsBodyStream() {
			a.finish(key, status, string(c.Response().Header.ContentType()), bytes.Clone(c.Response().Body()))
			kept = true
		}
		return nil
	}
}

// Promise is an Idempotency-Key of a request whose body is a stream: what body it was is known only when all of it was read.
type Promise struct {
	first  *keptAnswer // of an earlier request with the key; nil: this is the first
	digest [16]byte
	set    bool
}

type promiseKey struct{}

// PromiseOf returns the promise of this request; nil: the client sent no key.
func PromiseOf(c *fiber.Ctx) *Promise {
	p, _ := c.Context().UserValue(promiseKey{}).(*Promise)
	return p
}

// Repeats: there was a request with the key before. The handler reads the body and calls Repeat.
func (p *Promise) Repeats() bool { return p != nil && p.first != nil }

// Is says what the body was of a request that has succeeded.
func (p *Promise) Is(digest [16]byte) {
	if p != nil {
		p.digest, p.set = digest, true
	}
}

// Repeat gives the first answer again, when the body is the first one's: else 422.
func (p *Promise) Repeat(c *fiber.Ctx, digest [16]byte) error {
	if p.first.body != digest {
		return ErrOtherBody()
	}
	p.first.send(c)
	return nil
}

// KeepStream is Keep for a handler that reads its body as a stream: see PromiseOf.
func (a *Answers) KeepStream(route string, next fiber.Handler) fiber.Handler {
	return func(c *fiber.Ctx) error {
		key, ok, err := IdempotencyKey(c, CallerOf(c).OrgID, route)
		if err != nil {
			return err
		}
		if !ok {
			return next(c)
		}
		p := &Promise{}
		if p.first, err = a.claim(key); err != nil {
			return err
		}
		c.Context().SetUserValue(promiseKey{}, p)
		if p.first != nil {
			return next(c)
		}
		kept := false
		defer func() {
			if !kept {
				a.forget(key)
			}
		}()
		if err := next(c); err != nil {
			return err
		}
		if status := c.Response().StatusCode(); status < 300 && p.set {
			a.setBody(key, p.digest)
			a.finish(key, status, string(c.Response().Header.ContentType()), bytes.Clone(c.Response().Body()))
			kept = true
		}
		return nil
	}
}

// claim begins a request whose body is not known yet.
func (a *Answers) claim(key [16]byte) (*keptAnswer, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.dropOld()
	first := a.kept[key]
	if first != nil && !first.done {
		return nil, ErrStillRunning()
	}
	if first == nil {
		a.kept[key] = &keptAnswer{at: time.Now()}
		a.order = append(a.order, key)
	}
	return first, nil
}

func (a *Answers) setBody(key, body [16]byte) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if kept := a.kept[key]; kept != nil {
		kept.body = body
	}
}

func (a *Answers) begin(key, body [16]byte) (*keptAnswer, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.dropOld()
	first := a.kept[key]
	switch {
	case first == nil:
		a.kept[key] = &keptAnswer{body: body, at: time.Now()}
		a.order = append(a.order, key)
		return nil, nil
	case first.body != body:
		return nil, ErrOtherBody()
	case !first.done:
		return nil, ErrStillRunning()
	}
	return first, nil
}

// dropOld lets go of answers that are too old or too many, never of a running request.
func (a *Answers) dropOld() {
	for len(a.order) > 0 {
		key := a.order[0]
		kept := a.kept[key]
		tooMany := len(a.kept) >= maxKeptAnswers
		if !kept.done || !tooMany && time.Since(kept.at) < a.ttl {
			return
		}
		delete(a.kept, key)
		a.order = a.order[1:]
	}
}

func (a *Answers) finish(key [16]byte, status int, contentType string, answer []byte) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if kept := a.kept[key]; kept != nil {
		kept.done, kept.status, kept.contentType, kept.answer = true, status, contentType, answer
	}
}

func (a *Answers) forget(key [16]byte) {
	a.mu.Lock()
	defer a.mu.Unlock()
	delete(a.kept, key)
	for i := len(a.order) - 1; i >= 0; i-- {
		if a.order[i] == key {
			a.order = slices.Delete(a.order, i, i+1)
			return
		}
	}
}
