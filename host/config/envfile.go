package config

import (
	"errors"
	"fmt"
	"io"
	"net/url"
	"os"
	"regexp"
	"slices"
	"strings"

	"github.com/rivergate/rivergate/sdk/settings"
)

const (
	envFileVariable = hostPrefix + "ENV_FILE"
	maxEnvFile      = 1 << 20 // bytes; a larger file is something else
)

// assignment is one NAME=value of an env file.
type assignment struct {
	name, value string
	line        int // where it begins, from 1
}

// lineError is something wrong in one line of an env file. It never holds the value.
type lineError struct {
	line   int
	reason string
}

// EnvFile tells what keeps the env file of this environment from being read; nil when there is none, or it is right.
func EnvFile(environ []string) []settings.Problem {
	l := &loader{}
	l.environment(environ)
	return l.problems
}

// Environment is what counts as the environment: environ, and below it the env file which it names. Empty values are left
// out. With problems a part of the file is missing.
func Environment(environ []string) (map[string]string, []settings.Problem) {
	l := &loader{}
	l.environment(environ)
	return l.env, l.problems
}

// environment fills l.env: what environ says, and below that the env file which it names.
func (l *loader) environment(environ []string) {
	l.env = variables(environ)
	path := l.env[envFileVariable]
	if path == "" {
		return
	}
	text, mode, err := readEnvFile(path)
	if err != nil {
		l.problem(envFileVariable, err.Error(), "")
		return
	}
	list, wrong := parseEnvFile(text)
	for _, e := range wrong {
		l.problem(envFileVariable, fmt.Sprintf("%s, line %d: %s", path, e.line, e.reason), "")
	}
	fromFile := map[string]assignment{}
	for _, a := range list {
		fromFile[a.name] = a // the last one wins
	}
	if a, ok := fromFile[envFileVariable]; ok {
		l.problem(envFileVariable, fmt.Sprintf("%s, line %d: an env file cannot name an env file", path, a.line), "")
		delete(fromFile, envFileVariable)
	}
	l.onlyInFile = map[string]bool{}
	var secrets []string
	for _, a := range list {
		if fromFile[a.name] != a || a.value == "" {
			continue
		}
		if looksSecret(a.name, a.value) {
			secrets = append(secrets, a.name)
		}
		switch value, set := l.env[a.name]; {
		case !set:
			l.env[a.name], l.onlyInFile[a.name] = a.value, true
		case value != a.value:
			l.warn(a.name, fmt.Sprintf("has another value in %s, line %d, than in the environment, which wins", path, a.line), "")
		}
	}
	const everybody = 0o004
	if len(secrets) > 0 && mode&everybody != 0 {
		l.warn(envFileVariable, fmt.Sprintf("everybody on this machine may read %s, which seems to hold secrets (%s): chmod o-rwx %s",
			path, strings.Join(secrets, ", "), path), "")
	}
}

func readEnvFile(path string) (text string, mode os.FileMode, err error) {
	file, err := os.Open(path)
	if err != nil {
		var at *os.PathError
		if errors.As(err, &at) {
			err = at.Err
		}
		return "", 0, fmt.Errorf("%s cannot be read: %w", path, err)
	}
	defer file.Close()
	info, err := file.Stat()
	if err != nil {
		return "", 0, fmt.Errorf("%s cannot be read: %w", path, err)
	}
	if !info.Mode().IsRegular() {
		return "", 0, fmt.Errorf("%s is no file", path)
	}
	content, err := io.ReadAll(io.LimitReader(file, maxEnvFile+1))
	if err != nil {
		return "", 0, fmt.Errorf("%s cannot be read: %w", path, err)
	}
	if len(content) > maxEnvFile {
		return "", 0, fmt.Errorf("%s is larger than %v: it is no env file", path, settings.Bytes(maxEnvFile))
	}
	return string(content), info.Mode().Perm(), nil
}

var variableName = regexp.MustCompile(`^[A-Za-z_][A-Za-z0-9_]*$`)

// parseEnvFile reads NAME=value lines as systemd does for EnvironmentFile= (src/basic/env-file.c), so that one file serves
// both. Lines that begin with # or ; are comments, a value may be quoted in parts, and a backslash before the end of a line
// joins it to the next. What systemd passes over in silence is an error here.
func parseEnvFile(text string) (list []assignment, wrong []lineError) {
	p := envParser{text: text, line: 1}
	for p.at < len(text) {
		start := p.line
		a, reason := p.next()
		switch {
		case reason != "":
			wrong = append(wrong, lineError{start, reason})
		case a.name != "":
			a.line = start
			list = append(list, a)
		}
	}
	return list, wrong
}

