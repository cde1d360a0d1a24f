package rig

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
)

// Incarnation names one process for all time: a pid is given again, a pid with its start time is not.
type Incarnation struct {
	PID   int
	Start uint64 // clock ticks since boot
}

// Alive tells whether the process still runs. A zombie does not.
func (i Incarnation) Alive() bool {
	s, err := readStat(i.PID)
	return err == nil && s.start == i.Start && s.state != 'Z' && s.state != 'X'
}

type stat struct {
	state byte
	ppid  int
	start uint64
}

// readStat reads /proc/PID/stat; see proc(5). Fields are counted after the last ')': a command may hold anything.
func readStat(pid int) (stat, error) {
	raw, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return stat{}, err
	}
	end := bytes.LastIndexByte(raw, ')')
	fields := strings.Fields(string(raw[end+1:]))
	if end < 0 || len(fields) < 20 {
		return stat{}, errors.New("short stat line")
	}
	ppid, err := strconv.Atoi(fields[1])
	if err != nil {
		return stat{}, err
	}
	start, err := strconv.ParseUint(fields[19], 10, 64)
	return stat{state: fields[0][0], ppid: ppid, start: start}, err
}

// Identify returns the incarnation that has the pid now.
func Identify(pid int) (Incarnation, error) {
	s, err := readStat(pid)
	if err != nil {
		return Incarnation{}, fmt.Errorf("identify process %d: %w", pid, err)
	}
	return Incarnation{PID: pid, Start: s.start}, nil
}

// Descendants returns every living process below pid.
func Descendants(pid int) ([]Incarnation, error) {
	entries, err := os.ReadDir("/proc")
	if err != nil {
		return nil, err
	}
	children := map[int][]Incarnation{}
	for _, e := range entries {
		n, err := strconv.Atoi(e.Name())
		if err != nil {
			continue
		}
		if s, err := readStat(n); err == nil && s.state != 'Z' {
			children[s.ppid] = append(children[s.ppid], Incarnation{PID: n, Start: s.start})
		}
	}
	var all []Incarnation
	for queue := []int{pid}; len(queue) > 0; queue = queue[1:] {
		for _, c := range children[queue[0]] {
			all = append(all, c)
			queue = append(queue, c.PID)
		}
	}
	return all, nil
}

// Memory is the resident memory of a process, bytes.
type Memory struct {
	Resident, Anonymous, Peak int64
}

// ReadMemory reads /proc/PID/status.
func ReadMemory(pid int) (Memory, error) {
	raw, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		return Memory{}, err
	}
	var m Memory
	for line := range strings.Lines(string(raw)) {
		name, rest, _ := strings.Cut(line, ":")
		var into *int64
		switch name {
		case "VmRSS":
			into = &m.Resident
		case "RssAnon":
			into = &m.Anonymous
		case "VmHWM":
			into = &m.Peak
		default:
			continue
		}
		kib, err := strconv.ParseInt(strings.Fields(rest)[0], 10, 64)
		if err != nil {
			return Memory{}, fmt.Errorf("read memory of process %d: %w", pid, err)
		}
		*into = kib << 10
	}
	return m, nil
}

// Sockets lists the unix sockets below dir.
func Sockets(dir string) ([]string, error) {
	var found []string
	err := filepath.WalkDir(dir, func(path string, d os.DirEntry, err error) error {
		if errors.Is(err, os.ErrNotExist) {
			return nil // went away while we looked
		}
		if err == nil && d.Type()&os.ModeSocket != 0 {
			found = append(found, path)
		}
		return err
	})
	return found, err
}
