package pluginhost

import (
	"bytes"
	"cmp"
	"encoding/json"
	"fmt"
	"os"
	"strconv"
	"time"

	"github.com/rivergate/rivergate/sdk/protocol"
)

// State is what an instance is doing.
type State string

// The states.
const (
	StateStarting   State = "starting"
	StateRunning    State = "running"
	StateBackingOff State = "backing_off" // it crashed and is started again after a pause
	StateCrashLoop  State = "crash_loop"  // it crashed often and is tried now and then
	StateFailed     State = "failed"      // it cannot be started; tried again with growing pauses
	StateStopped    State = "stopped"
	StateIdle       State = "idle" // it starts when it is first needed
)

// Status is what is known about one instance.
type Status struct {
	Name         string          `json:"name"`
	Kind         protocol.Kind   `json:"kind"`
	Plugin       string          `json:"plugin"`
	Binary       string          `json:"binary"`
	Version      string          `json:"version,omitempty"`
	Protocol     int             `json:"protocol,omitempty"`
	SDK          string          `json:"sdk,omitempty"`
	SHA256       string          `json:"sha256,omitempty"`
	State        State           `json:"state"`
	Reason       string          `json:"reason,omitempty"` // why it is in this state, or why a running one is not well
	Capabilities []string        `json:"capabilities,omitempty"`
	ConfigSchema json.RawMessage `json:"config_schema,omitempty"`
	NeedsTrigger bool            `json:"needs_trigger,omitempty"`
	Author       string          `json:"author,omitempty"`
	Summary      string          `json:"summary,omitempty"`
	Restarts     int             `json:"restarts"`
	PID          int             `json:"pid,omitempty"`
	RSSBytes     int64           `json:"rss_bytes,omitempty"`
	StartedAt    time.Time       `json:"started_at,omitzero"`
	LastError    string          `json:"last_error,omitempty"`
	// Condition says how a running instance is: "": well; "unhealthy": it says so itself; "silent": health checks are not
	// answered. Reason has the sentence.
	Condition  string       `json:"condition,omitempty"`
	Phase      string       `json:"phase,omitempty"` // "upgrading" while a new process is made ready beside it
	Trust      Trust        `json:"trust,omitempty"` // how its binary was vouched for
	Limits     *LimitStatus `json:"limits,omitempty"`
	SharedWith []string     `json:"shared_with,omitempty"` // the other instances of its process
	Attached   string       `json:"attached,omitempty"`    // address of the process that somebody else started
}

// The conditions of a running instance.
const (
	ConditionUnhealthy = "unhealthy" // it says so itself
	ConditionSilent    = "silent"    // it does not answer health checks
)

// PhaseUpgrading: a new process is made ready beside the one that runs.
const PhaseUpgrading = "upgrading"

// Status lists the instances in the order of Start or the last Apply. What a process said about itself stays after its end.
func (h *Host) Status() []Status {
	h.mu.Lock()
	members, asleep := h.members, h.asleep
	h.mu.Unlock()
	list := make([]Status, 0, len(members)+len(asleep))
	for _, m := range members {
		list = append(list, m.status())
	}
	for _, in := range asleep {
		list = append(list, Status{Name: in.Name, Kind: in.Kind, Plugin: in.Plugin, Binary: h.binaryPath(in), State: StateIdle, Attached: h.opts.Attach[in.Name]})
	}
	return list
}

// show changes what is seen of every tenant.
func (s *supervisor) show(how func(*member)) {
	for _, t := range s.list() {
		t.m.show(s, func() { how(t.m) })
	}
}

// showSeat is called with work held.
func (s *supervisor) showSeat(t *tenant) {
	seat := t.seat
	if !t.m.show(s, func() { t.m.take(seat) }) {
		return
	}
	r := seat.running
	fields := []any{"plugin", r.desc.Name, "version", r.desc.Version, "took", time.Since(r.since).Round(time.Millisecond).String()}
	if r.attached != "" {
		t.m.log.Info("plugin attached", append(fields, "address", r.attached)...)
		return
	}
	t.m.log.Info("plugin started", append(fields, "pid", r.pid, "sha256", r.sha256)...)
}

func (s *supervisor) showHealth(seat *seat, err error) {
	reason, condition := healthReason(err), ""
	if err != nil {
		condition = ConditionUnhealthy
	}
	s.showCondition(seat, reason, condition)
}

func (s *supervisor) showSilence(seat *seat) {
	s.showCondition(seat, fmt.Sprintf("does not answer health checks (%d of %d)", seat.unanswered, s.h.pace.healthMisses), ConditionSilent)
}

func (s *supervisor) showCondition(seat *seat, reason, condition string) {
	s.show(func(m *member) {
		if m.current != seat || m.reason == reason {
			return
		}
		m.reason, m.condition = reason, condition
		m.log.Info("plugin's health has changed", "reason", cmp.Or(reason, "healthy"))
	})
}

func healthReason(err error) string {
	if err == nil {
		return ""
	}
	return "not healthy: " + quotable(err.Error())
}

func (s *supervisor) showFailure(err error, delay time.Duration) {
	for _, t := range s.list() {
		s.showTenantFailure(t, err, delay)
	}
}

// showTenantFailure logs an attached instance's failure once, and not every second.
func (s *supervisor) showTenantFailure(t *tenant, err error, delay time.Duration) {
	t.m.show(s, func() {
		if text := err.Error(); s.address() == "" || t.m.lastErr != text {
			t.m.log.Error("plugin cannot be started", "error", err, "again_in", delay.Round(time.Millisecond).String())
		}
		t.m.current, t.m.state, t.m.reason, t.m.condition, t.m.lastErr = nil, StateFailed, err.Error(), "", err.Error()
	})
}

func (s *supervisor) showCrash(r *running, state State, delay time.Duration) {
	how := r.end()
	s.log.Error("plugin has ended", "pid", r.pid, "how", how, "again_in", delay.Round(time.Millisecond).String())
	s.show(func(m *member) {
		m.current, m.state, m.reason, m.condition, m.lastErr = nil, state, how, "", how
		m.restarts++
	})
}

// rss is the resident memory of a process, bytes; 0 when it is gone.
func rss(pid int) int64 {
	text, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/statm")
	if err != nil {
		return 0
	}
	fields := bytes.Fields(text)
	if len(fields) < 2 {
		return 0
	}
	pages, err := strconv.ParseInt(string(fields[1]), 10, 64)
	if err != nil {
		return 0
	}
	return pages * int64(os.Getpagesize())
}
