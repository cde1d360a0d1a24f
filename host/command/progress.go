package command

import (
	"fmt"
	"io"
	"strings"
	"time"
)

// progress is one line on a terminal that is written over and over; anywhere else it is silent but for notes.
type progress struct {
	w        io.Writer
	terminal bool
	total    int64 // bytes of the input; 0: unknown
	started  time.Time
	drawn    time.Time
	width    int
	noted    time.Time
	moved    *int64 // bytes that were there when the first were shown: of an upload or download that goes on
}

const redraw = 200 * time.Millisecond

func newProgress(w io.Writer, total int64) *progress {
	return &progress{w: w, terminal: terminal(w), total: total, started: time.Now()}
}

func (p *progress) update(read int64, s *sendSummary) {
	now := time.Now()
	if !p.terminal || now.Sub(p.drawn) < redraw {
		return
	}
	p.drawn = now
	line := count(s.Accepted) + " rows accepted"
	if p.total > 0 {
		line = fmt.Sprintf("%3d %%  %s", min(100, read*100/p.total), line)
	}
	if took := now.Sub(p.started).Seconds(); took > 0 {
		line += ", " + rate(float64(s.Accepted)/took)
	}
	if s.NotAccepted > 0 {
		line += ", " + count(s.NotAccepted) + " not accepted"
	}
	p.draw(line)
}

// bytes shows how many bytes have been moved, with their rate and what is left to wait.
func (p *progress) bytes(done int64, what string) {
	now := time.Now()
	if !p.terminal || now.Sub(p.drawn) < redraw {
		return
	}
	p.drawn = now
	line := what + "  " + size(done)
	if p.total > 0 {
		const width = 30
		filled := int(min(width, done*width/p.total))
		line = fmt.Sprintf("%s  [%s%s] %3d %%  %s of %s", what, strings.Repeat("=", filled), strings.Repeat(" ", width-filled),
			min(100, done*100/p.total), size(done), size(p.total))
	}
	if p.moved == nil {
		p.moved = &done
	}
	if took := now.Sub(p.started).Seconds(); took > 1 && done > *p.moved {
		perSecond := float64(done-*p.moved) / took
		line += fmt.Sprintf("  %s/s", size(int64(perSecond)))
		if left := p.total - done; p.total > 0 && left > 0 {
			line += "  " + age(time.Duration(float64(left)/perSecond*float64(time.Second)).Round(time.Second)) + " left"
		}
	}
	p.draw(line)
}

// note says something that a person who waits wants to know, at most one line a second.
func (p *progress) note(format string, args ...any) {
	if now := time.Now(); now.Sub(p.noted) >= time.Second {
		p.noted = now
		p.draw("")
		fmt.Fprintf(p.w, "rivergate: "+format+"\n", args...)
	}
}

func (p *progress) draw(line string) {
	if !p.terminal {
		return
	}
	pad := max(0, p.width-len(line))
	fmt.Fprintf(p.w, "\r%s%s", line, strings.Repeat(" ", pad))
	if line == "" {
		fmt.Fprint(p.w, "\r")
	}
	p.width = len(line)
}

// end leaves the line empty for what comes.
func (p *progress) end() { p.draw("") }
