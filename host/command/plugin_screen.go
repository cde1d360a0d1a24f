package command

import (
	"bufio"
	"context"
	"errors"
	"io"
	"os"
	"strings"
	"sync"

	"golang.org/x/term"
)

// screen is where the prompt reads and writes: a terminal with a line editor, or plain streams.
type screen struct {
	in   *bufio.Reader
	out  io.Writer
	errs io.Writer

	keyboard int // its file descriptor
	editor   *term.Terminal

	mu     sync.Mutex
	silent bool // the plugin's log is not shown
}

func (c *cli) newScreen(name string) *screen {
	s := &screen{in: bufio.NewReaderSize(c.Stdin, 64<<10), out: c.Stdout, errs: c.Stderr}
	keyboard, ok := c.Stdin.(*os.File)
	if ok && term.IsTerminal(int(keyboard.Fd())) && terminal(c.Stdout) && !c.json {
		s.keyboard = int(keyboard.Fd())
		s.editor = term.NewTerminal(struct {
			io.Reader
			io.Writer
		}{keyboard, c.Stdout}, name+"> ")
		s.out, s.errs = s.editor, s.editor
	}
	return s
}

func (s *screen) interactive() bool { return s.editor != nil }

func (s *screen) Write(p []byte) (int, error) { return s.out.Write(p) }

// readLine returns the next line, or io.EOF. When ctx ends first, the read goes on in the background: nothing can stop it
// but the end of the program, or of the input.
func (s *screen) readLine(ctx context.Context) (string, error) {
	type result struct {
		line string
		err  error
	}
	if err := ctx.Err(); err != nil {
		return "", err
	}
	var restore func()
	if s.editor != nil {
		// Raw only while a line is edited: while a command runs, Ctrl-C is a signal.
		state, err := term.MakeRaw(s.keyboard)
		if err != nil {
			return "", err
		}
		restore = func() { _ = term.Restore(s.keyboard, state) }
		if width, height, err := term.GetSize(s.keyboard); err == nil && width > 0 && height > 0 {
			_ = s.editor.SetSize(width, height) // a size that it cannot take changes nothing
		}
	}
	read := make(chan result, 1)
	go func() {
		line, err := s.next()
		read <- result{line, err}
	}()
	var r result
	select {
	case r = <-read:
	case <-ctx.Done():
		r.err = ctx.Err()
	}
	if restore != nil {
		restore()
	}
	return r.line, r.err
}

func (s *screen) next() (string, error) {
	if s.editor != nil {
		return s.editor.ReadLine()
	}
	var line strings.Builder
	for {
		part, err := s.in.ReadSlice('\n')
		if line.Len()+len(part) > maxLine {
			return "", errors.New("a line of the input is longer than " + size(maxLine))
		}
		line.Write(part)
		switch {
		case errors.Is(err, bufio.ErrBufferFull):
			continue
		case errors.Is(err, io.EOF) && line.Len() > 0:
			return line.String(), nil
		default:
			return line.String(), err
		}
	}
}

// log is where the plugin's log goes.
func (s *screen) log() io.Writer { return screenLog{s} }

func (s *screen) showLog(on bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.silent = !on
}

type screenLog struct{ s *screen }

func (l screenLog) Write(p []byte) (int, error) {
	l.s.mu.Lock()
	defer l.s.mu.Unlock()
	if l.s.silent {
		return len(p), nil
	}
	return l.s.errs.Write(p)
}
