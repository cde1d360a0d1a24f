package gateway

import (
	"bufio"
	"context"
	"encoding/json"
	"strconv"
	"time"

	"github.com/gofiber/fiber/v2"

	"github.com/rivergate/rivergate/services/gateway/delivery"
	"github.com/rivergate/rivergate/services/platform/api"
)

// Tail is what the event stream needs of package delivery.
type Tail interface {
	// Tail yields accepted, delivered and dead rows as they happen, until ctx ends. A reader that is too slow misses events.
	Tail(ctx context.Context, o delivery.TailOptions) <-chan delivery.Event
}

// heartbeat keeps proxies from closing a quiet stream, and finds out that a client has gone.
const heartbeat = 15 * time.Second

// stream answers with what write puts out, until write returns. write runs after the handler: it must not use the request.
func (s *Service) stream(c *fiber.Ctx, contentType string, write func(ctx context.Context, w *bufio.Writer)) {
	c.Response().Header.SetContentType(contentType)
	c.Response().Header.Set(fiber.HeaderCacheControl, "no-store")
	c.Response().Header.Set("X-Accel-Buffering", "no")
	s.streams.Add(1)
	c.Response().SetBodyStreamWriter(func(w *bufio.Writer) {
		defer s.streams.Done()
		ctx, cancel := context.WithCancel(s.stop)
		defer cancel()
		write(ctx, w)
	})
}

// tail answers GET /api/v1/gateway/tail with server-sent events.
func (s *Service) tail(c *fiber.Ctx) error {
	o := delivery.TailOptions{Org: api.CallerOf(c).OrgID, Pusher: api.TextQuery(c, "pusher"), Sample: 1}
	if text := c.Query("sample"); text != "" {
		sample, err := strconv.ParseFloat(text, 64)
		if err != nil || !(sample > 0 && sample <= 1) {
			return api.BadRequest("sample", "sample must be a share of the rows, above 0 and at most 1")
		}
		o.Sample = sample
	}
	s.stream(c, "text/event-stream", func(ctx context.Context, w *bufio.Writer) {
		events := s.delivery.Tail(ctx, o)
		beat := time.NewTicker(heartbeat)
		defer beat.Stop()
		if _, err := w.WriteString(": rows as they happen\n\n"); err != nil || w.Flush() != nil {
			return
		}
		for {
			select {
			case <-ctx.Done():
				return
			case <-beat.C:
				_, _ = w.WriteString(":\n\n") // Flush says whether it went out
			case e, ok := <-events:
				if !ok {
					return
				}
				s.writeEvent(w, e)
			}
			if len(events) == 0 && w.Flush() != nil {
				return
			}
		}
	})
	return nil
}

func (s *Service) writeEvent(w *bufio.Writer, e delivery.Event) {
	text, err := json.Marshal(e)
	if err != nil {
		s.log.Warn("event not encoded", "error", err)
		return
	}
	_, _ = w.WriteString("event: " + e.Type + "\ndata: ")
	_, _ = w.Write(text)
	_, _ = w.WriteString("\n\n")
}

// exportLetters answers with all matching dead letters, one a line.
func (s *Service) exportLetters(c *fiber.Ctx) error {
	filter, err := queryFilter(c)
	if err != nil {
		return err
	}
	id := api.RequestID(c)
	s.stream(c, lineTypes[0], func(ctx context.Context, w *bufio.Writer) {
		var line []byte
		for letter, err := range s.delivery.ExportDeadLetters(ctx, filter) {
			if err == nil {
				line, err = appendLetter(line[:0], &letter)
			}
			if err != nil {
				s.log.Error("export of dead letters broke off", "error", err, "request_id", id)
				// The status is out already: a line that is no letter says that this is not all.
				_, _ = w.WriteString(`{"error":"the export broke off; this is not all"}` + "\n")
				break
			}
			for i, b := range line {
				if b == '\n' || b == '\r' { // between tokens only: inside a string it would be escaped
					line[i] = ' '
				}
			}
			if _, err := w.Write(append(line, '\n')); err != nil {
				return
			}
		}
		_ = w.Flush() // nobody is left to tell
	})
	return nil
}
