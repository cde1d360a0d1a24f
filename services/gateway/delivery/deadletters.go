package delivery

import (
	"context"
	"encoding/json"
	"fmt"
	"iter"
	"math"
	"strconv"
	"time"
)

// DeadLetter is a row that was given up at one pusher.
type DeadLetter struct {
	ID            string          `json:"id"`
	Pusher        string          `json:"pusher"`
	DeliveryID    string          `json:"delivery_id"`
	Position      uint64          `json:"position"`
	UUID          string          `json:"uuid"`
	Index         *int32          `json:"index"` // null: the client gave none
	Data          json.RawMessage `json:"data"`  // the client's own bytes
	Class         string          `json:"class"`
	Code          string          `json:"code"`
	Message       string          `json:"message"`
	Attempts      int             `json:"attempts"`
	FirstFailedAt time.Time       `json:"first_failed_at"`
	FailedAt      time.Time       `json:"failed_at"`

	Org    uint64 `json:"-"`
	number int64
}

// Filter chooses dead letters; what is zero does not matter. A filter with Org 0 spans organisations: only an operator's
// own command may use one.
type Filter struct {
	Org          uint64
	IDs          []string // nil: any; an unknown id chooses nothing
	Pusher, UUID string
	Class        string
	Since, Until time.Time // failed_at in [Since, Until)
}

const (
	maxLetterPage = 1000
	// letterPageBytes bounds the data on a page, so that large rows do not fill the memory. A larger row is alone on its page.
	letterPageBytes = 8 << 20
	// changeAtOnce bounds a transaction, so that no flush waits long for it.
	changeAtOnce = 2000
	exportPage   = 100
)

// DeadLetters lists dead letters, the newest first. next is the cursor of the following page, empty at the end. Errors:
// ErrBadCursor.
func (d *Delivery) DeadLetters(ctx context.Context, f Filter, cursor string, limit int) (items []DeadLetter, next string, err error) {
	before := int64(math.MaxInt64)
	if cursor != "" {
		if before, err = strconv.ParseInt(cursor, 36, 64); err != nil {
			return nil, "", fmt.Errorf("%w: %.40q", ErrBadCursor, cursor)
		}
	}
	limit = min(max(limit, 1), maxLetterPage)
	items, more, err := d.store.letters(ctx, f, before, true, limit)
	if err != nil {
		return nil, "", fmt.Errorf("list dead letters: %w", err)
	}
	if more {
		next = strconv.FormatInt(items[len(items)-1].number, 36)
	}
	return items, next, nil
}

// DeadLetter returns one; ErrNoDeadLetter also for that of another org.
func (d *Delivery) DeadLetter(ctx context.Context, org uint64, id string) (DeadLetter, error) {
	items, _, err := d.store.letters(ctx, Filter{Org: org, IDs: []string{id}}, 0, false, 1)
	if err != nil {
		return DeadLetter{}, fmt.Errorf("read dead letter: %w", err)
	}
	if len(items) == 0 {
		return DeadLetter{}, fmt.Errorf("%w: %.40q", ErrNoDeadLetter, id)
	}
	return items[0], nil
}

// ExportDeadLetters yields all that the filter matches, the oldest first, page by page. After an error it ends.
func (d *Delivery) ExportDeadLetters(ctx context.Context, f Filter) iter.Seq2[DeadLetter, error] {
	return func(yield func(DeadLetter, error) bool) {
		for after := int64(0); ; {
			items, more, err := d.store.letters(ctx, f, after, false, exportPage)
			if err != nil {
				yield(DeadLetter{}, fmt.Errorf("export dead letters: %w", err))
				return
			}
			for _, l := range items {
				if !yield(l, nil) {
					return
				}
				after = l.number
			}
			if !more {
				return
			}
		}
	}
}

// DeleteDeadLetters deletes all that the filter matches and returns how many.
func (d *Delivery) DeleteDeadLetters(ctx context.Context, f Filter) (int, error) {
	for total := 0; ; {
		freed, n, err := d.store.remove(ctx, f, changeAtOnce)
		if err != nil {
			return total, fmt.Errorf("delete dead letters: %w", err)
		}
		d.freed(freed)
		if total += n; n < changeAtOnce {
			return total, nil
		}
	}
}
