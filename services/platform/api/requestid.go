package api

import (
	"crypto/rand"
	"encoding/binary"
	"encoding/hex"
	"sync/atomic"
)

// HeaderRequestID carries the request id, in and out.
const HeaderRequestID = "X-Request-ID"

const maxRequestID = 128

// RequestIDs makes request ids: random for the process, counted within it. No system call per request.
type RequestIDs struct {
	prefix [13]byte // "req-", 8 hex digits, "-"
	next   atomic.Uint32
}

// NewRequestIDs starts a new sequence.
func NewRequestIDs() *RequestIDs {
	var random [8]byte
	_, _ = rand.Read(random[:]) // never fails, says crypto/rand
	ids := &RequestIDs{}
	copy(ids.prefix[:], "req-")
	hex.Encode(ids.prefix[4:12], random[:4])
	ids.prefix[12] = '-'
	ids.next.Store(binary.BigEndian.Uint32(random[4:]) >> 8)
	return ids
}

// Next returns a new id.
func (ids *RequestIDs) Next() string {
	var count [4]byte
	binary.BigEndian.PutUint32(count[:], ids.next.Add(1))
	var id [len(ids.prefix) + 8]byte
	copy(id[:], ids.prefix[:])
	hex.Encode(id[len(ids.prefix):], count[:])
	return string(id[:])
}

// Take returns the client's id when it can be shown in headers and logs as it is, else a new one.
func (ids *RequestIDs) Take(sent []byte) string {
	if len(sent) == 0 || len(sent) > maxRequestID {
		return ids.Next()
	}
	for _, c := range sent {
		switch {
		case c >= 'a' && c <= 'z', c >= 'A' && c <= 'Z', c >= '0' && c <= '9':
		case c == '-', c == '_', c == '.', c == ':', c == '/', c == '+', c == '=', c == '@', c == ',', c == '~', c == '|':
		default:
			return ids.Next()
		}
	}
	return string(sent)
}
