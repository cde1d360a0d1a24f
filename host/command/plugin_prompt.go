package command

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/rivergate/rivergate/host/pluginhost"
	"github.com/rivergate/rivergate/sdk/protocol"
	"github.com/rivergate/rivergate/services/gateway/delivery"
)

const promptHelp = `A line of JSON, an object, is a row; it is sent at once, as a batch of its own. A line that starts with a dot is a command:
  .uuid TEXT       the uuid of the rows that follow (now %q)
  .org N           their organisation (now %d)
  .index N         the client's index of the next row
  .trigger JSON    the trigger that goes with the rows, for a plugin that needs one: a JSON object, or a file with one
  .batch           collect the rows that follow into one batch …
  .send            … and send it
  .file PATH       the rows of a file of JSON Lines (or .csv), in batches of %d; collected while .batch is on
  .again           the last batch once more, with the same positions: what a retry or a restart of the host does
  .health          ask the plugin whether it can work
  .schema          the JSON Schema of its settings
  .status          what the host knows of it
  .log on|off      show the plugin's log, or not
  .crash           kill -9, and see it come back
  .drain           end it in good order and start the file that is on disk now, as at an upgrade
  .quit            end in good order, as Ctrl-D does
`

// answerLimit is the longest wait for an answer to anything but a batch.
const answerLimit = 10 * time.Second

// fileBatch is the number of rows of a file that are sent in one batch.
const fileBatch = 100

// prompt is one run of `plugin run`: its goroutine alone reads lines, sends batches and prints.
type prompt struct {
	c       *cli
	name    string
	host    *pluginhost.Host
	screen  *screen
	options pluginRunOptions

	mu     sync.Mutex
	client protocol.Client // of the newest process

	session delivery.Session // nil: the next batch opens one
	seq     uint64

	uuid       string
	org        uint64
	index      int32 // of the next row, when indexed
	indexed    bool
	trigger    map[string]json.RawMessage // nil: none was given
	position   uint64                     // of the next row
	collecting bool
	pending    []protocol.Frame
	last       []protocol.Frame

	failed bool // a line could not be carried out
}

// errQuit ends the prompt in good order.
var errQuit = errors.New("quit")

// run reads lines until the end of the input.
func (p *prompt) run(ctx context.Context) error {
	for {
		line, err := p.screen.readLine(ctx)
		switch {
		case ctx.Err() != nil:
			return nil // Ctrl-C: in good order
		case errors.Is(err, io.EOF):
			return p.end()
		case err != nil:
			return fmt.Errorf("read input: %w", err)
		}
		if line = strings.TrimSpace(line); line == "" {
			continue
		}
		err = p.line(ctx, line)
		switch {
		case ctx.Err() != nil:
			return nil
		case errors.Is(err, errQuit):
			return p.end()
		case err != nil:
			p.failed = true
			if p.c.json {
				if err := p.event("error", map[string]any{"message": err.Error()}); err != nil {
					return err
				}
				continue
			}
			p.printf("  %v\n", err)
		}
	}
}

// end is the exit code: a script wants to know that a line was not carried out; a person has seen it.
func (p *prompt) end() error {
	if n := rowsIn(p.pending); n > 0 {
		p.failed = true
		if !p.c.json {
			p.printf("  %s of .batch not sent: .send sends them\n", some(int64(n), "row"))
		}
	}
	if p.failed && !p.screen.interactive() {
		return &exitError{code: exitFailed}
	}
	return nil
}

