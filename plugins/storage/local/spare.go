package main

import (
	"os"
	"time"
)

const (
	// spareFiles is how many temporary files are made ahead; when half of them are taken, all that lack are made at once.
	spareFiles = 8
	// afterPut leaves the processor to the answer, and to who waits for it.
	afterPut = 2 * time.Millisecond
)

// spares are empty temporary files for what is put next: a file system takes its time to find a place for a new file, and the best moment
// for that is when nobody waits.
type spares struct {
	ready  chan *os.File
	wanted chan struct{} // holds a token when there may be room in ready
	stop   chan struct{}
	done   chan struct{} // closed when no more are made
}

// keepSpares lets create make them until close.
func keepSpares(create func() (*os.File, error)) *spares {
	s := &spares{
		ready: make(chan *os.File, spareFiles), wanted: make(chan struct{}, 1), stop: make(chan struct{}), done: make(chan struct{}),
	}
	go func() {
		defer close(s.done)
		for {
			select {
			case <-s.wanted:
			case <-s.stop:
				return
			}
			select {
			case <-time.After(afterPut):
				s.fill(create)
			case <-s.stop:
				return
			}
		}
	}()
	return s
}

func (s *spares) fill(create func() (*os.File, error)) {
	for len(s.ready) < spareFiles {
		file, err := create()
		if err != nil {
			return // who needs one makes it, and tells why that does not work
		}
		s.ready <- file
	}
}

// take returns nil when there is none.
func (s *spares) take() *os.File {
	select {
	case file := <-s.ready:
		return file
	default:
		return nil
	}
}

// refill is to be called when a put has ended.
func (s *spares) refill() {
	if len(s.ready) > spareFiles/2 {
		return
	}
	select {
	case s.wanted <- struct{}{}:
	default:
	}
}

// close closes those that nobody took.
func (s *spares) close() {
	close(s.stop)
	<-s.done
	for file := s.take(); file != nil; file = s.take() {
		_ = file.Close() // nothing is in it
	}
}
