package files

import (
	"context"
	"errors"

	"github.com/rivergate/rivergate/services/storage/ledger"
)

// unbooked is the largest file of which bytes pass before it has a reservation.
const unbooked = 256 << 10

// booking is the reservation of a file on its way in. That of a large one is made before its bytes; that of a small one when they have
// passed, while the backend makes ready: without it, the body does not end, so the backend cannot store it.
type booking struct {
	hold     *ledger.Hold
	made     bool
	reserved int64
}

// book takes what the file will have, as far as that is known, unless it is little.
func (s *Service) book(ctx context.Context, in *Incoming) (*booking, error) {
	hold, err := s.ledger.Plan(ledger.Reservation{
		Org: in.File.Org, ObjectName: in.File.ObjectName, Kind: in.File.Kind, Free: in.File.Free, Overwrite: in.Mode == ledger.Replace, Fresh: in.Fresh,
	})
	if err != nil {
		return nil, err
	}
	hold.Only(in.Replaces)
	b := &booking{hold: hold}
	if bytes := in.expected(); bytes > unbooked {
		err = b.make(ctx, bytes, in.Size >= 0)
	}
	return b, err
}

// expected is how many bytes the file will have, as far as that is known.
func (in *Incoming) expected() int64 {
	if in.Size >= 0 {
		return in.Size
	}
	return max(in.AtMost, 0)
}

// make reserves. Unless exact, what stands behind the file may have made it look larger than it is.
func (b *booking) make(ctx context.Context, bytes int64, exact bool) error {
	err := b.hold.Reserve(ctx, bytes)
	var full *ledger.QuotaError
	if errors.As(err, &full) && !exact && bytes > 0 {
		less := max(0, bytes-maxFields)
		if b.hold.Reserve(ctx, less) == nil {
			bytes, err = less, nil
		}
	}
	b.made, b.reserved = err == nil, bytes
	return err
}
