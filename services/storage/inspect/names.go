package inspect

import (
	"crypto/rand"
	"encoding/hex"
	"fmt"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"golang.org/x/text/unicode/norm"

	"github.com/rivergate/rivergate/sdk/protocol"
)

const (
	maxFileName  = 255 // bytes
	maxFolder    = 512 // bytes
	maxStem      = 100 // bytes, of a unique name
	maxExtension = 16  // bytes; what is longer is part of the stem
)

// FileName returns the name that a client gives a file, in Unicode's form NFC: 1 to 255 bytes, no slash or backslash, no control
// character, not "." or "..". ErrName.
func FileName(name string) (string, error) {
	name, err := clean("file name", name, maxFileName)
	switch {
	case err != nil:
		return "", err
	case name == "." || name == "..":
		return "", fmt.Errorf("%w: file name %q means a folder", ErrName, name)
	case strings.ContainsRune(name, '/'):
		return "", fmt.Errorf("%w: file name %.80q has a slash in it; folders belong into path", ErrName, name)
	}
	return name, nil
}

// Folder returns the folder for a file, in form NFC, without slashes at its ends; empty is allowed, and a slash at the end. ErrName
// for what leaves the folder that it is in ("..", an absolute path), a backslash, a control character, more than 512 bytes.
func Folder(path string) (string, error) {
	path = strings.TrimSuffix(path, "/")
	if path == "" {
		return "", nil
	}
	return segments("path", path, maxFolder)
}

// ObjectName returns the name of an object, in form NFC: two names that look the same name one object. ErrName for what cannot
// be one, as with Folder; 1024 bytes at most.
func ObjectName(name string) (string, error) {
	name, err := segments("object name", name, protocol.MaxKey)
	if err != nil {
		return "", err
	}
	if err := protocol.CheckKey(name); err != nil {
		return "", fmt.Errorf("%w: object name: %w", ErrName, err)
	}
	return name, nil
}

func segments(what, path string, limit int) (string, error) {
	path, err := clean(what, path, limit)
	if err != nil {
		return "", err
	}
	if strings.HasPrefix(path, "/") {
		return "", fmt.Errorf("%w: %s %.80q begins with a slash; it is to be relative", ErrName, what, path)
	}
	for segment := range strings.SplitSeq(path, "/") {
		switch segment {
		case "":
			return "", fmt.Errorf("%w: %s %.80q has an empty part between slashes", ErrName, what, path)
		case ".", "..":
			return "", fmt.Errorf("%w: %s %.80q has %q in it", ErrName, what, path, segment)
		}
	}
	return path, nil
}

// clean checks what all names have in common.
func clean(what, name string, limit int) (string, error) {
	switch {
	case name == "":
		return "", fmt.Errorf("%w: %s is empty", ErrName, what)
	case len(name) > limit: // before anything that takes time
		return "", fmt.Errorf("%w: %s has %d bytes, %d are allowed", ErrName, what, len(name), limit)
	case !utf8.ValidString(name):
		return "", fmt.Errorf("%w: %s %.80q is not UTF-8", ErrName, what, name)
	}
	name = norm.NFC.String(name)
	switch {
	case len(name) > limit: // a few characters are longer in this form
		return "", fmt.Errorf("%w: %s has %d bytes in Unicode's form NFC, %d are allowed", ErrName, what, len(name), limit)
	case strings.ContainsFunc(name, unicode.IsControl):
		return "", fmt.Errorf("%w: %s %.80q has a control character in it", ErrName, what, name)
	case strings.ContainsRune(name, '\\'):
		return "", fmt.Errorf("%w: %s %.80q has a backslash in it", ErrName, what, name)
	}
	return name, nil
}

// UniqueName makes the name under which a file is stored: stem_YYYYMMDD_HHMMSS_8hex.ext, in [A-Za-z0-9._-] alone. name is one that
// FileName returned.
func UniqueName(name string, at time.Time) string {
	var random [4]byte
	rand.Read(random[:])
	stem, extension := split(name)
	return stem + "_" + at.UTC().Format("20060102_150405") + "_" + hex.EncodeToString(random[:]) + extension
}

// split returns the two ends of a unique name; the extension with its dot, or empty.
func split(name string) (stem, extension string) {
	stem = name
	if i := strings.LastIndexByte(name, '.'); i > 0 && isExtension(name[i+1:]) {
		stem, extension = name[:i], name[i:]
	}
	var b strings.Builder
	gap := false
	for _, r := range stem {
		ok := r < utf8.RuneSelf && (isAlphanumeric(byte(r)) || r == '.' || r == '_' || r == '-')
		if gap = gap || !ok; !ok {
			continue
		}
		if gap && b.Len() > 0 {
			b.WriteByte('_') // one for a run of others
		}
		gap = false
		b.WriteRune(r)
	}
	stem = strings.TrimLeft(b.String(), ".-_") // no hidden file, and nothing that a program takes for an option
	stem = strings.TrimRight(stem[:min(len(stem), maxStem)], "._-")
	if stem == "" {
		stem = "file"
	}
	return stem, extension
}

func isExtension(s string) bool {
	for i := range len(s) {
		if !isAlphanumeric(s[i]) {
			return false
		}
	}
	return s != "" && len(s) <= maxExtension
}

func isAlphanumeric(c byte) bool {
	return 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || '0' <= c && c <= '9'
}
