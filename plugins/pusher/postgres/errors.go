package main

import (
	"context"
	"errors"
	"fmt"
	"regexp"
	"strconv"
	"strings"
	"time"

	"github.com/jackc/pgx/v5/pgconn"

	"github.com/rivergate/rivergate/sdk"
)

// maxMessage bounds what the server's words may take of an outcome, bytes.
const maxMessage = 500

// SQLSTATEs that are about the table and not about a row, although their class says otherwise.
const (
	badCopy     = "22P04" // bad_copy_file_format
	wrongBinary = "22P03" // invalid_binary_representation
	shortBinary = "08P01" // protocol_violation: a value of another length than its type's
)

// sqlState is the code of a server's error, "" for any other.
func sqlState(err error) string {
	var pg *pgconn.PgError
	if errors.As(err, &pg) {
		return pg.Code
	}
	return ""
}

func isUniqueViolation(err error) bool { return sqlState(err) == "23505" }

// createdMeanwhile: two sessions ran CREATE TABLE IF NOT EXISTS at once, and the other one was first.
func createdMeanwhile(err error) bool {
	code := sqlState(err)
	return code == "42P07" || code == "23505"
}

// rowError tells whether err is the fault of a row, and the line of the COPY text that the server was at; 0 when it does
// not say. The classes are those of appendix A of the PostgreSQL manual: 22 data exception, 23 integrity constraint, 44 view
// check, 54 program limit, P0 raised by a trigger.
func rowError(err error, table string) (guilty bool, line int) {
	var pg *pgconn.PgError
	if !errors.As(err, &pg) || len(pg.Code) != 5 || pg.Code == badCopy || pg.Code == wrongBinary { // the columns do not fit
		return false, 0
	}
	switch pg.Code[:2] {
	case "22", "23", "44", "54", "P0":
	default:
		return false, 0
	}
	where := regexp.MustCompile(`(?m)^COPY (?:` + regexp.QuoteMeta(table) + `|` + stagingTable + `), line ([0-9]+)`)
	if found := where.FindStringSubmatch(pg.Where); found != nil {
		line, _ = strconv.Atoi(found[1])
	}
	return true, line
}

// rejection says why a row was refused, in the server's words.
func rejection(err error) error {
	switch sqlState(err) {
	case "22P05", "22021":
		return fmt.Errorf("%s; PostgreSQL stores no \\u0000 in jsonb or text: JSON=json or JSON=text keeps the row as it is", words(err))
	}
	return errors.New(words(err))
}

// destinationError gives a failure that is not a row's own its class: credentials hold the destination, everything else
// is tried again. A table that is missing or does not fit is of that sort too: it would refuse every row there is.
func destinationError(err error) error {
	code := sqlState(err)
	switch {
	case strings.HasPrefix(code, "28"), code == "08P01" && strings.Contains(err.Error(), "authentication failed"): // the latter is PgBouncer's
		return sdk.BadCredentials(code, errors.New(words(err)))
	case strings.HasPrefix(code, "42"), code == "3D000", code == "3F000", code == badCopy, code == wrongBinary, strings.HasPrefix(code, "0A"):
		return sdk.RetryIn(5*time.Second, code, fmt.Errorf("the destination is not set up for these rows (TABLE, COLUMNS, CREATE_TABLE, grants): %s", words(err)))
	case code != "":
		return sdk.RetryIn(0, code, errors.New(words(err)))
	case errors.Is(err, context.DeadlineExceeded), pgconn.Timeout(err):
		return sdk.RetryIn(0, "timeout", err)
	}
	return sdk.RetryIn(0, "connection", err)
}

// words is what the server said, in one line of bounded length.
func words(err error) string {
	var pg *pgconn.PgError
	if !errors.As(err, &pg) {
		return err.Error()
	}
	text := pg.Message
	if pg.Detail != "" {
		text += ": " + pg.Detail
	}
	if pg.ConstraintName != "" && !strings.Contains(text, pg.ConstraintName) {
		text += " (constraint " + pg.ConstraintName + ")"
	}
	text = strings.ToValidUTF8(strings.Join(strings.Fields(text), " "), "�")
	if len(text) > maxMessage {
		text = strings.ToValidUTF8(text[:maxMessage], "") + "…"
	}
	return "PostgreSQL: " + text + " (SQLSTATE " + pg.Code + ")"
}
