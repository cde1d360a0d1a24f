package pluginhost

// Limits bound what one plugin process may use, with all that it starts. Zero: no limit.
type Limits struct {
	MemoryMax int64   // bytes
	CPUMax    float64 // cores
	OpenFiles int
}

// LimitStatus is what bounds a plugin process, and how.
type LimitStatus struct {
	MemoryMax   int64    `json:"memory_max,omitempty"` // bytes
	CPUMax      float64  `json:"cpu_max,omitempty"`    // cores
	OpenFiles   int      `json:"open_files,omitempty"`
	By          string   `json:"by,omitempty"` // "cgroup v2" | "rlimits and watching"
	NotEnforced []string `json:"not_enforced,omitempty"`
	RunAs       string   `json:"run_as,omitempty"`
}