func (p *prompt) line(ctx context.Context, line string) error {
	if !strings.HasPrefix(line, ".") {
		return p.row(ctx, []byte(line))
	}
	word, rest, _ := strings.Cut(line, " ")
	rest = strings.TrimSpace(rest)
	switch word {
	case ".help":
		p.printf(promptHelp, p.uuid, p.org, fileBatch)
		return nil
	case ".quit", ".exit":
		return errQuit
	case ".uuid":
		if reason := checkUUID(rest); reason != "" {
			return errors.New(reason)
		}
		p.uuid = rest
		return nil
	case ".org":
		n, err := strconv.ParseUint(rest, 10, 64)
		if err != nil || n == 0 {
			return fmt.Errorf("%q is not an organisation: a number above 0", rest)
		}
		p.org = n
		return nil
	case ".index":
		n, err := strconv.ParseInt(rest, 10, 32)
		if err != nil || n < 0 {
			return fmt.Errorf("%q is not an index: a whole number from 0", rest)
		}
		p.index, p.indexed = int32(n), true
		return nil
	case ".trigger":
		return p.setTrigger(rest)
	case ".batch":
		p.collecting = true
		return nil
	case ".send":
		return p.send(ctx)
	case ".again":
		if len(p.last) == 0 {
			return errors.New("no batch was sent yet")
		}
		return p.deliver(ctx, p.last)
	case ".file":
		return p.file(ctx, rest)
	case ".health":
		return p.health(ctx)
	case ".schema":
		return p.schema()
	case ".status":
		return p.showStatus()
	case ".log":
		if rest != "on" && rest != "off" {
			return errors.New(".log on, or .log off")
		}
		p.screen.showLog(rest == "on")
		return nil
	case ".crash":
		return p.crash(ctx)
	case ".drain":
		return p.drain(ctx)
	}
	return fmt.Errorf("there is no command %s; .help lists them", word)
}

// row takes one row: it is sent, or collected.
func (p *prompt) row(ctx context.Context, data []byte) error {
	if !json.Valid(data) || data[0] != '{' {
		return errors.New("not a JSON object; a row is one, and a command starts with a dot (.help)")
	}
	trigger, err := p.triggerOf(p.uuid)
	if err != nil {
		return err
	}
	f := protocol.Frame{UUID: p.uuid, Data: bytes.Clone(data), Ends: []uint32{uint32(len(data))}, Trigger: trigger}
	if p.indexed {
		f.Index, p.indexed = []int32{p.index}, false
	}
	p.add(f)
	if p.collecting {
		return nil
	}
	return p.send(ctx)
}

// setTrigger takes a trigger, or a file with one. A trigger with a uuid is that of the rows that follow.
func (p *prompt) setTrigger(text string) error {
	document := []byte(text)
	if !strings.HasPrefix(text, "{") {
		var err error
		if document, err = os.ReadFile(text); err != nil {
			return fmt.Errorf("a trigger is a JSON object, or a file with one: %w", err)
		}
	}
	var members map[string]json.RawMessage
	if err := json.Unmarshal(document, &members); err != nil || members == nil {
		return errors.New("a trigger is a JSON object")
	}
	var uuid string
	if raw, ok := members["uuid"]; ok {
		if err := json.Unmarshal(raw, &uuid); err != nil || checkUUID(uuid) != "" {
			return errors.New("the uuid of the trigger is none")
		}
		p.uuid = uuid
	}
	p.trigger = members
	return nil
}

// triggerOf is the trigger of a row, as the host would have found it. It is looked at by plugins that need it alone.
func (p *prompt) triggerOf(uuid string) ([]byte, error) {
	if !p.status().NeedsTrigger {
		return nil, nil
	}
	if p.trigger == nil {
		return nil, errors.New("this plugin needs the trigger of each row, which the host looks up at RIVERGATE_CONTROL_TOWER_URL; here, give one: .trigger, or --trigger")
	}
	quoted, err := json.Marshal(uuid)
	if err != nil {
		return nil, err
	}
	p.trigger["uuid"] = quoted
	return json.Marshal(p.trigger)
}

// add puts a frame of one row into the batch that is being made.
func (p *prompt) add(f protocol.Frame) {
	f.OrgID, f.Position, f.ReceivedAt = p.org, p.position, time.Now().UTC()
	p.position += uint64(f.Len())
	p.pending = append(p.pending, f)
}

func (p *prompt) send(ctx context.Context) error {
	p.collecting = false
	if len(p.pending) == 0 {
		return errors.New("there is no row to send: .batch, rows, .send")
	}
	p.last, p.pending = p.pending, nil
	return p.deliver(ctx, p.last)
}

