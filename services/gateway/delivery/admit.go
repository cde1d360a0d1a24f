package delivery

import (
	"time"

	"github.com/rivergate/rivergate/sdk/protocol"
)

// Bounds of a Retry-After; noRate is for a pusher that moves nothing.
const (
	retryAfterMin = time.Second
	retryAfterMax = 5 * time.Minute
	noRate        = time.Minute
)

// Admit tells whether this many more rows of org may be accepted: nil, or *BacklogError. It takes no lock while there is
// room. A pusher without backlog takes any request, so that no request is too large for ever.
func (d *Delivery) Admit(org uint64, rows int) error {
	for _, c := range d.chains() {
		if !c.takes(org) {
			continue
		}
		if waiting := c.backlog.Load(); c.MaxBacklog > 0 && waiting > 0 && waiting+int64(rows) > c.MaxBacklog {
			return &BacklogError{Pusher: c.Name, Rows: waiting, Limit: c.MaxBacklog, RetryAfter: c.roomIn(waiting + int64(rows) - c.MaxBacklog)}
		}
		if n := c.orgCount(org, false); n != nil {
			if waiting := n.Load(); waiting > 0 && waiting+int64(rows) > d.orgMaxBacklog {
				return &BacklogError{Pusher: c.Name, Org: org, Rows: waiting, Limit: d.orgMaxBacklog, RetryAfter: c.roomIn(waiting + int64(rows) - d.orgMaxBacklog)}
			}
		}
	}
	return nil
}

// roomIn estimates when the pusher will have settled so many rows.
func (c *chain) roomIn(rows int64) time.Duration {
	c.mu.Lock()
	rate := c.rate.perSecond(time.Now())
	c.mu.Unlock()
	if rate <= 0 {
		return noRate
	}
	seconds := min(float64(rows)/rate, retryAfterMax.Seconds())
	return max(retryAfterMin, time.Duration(seconds*float64(time.Second)).Round(time.Second))
}

// Accepted counts the rows of a frame that the journal has taken. Call it once for each frame, after Append.
func (d *Delivery) Accepted(f *protocol.Frame) {
	rows := int64(f.Len())
	d.intake.RLock() // nobody comes or goes in between: see exchange
	for _, c := range d.chains() {
		if f.Position < c.counted || !c.takes(f.OrgID) {
			continue
		}
		c.backlog.Add(rows)
		if n := c.orgCount(f.OrgID, true); n != nil {
			n.Add(rows)
		}
	}
	d.intake.RUnlock()
	if d.tails.listening() {
		d.tails.emit(Event{Type: EventAccepted, At: f.ReceivedAt, Org: f.OrgID, DeliveryID: DeliveryID(f.Position), UUID: f.UUID, Position: f.Position,
			Rows: f.Len(), RequestID: f.RequestID})
	}
}
