package gateway

import (
	"context"
	"math"

	"github.com/gofiber/fiber/v2"

	"github.com/rivergate/rivergate/services/gateway/delivery"
	"github.com/rivergate/rivergate/services/platform/api"
)

// Steering is what the routes about pushers need of package delivery.
type Steering interface {
	// Status is every pusher that is enabled or has a cursor.
	Status() []delivery.Status
	// Pause and Resume are idempotent and durable. Error: delivery.ErrUnknownPusher.
	Pause(ctx context.Context, name string) error
	Resume(ctx context.Context, name string) error
	// Forget lets the rows of a pusher go that is no longer enabled. Errors: delivery.ErrUnknownPusher, ErrStillEnabled.
	Forget(ctx context.Context, name string) error
}

// Pusher is one destination: what delivery knows of it and what its process does.
type Pusher struct {
	Name           string  `json:"name" required:"true"`
	Binary         string  `json:"binary" required:"true"`
	Version        string  `json:"version" required:"true"`
	SHA256         string  `json:"sha256" required:"true"`
	State          string  `json:"state" required:"true" enum:"starting,running,backing_off,paused,crash_loop,disabled,failed"`
	Reason         string  `json:"reason" required:"true" description:"Why it does not run, or why nothing moves; else empty."`
	LagRows        uint64  `json:"lag_rows" required:"true"`
	LagBytes       int64   `json:"lag_bytes" required:"true"`
	OldestAgeMS    int64   `json:"oldest_age_ms" required:"true" description:"Age of the oldest row that waits."`
	DeliveredTotal uint64  `json:"delivered_total" required:"true"`
	DeadTotal      uint64  `json:"dead_total" required:"true"`
	RowsPerSecond  float64 `json:"rows_per_second" required:"true" description:"Delivered, over the last 10 s."`
	Restarts       int     `json:"restarts" required:"true"`
	LastError      string  `json:"last_error" required:"true"`
	Window         int     `json:"window" required:"true" description:"Batches in flight that are allowed now; fewer than configured while it is slow."`
	// Delivery's word on the plugin, else the plugin host's.
	Condition       string `json:"condition" required:"true" enum:",unhealthy,silent,slow,stuck" description:"Empty: well. slow: it acknowledges too slowly for its window, which is lowered; stuck: it was ended since it did not get on with a batch; silent: it answers no health check; unhealthy: it says so itself."`
	ConditionReason string `json:"condition_reason" required:"true"`
}

// PusherList is the answer of GET /api/v1/gateway/pushers.
type PusherList struct {
	Pushers []Pusher `json:"pushers" required:"true" nullable:"false"`
}

// PusherName is the answer to steering one pusher.
type PusherName struct {
	Name  string `json:"name" required:"true"`
	State string `json:"state" required:"true" enum:"starting,running,backing_off,paused,crash_loop,disabled,failed,forgotten"`
}

// The states of a pusher that are not simply its process's.
const (
	stateRunning    = "running"
	stateBackingOff = "backing_off"
	statePaused     = "paused"
	stateDisabled   = "disabled"
	stateFailed     = "failed"
	stateStopped    = "stopped"
	stateForgotten  = "forgotten"

	kindPusher = "pusher"
)

// pushers joins both sides by name.
func (s *Service) pushers() []Pusher {
	processes := map[string]Plugin{}
	for _, p := range s.plugins.Status() {
		if p.Kind == kindPusher {
			processes[p.Name] = p
		}
	}
	statuses := s.delivery.Status()
	out := make([]Pusher, 0, len(statuses))
	for _, d := range statuses {
		out = append(out, join(d, processes[d.Name]))
	}
	return out
}

func join(d delivery.Status, p Plugin) Pusher {
	out := Pusher{
		Name: d.Name, Binary: p.Binary, Version: p.Version, SHA256: p.SHA256, State: p.State, Reason: p.Reason,
		LagRows: d.LagRows, LagBytes: d.LagBytes, OldestAgeMS: d.OldestAge.Milliseconds(),
		DeliveredTotal: d.DeliveredTotal, DeadTotal: d.DeadTotal,
		RowsPerSecond: math.Round(d.RowsPerSecond*100) / 100, Restarts: p.Restarts, LastError: d.LastError,
		Window: d.Window, Condition: d.Condition, ConditionReason: d.ConditionReason,
	}
	if out.Condition == "" && p.Condition != "" {
		out.Condition, out.ConditionReason = p.Condition, p.Reason
	}
	if out.LastError == "" {
		out.LastError = p.LastError
	}
	switch {
	case d.Disabled:
		out.State, out.Reason = stateDisabled, "not in the configuration; its rows are kept until it is enabled again or forgotten"
	case d.Paused:
		out.State, out.Reason = statePaused, "paused by an operator"
	case p.State == "", p.State == stateStopped:
		out.State = stateFailed
		if out.Reason == "" {
			out.Reason = "no plugin process"
		}
	case p.State == stateRunning && d.Blocked != "":
		out.State, out.Reason = stateBackingOff, d.Blocked
	}
	return out
}

func (s *Service) listPushers(c *fiber.Ctx) error {
	return api.OK(c, PusherList{s.pushers()}, "Pushers listed")
}

func (s *Service) pausePusher(c *fiber.Ctx) error {
	return s.steer(c, s.delivery.Pause, "Pusher paused")
}

func (s *Service) resumePusher(c *fiber.Ctx) error {
	return s.steer(c, s.delivery.Resume, "Pusher resumed")
}

func (s *Service) forgetPusher(c *fiber.Ctx) error {
	return s.steer(c, s.delivery.Forget, "Pusher forgotten")
}

func (s *Service) steer(c *fiber.Ctx, do func(context.Context, string) error, message string) error {
	ctx, cancel := s.within(lookupTime)
	defer cancel()
	name := string([]byte(c.Params("name")))
	if err := do(ctx, name); err != nil {
		return s.answerTo(err)
	}
	answer := PusherName{Name: name, State: stateForgotten}
	for _, p := range s.pushers() {
		if p.Name == name {
			answer.State = p.State
		}
	}
	return api.OK(c, answer, message)
}
