package files

import (
	"context"
	"errors"

	"github.com/rivergate/rivergate/services/storage/ledger"
)

// unbooked is the largest file of which bytes pass before its reservation is there.
const unbooked = 256 << 10

// booking is the reservation of a file on its way in. That of a small one is made while its bytes go to the backend; without it, the
// body does not end, so the backend cannot store it.
type booking struct {
	hold     *ledger.Hold
	done     chan struct{} // closed when the other two are final
	reserved int64
	err      error
}

// book takes what the file will have, as far as that is known. It has not waited when that is little.
func (s *Service) book(ctx context.Context, in *Incoming) (*booking, error) {
	bytes := in.Size
	if bytes < 0 {
		bytes = max(in.AtMost, 0)
	}
	hold, err := s.ledger.Plan(ledger.Reservation{
		Org: in.File.Org, ObjectName: in.File.ObjectName, Kind: in.File.Kind, Free: in.File.Free, Overwrite: in.Mode == ledger.Replace, Fresh: in.Fresh,
	})
	if err != nil {
		return nil, err
	}
	hold.Only(in.Replaces)
	b := &booking{hold: hold, done: make(chan struct{}), reserved: bytes}
	known := in.Size >= 0
	go func() { // put does not return before it has ended
		defer close(b.done)
		b.err = hold.Reserve(ctx, b.reserved)
		var full *ledger.QuotaError
		if errors.As(b.err, &full) && !known && b.reserved > 0 {
			// What stands behind the file may have made it look larger than it is: the exact size decides.
			less := max(0, b.reserved-maxFields)
			if err := hold.Reserve(ctx, less); err == nil {
				b.reserved, b.err = less, nil
			}
		}
	}()
	if bytes > unbooked {
		return b, b.wait()
	}
	return b, nil
}

// ready tells whether the reservation is there.
func (b *booking) ready() (bool, error) {
	select {
	case <-b.done:
		return true, b.err
	default:
		return false, nil
	}
}

// wait returns when the reservation is there. It ends with the context that book was given.
func (b *booking) wait() error {
	<-b.done
	return b.err
}
