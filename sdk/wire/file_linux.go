package wire

import (
	"context"
	"fmt"
	"io"
	"os"
	"strconv"

	"golang.org/x/sys/unix"

	pluginv1 "github.com/rivergate/rivergate/proto/rivergate/plugin/v1"
)

// nameFile describes the file behind content, of which size bytes are wanted; nil when there is none that the host could read.
func nameFile(content io.ReadCloser, size int64) *pluginv1.OpenFile {
	file := fileOf(content)
	if file == nil {
		return nil
	}
	at, err := file.Seek(0, io.SeekCurrent)
	if err != nil {
		return nil
	}
	conn, err := file.SyscallConn()
	if err != nil {
		return nil
	}
	var named *pluginv1.OpenFile
	err = conn.Control(func(descriptor uintptr) {
		var st unix.Stat_t
		if unix.Fstat(int(descriptor), &st) == nil && st.Mode&unix.S_IFMT == unix.S_IFREG && st.Size >= at+size {
			named = &pluginv1.OpenFile{Pid: uint32(os.Getpid()), Descriptor_: uint32(descriptor), At: at, Device: st.Dev, Inode: st.Ino}
		}
	})
	if err != nil {
		return nil
	}
	return named
}

// openFile opens what a plugin has open. It is looked at before it is opened for reading: a device or a pipe is neither waited
// for nor disturbed.
func openFile(ctx context.Context, doing string, m *pluginv1.OpenFile, size int64) (*fileBody, error) {
	link := "/proc/" + strconv.FormatUint(uint64(m.Pid), 10) + "/fd/" + strconv.FormatUint(uint64(m.Descriptor_), 10)
	place, err := unix.Open(link, unix.O_PATH|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("open %s: %w", link, err)
	}
	defer func() { _ = unix.Close(place) }()
	var st unix.Stat_t
	if err := unix.Fstat(place, &st); err != nil {
		return nil, fmt.Errorf("stat %s: %w", link, err)
	}
	if st.Mode&unix.S_IFMT != unix.S_IFREG || st.Dev != m.Device || st.Ino != m.Inode || st.Size-m.At < size {
		return nil, fmt.Errorf("%s is not the file that the plugin means", link)
	}
	file, err := os.Open("/proc/self/fd/" + strconv.Itoa(place))
	if err != nil {
		return nil, err
	}
	return &fileBody{ctx: ctx, doing: doing, file: file, at: m.At, left: size}, nil
}
