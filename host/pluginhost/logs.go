package pluginhost

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"
	"unicode"

	"github.com/hashicorp/go-hclog"
	"golang.org/x/time/rate"
)

const (
	maxLogLine  = 4 << 20         // bytes of one line that reach the log; the rest is cut
	logRate     = 200             // lines a second and process, in the long run; as many again of warnings and errors
	logBurst    = 2000            // lines at once
	logUnit     = 16 << 10        // bytes of a line that count as one more line
	dropNotice  = 5 * time.Second // between two lines that tell how many were left out
	longReason  = 300             // bytes of a plugin's line that are quoted in a reason
	lastLine    = 4 << 10
	readBufSize = 64 << 10
)

// pluginLog is where the lines of one plugin process go: the host's log, under the instance's name. It bounds how many
// lines a second get there, and remembers what explains a death. Warnings and errors have a budget of their own: no
// amount of chatter hides them.
type pluginLog struct {
	log    hclog.Logger
	notice time.Duration

	mu      sync.Mutex
	chatter budget      // info and below
	trouble budget      // warnings and errors
	timer   *time.Timer // runs while lines were left out that nobody was told of
	closed  bool
	panic   string // the first line of a Go panic or a fatal error
	last    []byte // the head of the last line of any kind
}

// budget is what one sort of lines may use, and how many got nothing of it.
type budget struct {
	limit   *rate.Limiter
	leftOut int
}

func newPluginLog(log hclog.Logger) *pluginLog {
	return &pluginLog{
		log: log, notice: dropNotice,
		chatter: budget{limit: rate.NewLimiter(logRate, logBurst)}, trouble: budget{limit: rate.NewLimiter(logRate, logBurst)},
	}
}

// line takes one line; cut is how many bytes of it are missing at the end.
func (p *pluginLog) line(line []byte, cut int, stream string) {
	line = bytes.TrimRight(line, "\r\n")
	if len(line) == 0 {
		return
	}
	said := levelOf(line)
	p.mu.Lock()
	p.remember(line)
	heard := said >= p.log.GetLevel() && p.afford(said, len(line))
	p.mu.Unlock()
	if !heard {
		return
	}
	level, message, fields := parseLogLine(line)
	if stream != "" {
		fields = append(fields, "stream", stream)
	}
	if cut > 0 {
		fields = append(fields, "cut_bytes", cut)
	}
	p.log.Log(level, message, fields...)
}

// afford takes a line out of its budget, or counts it as left out. Called with the lock held.
func (p *pluginLog) afford(level hclog.Level, size int) bool {
	b := &p.chatter
	if level >= hclog.Warn {
		b = &p.trouble
	}
	if b.limit.AllowN(time.Now(), 1+size/logUnit) {
		return true
	}
	b.leftOut++
	if p.timer == nil && !p.closed {
		p.timer = time.AfterFunc(p.notice, p.flush)
	}
	return false
}

// levelOf is the level of a line, found without understanding all of it: most lines of a flood are read for this alone.
func levelOf(line []byte) hclog.Level {
	if line[0] == '{' {
		_, rest, found := bytes.Cut(line[:min(len(line), lastLine)], []byte(`"@level":"`))
		if found {
			name, _, _ := bytes.Cut(rest[:min(len(rest), 8)], []byte{'"'})
			if level := hclog.LevelFromString(string(name)); level != hclog.NoLevel && level != hclog.Off {
				return level
			}
		}
		return hclog.Info
	}
	for prefix, level := range bracketed {
		if bytes.HasPrefix(line, []byte(prefix)) {
			return level
		}
	}
	if isPanic(line) {
		return hclog.Error
	}
	return hclog.Info
}

// bracketed are levels at the beginning of a line of plain text.
var bracketed = map[string]hclog.Level{
	"[TRACE]": hclog.Trace, "[DEBUG]": hclog.Debug, "[INFO]": hclog.Info, "[WARN]": hclog.Warn, "[ERROR]": hclog.Error,
}

// remember keeps what reason needs. Called with the lock held.
func (p *pluginLog) remember(line []byte) {
	if p.panic == "" && isPanic(line) {
		p.panic = printable(string(line[:min(len(line), longReason)]))
	}
	p.last = append(p.last[:0], line[:min(len(line), lastLine)]...)
}

func isPanic(line []byte) bool {
	return bytes.HasPrefix(line, []byte("panic: ")) || bytes.HasPrefix(line, []byte("fatal error: "))
}

// reason is the line that probably explains why the process ended; empty when it said nothing.
func (p *pluginLog) reason() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.panic != "" || len(p.last) == 0 {
		return p.panic
	}
	_, message, fields := parseLogLine(p.last)
	for i := 0; i+1 < len(fields); i += 2 {
		if fields[i] == "error" {
			message = fmt.Sprintf("%s: %v", message, fields[i+1])
		}
	}
	return quotable(message)
}

// quotable is the head of a plugin's text, on one line.
func quotable(text string) string {
	longer := len(text) > 4*longReason
	if longer { // it may be of a hundred megabytes
		text = text[:4*longReason]
	}
	text = strings.Join(strings.Fields(printable(text)), " ")
	if longer && len(text) <= longReason {
		return text + " …"
	}
	if len(text) > longReason {
		text = strings.ToValidUTF8(text[:longReason], "") + " …"
	}
	return text
}

