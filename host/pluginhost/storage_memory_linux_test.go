package pluginhost

import (
	"errors"
	"io"
	"os"
	"runtime/debug"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/rivergate/rivergate/sdk/protocol"
	"github.com/rivergate/rivergate/sdk/settings"
)

// zeros is so many bytes that nobody holds.
type zeros struct{ left int64 }

func (z *zeros) Read(p []byte) (int, error) {
	if z.left == 0 {
		return 0, io.EOF
	}
	n := min(int64(len(p)), z.left)
	clear(p[:n])
	z.left -= n
	return int(n), nil
}

// memoryOf is a figure of a process's status, bytes.
func memoryOf(t testing.TB, pid int, name string) int64 {
	t.Helper()
	text, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/status")
	require.NoError(t, err)
	for line := range strings.Lines(string(text)) {
		if rest, ok := strings.CutPrefix(line, name+":"); ok {
			n, err := strconv.ParseInt(strings.TrimSuffix(strings.TrimSpace(rest), " kB"), 10, 64)
			require.NoError(t, err)
			return n << 10
		}
	}
	t.Fatalf("no %s", name)
	return 0
}

// RIVERGATE_TEST_TRANSFER=2GiB measures the figure of the README.
func TestATransferOfAnySizeNeedsLittleMemory(t *testing.T) {
	size := settings.Bytes(256 << 20)
	if text := os.Getenv("RIVERGATE_TEST_TRANSFER"); text != "" {
		var err error
		size, err = settings.ParseBytes(text)
		require.NoError(t, err)
	}
	w, in := storages(t)
	w.start(in)
	s := w.storage()
	move := func(size int64) {
		began := time.Now()
		_, err := s.Put(t.Context(), protocol.Put{Key: "large", Size: size}, &zeros{left: size})
		require.NoError(t, err)
		in := time.Since(began)
		began = time.Now()
		_, content, err := s.Get(t.Context(), "large", protocol.Whole())
		require.NoError(t, err)
		n, err := io.Copy(io.Discard, content)
		require.NoError(t, errors.Join(err, content.Close()))
		require.Equal(t, size, n)
		t.Logf("%d MiB: in %s, out %s", size>>20, in.Round(time.Millisecond), time.Since(began).Round(time.Millisecond))
	}
	move(1 << 20) // what is made once is there then
	debug.FreeOSMemory()
	plugin, host := w.status(in.Name).PID, os.Getpid()
	idle := map[int]int64{}
	for _, pid := range []int{plugin, host} {
		require.NoError(t, os.WriteFile("/proc/"+strconv.Itoa(pid)+"/clear_refs", []byte("5"), 0)) // forgets the peak
		idle[pid] = memoryOf(t, pid, "VmRSS")
	}
	move(int64(size))
	for _, pid := range []int{plugin, host} {
		grown := memoryOf(t, pid, "VmHWM") - idle[pid]
		t.Logf("process %d (plugin %d): %d MiB idle, %d MiB more at most", pid, plugin, idle[pid]>>20, grown>>20)
		require.LessOrEqual(t, grown, int64(64<<20))
	}
}
