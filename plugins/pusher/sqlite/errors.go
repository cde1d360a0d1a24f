package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"strings"
	"time"

	"modernc.org/sqlite"
	sqlite3 "modernc.org/sqlite/lib"

	"github.com/rivergate/rivergate/sdk"
)

// maxMessage bounds what SQLite's words may take of an outcome, bytes.
const maxMessage = 500

// resultCode is SQLite's primary result code, 0 for any other error.
func resultCode(err error) int {
	var answer *sqlite.Error
	if errors.As(err, &answer) {
		return answer.Code() & 0xff
	}
	return 0
}

// names are those of https://sqlite.org/rescode.html.
var names = map[int]string{
	sqlite3.SQLITE_ERROR: "SQLITE_ERROR", sqlite3.SQLITE_PERM: "SQLITE_PERM", sqlite3.SQLITE_BUSY: "SQLITE_BUSY", sqlite3.SQLITE_LOCKED: "SQLITE_LOCKED",
	sqlite3.SQLITE_READONLY: "SQLITE_READONLY", sqlite3.SQLITE_IOERR: "SQLITE_IOERR", sqlite3.SQLITE_CORRUPT: "SQLITE_CORRUPT", sqlite3.SQLITE_FULL: "SQLITE_FULL",
	sqlite3.SQLITE_CANTOPEN: "SQLITE_CANTOPEN", sqlite3.SQLITE_TOOBIG: "SQLITE_TOOBIG", sqlite3.SQLITE_CONSTRAINT: "SQLITE_CONSTRAINT",
	sqlite3.SQLITE_MISMATCH: "SQLITE_MISMATCH", sqlite3.SQLITE_NOTADB: "SQLITE_NOTADB", sqlite3.SQLITE_INTERRUPT: "SQLITE_INTERRUPT",
}

func code(err error) string {
	if name := names[resultCode(err)]; name != "" {
		return name
	}
	return fmt.Sprintf("SQLITE_%d", resultCode(err))
}

// isRowError tells whether err is the fault of a row.
func isRowError(err error) bool {
	switch resultCode(err) {
	case sqlite3.SQLITE_CONSTRAINT, sqlite3.SQLITE_MISMATCH, sqlite3.SQLITE_TOOBIG:
		return true
	}
	return false
}

// destinationError says what to do about a file that takes nothing. Everything is tried again.
func (s *SQLite) destinationError(err error) error {
	say := func(after time.Duration, code, what string) error {
		return sdk.RetryIn(after, code, fmt.Errorf("%s: %s: %s", s.Path, what, words(err)))
	}
	switch resultCode(err) {
	case 0:
		switch {
		case errors.Is(err, fs.ErrPermission):
			return say(5*time.Second, "permission", "the folder cannot be made (PATH)")
		case errors.Is(err, context.DeadlineExceeded):
			return say(0, "timeout", "the disk is slow")
		}
		return say(0, "error", "cannot be used")
	case sqlite3.SQLITE_FULL:
		return say(0, code(err), "the disk, or the database up to its max_page_count, is full")
	case sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED:
		return say(0, code(err), "another process holds it locked")
	case sqlite3.SQLITE_READONLY, sqlite3.SQLITE_PERM, sqlite3.SQLITE_CANTOPEN:
		return say(5*time.Second, code(err), "the host's user may not write file or folder (PATH)")
	case sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB:
		return say(5*time.Second, code(err), "is damaged or no SQLite database; mend it, or set another PATH")
	case sqlite3.SQLITE_ERROR:
		return say(5*time.Second, code(err), "is not set up for these rows (TABLE, COLUMNS, CREATE_TABLE)")
	}
	return say(0, code(err), "takes no rows")
}

// words is what SQLite said, in one line of bounded length.
func words(err error) string {
	text := strings.ToValidUTF8(strings.Join(strings.Fields(err.Error()), " "), "�")
	if len(text) > maxMessage {
		text = strings.ToValidUTF8(text[:maxMessage], "") + "…"
	}
	return text
}
