// Package pipelined keeps order for pushers that send rows ahead of the answers to earlier ones.
package pipelined

import (
	"errors"

	"github.com/rivergate/rivergate/sdk"
)

var errBehind = errors.New("an earlier row of the same uuid is to be delivered first")

type key struct {
	org  uint64
	uuid string
}

// Outcomes notes what became of the rows of a batch, in the order in which they were sent. Under ORDER=key a row behind one of its uuid
// that comes again comes again too, although it was sent: so the last copies of the rows are in order.
type Outcomes struct {
	batch *sdk.Batch
	held  map[key]bool
}

// Of begins with a batch about which nothing was said.
func Of(b *sdk.Batch) *Outcomes { return &Outcomes{batch: b, held: map[key]bool{}} }

// Settle notes what became of a row; nil: delivered.
func (o *Outcomes) Settle(row sdk.Row, err error) {
	k := key{row.OrgID(), row.UUID()}
	if o.held[k] {
		err = sdk.RetryIn(0, "not_sent", errBehind)
	}
	var typed *sdk.Error
	if err != nil && o.batch.Ordered && (!errors.As(err, &typed) || typed.Class != sdk.Rejected) {
		o.held[k] = true
	}
	o.batch.Fail(row, err)
	o.batch.Working()
}

// SettleAll notes the same of several rows.
func (o *Outcomes) SettleAll(rows []sdk.Row, err error) {
	for _, row := range rows {
		o.Settle(row, err)
	}
}
