// Package refusal reads what the pushers that speak HTTP are told by an answer that is no success.
package refusal

import (
	"net/http"
	"strconv"
	"strings"
	"time"
	"unicode"
)

const (
	// maxQuote is what a message may hold of a body, bytes.
	maxQuote = 200
	// maxRetryAfter bounds what a destination may ask for.
	maxRetryAfter = 24 * time.Hour
)

// Quote is the beginning of a body in one printable line, with a colon before it; nothing for nothing.
func Quote(body string) string {
	text := strings.Map(func(r rune) rune {
		if !unicode.IsPrint(r) || r == unicode.ReplacementChar {
			return ' '
		}
		return r
	}, body)
	text = strings.Join(strings.Fields(text), " ")
	if text == "" {
		return ""
	}
	if len(text) > maxQuote {
		text = strings.ToValidUTF8(text[:maxQuote], "") + "…"
	}
	return ": " + text
}

// RetryAfter reads seconds or an HTTP date (RFC 9110, 10.2.3). What is neither is 0, and so is the past.
func RetryAfter(header string, now time.Time) time.Duration {
	header = strings.TrimSpace(header)
	if seconds, err := strconv.ParseUint(header, 10, 32); err == nil {
		return min(time.Duration(seconds)*time.Second, maxRetryAfter)
	}
	if at, err := http.ParseTime(header); err == nil {
		return min(max(at.Sub(now), 0), maxRetryAfter)
	}
	return 0
}
