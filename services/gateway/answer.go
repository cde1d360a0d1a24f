package gateway

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"time"

	"github.com/gofiber/fiber/v2"

	"github.com/rivergate/rivergate/services/gateway/delivery"
	"github.com/rivergate/rivergate/services/gateway/intake"
	"github.com/rivergate/rivergate/services/platform/api"
)

// Accepted is the answer to rows that are on disk.
type Accepted struct {
	DeliveryID string   `json:"delivery_id" required:"true" description:"Encodes the journal position; ask /api/v1/gateway/deliveries/{delivery_id} with it."`
	Rows       int      `json:"rows" required:"true"`
	Pushers    []string `json:"pushers" required:"true" nullable:"false" description:"The pushers that will get the rows."`
	Warnings   []string `json:"warnings,omitempty" nullable:"false" description:"Keys that are not camelCase, the first few."`
}

// DeliveryState is what became of one accepted request.
type DeliveryState struct {
	DeliveryID string              `json:"delivery_id" required:"true"`
	UUID       string              `json:"uuid" required:"true"`
	Rows       int                 `json:"rows" required:"true"`
	ReceivedAt time.Time           `json:"received_at" required:"true"`
	Pushers    []delivery.Progress `json:"pushers" required:"true" nullable:"false"`
}

// The states of delivery.Progress that decide an answer.
const (
	statePending    = "pending"
	statePartlyDead = "partly_dead"
	stateDead       = "dead"
)

func appendWarnings(b []byte, warnings []string, badKeys int) []byte {
	if more := badKeys - len(warnings); more > 0 {
		warnings = append(slices.Clip(warnings), fmt.Sprintf("%d keys in all are not camelCase", badKeys))
	}
	text, err := json.Marshal(warnings)
	if err != nil { // strings always encode
		return b
	}
	b = append(b, `,"warnings":`...)
	return append(b, text...)
}

// answerWhenDone waits for every pusher's outcome: 200 all delivered, 207 some dead-lettered, 202 still going when time is up.
func (s *Service) answerWhenDone(c *fiber.Ctx, l *loan, names []string, rows *intake.Rows, wait time.Duration) error {
	frame := l.record.Frame
	frame.Data = nil // given back already; only position, org and number of rows count
	ctx, cancel := context.WithTimeout(s.stop, wait)
	defer cancel()
	progress := s.delivery.Wait(ctx, &frame)
	status := fiber.StatusOK
	if len(progress) == 0 {
		status = fiber.StatusAccepted
	}
	for _, p := range progress {
		switch {
		case p.State == statePending:
			status = fiber.StatusAccepted
		case status == fiber.StatusOK && (p.State == stateDead || p.State == statePartlyDead):
			status = fiber.StatusMultiStatus
		}
	}
	if status == fiber.StatusAccepted {
		l.answer = appendAccepted(l.answer[:0], frame.Position, len(rows.Ends), names, rows.Warnings, rows.BadKeys)
		sendAccepted(c, l.answer)
		return nil
	}
	message := "Rows delivered"
	if status == fiber.StatusMultiStatus {
		message = "Rows settled, some as dead letters"
	}
	return api.Success(c, status, DeliveryState{
		DeliveryID: delivery.DeliveryID(frame.Position), UUID: frame.UUID, Rows: frame.Len(),
		ReceivedAt: utc(frame.ReceivedAt), Pushers: progress,
	}, message)
}

// showDelivery answers GET /api/v1/gateway/deliveries/{delivery_id}.
func (s *Service) showDelivery(c *fiber.Ctx) error {
	position, err := delivery.ParseDeliveryID(c.Params("delivery_id"))
	if err != nil {
		return s.answerTo(err)
	}
	ctx, cancel := s.within(lookupTime)
	defer cancel()
	record, err := s.journal.Lookup(ctx, position)
	if err != nil {
		return s.answerTo(err)
	}
	if record.OrgID != api.CallerOf(c).OrgID || record.Position != position {
		return api.NotFound("There is no such delivery")
	}
	progress, err := s.delivery.Progress(ctx, &record.Frame)
	if err != nil {
		return s.answerTo(err)
	}
	if progress == nil {
		progress = []delivery.Progress{}
	}
	return api.OK(c, DeliveryState{
		DeliveryID: delivery.DeliveryID(position), UUID: record.UUID, Rows: record.Len(),
		ReceivedAt: utc(record.ReceivedAt), Pushers: progress,
	}, "Delivery found")
}

// lookupTime bounds what a control route may take.
const lookupTime = 10 * time.Second

func (s *Service) within(d time.Duration) (context.Context, context.CancelFunc) {
	return context.WithTimeout(s.stop, d)
}
