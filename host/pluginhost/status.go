package pluginhost

import (
	"bytes"
	"cmp"
	"encoding/json"
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

// Status lists the instances in the order of Start. What a process said about itself stays after its end.
func (h *Host) Status() []Status {
	h.mu.Lock()
	supervisors := h.supervisors
	h.mu.Unlock()
	list := make([]Status, 0, len(supervisors))
	for _, s := range supervisors {
		list = append(list, s.status())
	}
	return list
}

func (s *supervisor) status() Status {
	s.mu.Lock()
	defer s.mu.Unlock()
	st := Status{}
	if s.desc != nil {
		st = *s.desc
	}
	st.Name, st.Kind, st.Plugin, st.Binary = s.in.Name, s.in.Kind, s.in.Plugin, s.h.binaryPath(s.in)
	st.State, st.Reason, st.Restarts, st.LastError = s.state, s.reason, s.restarts, s.lastErr
	if r := s.current; r != nil {
		st.PID, st.StartedAt, st.RSSBytes, st.Limits = r.pid, r.since, rss(r.pid), r.confine.status()
	}
	return st
}

// show changes what others see and wakes those who wait for a change.
func (s *supervisor) show(change func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	change()
	close(s.changed)
	s.changed = make(chan struct{})
}

func (s *supervisor) showRunning(r *running) {
	s.log.Info("plugin started", "pid", r.pid, "plugin", r.desc.Name, "version", r.desc.Version, "sha256", r.sha256, "took", time.Since(r.since).Round(time.Millisecond).String())
	s.show(func() {
		s.current, s.state, s.reason = r, StateRunning, healthReason(r.health)
		s.desc = &Status{
			Version: r.desc.Version, Protocol: int(r.hello.Versions[0]), SDK: r.hello.Software, SHA256: r.sha256, Capabilities: r.hello.Capabilities,
			ConfigSchema: r.desc.ConfigSchema, Author: r.desc.Author, Summary: r.desc.Summary,
		}
	})
}

func (s *supervisor) showHealth(err error) {
	reason := healthReason(err)
	s.mu.Lock()
	same := reason == s.reason
	s.mu.Unlock()
	if !same {
		s.show(func() { s.reason = reason })
		s.log.Info("plugin's health has changed", "reason", cmp.Or(reason, "healthy"))
	}
}

func healthReason(err error) string {
	if err == nil {
		return ""
	}
	return "not healthy: " + quotable(err.Error())
}

func (s *supervisor) showFailure(err error, delay time.Duration) {
	s.log.Error("plugin cannot be started", "error", err, "again_in", delay.Round(time.Millisecond).String())
	s.show(func() {
		s.current, s.state, s.reason, s.lastErr = nil, StateFailed, err.Error(), err.Error()
	})
}

func (s *supervisor) showCrash(r *running, state State, delay time.Duration) {
	s.log.Error("plugin has ended", "pid", r.pid, "how", r.how, "again_in", delay.Round(time.Millisecond).String())
	s.show(func() {
		s.current, s.state, s.reason, s.lastErr = nil, state, r.how, r.how
		s.restarts++
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