func (p *prompt) file(ctx context.Context, path string) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer func() { _ = f.Close() }() // it was only read
	format := "jsonl"
	if strings.HasSuffix(path, ".csv") {
		format = "csv"
	}
	trigger, err := p.triggerOf(p.uuid)
	if err != nil {
		return err
	}
	rows := openRows(f, &sendOptions{format: format, uuid: p.uuid})
	for {
		row, err := rows.next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			err = fmt.Errorf("%s: %w", path, err)
			if !p.collecting && len(p.pending) > 0 { // else the next row would go with them
				err = errors.Join(p.send(ctx), err)
			}
			return err
		}
		p.add(protocol.Frame{UUID: p.uuid, Data: row.data, Ends: []uint32{uint32(len(row.data))}, Trigger: trigger})
		if len(p.pending) >= fileBatch && !p.collecting {
			if err := p.send(ctx); err != nil {
				return err
			}
		}
	}
	if p.collecting || len(p.pending) == 0 {
		return nil
	}
	return p.send(ctx)
}

func (p *prompt) health(ctx context.Context) error {
	p.mu.Lock()
	client := p.client
	p.mu.Unlock()
	if client == nil {
		return errors.New("there is no process to ask")
	}
	ctx, cancel := context.WithTimeout(ctx, answerLimit)
	defer cancel()
	began := time.Now()
	err := client.Health(ctx, p.name)
	took := time.Since(began)
	var unhealthy *protocol.Unhealthy
	if err != nil && !errors.As(err, &unhealthy) {
		return fmt.Errorf("it does not answer the health check: %w", err)
	}
	if p.c.json {
		fields := map[string]any{"healthy": err == nil, "took_ms": milliseconds(took)}
		if err != nil {
			fields["reason"] = err.Error()
		}
		return p.event("health", fields)
	}
	if err != nil {
		p.printf("  not healthy: %v  (%s)\n", err, elapsed(took))
		return nil
	}
	p.printf("  healthy  (%s)\n", elapsed(took))
	return nil
}

func (p *prompt) schema() error {
	schema := p.status().ConfigSchema
	if p.c.json {
		return p.event("schema", map[string]any{"schema": schema})
	}
	var b bytes.Buffer
	if err := json.Indent(&b, schema, "", "  "); err != nil {
		return fmt.Errorf("the schema is not JSON: %w", err)
	}
	p.printf("%s\n", b.Bytes())
	return nil
}

func (p *prompt) showStatus() error {
	s := p.status()
	if p.c.json {
		return p.event("status", map[string]any{"plugin": s})
	}
	p.printf("  %s  process %d  memory %s  restarts %d  %s\n", s.State, s.PID, size(s.RSSBytes), s.Restarts, s.Reason)
	return nil
}

// crash kills the process, and waits until the host has another.
func (p *prompt) crash(ctx context.Context) error {
	pid := p.status().PID
	if pid <= 0 {
		return errors.New("there is no process now")
	}
	began := time.Now()
	if err := syscall.Kill(pid, syscall.SIGKILL); err != nil {
		return fmt.Errorf("kill process %d: %w", pid, err)
	}
	p.closeSession()
	return p.restarted(ctx, pid, began)
}

// restarted waits for the process after pid and tells of it.
func (p *prompt) restarted(ctx context.Context, pid int, began time.Time) error {
	now, err := p.running(ctx, pid)
	if err != nil {
		return err
	}
	if p.c.json {
		return p.event("restarted", map[string]any{"pid": now, "old_pid": pid, "took_ms": milliseconds(time.Since(began))})
	}
	p.printf("  process %d is gone, %d runs and is configured  (%s)\n", pid, now, elapsed(time.Since(began)))
	return nil
}

// drain exchanges the process in good order.
func (p *prompt) drain(ctx context.Context) error {
	pid := p.status().PID
	began := time.Now()
	// The host waits for the stream to end, as it does for delivery's.
	if session := p.session; session != nil {
		cut := time.AfterFunc(answerLimit, session.Close)
		defer cut.Stop()
		if err := session.CloseSend(); err == nil {
			_, _ = session.Recv() // its end: nothing is in flight
		}
		p.closeSession()
	}
	if err := p.host.Reload(ctx, p.name); err != nil {
		return fmt.Errorf("%w; the old process serves on", err)
	}
	return p.restarted(ctx, pid, began)
}
