//go:build unix

package conformance

import "syscall"

// ownGroup puts a process into a group of its own, so that what it starts can be killed with it.
func ownGroup() *syscall.SysProcAttr { return &syscall.SysProcAttr{Setpgid: true} }

func killGroup(pid int) { _ = syscall.Kill(-pid, syscall.SIGKILL) }
