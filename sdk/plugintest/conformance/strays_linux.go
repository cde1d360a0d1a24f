package conformance

import (
	"bytes"
	"os"
	"path/filepath"
	"strconv"
	"syscall"
	"time"
)

// strayTime bounds the wait for killed processes to be gone.
const strayTime = 2 * time.Second

// killStrays kills what the plugin of this folder started and what left its process group, known by the TMPDIR that it
// inherited, until nothing of it is left.
func killStrays(dir string) {
	for deadline := time.Now().Add(strayTime); killFound(dir) && time.Now().Before(deadline); {
		<-time.After(5 * time.Millisecond)
	}
}

// killFound tells whether there was anything to kill.
func killFound(dir string) bool {
	entries, err := os.ReadDir("/proc")
	if err != nil {
		return false
	}
	mark := []byte("TMPDIR=" + dir)
	found := false
	for _, e := range entries {
		pid, err := strconv.Atoi(e.Name())
		if err != nil || pid == os.Getpid() {
			continue
		}
		env, err := os.ReadFile(filepath.Join("/proc", e.Name(), "environ"))
		if err != nil {
			continue
		}
		for v := range bytes.SplitSeq(env, []byte{0}) {
			if bytes.Equal(v, mark) {
				_ = syscall.Kill(pid, syscall.SIGKILL) // it may have ended meanwhile
				found = true
			}
		}
	}
	return found
}