// flush reports lines that were left out and not yet reported.
func (p *pluginLog) flush() {
	p.mu.Lock()
	chatter, trouble := p.chatter.leftOut, p.trouble.leftOut
	p.chatter.leftOut, p.trouble.leftOut = 0, 0
	if p.timer != nil {
		p.timer.Stop()
		p.timer = nil
	}
	p.mu.Unlock()
	if chatter+trouble > 0 {
		p.log.Warn("plugin logs too fast: lines left out", "left_out", chatter+trouble, "warnings_and_errors_of_them", trouble, "lines_per_second", logRate)
	}
}

// close reports what is left to report. No timer runs after it.
func (p *pluginLog) close() {
	p.mu.Lock()
	p.closed = true
	p.mu.Unlock()
	p.flush()
}

// drain reads lines until the stream ends. It never stops reading, whatever the lines are: a plugin whose stderr is full
// hangs.
func (p *pluginLog) drain(f *os.File, stream string, each func(line []byte) (consumed bool)) {
	r := bufio.NewReaderSize(f, readBufSize)
	var line []byte
	cut := 0
	for {
		part, err := r.ReadSlice('\n')
		room := min(len(part), maxLogLine-len(line))
		line = append(line, part[:room]...)
		cut += len(part) - room

		switch {
		case errors.Is(err, bufio.ErrBufferFull):
			continue
		case err == nil || len(line) > 0:
			if each == nil || !each(line) {
				p.line(line, cut, stream)
			}
			line, cut = line[:0], 0
			if cap(line) > 1<<20 {
				line = nil
			}
		}
		if err != nil {
			return
		}
	}
}

// lineWriter splits what go-plugin copies from a plugin's redirected stdout and stderr into lines.
type lineWriter struct {
	to     *pluginLog
	stream string
	line   []byte
	cut    int
}

var _ io.Writer = (*lineWriter)(nil)

func (w *lineWriter) Write(b []byte) (int, error) {
	n := len(b)
	for len(b) > 0 {
		part, rest, found := bytes.Cut(b, []byte{'\n'})
		room := min(len(part), maxLogLine-len(w.line))
		w.line = append(w.line, part[:room]...)
		w.cut += len(part) - room
		if found {
			w.to.line(w.line, w.cut, w.stream)
			w.line, w.cut = w.line[:0], 0
		}
		b = rest
	}
	return n, nil
}

// parseLogLine understands a line of hclog's JSON form, and takes any other as text. Lines of a panic and text with a
// level in brackets get their level.
func parseLogLine(line []byte) (level hclog.Level, message string, fields []any) {
	if line[0] == '{' {
		if level, message, fields, ok := parseHclog(line); ok {
			return level, message, fields
		}
	}
	text := printable(string(line))
	for prefix, level := range bracketed {
		if rest, ok := strings.CutPrefix(text, prefix); ok {
			return level, strings.TrimSpace(rest), nil
		}
	}
	if isPanic(line) {
		return hclog.Error, text, nil
	}
	return hclog.Info, text, nil
}

func parseHclog(line []byte) (level hclog.Level, message string, fields []any, ok bool) {
	raw := map[string]any{}
	dec := json.NewDecoder(bytes.NewReader(line))
	dec.UseNumber() // ids and positions keep all their digits
	if dec.Decode(&raw) != nil {
		return 0, "", nil, false
	}
	message, ok = raw["@message"].(string)
	if !ok {
		return 0, "", nil, false
	}
	name, _ := raw["@level"].(string)
	if level = hclog.LevelFromString(name); level == hclog.NoLevel || level == hclog.Off {
		level = hclog.Info
	}
	// The host's log has a level, a time and a name of its own; the logger's name in the plugin stays as a field.
	for _, key := range []string{"@message", "@level", "@timestamp"} {
		delete(raw, key)
	}
	for _, key := range sortedKeys(raw) {
		value := clean(raw[key])
		if v, ok := value.(json.Number); ok {
			value = v.String()
			if n, err := strconv.ParseInt(v.String(), 10, 64); err == nil {
				value = n
			}
		}
		// A field named @… of the plugin would be taken for one of the host's own. Names are written as they are.
		fields = append(fields, quotable(strings.TrimLeft(key, "@")), value)
	}
	return level, printable(message), fields, true
}

// clean is printable for every text inside a value of JSON.
func clean(value any) any {
	switch v := value.(type) {
	case string:
		return printable(v)
	case []any:
		for i := range v {
			v[i] = clean(v[i])
		}
	case map[string]any:
		cleaned := make(map[string]any, len(v))
		for name, item := range v {
			cleaned[printable(name)] = clean(item)
		}
		return cleaned
	}
	return value
}

func sortedKeys(m map[string]any) []string {
	keys := make([]string, 0, len(m))
	for k := range m {
		keys = append(keys, k)
	}
	slices.Sort(keys)
	return keys
}

// printable makes a plugin's text safe to print on a terminal: no control characters, valid UTF-8. Line breaks and tabs
// inside a structured message stay.
func printable(s string) string {
	bad := func(r rune) bool {
		return r == unicode.ReplacementChar || unicode.IsControl(r) && r != '\n' && r != '\t'
	}
	if strings.IndexFunc(s, bad) < 0 {
		return s
	}
	var b strings.Builder
	for _, r := range s {
		if bad(r) {
			fmt.Fprintf(&b, "\\x%02x", r)
			continue
		}
		b.WriteRune(r)
	}
	return b.String()
}
