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
