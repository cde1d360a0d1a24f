package delivery

import (
	"fmt"
	"math"
	"time"

	"github.com/rivergate/rivergate/sdk/protocol"
)

// poisonCrashes is how often in a row a plugin must end on one row, sent alone, before the row is given up.
const poisonCrashes = 3

// suspect is rows that were in flight when the plugin ended. Suspects are sent one at a time with nothing else in flight:
//
//	batch ── ends the plugin alone ──→ cut into about √n parts ──→ … ──→ one row ── three times ──→ dead letter
//	  └────── is acknowledged ──────→ free
//
// Parts of √n rows find one row in a thousand after two further crashes; halving would need ten, and each costs a restart.
// A plugin that something else kills at random costs no row: a part that passes is free, whatever it was blamed for.
type suspect struct {
	lane    *lane
	pieces  []piece
	crashes int // in a row, of a single row
}

func (s *suspect) rows() (n int) {
	for i := range s.pieces {
		n += s.pieces[i].Len()
	}
	return n
}

// accuse makes suspects of the batches that were in flight when the plugin ended.
func (c *chain) accuse(blamed []*batch, cause string, now time.Time) {
	alone := len(blamed) == 1
	var accused []*suspect
	for _, b := range blamed {
		s := b.suspect
		if s == nil {
			s = &suspect{lane: b.lane, pieces: b.pieces}
		}
		switch {
		case !alone:
			accused = append(accused, s)
		case s.rows() > 1:
			accused = append(accused, s.cut()...)
			s.lane.out += len(accused) - 1
		default:
			if s.crashes++; s.crashes < poisonCrashes {
				accused = append(accused, s)
				continue
			}
			s.lane.out--
			c.bury(&s.pieces[0], verdict{class: protocol.Poison.String(), code: "plugin_ended",
				message: fmt.Sprintf("the plugin ended %d times in a row on this row alone: %s", s.crashes, cause),
				tries:   s.crashes}, now)
		}
	}
	c.suspects = append(accused, c.suspects...)
}

// cut divides the rows into about √n suspects, in order.
func (s *suspect) cut() (parts []*suspect) {
	size := int(math.Ceil(math.Sqrt(float64(s.rows()))))
	if s.rows() < 4 {
		size = 1
	}
	part, n := &suspect{lane: s.lane}, 0
	for _, p := range s.pieces {
		for from := 0; from < p.Len(); {
			to := min(p.Len(), from+size-n)
			part.pieces = append(part.pieces, p.slice(from, to))
			n, from = n+to-from, to
			if n == size {
				parts = append(parts, part)
				part, n = &suspect{lane: s.lane}, 0
			}
		}
	}
	if n > 0 {
		parts = append(parts, part)
	}
	return parts
}

// sendSuspect sends the next suspect, alone.
func (c *chain) sendSuspect(now time.Time) {
	for len(c.suspects) > 0 {
		s := c.suspects[0]
		c.suspects = c.suspects[1:]
		lim := c.limits()
		b := &batch{lane: s.lane, suspect: s}
		tooLarge := false
		for _, p := range s.pieces {
			if s.lane.behind(&p) { // an earlier row of its key failed in the meantime: the key's order comes first
				s.lane.hold(p, time.Time{})
				continue
			}
			if !c.equip(&p) { // the plugin that came in its place wants what the one that ended did not
				c.await(s.lane, p)
				continue
			}
			b.add(p)
			tooLarge = tooLarge || p.rowsWithin(lim.hard) < p.Len()
		}
		s.pieces = b.pieces
		switch {
		case b.rows == 0:
			s.lane.out--
		case b.rows == 1 && tooLarge:
			s.lane.out--
			c.load(b, b.pieces[0], true, lim, now)
		case b.rows > 1 && (tooLarge || b.rows > lim.rows || b.bytes > lim.hard): // a new plugin takes less
			parts := s.cut()
			s.lane.out += len(parts) - 1
			c.suspects = append(parts, c.suspects...)
		default:
			c.dispatch(b, now)
			return
		}
	}
}