type envParser struct {
	text string
	at   int
	line int
}

// next reads one line, or the several of one value. An empty name is a line without an assignment.
func (p *envParser) next() (a assignment, reason string) {
	for p.at < len(p.text) && (p.text[p.at] == ' ' || p.text[p.at] == '\t' || p.text[p.at] == '\r') {
		p.at++
	}
	if p.at == len(p.text) {
		return a, ""
	}
	if p.text[p.at] == '\n' || p.text[p.at] == '#' || p.text[p.at] == ';' {
		p.restOfLine()
		return a, ""
	}
	begin := p.at
	for p.at < len(p.text) && p.text[p.at] != '=' && p.text[p.at] != '\n' {
		p.at++
	}
	name := strings.TrimSpace(p.text[begin:p.at])
	if p.at == len(p.text) || p.text[p.at] == '\n' {
		p.restOfLine()
		return a, "is no NAME=value"
	}
	p.at++
	value, closed := p.value()
	bare, exported := strings.CutPrefix(name, "export ")
	switch {
	case !closed:
		return a, "a quote is not closed"
	case exported && variableName.MatchString(strings.TrimSpace(bare)):
		return a, "is written for a shell: leave out export"
	case !variableName.MatchString(name):
		return a, fmt.Sprintf("%q is no name of a variable", name)
	case strings.ContainsRune(value, 0):
		return a, "the value holds a zero byte"
	}
	return assignment{name: name, value: value}, ""
}

func (p *envParser) restOfLine() {
	for p.at < len(p.text) && p.text[p.at] != '\n' {
		p.at++
	}
	p.step()
}

// step passes one byte and counts lines.
func (p *envParser) step() (c byte, ok bool) {
	if p.at == len(p.text) {
		return 0, false
	}
	c = p.text[p.at]
	p.at++
	if c == '\n' {
		p.line++
	}
	return c, true
}

// value reads up to the end of the value's last line. closed is false when the file ends inside quotes.
func (p *envParser) value() (value string, closed bool) {
	var b strings.Builder
	bare := 0      // b is kept up to here when trailing blanks are cut: what was quoted counts
	plain := false // inside unquoted text, where quotes are ordinary
	for {
		c, ok := p.step()
		if !ok || c == '\n' {
			text := b.String()
			return text[:bare] + strings.TrimRight(text[bare:], " \t\r"), true
		}
		switch {
		case c == '\\':
			if escaped, ok := p.step(); ok && escaped != '\n' {
				b.WriteByte(escaped)
				plain, bare = true, b.Len()
			}
		case !plain && (c == '\'' || c == '"'):
			if !p.quoted(&b, c) {
				return "", false
			}
			bare = b.Len()
		case !plain && (c == ' ' || c == '\t' || c == '\r'):
		default:
			plain = true
			b.WriteByte(c)
		}
	}
}

// quoted reads up to the closing quote. Between double quotes a backslash escapes what a shell would need escaped.
func (p *envParser) quoted(b *strings.Builder, quote byte) bool {
	for {
		c, ok := p.step()
		switch {
		case !ok:
			return false
		case c == quote:
			return true
		case c == '\\' && quote == '"':
			escaped, ok := p.step()
			switch {
			case !ok:
				return false
			case escaped == '\n':
			case strings.IndexByte("\"\\`$", escaped) >= 0:
				b.WriteByte(escaped)
			default:
				b.WriteByte('\\')
				b.WriteByte(escaped)
			}
		default:
			b.WriteByte(c)
		}
	}
}

// secretWords are parts of names of variables that hold what others must not read.
var secretWords = []string{"TOKEN", "SECRET", "PASSWORD", "PASSWD", "PASSPHRASE", "CREDENTIALS", "DSN", "KEY", "APIKEY"}

// looksSecret guesses from the name, or from a password inside an address.
func looksSecret(name, value string) bool {
	if slices.ContainsFunc(strings.Split(strings.ToUpper(name), "_"), func(word string) bool { return slices.Contains(secretWords, word) }) {
		return true
	}
	address, err := url.Parse(value)
	if err != nil || address.User == nil {
		return false
	}
	_, has := address.User.Password()
	return has
}
