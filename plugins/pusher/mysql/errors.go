package main

import (
	"context"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/go-sql-driver/mysql"

	"github.com/rivergate/rivergate/sdk"
)

// maxMessage bounds what the server's words may take of an outcome, bytes.
const maxMessage = 500

// errNoKey: without that key the table would take a row twice.
var errNoKey = errors.New("the table has no unique key on the column position alone, so rows could be there twice; add it, or set another TABLE")

// located is an error of the server that names a row.
type located struct {
	error
	position uint64
}

func (l *located) Unwrap() error { return l.error }

// isAt tells whether the server names the row at that position.
func isAt(err error, position uint64) bool {
	var l *located
	return errors.As(err, &l) && l.position == position
}

var rowNumber = regexp.MustCompile(`at row ([0-9]+)$`)

// placeIn is the row of a statement, from 1, that the server names; 0 when it names none.
func placeIn(err error) int {
	var answer *mysql.MySQLError
	if !errors.As(err, &answer) {
		return 0
	}
	found := rowNumber.FindStringSubmatch(answer.Message)
	if found == nil {
		return 0
	}
	place, _ := strconv.Atoi(found[1])
	return place
}

// number is the number of a server's error, 0 for any other.
func number(err error) uint16 {
	var answer *mysql.MySQLError
	if errors.As(err, &answer) {
		return answer.Number
	}
	return 0
}

func code(err error) string {
	if n := number(err); n != 0 {
		return strconv.Itoa(int(n))
	}
	return "too_large"
}

func isDuplicateKey(err error) bool { return number(err) == 1062 }

// Errors by number, from the reference of MariaDB and MySQL. Those of a row that are not of SQLSTATE class 22, 23, 44 or 45:
var rowErrors = []uint16{
	1264, 1265, 1366, 1406, 1411, // a value out of range, cut off, of another kind, too long, not a date
	1367, 1690, // an illegal value, a result out of range
	1526, 1748, // no partition for it
	1153, 1301, // longer than max_allowed_packet
	3140, 3141, 3156, 3157, 3819, // MySQL: JSON, CHECK
	4025, // MariaDB: CHECK
}

// Those of class 22 or 23 that every row would meet alike:
var tableErrors = []uint16{1364, 1136} // a column without default that we do not fill, another number of columns

var deniedErrors = []uint16{
	1045, 1044, 1698, 1130, 1251, 1862, 1820, 3118, 4151, // login refused, host refused, password expired, account locked
	1142, 1143, 1227, // a privilege is missing
}

var setupErrors = []uint16{1146, 1054, 1049, 1064, 1101, 1136, 1364, 1051, 1103, 1171, 1286}

var fullErrors = []uint16{1021, 1114, 1041, 1037}

// isRowError tells whether err is the fault of a row.
func isRowError(err error) bool {
	if errors.Is(err, mysql.ErrPktTooLarge) {
		return true
	}
	var answer *mysql.MySQLError
	if !errors.As(err, &answer) || slices.Contains(tableErrors, answer.Number) {
		return false
	}
	switch string(answer.SQLState[:2]) {
	case "22", "23", "44", "45":
		return true
	}
	return slices.Contains(rowErrors, answer.Number) || answer.Number == 1105 && strings.Contains(answer.Message, "max_allowed_packet")
}

// rejection says why a row was refused, in the server's words.
func rejection(err error, row sdk.Row) error {
	if errors.Is(err, mysql.ErrPktTooLarge) || strings.Contains(err.Error(), "max_allowed_packet") {
		return fmt.Errorf("a row of %d bytes is longer than max_allowed_packet of the server: %s", len(row.JSON()), words(err))
	}
	return errors.New(words(err))
}

// destinationError gives a failure that is not a row's own its class: credentials hold the destination, everything else
// is tried again. A table that is missing or does not fit is of that sort too: it would refuse every row there is.
func (m *MySQL) destinationError(err error) error {
	n := number(err)
	said := fmt.Errorf("%s: %s", m.address, words(err))
	switch {
	case errors.Is(err, errNoKey):
		return sdk.RetryIn(5*time.Second, "no_key", err)
	case slices.Contains(deniedErrors, n):
		return sdk.BadCredentials(code(err), fmt.Errorf("%w; the user of DSN needs INSERT and SELECT on %s, and CREATE for CREATE_TABLE", said, m.Table))
	case slices.Contains(setupErrors, n):
		return sdk.RetryIn(5*time.Second, code(err), fmt.Errorf("the destination is not set up for these rows (TABLE, COLUMNS, CREATE_TABLE): %w", said))
	case slices.Contains(fullErrors, n):
		return sdk.RetryIn(0, code(err), fmt.Errorf("the destination is full: %w", said))
	case n != 0:
		return sdk.RetryIn(0, code(err), said)
	case errors.Is(err, context.DeadlineExceeded):
		return sdk.RetryIn(0, "timeout", fmt.Errorf("no answer from %s within STATEMENT_TIMEOUT or CONNECT_TIMEOUT: %w", m.address, err))
	}
	return sdk.RetryIn(0, "connection", fmt.Errorf("talk to MySQL at %s: %w", m.address, err))
}

// words is what the server said, in one line of bounded length.
func words(err error) string {
	var answer *mysql.MySQLError
	if !errors.As(err, &answer) {
		return err.Error()
	}
	text := strings.ToValidUTF8(strings.Join(strings.Fields(answer.Message), " "), "�")
	if len(text) > maxMessage {
		text = strings.ToValidUTF8(text[:maxMessage], "") + "…"
	}
	return fmt.Sprintf("MySQL: %s (error %d, SQLSTATE %s)", text, answer.Number, answer.SQLState[:])
}
